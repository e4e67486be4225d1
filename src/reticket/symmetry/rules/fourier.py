"""Fourier transforms: the transformed axes do not move, every line along them is transformed by itself."""

from collections.abc import Sequence

from reticket.symmetry.rules.operator import Operator, fixed, is_layout, rule, wrap
from reticket.symmetry.terms import Fixed, Layout

TRANSFORMED = "a Fourier transform runs along this axis"
ONE_AXIS = ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"]
KINDS = [kind + axes for kind in ONE_AXIS for axes in ("", "2", "n")]
KINDS += ["fftshift", "ifftshift"]


@rule(*(f"aten.fft_{kind}" for kind in KINDS), "aten._fft_c2c", "aten._fft_r2c", "aten._fft_c2r")
def transform(op: Operator) -> Layout:
    """y[k] = sum_t x[t] exp(-2 pi i k t / n) along some axes."""
    data = op.layout("self")
    return along(op, data, _transformed(op, len(data)))


def along(op: Operator, data: Layout, axes: Sequence[int]) -> Layout:
    """Pin some axes, whose lengths may change, and pass the others."""
    for axis in axes:
        op.pin(data[axis], TRANSFORMED)
    op.iterates(tuple(term for axis, term in enumerate(data) if axis not in axes))
    result = tuple(Fixed(op.shape[axis]) if axis in axes else term for axis, term in enumerate(data))
    return op.solver.layout(result)


def _transformed(op: Operator, dims: int) -> list[int]:
    """Return the axes named; where none are, as many of the last as lengths are given, or all."""
    named = op["dim"]
    if named is None:
        lengths = op.arguments.get("s")
        return list(range(0 if lengths is None else dims - len(lengths), dims))
    return [wrap(axis, dims) for axis in ([named] if isinstance(named, int) else named)]


@rule("aten.stft")
def spectrogram(op: Operator) -> Layout:
    """(batch, time) to (batch, frequency, window), with a last axis of two where the result is not complex."""
    data = op.layout("self")
    for term in (data[-1], *(op.layout("window") if is_layout(op["window"]) else ())):
        op.pin(term, TRANSFORMED)
    op.iterates(data[:-1])
    return (*data[:-1], *fixed(op.shape[len(data) - 1 :]))


@rule("aten.istft")
def signal(op: Operator) -> Layout:
    """(batch, frequency, window) to (batch, time)."""
    data = op.layout("self")
    for term in (*data[-2:], *(op.layout("window") if is_layout(op["window"]) else ())):
        op.pin(term, TRANSFORMED)
    op.iterates(data[:-2])
    return (*data[:-2], Fixed(op.shape[-1]))


@rule("aten.fft_fftfreq", "aten.fft_rfftfreq")
def frequencies(op: Operator) -> Layout:
    """Constants that differ from place to place."""
    return fixed(op.shape)
