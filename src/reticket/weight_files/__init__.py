"""Weights in files of anybody's: checkpoints, what stands behind a prefix, folders in the layout of the Hub."""

from reticket.weight_files.named import fitted, load_file, prefixes_of_all, read_weights
from reticket.weight_files.written import weights_target, write_weights

__all__ = ["fitted", "load_file", "prefixes_of_all", "read_weights", "weights_target", "write_weights"]
