"""Data sets: registered loaders, checked files, class-balanced subsets, and one interface to read them through."""

from reticket.data import cifar, cifar100, digits, fashion, imagenet, svhn, tiny_imagenet
from reticket.data.collected import collected, source_of
from reticket.data.dataset import Dataset
from reticket.data.description import Description
from reticket.data.image_files import ImageFiles
from reticket.data.on_demand import OnDemand
from reticket.data.registry import dataset, describe, list_datasets, load_dataset, open_dataset
from reticket.data.source import DataSource, Reading, StreamedSource

__all__ = [
    "DataSource",
    "Dataset",
    "Description",
    "ImageFiles",
    "OnDemand",
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
    "source_of",
    "svhn",
    "tiny_imagenet",
]
