"""What every process of the sweep has loaded before it measures: the libraries, and what the first trace imports."""

import contextlib
import warnings

import torch

from reticket.symmetry import discover
from tests.zoo.torchvision_operators import named_operators

OPERATORS = named_operators()

warnings.simplefilter("ignore")
torch.set_num_threads(1)
with contextlib.suppress(ImportError):
    import timm  # noqa: F401  # pyright: ignore
with contextlib.suppress(ImportError):
    import transformers

    transformers.logging.set_verbosity_error()
    from transformers import LlamaForCausalLM  # noqa: F401

discover(torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)), torch.zeros(1, 3, 5, 5), verify=False)
