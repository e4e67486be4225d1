"""Models by name: plain torch modules under a registry, timm's models, and the user's own functions."""

from reticket.models import conv, mlp, resnet, resnet50, vgg, vit
from reticket.models.asymmetric import Frame, asymmetric, held_entries, refuse_outside
from reticket.models.registry import build_model, code_of, example_input, list_models, model, model_params

__all__ = [
    "Frame",
    "asymmetric",
    "build_model",
    "code_of",
    "conv",
    "example_input",
    "held_entries",
    "list_models",
    "mlp",
    "model",
    "model_params",
    "refuse_outside",
    "resnet",
    "resnet50",
    "vgg",
    "vit",
]
