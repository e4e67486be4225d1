"""Files of masks and tickets: safetensors, one bit a flag, one JSON header; nothing is ever unpickled."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from torch import Tensor

from reticket.errors import MaskError
from reticket.files import WRITABLE, as_path, check_plain, reason, write_file
from reticket.untrusted import LARGEST, is_shape, is_size, one_line, parsed, shown

VERSION = 1
KEY = "reticket"
ZIP_MAGIC, PICKLE_MAGIC = b"PK\x03\x04", b"\x80"


def pack(flags: Bool[Tensor, "..."]) -> UInt8[np.ndarray, " bytes"]:
    """Return the flags in row-major order, eight to a byte, the first in the highest bit; the last byte ends in zeros.

    >>> pack(torch.tensor([True, False, True])).tolist()
    [160]
    """
    return np.packbits(flags.numpy().reshape(-1))


def unpack(packed: np.ndarray, shape: tuple[int, ...], where: str) -> Bool[Tensor, "..."]:
    """Return the flags that `pack` packed.

    Args:
        packed: bytes as stored.
        shape: shape of the flags.
        where: the file and tensor, named in errors.

    Raises:
        MaskError: when the bytes do not hold exactly that many flags.
    """
    n = math.prod(shape)
    if packed.dtype != np.uint8 or packed.shape != (-(-n // 8),):
        raise MaskError(
            f"{where} holds {packed.dtype} of shape {packed.shape}, expected {-(-n // 8)} bytes for a tensor of shape "
            f"{shape}; the file is damaged, write it again"
        )
    bits = np.unpackbits(packed)
    if bits[n:].any():
        raise MaskError(f"{where} has bits set past its {n} weights; the file is damaged, write it again")
    return torch.from_numpy(bits[:n].view(bool)).reshape(shape)


def write(
    path: str | os.PathLike[str], kind: str, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]
) -> None:
    """Write `tensors` and the JSON `header` to `path`; a half-written file is never seen.

    The header is one metadata entry, because safetensors writes several in no fixed order: equal values, equal bytes.

    Raises:
        MaskError: when the file cannot be written.
    """
    from safetensors.numpy import save

    entry = json.dumps({"kind": kind, "version": VERSION, **header})
    content = save(dict(tensors), metadata={KEY: entry})
    write_file(path, content, error=MaskError, advice=WRITABLE, what=f"the {kind} ")


def read(path: str | os.PathLike[str], kinds: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the header and the tensors of a file that `write` wrote.

    Args:
        path: the file.
        kinds: the kinds of file that the caller understands.

    Raises:
        MaskError: when it is missing, a pickle, damaged, someone else's safetensors, or of another kind or version.
    """
    from safetensors import SafetensorError, safe_open

    head = _first_bytes(as_path(path, MaskError))
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        if head.startswith((ZIP_MAGIC, PICKLE_MAGIC)):
            raise MaskError(
                f"'{path}' is a pickle, which is never loaded because it can run code; "
                f"read it where you trust it and write it again with Mask(tensors).save(path)"
            ) from None
        raise MaskError(
            f"'{path}' is truncated or not a safetensors file ({_first_line(error)}); expected a file that "
            f"Mask.save or Ticket.save wrote"
        ) from None
    return header_of(path, metadata, kinds), tensors


def shapes_of(header: Mapping[str, Any], path: str | os.PathLike[str]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight the file is about, in the order in which it was saved.

    Raises:
        MaskError: when the header does not say.
    """
    shapes = header.get("shapes")
    if not isinstance(shapes, dict) or not shapes:
        raise MaskError(f"'{path}' names no weights in its header; the file is damaged, write it again")
    for name, shape in shapes.items():
        if not is_shape(shape) or math.prod(shape) > LARGEST:
            raise MaskError(
                f"'{path}' gives '{one_line(name)}' the shape {shown(shape)}; the file is damaged, write it again"
            )
    return {name: tuple(shape) for name, shape in shapes.items()}


def unpack_all(
    tensors: Mapping[str, np.ndarray], prefix: str, shapes: Mapping[str, tuple[int, ...]], path: str | os.PathLike[str]
) -> dict[str, Tensor]:
    """Return the flags stored under `prefix` + name for every name of `shapes`.

    Raises:
        MaskError: when one is missing or damaged.
    """
    missing = [name for name in shapes if prefix + name not in tensors]
    if missing:
        raise MaskError(
            f"'{path}' names '{one_line(missing[0])}' but holds no such tensor; the file is damaged, write it again"
        )
    return {
        name: unpack(tensors[prefix + name], shape, f"'{path}': '{one_line(name)}'") for name, shape in shapes.items()
    }


def _first_bytes(path: Path) -> bytes:
    try:
        check_plain(path)
        with path.open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise MaskError(f"'{path}' cannot be read ({reason(error)}); expected a file that Mask.save wrote") from None


def header_of(path: str | os.PathLike[str], metadata: Mapping[str, str], kinds: tuple[str, ...]) -> dict[str, Any]:
    """Return the header that `write` wrote into the metadata of a file.

    Args:
        path: the file, for errors.
        metadata: of safetensors.
        kinds: the kinds of file that the caller understands.

    Raises:
        MaskError: when it is someone else's, damaged, or of another kind or version.
    """
    if KEY not in metadata:
        raise MaskError(
            f"'{path}' is a safetensors file, but neither a mask nor a ticket of reticket; expected a file that "
            f"Mask.save or Ticket.save wrote"
        )
    try:
        header = parsed(metadata[KEY])
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise MaskError(f"'{path}' has a header that is not a JSON table; the file is damaged, write it again")
    if not is_size(header.get("version")) or header["version"] != VERSION:
        raise MaskError(
            f"'{path}' has format version {shown(header.get('version'))}, this reticket reads version {VERSION}; "
            f"install the version that wrote it"
        )
    if header.get("kind") not in kinds:
        raise MaskError(
            f"'{path}' holds a {one_line(str(header.get('kind'))[:40])}, expected a {' or '.join(kinds)}; "
            f"load it with {one_line(str(header.get('kind'))[:40]).title()}.load"
        )
    return header


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
