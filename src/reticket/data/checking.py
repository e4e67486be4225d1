"""What is wrong with the files of a data set, found before training starts."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float64

from reticket.data.dataset import Dataset
from reticket.data.decode import read_image
from reticket.data.image_files import ImageFiles
from reticket.data.moments import channel_moments
from reticket.data.parallel import decoders
from reticket.data.registry import open_dataset
from reticket.data.source import DataSource
from reticket.errors import DataError

AT_ONCE = 64  # images decoded at a time


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Args:
        name: of the data set.
        problems: one sentence each, with the file and what to do; none when all is well.
        facts: what the data set is, by what it is called; empty when it could not be opened.
    """

    name: str
    problems: tuple[str, ...]
    facts: Mapping[str, str]


def check_dataset(
    name: str,
    *,
    folder: Path | None = None,
    params: Mapping[str, Any] = MappingProxyType({}),
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Checked:
    """Read all files of a data set and return what is wrong with them.

    Sizes, layout, classes and labels are checked when it is opened, where the first problem ends the check; then every
    image file is decoded, and every one that cannot be is named.

    Args:
        name: a registered name, or `package.module:function`.
        folder, params: those of `open_dataset`.
        progress: told how many of how many image files are done.

    Raises:
        DataError: when there is no such data set, or its files are not found at all.
    """
    source = open_dataset(name, folder=folder, params=params)
    problems = _broken_images(source, progress) if isinstance(source, ImageFiles) else ()
    facts = {
        "inputs": f"{source.size('train'):,} for training, {source.size('test'):,} for testing",
        "shape": f"{' x '.join(map(str, source.input_shape))}, augmentation {source.augmentation}",
        "classes": f"{len(source.classes)} ({', '.join(source.classes[:3])}, ...)",
        "images of a class": ", ".join(f"{_balance(source, split)} in {split}" for split in ("train", "test")),
        "mean": f"{_numbers(source.mean)} used",
        "std": f"{_numbers(source.std)} used",
    }
    if isinstance(source, Dataset):
        mean, std = _moments(source)
        facts |= {"mean": f"{_numbers(mean)} measured, {facts['mean']}"}
        facts |= {"std": f"{_numbers(std)} measured, {facts['std']}"}
    return Checked(name, tuple(problems), facts)


def _broken_images(source: ImageFiles, progress: Callable[[int, int], None]) -> tuple[str, ...]:
    paths = (files.path(index) for files in (source.train, source.test) for index in range(len(files.labels)))
    total, problems = source.size("train") + source.size("test"), []

    def trouble(path: Path) -> str | None:
        try:
            read_image(path)
        except DataError as error:
            return str(error)
        return None

    with ThreadPoolExecutor(decoders()) as pool:
        for done, found in enumerate(_in_order(pool, trouble, paths), 1):
            if found is not None:
                problems.append(found)
            progress(done, total)
    return tuple(problems)


def _in_order(
    pool: ThreadPoolExecutor, work: Callable[[Path], str | None], paths: Iterator[Path]
) -> Iterator[str | None]:
    """Yield the result for each path, a bounded number of them in work."""
    waiting = deque(pool.submit(work, path) for path in islice(paths, AT_ONCE))
    while waiting:
        found = waiting.popleft().result()
        waiting.extend(pool.submit(work, path) for path in islice(paths, 1))
        yield found


def _balance(source: DataSource, split: Any) -> str:
    counts = torch.bincount(source.labels(split), minlength=len(source.classes))
    low, high = int(counts.min()), int(counts.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _moments(source: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    if source.is_images:
        return channel_moments(source.train_x)
    x: Float64[torch.Tensor, "n features"] = source.train_x.double()
    return (float(x.mean()),), (float(x.std(correction=0)),)


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4f}" for value in values)
