"""The zoo's own settings."""

from importlib.util import find_spec

import pytest
import torch

pytest.register_assert_rewrite("tests.zoo.case")


@pytest.fixture(scope="session", autouse=True)
def torchvision_operators() -> object:
    """Name the operators that torchvision expects to be compiled, so that it imports beside a CPU build of torch.

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
