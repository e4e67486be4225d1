"""Data sets of Hugging Face's `datasets` that were saved to a folder."""

from pathlib import Path
from typing import Any

from reticket.data.collected import source_of
from reticket.data.source import DataSource
from reticket.errors import DataError


def load_saved(folder: Path | None = None, *, label: str | None = None, value: str | None = None) -> DataSource:
    """Return a `DatasetDict` that `save_to_disk` wrote; named `reticket.data.saved:load_saved` in an experiment.

    Args:
        folder: where it was saved.
        label: the column of labels, where it is not called label, labels, y or target.
        value: the column of inputs, where there are more than these two.

    Raises:
        DataError: when the package datasets is missing, there is no folder, or it holds something else.
    """
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError as reason:
        raise DataError(
            "a data set of Hugging Face needs the package datasets; install it with pip install datasets"
        ) from reason
    if folder is None:
        raise DataError("a saved data set is read from the folder that save_to_disk wrote; name it with --data")
    found: Any = _read(datasets, folder)
    if not isinstance(found, datasets.DatasetDict):
        raise DataError(f"'{folder}' holds one part; save a DatasetDict with train and test")
    features = next(iter(found.values())).features
    label = label or next((name for name in ("label", "labels", "y", "target") if name in features), None)
    names = getattr(features.get(label), "names", None)
    return source_of(folder.name, dict(found.with_format("torch")), label=label, value=value, names=names)


def _read(datasets: Any, folder: Path) -> Any:
    try:
        return datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as reason:
        said = str(reason).partition("\n")[0]
        raise DataError(f"'{folder}' is no folder that save_to_disk of datasets wrote ({said})") from reason
