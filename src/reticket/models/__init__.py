"""Models by name: plain torch modules under a registry, timm's models, and the user's own functions."""

from reticket.models import airbench, conv, mlp, resnet, resnet50, vgg, vit
from reticket.models.asymmetric import Frame, asymmetric
from reticket.models.registry import build_model, code_of, example_input, list_models, model, model_params

__all__ = [
    "Frame",
    "airbench",
    "asymmetric",
    "build_model",
    "code_of",
    "conv",
    "example_input",
    "list_models",
    "mlp",
    "model",
    "model_params",
    "resnet",
    "resnet50",
    "vgg",
    "vit",
]
