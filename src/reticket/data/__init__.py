"""Data sets in memory: registered loaders, checked files, class-balanced subsets."""

from reticket.data import cifar, digits, fashion
from reticket.data.dataset import Dataset
from reticket.data.registry import dataset, list_datasets, load_dataset

__all__ = ["Dataset", "cifar", "dataset", "digits", "fashion", "list_datasets", "load_dataset"]
