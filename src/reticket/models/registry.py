"""The registry of models: a model is a function of plain parameters that returns a module, under a decorator."""

import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reticket.errors import OF_OTHERS, ModelError
from reticket.lookup import imported, nearest, raised
from reticket.models.asymmetric import PARAMETER, Frame, asymmetric
from reticket.models.code import code_outside
from reticket.registry import Registry, first_line
from reticket.rng import as_generator, generator_for, global_generators

Builder = Callable[..., nn.Module]
TIMM = "timm:"


@dataclass(frozen=True)
class Entry:
    """A registered model.

    Args:
        build: makes the module from the parameters.
        input_shape: makes the shape of one input from the same parameters.
    """

    build: Builder
    input_shape: Callable[..., tuple[int, ...]]


MODELS = Registry[Entry](
    "model", "reticket.models", ModelError, says=lambda one: first_line(one.build), importable=True
)


def model(name: str, input_shape: Callable[..., tuple[int, ...]]) -> Callable[[Builder], Builder]:
    """Register a function that builds a model.

    Args:
        name: what users write.
        input_shape: gets the model's parameters, defaults included, and returns the shape of one input, no batch.
    """

    def register(build: Builder) -> Builder:
        MODELS.add(name, Entry(build, input_shape))
        return build

    return register


def list_models() -> tuple[str, ...]:
    """Return the names of all registered models.

    >>> list_models()
    ('airbench', 'conv-small', 'mlp', 'resnet20', 'resnet50', 'vgg11', 'vit')
    """
    return tuple(sorted(MODELS))


def build_model(name: str, *, generator: torch.Generator | int | None = None, **params: Any) -> nn.Module:
    """Return a freshly initialised model, on torch's default device.

    Its weights are drawn on the CPU, so that they are the same for every default device.

    Args:
        name: a registered name, `timm:NAME`, or `package.module:function`.
        generator: decides the initialisation; one number is drawn from it; or a seed. Without it the initialisation is
            always the same one. torch's global generator is left as it was.
        params: of the model; of every model `asymmetric={"share": 0.1}`, a table of the fields of `models.Frame`, by
            which all its initialisations share a part of their entries.

    Raises:
        ModelError: when the name or a parameter is unknown, or building fails.

    >>> build_model("mlp", in_features=4, hidden=(3,), classes=2)
    MLP(4-3-2)
    """
    params, frame = _without_frame(params)
    if frame is not None:
        drawn = build_model(name, generator=generator_for("frame", frame.seed, "init"), **params)
        return asymmetric(build_model(name, generator=generator, **params), drawn, frame)
    build, arguments = _builder(name, params)
    source = generator_for("model", name, "init") if generator is None else as_generator(generator, "init")
    drawn = torch.randint(2**62, (1,), generator=source, dtype=torch.int64, device=source.device)
    with global_generators():
        torch.default_generator.manual_seed(int(drawn))
        try:
            built = _on_the_default_device(build, arguments)
        except ModelError:
            raise
        except OF_OTHERS as reason:
            raise ModelError(
                f"model '{name}' with {params} cannot be built ({_why(name, build, reason)}); change its parameters"
            ) from reason
    if not isinstance(built, nn.Module):
        raise ModelError(f"model '{name}' returned a {type(built).__name__}, but a torch.nn.Module was expected")
    return built


def _why(name: str, build: Builder, reason: BaseException) -> str:
    """Say why a model could not be built, for the user's own with the line."""
    return raised(reason, build) if ":" in name and not name.startswith(TIMM) else str(reason)


def _on_the_default_device(build: Builder, arguments: dict[str, Any]) -> Any:
    default = torch.get_default_device()
    if default.type in ("cpu", "meta"):  # on the meta device nothing is drawn
        return build(**arguments)
    with torch.device("cpu"):
        built = build(**arguments)
    return built.to(default) if isinstance(built, nn.Module) else built


def example_input(name: str, **params: Any) -> Tensor:
    """Return a batch of two inputs of the right shape, standard normal and always the same.

    Args:
        name: as for `build_model`. A function of your own carries its example as an attribute `example_input`: a
            tensor, or a function of the same parameters that returns one.
        params: of the model.

    Raises:
        ModelError: when the name or a parameter is unknown, or no example is known.

    >>> example_input("resnet20").shape
    torch.Size([2, 3, 32, 32])
    """
    params, _ = _without_frame(params)
    if name.startswith(TIMM):
        return _standard_normal((2, *_timm_input_shape(name, params)))
    if name in MODELS:
        return _standard_normal((2, *MODELS[name].input_shape(**_checked(name, MODELS[name].build, params))))
    build = _function(name)
    example = getattr(build, "example_input", None)
    example = example(**params) if callable(example) else example
    if not isinstance(example, Tensor):
        raise ModelError(
            f"model '{name}' has no example input; set the attribute example_input of the function to a tensor of two "
            f"inputs, or to a function of the model's parameters that returns one"
        )
    return example


def model_params(name: str, input_shape: tuple[int, ...], classes: int, /, **params: Any) -> dict[str, Any]:
    """Return `params` with input size and classes filled in from a data set, where the model takes them, and defaults.

    They say all that decides the model, those of an `asymmetric` frame too, so that keys may be made of them.

    Args:
        name: as for `build_model`.
        input_shape: of one input: `(features,)`, `(channels, height, width)` or `(tokens,)`.
        classes: number of classes, or of known tokens.
        params: given by the user; they win.

    Raises:
        ModelError: when a parameter is unknown, or one of a frame.

    >>> model_params("resnet20", (3, 32, 32), 100)
    {'in_channels': 3, 'classes': 100, 'width': 1}
    """
    own, frame = _without_frame(params)
    if frame is not None:
        params = {**params, PARAMETER: asdict(frame)}
    if name.startswith(TIMM):
        return {"num_classes": classes, "in_chans": input_shape[0], **params}
    build, _ = _builder(name, own)
    known = {"in_features": math.prod(input_shape), "in_channels": input_shape[0], "classes": classes}
    known |= {"context": input_shape[0], "vocabulary": classes}  # of a model of tokens
    taken = inspect.signature(build).parameters
    defaults = {key: value.default for key, value in taken.items() if value.default is not inspect.Parameter.empty}
    return {**defaults, **{key: value for key, value in known.items() if key in taken}, **params}


def code_of(name: str) -> str:
    """Return what decides a model besides its name and parameters: a version, or a digest of the user's own code.

    Args:
        name: as for `build_model`. For one of this package's own models the name says it all.
    """
    if name.startswith(TIMM):
        return f"timm {_timm().__version__}"
    return code_outside(_function(name))


def _without_frame(params: dict[str, Any]) -> tuple[dict[str, Any], Frame | None]:
    """Return the parameters of a model's own builder, and the frame that its initialisations share, if any."""
    frame = Frame.of(params[PARAMETER]) if PARAMETER in params else None
    return {key: value for key, value in params.items() if key != PARAMETER}, frame


def _builder(name: str, params: dict[str, Any]) -> tuple[Builder, dict[str, Any]]:
    if name.startswith(TIMM):
        return _timm().create_model, {"model_name": name.removeprefix(TIMM), "pretrained": False, **params}
    build = _function(name)
    return build, params if ":" in name else _checked(name, build, params)


def _function(name: str) -> Builder:
    """Return the function that builds a model, timm's apart: a registered one, or one of the user's own."""
    return imported(name, "model", ModelError) if ":" in name else MODELS.named(name).build


def _checked(name: str, build: Builder, params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with defaults filled in."""
    taken = {key: value.default for key, value in inspect.signature(build).parameters.items()}
    for key in params:
        if key not in taken:
            raise ModelError(
                f"model '{name}' has no parameter '{key}'{nearest(key, taken)}; it takes {', '.join(taken)}"
            )
    return {**taken, **params}


def _timm() -> Any:
    try:
        import timm  # pyright: ignore[reportMissingImports]
    except ImportError as reason:
        raise ModelError("models named timm:NAME need the package timm; install it with pip install timm") from reason
    except Exception as reason:  # a torchvision of another build fails in ways of its own
        raise ModelError(
            f"timm is installed, but cannot be imported ({type(reason).__name__}: {reason}); install the torchvision "
            f"that belongs to torch {torch.__version__}"
        ) from reason
    return timm


def _timm_input_shape(name: str, params: dict[str, Any]) -> tuple[int, ...]:
    config: Any = getattr(build_model(name, **params), "default_cfg", None)
    if not isinstance(config, dict) or "input_size" not in config:
        raise ModelError(f"model '{name}' does not state its input size; wrap it in a function with an example_input")
    _, height, width = config["input_size"]
    return (params.get("in_chans", config["input_size"][0]), height, width)


def _standard_normal(shape: tuple[int, ...]) -> Float[Tensor, "..."]:
    return torch.randn(shape, generator=generator_for("model", "example input", *shape), device="cpu")
