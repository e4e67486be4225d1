"""Data sets: registered loaders, checked files, class-balanced subsets, and one interface to read them through."""

from reticket.data import cifar, digits, fashion
from reticket.data.dataset import Dataset
from reticket.data.registry import dataset, list_datasets, load_dataset, open_dataset
from reticket.data.source import DataSource, Reading

__all__ = [
    "DataSource",
    "Dataset",
    "Reading",
    "cifar",
    "dataset",
    "digits",
    "fashion",
    "list_datasets",
    "load_dataset",
    "open_dataset",
]
