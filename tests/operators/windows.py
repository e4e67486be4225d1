"""Convolution, pooling, resizing, recurrence, Fourier transforms and complex numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.operators.case import BATCH, Case, Operator, shaped, table


def image(x: Tensor) -> Tensor:
    """Tokens as channels, units as height, and a width of four."""
    return (x.unsqueeze(-1) * torch.arange(1.0, 5, dtype=x.dtype)).sin()


def volume(x: Tensor) -> Tensor:
    return (image(x).unsqueeze(-1) * torch.arange(1.0, 4, dtype=x.dtype)).sin()


CONVOLUTION = table(
    {
        "F.conv1d": [
            shaped(lambda x, w, b: F.conv1d(x, w, b), (2, 3, 2), (2,)),
            Case(lambda x, w: F.conv1d(x.mT, w, groups=2), sizes=(3, 4), further=((4, 2, 1),)),
            Case(lambda x, w: F.conv1d(x.mT, w, groups=3), sizes=(5, 3), further=((3, 1, 2),)),
        ],
        "F.conv2d": shaped(lambda x, w: F.conv2d(image(x), w, padding=1), (2, 3, 2, 2)),
        "F.conv3d": shaped(lambda x, w: F.conv3d(volume(x), w), (2, 3, 2, 2, 1)),
        "F.conv_transpose1d": shaped(lambda x, w: F.conv_transpose1d(x, w), (3, 2, 2)),
        "F.conv_transpose2d": shaped(lambda x, w: F.conv_transpose2d(image(x), w), (3, 2, 2, 1)),
        "torch.conv_tbc": shaped(
            lambda x, w, b: torch.conv_tbc(x.contiguous(), w, b).relu(), (2, 3, 2), (2,), sizes=(2, 3)
        ),
    }
)

POOLING = table(
    {
        "F.max_pool1d": [
            lambda x: F.max_pool1d(x, 2, 1),
            Case(lambda x: F.max_pool1d(x, 2), sizes=(3, 4)),
            lambda x: F.max_pool1d(x, 1),
        ],
        "F.max_pool2d": [lambda x: F.max_pool2d(image(x), 2, 1), lambda x: F.max_pool2d(image(x), (1, 2))],
        "F.max_pool3d": lambda x: F.max_pool3d(volume(x), 2, 1),
        "F.avg_pool1d": [lambda x: F.avg_pool1d(x, 3, 1, 1), lambda x: F.avg_pool1d(x, 1)],
        "F.avg_pool2d": lambda x: F.avg_pool2d(image(x), (1, 2)),
        "F.avg_pool3d": Case(lambda x: F.avg_pool3d(volume(x), (2, 2, 1)), sizes=(3, 4)),
        "F.adaptive_avg_pool1d": [lambda x: F.adaptive_avg_pool1d(x, 3), lambda x: F.adaptive_avg_pool1d(x, 1)],
        "F.adaptive_avg_pool2d": [
            lambda x: F.adaptive_avg_pool2d(image(x), (3, 2)),
            lambda x: F.adaptive_avg_pool2d(image(x), 1),
            lambda x: F.adaptive_avg_pool2d(image(x), (5, 2)),
        ],
        "F.adaptive_max_pool1d": [lambda x: F.adaptive_max_pool1d(x, 3), lambda x: F.adaptive_max_pool1d(x, 1)],
        "F.adaptive_max_pool2d": lambda x: F.adaptive_max_pool2d(image(x), (1, 2)),
        "F.lp_pool1d": lambda x: F.lp_pool1d(x.abs(), 2, 2, 1),
        "F.lp_pool2d": lambda x: F.lp_pool2d(image(x).abs(), 2, (1, 2)),
        "F.max_unpool1d": Case(lambda x: F.max_unpool1d(*F.max_pool1d(x, 2, return_indices=True), [2]), sizes=(3, 4)),
    }
)

RESIZING = table(
    {
        "F.interpolate": [
            lambda x: F.interpolate(x, scale_factor=2, mode="nearest"),
            lambda x: F.interpolate(x, scale_factor=2, mode="linear"),
            lambda x: F.interpolate(image(x), (7, 3), mode="bilinear"),
            lambda x: F.interpolate(image(x), (7, 3), mode="bicubic"),
            lambda x: F.interpolate(image(x), (3, 3), mode="area"),
            lambda x: F.interpolate(image(x), (10, 4), mode="nearest-exact"),
        ],
        "F.interpolate(bilinear, antialias)": lambda x: F.interpolate(
            image(x), (3, 3), mode="bilinear", antialias=True
        ),
        "F.interpolate(bicubic, antialias)": lambda x: F.interpolate(image(x), (3, 3), mode="bicubic", antialias=True),
        "F.upsample": lambda x: F.interpolate(volume(x), (7, 6, 5), mode="trilinear"),
        "F.affine_grid": lambda x: F.affine_grid(x[:, :2, :3], [BATCH, 1, 2, 2], align_corners=False),
    }
)


def wave(x: Tensor) -> Tensor:
    """A complex number from every entry."""
    return torch.complex(x.sin(), x.cos() + x)


COMPLEX = table(
    {
        "torch.fft.fft": [lambda x: torch.fft.fft(x, dim=1).abs(), lambda x: torch.fft.fft(x.mT, dim=2).abs()],
        "torch.fft.ifft": lambda x: torch.fft.ifft(x, dim=1).abs(),
        "torch.fft.rfft": lambda x: torch.fft.rfft(x).abs(),
        "torch.fft.irfft": lambda x: torch.fft.irfft(torch.fft.rfft(x), n=5),
        "torch.fft.fft2": lambda x: torch.fft.fft2(image(x)).abs(),
        "torch.fft.fftshift": lambda x: torch.fft.fftshift(x, dim=1),
        "torch.stft": lambda x: torch.stft(
            x[:, 0], 4, window=torch.hann_window(4, dtype=x.dtype), return_complex=True
        ).abs(),
        "torch.complex": lambda x, y=None: torch.complex(x, x.sin()).abs(),
        "torch.polar": lambda x: torch.polar(x.exp(), x).abs() * torch.polar(x.exp(), x).angle(),
        "torch.angle": lambda x: torch.angle(wave(x)),
        "torch.view_as_real": lambda x: torch.view_as_real(wave(x)),
        "torch.view_as_complex": Case(
            lambda x: torch.view_as_complex(x.unflatten(-1, (3, 2)).contiguous()).abs(), sizes=(3, 6)
        ),
        "torch.real": lambda x: torch.real(wave(x)) * torch.imag(wave(x)),
        "torch.conj": lambda x: (torch.conj(wave(x)) * wave(x).sum(-1, keepdim=True)).abs(),
    }
)

OPERATORS: list[Operator] = [*CONVOLUTION, *POOLING, *RESIZING, *COMPLEX]
