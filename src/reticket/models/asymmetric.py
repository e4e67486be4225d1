"""Asymmetric networks: initialisations that share a part of their entries, so that units keep their place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from reticket.errors import ModelError
from reticket.fixed import BUFFER
from reticket.lookup import nearest
from reticket.rng import generator_for

PARAMETER = "asymmetric"  # under which a model's parameters hold the frame
KINDS: Mapping[str, type] = {"share": float, "scale": float, "frozen": bool, "seed": int}
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class Frame:
    """Which entries of the weights all initialisations share, and whether they are trained.

    In every row of a weight (one unit of its output, fan_in entries) `round(share * fan_in)` entries, drawn once, are
    `scale` times those of one ordinary initialisation of the same model; the others are each initialisation's own. With
    `frozen` this is the W-asymmetric network of Lim et al. 2024 (arXiv 2405.20231), where fixed entries stay as they
    are throughout training. Deviations: there the constants are normal with one deviation for all layers, here they are
    of the layer's own distribution times `scale`; and here a fixed entry may be pruned like any other, after which it
    is 0.

    Args:
        share: of the entries of a row that are fixed, in [0, 1].
        scale: factor on the constants, above 0.
        frozen: whether fixed entries are held in training; else they only begin alike, and are trained.
        seed: decides places and constants.

    Raises:
        ModelError: when a value is out of range.
    """

    share: float
    scale: float = 1.0
    frozen: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1 or not self.scale > 0:
            raise ModelError(
                f"asymmetric: share is {self.share} and scale {self.scale}; a share lies in [0, 1], a scale above 0"
            )

    @classmethod
    def of(cls, options: Any) -> "Frame":
        """Return the frame that a configuration describes.

        Args:
            options: a table of the fields; `share` has to be there.

        Returns:
            One frame for one meaning, a whole number as the float that it stands for.

        Raises:
            ModelError: for another kind of value, an unknown key, or one of the wrong kind.

        >>> Frame.of({"share": 0.1})
        Frame(share=0.1, scale=1.0, frozen=True, seed=0)
        """
        if not isinstance(options, Mapping) or "share" not in options:
            raise ModelError(f"asymmetric is {options!r}, expected a table such as {{ share = 0.1 }}")
        for key, value in options.items():
            if key not in KINDS:
                raise ModelError(f"asymmetric has no '{key}'{nearest(str(key), KINDS)}; it has {', '.join(KINDS)}")
            kind = KINDS[key]
            if type(value) is not kind and not (kind is float and type(value) is int):
                raise ModelError(f"asymmetric: {key} is {value!r}, expected a {kind.__name__}")
        return cls(**{key: KINDS[key](value) for key, value in options.items()})

    def fixed_in(self, name: str, weight: Float[Tensor, "out *fan_in"]) -> Bool[Tensor, "out *fan_in"]:
        """Return which entries of a weight are fixed: as many in every row, decided by `seed` and its name.

        Args:
            name: of the weight.
            weight: of this shape.

        >>> Frame(share=0.5).fixed_in("weight", torch.zeros(3, 4)).sum(1)
        tensor([2, 2, 2])
        """
        rows = torch.rand(len(weight), weight[0].numel(), generator=generator_for("frame", self.seed, name))
        chosen = torch.zeros(rows.shape, dtype=torch.bool, device="cpu")
        chosen.scatter_(1, rows.argsort(1)[:, : round(self.share * rows.shape[1])], True)
        return chosen.reshape(weight.shape)


def asymmetric(model: nn.Module, drawn: nn.Module, frame: Frame) -> nn.Module:
    """Write a frame into the linear layers and convolutions of a model, **which is changed**, and return the model.

    The model computes what it did: same modules, same names in its state_dict. Where the frame is frozen, each weight
    has a buffer beside it that says which of its entries `reticket.train` holds; it is no part of the state_dict, since
    whoever builds the model again builds the frame again. A weight that several layers share is framed once, by the
    first of them.

    Args:
        model: freshly initialised.
        drawn: the same model in the one initialisation that the constants are taken from.
        frame: which entries, how large, frozen or not.

    Raises:
        ModelError: when the model has neither linear layers nor convolutions, `drawn` is another one, or a weight is
            computed from others, as by weight normalisation.

    >>> a, b, drawn = (nn.Linear(4, 3) for _ in range(3))
    >>> a, b = (asymmetric(one, drawn, Frame(share=0.5)) for one in (a, b))
    >>> (a.weight == b.weight).sum(1), a.state_dict().keys() == drawn.state_dict().keys()
    (tensor([2, 2, 2]), True)
    """
    constants, framed = dict(drawn.named_modules()), set[int]()
    with torch.no_grad():
        for name, layer in model.named_modules():
            if not isinstance(layer, LAYERS) or id(weight := _own_weight(name, layer)) in framed:
                continue
            framed.add(id(weight))
            source = getattr(constants.get(name), "weight", None)
            if not isinstance(source, Tensor) or source.shape != weight.shape:
                raise ModelError(f"the model that constants are drawn from has no layer '{name}' of this shape")
            fixed = frame.fixed_in(name, weight).to(weight.device)
            weight.copy_(torch.where(fixed, source.detach() * frame.scale, weight))
            if frame.frozen:
                held = weight.detach().masked_fill(~fixed, float("nan"))
                layer.register_buffer(BUFFER, held, persistent=False)
    if not framed:
        raise ModelError(
            f"{type(model).__name__} has neither linear layers nor convolutions, so there is nothing to fix"
        )
    return model


def _own_weight(name: str, layer: nn.Module) -> nn.Parameter:
    weight = layer._parameters.get("weight")
    if weight is None:
        raise ModelError(
            f"the weight of '{name}' is computed from other parameters, so none of its entries can be fixed; leave "
            f"its parametrization out, or asymmetric"
        )
    return weight
