"""Texts cut into rows of characters: the user's own, or the sources of Python's standard library."""

import sysconfig
from collections import Counter
from pathlib import Path

import torch

from reticket.data.dataset import Dataset
from reticket.errors import DataError

RARE = 1e-5  # share of the text below which a character is unknown
UNKNOWN = "\ufffd"
TEST = 10  # every how many-th row is of the test part


def load_text(folder: Path | None = None, *, context: int = 64, characters: int = 1_000_000) -> Dataset:
    """Return rows of characters, each labelled with the one that follows: every tenth row is of the test part.

    Named `reticket.data.text:load_text` in an experiment. Characters that are rarer than one in 100,000 count as one,
    which stands last.

    Args:
        folder: of `.txt` files, read in the order of their names; without it the top-level modules of Python's own
            standard library, which every machine has, and which differ between its releases.
        context: characters of a row.
        characters: how much of the text is read.

    Raises:
        DataError: when there is no text, or too little for one row of each part.

    >>> found = load_text(context=16, characters=5_000)
    >>> found.train_x.shape[1], "".join(found.classes[c] for c in found.train_x[0, 1:]) == "".join(
    ...     found.classes[c] for c in found.train_y[0, :-1]
    ... )
    (16, True)
    """
    text = _text(folder, characters)
    rows = (len(text) - 1) // context
    if rows < TEST:
        raise DataError(f"{len(text)} characters make {rows} rows of {context}; {TEST} are needed, give more text")
    known = sorted(c for c, count in Counter(text).items() if count >= RARE * len(text) and c != UNKNOWN)
    number = {character: place for place, character in enumerate(known)}
    ids = torch.tensor([number.get(c, len(known)) for c in text[: rows * context + 1]], device="cpu")
    x, y = ids[:-1].view(rows, context), ids[1:].view(rows, context)
    is_test = torch.arange(rows, device="cpu") % TEST == 0
    return Dataset(
        name="text",
        train_x=x[~is_test],
        train_y=y[~is_test],
        test_x=x[is_test],
        test_y=y[is_test],
        classes=(*known, UNKNOWN),
        mean=(0.0,),
        std=(1.0,),
    )


def _text(folder: Path | None, characters: int) -> str:
    """Return the beginning of all texts put together."""
    place, kind = (folder, "*.txt") if folder is not None else (Path(sysconfig.get_paths()["stdlib"]), "*.py")
    found, length = [], 0
    for path in sorted(place.glob(kind)):
        if length >= characters:
            break
        try:
            found.append(path.read_text("utf-8", errors="replace"))
        except OSError as reason:
            raise DataError(f"'{path}' cannot be read ({reason.strerror}); remove it or name another folder") from None
        length += len(found[-1])
    if not found:
        raise DataError(f"'{place}' has no {kind[1:]} files; name a folder of texts with --data")
    return "".join(found)[:characters]
