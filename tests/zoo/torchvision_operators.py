"""The operators that torchvision expects to be compiled, named, so that it imports beside a CPU build of torch."""

from importlib.util import find_spec

import torch


def named_operators() -> object:
    """Import torchvision, first naming its operators where its own library does not load; returns what keeps them.

    timm and transformers import it where it is installed; nothing here calls these operators.
    """
    if find_spec("torchvision") is None:
        return None
    try:
        import torchvision  # noqa: F401 (whether it imports is the question)  # pyright: ignore
    except RuntimeError:
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        return library
    return None
