"""Data sets: registered loaders, checked files, class-balanced subsets, and one interface to read them through."""

from reticket.data import cifar, cifar100, digits, fashion, imagenet, svhn, tiny_imagenet
from reticket.data.collected import collected
from reticket.data.dataset import Dataset
from reticket.data.description import Description
from reticket.data.image_files import ImageFiles
from reticket.data.registry import dataset, describe, list_datasets, load_dataset, open_dataset
from reticket.data.source import DataSource, Reading, StreamedSource

__all__ = [
    "DataSource",
    "Dataset",
    "Description",
    "ImageFiles",
    "Reading",
    "StreamedSource",
    "cifar",
    "cifar100",
    "collected",
    "dataset",
    "describe",
    "digits",
    "fashion",
    "imagenet",
    "list_datasets",
    "load_dataset",
    "open_dataset",
    "svhn",
    "tiny_imagenet",
]
