"""Rules against brute force: discovery claims exactly the permutations that keep the function, operator by operator."""

import pytest
import torch
from torch import Tensor

from tests.brute_force import Function, Tried, kept, tabled
from tests.together import Findings, built


def wide(function: Function, *sizes: int, share: int = 1) -> Tried:
    return Tried(function, [(3, 4)], sizes, share)


def deep(function: Function, *sizes: int, share: int = 1) -> Tried:
    return Tried(function, [(2, 2, 3)], sizes, share)


def levels(x: Tensor) -> Tensor:
    return torch.linspace(0.2, 0.7, 2, dtype=x.dtype)


def waves(x: Tensor) -> Tensor:
    return torch.complex(x, x.cos())


def spectrogram(x: Tensor) -> Tensor:
    return torch.stft(x, 2, 1, window=torch.ones(2).to(x), center=False, return_complex=True)


def signals(x: Tensor) -> Tensor:
    return torch.istft(x, 2, 1, window=torch.ones(2).to(x.real))


SORTING = {
    "sort": wide(lambda x: x.sort(-1).values, 3, 4),
    "sort_down": wide(lambda x: torch.sort(x, dim=1, descending=True, stable=True).values, 3, 4),
    "msort": wide(lambda x: torch.msort(x[0]).expand_as(x), 3, 4),
    "sort_and_index": wide(lambda x: torch.add(*x.sort(-1)), 3),
    "argsort": wide(lambda x: x.argsort(1) * x.sum(1, keepdim=True), 4),
    "topk": wide(lambda x: x.topk(2, -1).values, 3, 4),
    "topk_least": wide(lambda x: x.topk(2, 1, largest=False).values, 3, 4),
    "topk_index": wide(lambda x: x.topk(2, -1).indices, 3),
    "topk_unsorted": wide(lambda x: x.topk(2, -1, sorted=False).values, 3, share=24),
    "kthvalue": wide(lambda x: x * x.kthvalue(2, 1, keepdim=True).values, 3, 4),
    "kthvalue_dropped": wide(lambda x: x.kthvalue(2, -1).values, 3, 4),
    "kthvalue_index": wide(lambda x: x * x.kthvalue(2, -1, keepdim=True).indices, 3),
    "median_index": wide(lambda x: x * x.median(-1, keepdim=True).indices, 3),
    "nanmedian": wide(lambda x: x - x.nanmedian(1, keepdim=True).values, 3, 4),
    "nanmedian_of_all": wide(lambda x: x * x.nanmedian(), 3, 4),
    "mode": wide(lambda x: x * (5 * x).round().mode(-1, keepdim=True).values, 3, 4),
    "quantile": wide(lambda x: x.quantile(0.3, -1), 3, 4),
    "quantile_of_all": wide(lambda x: x * x.quantile(0.3), 3, 4),
    "quantiles": wide(lambda x: x.quantile(levels(x), 1).movedim(0, 1), 3, 4),
    "quantile_nearest": wide(lambda x: x - x.nanquantile(0.3, 1, keepdim=True, interpolation="nearest"), 3, 4),
    "quantiles_moving": wide(
        lambda x: x * torch.linspace(0, 1, 5, dtype=x.dtype).quantile(x.mean((0, 1)).sigmoid()), 3, 4
    ),
    "aminmax": wide(lambda x: torch.add(*torch.aminmax(x, dim=-1)), 3, 4),
    "aminmax_of_all": wide(lambda x: x * torch.aminmax(x)[0], 3, 4),
    "cummax": wide(lambda x: x.cummax(-1).values, 3),
    "bucketize": wide(lambda x: torch.bucketize(x, levels(x)), 3, 4),
    # counts are coarse: more of them stay as they are than those of whom it is certain
    "bucketize_by_table": Tried(
        lambda x, y: torch.bucketize(x, 0.3 * y.mean(0)) * y.sum(1)[:, None, None], [(3, 4), (4,)], [3, 4], share=4
    ),
    "searchsorted_rows": Tried(
        lambda x, y: torch.searchsorted(x.exp().cumsum(-1), 5 * y) * x.sum((1, 2), keepdim=True),
        [(3, 3), (3, 2)],
        [3, 2],
        share=2,
    ),
}
COMPLEX = {
    "polar": wide(lambda x: torch.polar(x.abs(), x).real, 3, 4),
    "conjugate": wide(lambda x: torch.view_as_real(waves(x).conj() * (1 + 2j)), 3, 4),
    "conjugate_stored": wide(lambda x: waves(x).conj_physical().square().imag, 3, 4),
    "resolved": wide(lambda x: waves(x).conj().resolve_conj().imag.resolve_neg(), 3, 4),
    "angle_and_size": wide(lambda x: waves(x).angle() * waves(x).abs(), 3, 4),
    "isreal": wide(lambda x: torch.isreal(torch.complex(x, (x - 0.2).relu())).add(x), 3, 4),
    "adjoint": wide(lambda x: (waves(x).mH @ torch.complex(x, x.square())).imag, 3, 4),
    "pairs": deep(lambda x: torch.view_as_complex(x.transpose(2, 3).contiguous()).exp().imag, 2, 3),
    "pairs_read": deep(lambda x: torch.view_as_complex(x.mT.contiguous()).exp().imag * x.sum(2), 2, 3),
    "rotary": wide(lambda x: torch.view_as_complex(x.unflatten(-1, (2, 2))).mul(1j).exp().imag, 3, 2),
    "rotary_back": wide(lambda x: torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (2, 2))).exp()), 3, 2),
}
# a transform also commutes with turning time around, and with shifts up to a phase: no permutation of a term
FOURIER = {
    "fft": wide(lambda x: torch.fft.fft(x, dim=1).imag * x.sum(1, keepdim=True), 4, share=2),
    "ifft": wide(lambda x: torch.fft.ifft(x).imag, 3, share=8),
    "rfft": wide(lambda x: torch.fft.rfft(x, dim=1).real, 4, share=2),
    "irfft_longer": wide(lambda x: torch.fft.irfft(waves(x), n=5, dim=1), 4),
    "hfft": wide(lambda x: torch.fft.hfft(waves(x), dim=-1), 3),
    "fft2": deep(lambda x: torch.fft.fft2(x).imag, 2, share=2),
    "rfft2_axes": deep(lambda x: torch.fft.rfft2(x, dim=(0, 3)).imag, 2, 2),
    "irfft2": deep(lambda x: torch.fft.irfft2(waves(x), s=(2, 3)), 2),
    "fftn_lengths": wide(lambda x: torch.fft.fftn(x, s=(5,)).imag, 3),
    "fftn_of_all": wide(lambda x: torch.fft.fftn(x[0]).imag.expand_as(x), share=4),
    "shifted": wide(lambda x: torch.fft.fftshift(x, dim=1) * x.exp(), 4, share=3),
    "shifted_back": wide(lambda x: torch.fft.ifftshift(x, dim=(2,)) * x.exp(), 3, share=8),
    "frequencies": wide(lambda x: x * torch.fft.fftfreq(4) + torch.fft.rfftfreq(6), 3),
    "stft": wide(lambda x: spectrogram(x.flatten(0, 1)).abs().unflatten(0, (-1, 3)), 3, share=2),
    "istft": deep(lambda x: signals(waves(x).flatten(0, 1)).unflatten(0, (-1, 2)) * x.sum((2, 3))[..., None], 2),
}


def above_mean(x: Tensor) -> Tensor:
    return x.sum(2, keepdim=True) > x.sum((1, 2), keepdim=True) / x.shape[1]


def masked_units(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, x.mean((0, 1)) > 0.3] = x.exp().sum(2, keepdim=True)
    return y


# few rows are picked at a time, so that some of their exchanges are not seen
MASKED = {
    "masked_scatter": Tried(lambda x, y: x.masked_scatter(above_mean(x), y), [(3, 2), (3, 2)], [2], 3),
    "masked_scatter_wide": Tried(
        lambda x, y: x.masked_scatter((above_mean(x)).expand_as(x), y.flatten(1)), [(3, 2), (3, 2)], [2], 3
    ),
    "masked_scatter_of_units": Tried(lambda x, y: x.masked_scatter(x > 0, y), [(2, 3), (2, 3)], []),
    "masked_row": wide(lambda x: x.index_put((x.sum(2) > 0,), x.exp().mean((0, 1))), 3, 4),
    "masked_entries": wide(lambda x: x.index_put((x > 0,), x.exp().mean()), 3, 4),
    "masked_rows": wide(lambda x: x.index_put((x.sum((1, 2)) > -9,), x.exp()), 3, 4),
    "masked_units": wide(masked_units, 3, 4),
}
TRIED = {**MASKED, **SORTING, **COMPLEX, **FOURIER}
DEEP, LAST, INNER = (2, 3, 4), [2, 3, 3, *[4] * 6], [2, 4, 4, *[3] * 8]
# tables whose rows may have orders of their own, position by position of the axes before
TABLES = {
    "masked_scatter": tabled(
        lambda x: x.masked_scatter((x > 0).any(2).any(1)[:, None, None], x.sin()), (2, 2, 3), [2, 3, 3]
    ),
    "masked_rows": tabled(lambda x: x.index_put((x.sum(1) > -99,), x.exp()) + x.sum(), (3, 4), [4]),
    "masked_row": tabled(lambda x: x.index_put((x.sum((1, 2)) > 0,), x.exp().sum(0)), (2, 2, 3), [2, 2, 3, 3]),
    "sort": tabled(lambda x: x.sort(-1).values, DEEP, LAST),
    "sort_inner": tabled(lambda x: x.sort(1).values, DEEP, INNER),
    "argsort": tabled(lambda x: x.argsort(1) * x.sum(1, keepdim=True), DEEP, [2, 4, 4]),
    "kthvalue": tabled(lambda x: x.kthvalue(2, -1).values, DEEP, LAST),
    "quantile": tabled(lambda x: x.quantile(0.3, 1), DEEP, INNER),
    "aminmax": tabled(lambda x: torch.aminmax(x, dim=-1)[0], DEEP, LAST),
    "cummax": tabled(lambda x: x.cummax(1).values, DEEP, [2, 4, 4]),
    "bucketize": tabled(lambda x: torch.bucketize(x, levels(x)) * x, DEEP, LAST),
    "polar": tabled(lambda x: torch.polar(x.abs(), x).real, DEEP, LAST),
    "rfft": tabled(lambda x: torch.fft.rfft(x, dim=1).imag, DEEP, [2, 4, 4]),
    "stft": tabled(
        lambda x: spectrogram(x.flatten(0, 1)).real * x.flatten(0, 1).sum(1)[:, None, None], (2, 3, 4), [2, 3, 3]
    ),
    "istft": tabled(lambda x: signals(waves(x).flatten(0, 1)), (2, 3, 2, 4), [2, 3, 3]),
}
CASES = {
    **{name: tried.case() for name, tried in TRIED.items()},
    **{f"table_{name}": case for name, case in TABLES.items()},
}


@pytest.fixture(scope="module")
def found() -> Findings:
    return Findings(*built(CASES, seed=3))


@pytest.mark.parametrize("name", CASES)
def test_rule_claims_what_keeps_the_function(found: Findings, name: str) -> None:
    assert found.log10_order(name) == pytest.approx(CASES[name].log10_order), found.sizes(name)
    assert found.wrong(name) == []


@pytest.mark.parametrize("name", TRIED)
def test_brute_force_finds_no_more(name: str) -> None:
    torch.manual_seed(4)
    assert kept(CASES[name].build()) == TRIED[name].order  # pyright: ignore
