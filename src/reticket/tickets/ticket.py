"""Tickets: a mask, where wanted the signs of the weights it keeps, and where they come from."""

import json
import os
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int8
from torch import Tensor

from reticket.errors import MaskError
from reticket.notebook import lines
from reticket.tickets import storage
from reticket.tickets.mask import Mask, mask_of
from reticket.tickets.used import place_of
from reticket.weights import Weights, state_of


def signs_of(weights: Weights, mask: Mask) -> dict[str, Tensor]:
    """Return the signs of the kept weights.

    Args:
        weights: weights by name, or a module.
        mask: which are kept.

    Returns:
        Name -> int8 tensor: +1 or -1 where kept (+1 for a weight of 0), 0 where pruned.

    Raises:
        MaskError: when the mask belongs to another model.
    """
    weights = state_of(weights)
    names = mask_of(mask).names_among(weights)
    return {
        name: torch.where(weights[names[name]].detach().cpu() < 0, -1, 1).to(torch.int8) * kept
        for name, kept in mask.items()
    }


@dataclass(frozen=True, eq=False, repr=False)
class Ticket:
    """What a lottery ticket carries from one network to another: which weights are kept and, where wanted, their signs.

    It is indexed like the weights, one tensor a parameter: `tensors()` is the mask alone (bool) or, with signs, int8
    with +1 or -1 where kept and 0 where pruned; so one permutation moves both.

    Args:
        mask: which weights are kept.
        signs: name -> int8 tensor, +1 or -1 exactly where the mask keeps, 0 elsewhere (`signs_of`); None for a plain
            mask.
        provenance: where the ticket comes from; anything that JSON can hold.

    Raises:
        MaskError: when signs and mask disagree, or JSON cannot hold the provenance.

    >>> ticket = Ticket.of({"w": torch.tensor([0.5, -2.0, 0.1])}, Mask({"w": torch.tensor([True, True, False])}))
    >>> ticket.write_signs({"w": torch.tensor([-1.0, -1.0, 7.0])})["w"]
    tensor([ 1., -1.,  7.])
    """

    mask: Mask
    signs: Mapping[str, Tensor] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        mask_of(self.mask)
        try:
            object.__setattr__(self, "provenance", json.loads(json.dumps(dict(self.provenance))))
        except (TypeError, ValueError) as error:
            raise MaskError(f"the provenance of a ticket must be values that JSON can hold: {error}") from None
        if self.signs is not None:
            object.__setattr__(self, "signs", _checked_signs(self.signs, self.mask))

    @classmethod
    def of(cls, weights: Weights, mask: Mask, provenance: Mapping[str, Any] | None = None) -> "Ticket":
        """Return the ticket of a pruned network: its mask and the signs of its weights.

        Args:
            weights: the pruned network's trained weights, by name or as a module.
            mask: its mask.
            provenance: where they come from.
        """
        return cls(mask, signs_of(weights, mask), provenance or {})

    def tensors(self) -> Mapping[str, Tensor]:
        """Return one tensor a parameter, mask and signs in one (`types.Permutable`)."""
        return self.mask.tensors() if self.signs is None else dict(self.signs)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Ticket":
        """Return a ticket of the same provenance with other `tensors`: all bool (mask), or all int8 (signed)."""
        if self.signs is None:
            return type(self)(Mask(tensors), None, self.provenance)
        return type(self)(Mask({name: tensor != 0 for name, tensor in tensors.items()}), tensors, self.provenance)

    def write_signs(self, weights: Weights) -> dict[str, Any]:
        """Return `weights` with the ticket's signs on the kept weights, whose magnitudes stay; all else is shared.

        Args:
            weights: weights by name, or a module, which stays as it is.

        Raises:
            MaskError: when the ticket has no signs or belongs to another model.
        """
        if self.signs is None:
            raise MaskError("the ticket has no signs; make it with Ticket.of(weights, mask)")
        weights = state_of(weights)
        names = self.mask.names_among(weights)
        placed = {name: place_of(weight) for name, weight in weights.items() if isinstance(weight, Tensor)}
        signed: dict[Hashable, Tensor] = {}
        for name, sign in self.signs.items():
            place, own = placed[names[name]], cast("Tensor", weights[names[name]])
            weight, sign = signed.get(place, own), sign.to(own.device)
            signed[place] = torch.where(sign != 0, weight.abs() * sign, weight)
        return {**weights, **{name: signed[place] for name, place in placed.items() if place in signed}}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ticket as safetensors: one bit a weight, and one bit a kept weight for its sign.

        Args:
            path: file to write, replaced when it exists.

        Raises:
            MaskError: when it cannot be written.
        """
        packed: dict[str, np.ndarray] = {f"mask:{name}": storage.pack(kept) for name, kept in self.mask.items()}
        for name, sign in (self.signs or {}).items():
            packed[f"sign:{name}"] = storage.pack(sign[self.mask[name]] < 0)
        shapes = {name: list(kept.shape) for name, kept in self.mask.items()}
        header = {"shapes": shapes, "signed": self.signs is not None, "provenance": dict(self.provenance)}
        storage.write(path, "ticket", packed, header)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Ticket":
        """Read a ticket that `save` wrote; the file of a mask is a ticket without signs.

        Raises:
            MaskError: when the file is missing, a pickle, damaged, or neither a ticket nor a mask.
        """
        header, tensors = storage.read(path, ("ticket", "mask"))
        shapes = storage.shapes_of(header, path)
        mask = Mask(storage.unpack_all(tensors, "mask:", shapes, path))
        signs, signed, provenance = None, header.get("signed", False), header.get("provenance") or {}
        if not isinstance(signed, bool) or not isinstance(provenance, dict):
            raise MaskError(
                f"'{path}' has signs or a provenance of another type than Ticket.save writes; the file is damaged, "
                f"write it again"
            )
        if signed:
            counts = {name: (int(kept.sum()),) for name, kept in mask.items()}
            negative = storage.unpack_all(tensors, "sign:", counts, path)
            signs = {name: spread(kept, negative[name]) for name, kept in mask.items()}
        return cls(mask, signs, provenance)

    def __repr__(self) -> str:
        signed = "no signs" if self.signs is None else "signed"
        came = [f"{name}: {value}" for name, value in self.provenance.items()]
        return lines(f"Ticket({self.mask!r}, {signed})", [f"{one[:97]}..." if len(one) > 100 else one for one in came])

    def _repr_html_(self) -> str:
        signed = "no signs" if self.signs is None else "signed"
        return f"{self.mask._repr_html_()}<p>{signed}, {escape(json.dumps(self.provenance))}</p>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Ticket):
            return NotImplemented
        if (
            self.mask != other.mask
            or self.provenance != other.provenance
            or (self.signs is None) != (other.signs is None)
        ):
            return False
        return self.signs is None or all(torch.equal(t, (other.signs or {})[name]) for name, t in self.signs.items())

    def __hash__(self) -> int:
        return hash((self.mask, self.signs is None))


def _checked_signs(signs: Mapping[str, Tensor], mask: Mask) -> dict[str, Tensor]:
    mask.check_fits(signs)
    if len(signs) != len(mask):
        raise MaskError(f"the ticket has signs for {len(signs)} weights and a mask for {len(mask)}; give both for each")
    for name, kept in mask.items():
        sign = signs[name].detach().cpu()
        if sign.dtype != torch.int8 or not torch.equal(sign.abs() == 1, kept) or not torch.equal(sign != 0, kept):
            raise MaskError(
                f"the signs of '{name}' ({sign.dtype}) must be int8, +1 or -1 exactly where the mask keeps and 0 "
                f"elsewhere; use signs_of(weights, mask)"
            )
    return {name: signs[name].detach().to("cpu", copy=True) for name in mask}


def spread(kept: Tensor, negative: Tensor) -> Int8[Tensor, "..."]:
    """Return a tensor of signs.

    Args:
        kept: which weights are kept.
        negative: for each of these in row-major order whether it is below 0.
    """
    signs = kept.to(torch.int8)
    signs[kept] = torch.where(negative, -1, 1).to(torch.int8)
    return signs
