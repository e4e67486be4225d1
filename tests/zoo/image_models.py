"""Families of timm, the smallest variant of each, random weights: name and order stand side by side."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from tests.zoo.case import Case, attention, orders

LABELS = 5


def timm_model(name: str, size: int, **options: Any) -> Callable[[], tuple[nn.Module, Any]]:
    """Return a builder of a model of timm for images of a size, two of which are its inputs."""

    def build() -> tuple[nn.Module, Any]:
        import timm

        return timm.create_model(name, pretrained=False, num_classes=LABELS, **options), torch.randn(2, 3, size, size)

    return build


def grouped(width: int, size: int, convolutions: int = 1) -> float:
    """Return log10 of g! * (s!)^(g (k + 1)) for k convolutions in g groups of s channels, one after the other.

    Whole groups move together all along; within a group the channels between any two convolutions by their own.
    """
    groups = width // size
    return orders(groups) + groups * orders(*[size] * (convolutions + 1))


def divisible(width: float) -> int:
    """Return the multiple of 8 that MobileNets round a width to: the nearest, but never below nine tenths of it."""
    nearest = max(8, int(width + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * width else nearest


def inverted(width: float, squeeze: int = 0) -> float:
    """Return the order of an inverted bottleneck: expanded channels, which a depthwise kernel and squeezing carry."""
    return orders(divisible(width)) + (orders(squeeze) if squeeze else 0.0)


def mobilenetv3_small(half: float) -> float:
    """MobileNetV3-Small: blocks as (expansion, squeezes) by stage, with the width that the stage writes to."""
    stem = orders(16) + orders(divisible(16 / 4))  # block 0 keeps the 16 channels of the stem and squeezes them
    streams = [divisible(half * width) for width in (16, 24, 40, 48, 96)]
    stages = [[(4.5, False), (3.67, False)], [(4, True), (6, True), (6, True)], [(3, True)] * 2, [(6, True)] * 3]
    total, read = stem + orders(streams[0]), streams[0]
    for blocks, stream in zip(stages, streams[1:], strict=True):
        for expansion, squeezes in blocks:
            inner = divisible(read * expansion)
            total += inverted(inner, divisible(inner / 4) if squeezes else 0)
            total += orders(stream) if read != stream else 0.0  # else it adds to the stream that it reads
            read = stream
    return total + orders(divisible(half * 576), 1024)


def efficientnet_b0() -> float:
    """EfficientNet-B0: a block expands what it reads six times and squeezes to a quarter of what it reads."""
    total, read = orders(32, 32 // 4) + orders(16), 16
    for stream, blocks in ((24, 2), (40, 2), (80, 3), (112, 3), (192, 4), (320, 1)):
        for inputs in (read, *[stream] * (blocks - 1)):
            total += inverted(6 * inputs, inputs // 4)
        total, read = total + orders(stream), stream
    return total + orders(1280)


def nfnet_l0() -> float:
    """NFNet-L0: four stem convolutions; two grouped convolutions in a quarter of the width, squeeze to a quarter."""
    stages = ((256, 1), (512, 2), (1536, 6), (1536, 3))
    blocks = sum(n * (grouped(width // 4, 64, convolutions=2) + orders(width // 4)) for width, n in stages)
    return orders(16, 32, 64, 128) + orders(*[width for width, _ in stages]) + blocks + orders(1536 * 3 // 2)


CASES = {
    # three stem convolutions; each stage has a stream and one inner layer
    "resnet10t": Case(
        timm_model("resnet10t", 32), orders(24, 32) + 2 * orders(64, 128, 256, 512), still=LABELS, quick=True
    ),
    # groups of 32 channels in a quarter of the width, two blocks to each stage
    "resnext26ts": Case(
        timm_model("resnext26ts", 32),
        orders(24, 32, 64) + sum(orders(c) + 2 * grouped(c // 4, 32) for c in (256, 512, 1024, 2048)),
        still=LABELS,
    ),
    # every layer has a bottleneck of 4 * 32 channels and writes 32 of its own, which all later ones read; a transition
    # halves the channels that there are
    "densenet121": Case(
        timm_model("densenet121", 32),
        orders(64) + (6 + 12 + 24 + 16) * orders(128, 32) + orders(128, 256, 512),
        still=LABELS,
    ),
    "mobilenetv3_small_050": Case(timm_model("mobilenetv3_small_050", 64), mobilenetv3_small(0.5), still=LABELS),
    "efficientnet_b0": Case(timm_model("efficientnet_b0", 64), efficientnet_b0(), still=LABELS),
    # depthwise kernels carry the stream; what is free beside it are the 4 d units of each block
    "convnext_zepto_rms": Case(
        timm_model("convnext_zepto_rms", 32),
        sum(orders(d) + blocks * orders(4 * d) for d, blocks in ((32, 2), (64, 2), (128, 4), (256, 2))),
        still=LABELS,
        quick=True,
    ),
    # groups of 8 channels, as wide as the stream
    "regnetx_002": Case(
        timm_model("regnetx_002", 32),
        orders(32) + sum(orders(w) + blocks * grouped(w, 8) for w, blocks in ((24, 1), (56, 1), (152, 4), (368, 7))),
        still=LABELS,
    ),
    "vit_tiny_patch16_224": Case(
        timm_model("vit_tiny_patch16_224", 32, img_size=32),
        orders(192) + 12 * (attention(3, 64, 64) + orders(768)),
        still=LABELS,
        quick=True,
    ),
    "deit_tiny_patch16_224": Case(
        timm_model("deit_tiny_patch16_224", 32, img_size=32),
        orders(192) + 12 * (attention(3, 64, 64) + orders(768)),
        still=LABELS,
    ),
    # heads move with the columns of their table of relative positions
    "swin_tiny_patch4_window7_224": Case(
        timm_model("swin_tiny_patch4_window7_224", 56, img_size=56),
        sum(
            orders(96 * 2**s) + blocks * (attention(3 * 2**s, 32, 32) + orders(4 * 96 * 2**s))
            for s, blocks in enumerate((2, 2, 6, 2))
        ),
        still=LABELS,
    ),
    # patches are places of the image: of the token-mixing layers only the hidden units move, so that the bias of the
    # second one, with a number for each of 7 * 7 patches, stays
    "mixer_s32_224": Case(timm_model("mixer_s32_224", 224), orders(512) + 8 * orders(256, 2048), still=LABELS + 8 * 49),
    "nfnet_l0": Case(timm_model("nfnet_l0", 32), nfnet_l0(), still=LABELS),
}
