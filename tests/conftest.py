"""Shared test settings: shapes in signatures are checked, hypothesis is deterministic, one thread."""

import torch
from hypothesis import settings
from jaxtyping import install_import_hook

hook = install_import_hook("reticket", "beartype.beartype")

settings.register_profile("reticket", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("reticket")
torch.set_num_threads(1)
