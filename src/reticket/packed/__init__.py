"""Tickets packed for execution: the weights that are kept, in the format that is fastest where they are used."""

from reticket.packed.compiling import Choice, compile_sparse, load_packed
from reticket.packed.formats import FORMATS, Format, sparse_format
from reticket.packed.layers import PackedConvolution, PackedLinear
from reticket.packed.pattern import KeptEntries

__all__ = [
    "FORMATS",
    "Choice",
    "Format",
    "KeptEntries",
    "PackedConvolution",
    "PackedLinear",
    "compile_sparse",
    "load_packed",
    "sparse_format",
]
