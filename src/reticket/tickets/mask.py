"""Masks: which weights of a network are kept."""

import copy
import os
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, NoReturn, TypeVar, cast, overload

import torch
from jaxtyping import Bool
from torch import Tensor, nn
from torch.nn.utils import parametrize

from reticket.errors import MaskError
from reticket.notebook import html_table
from reticket.tickets import storage
from reticket.tickets.used import place_of, weight_used
from reticket.types import StateDict
from reticket.weights import Weights, module_of, state_of
from reticket.wrapped import inside, names_in

S = TypeVar("S", bound=StateDict)


def mask_of(mask: "Mask") -> "Mask":
    """Return a mask as it is.

    Raises:
        MaskError: for anything else, its tensors by name included.
    """
    if isinstance(mask, Mask):
        return mask
    make = "; make one of them: rt.Mask(tensors)" if isinstance(mask, Mapping) else ""
    raise MaskError(f"mask is a {type(mask).__name__}, but a Mask was expected{make}")


class Mask(Mapping[str, Tensor]):
    """Which weights are kept: a bool tensor (True: kept) for each pruned parameter, by its name in the `state_dict`.

    A mask is a value: its tensors are copied to the CPU once and not to be written into. Parameters that it does not
    name are not pruned. `Alignment.apply` moves it like the weights it is indexed like.

    Args:
        tensors: name of the parameter -> bool tensor of the parameter's shape, at least one.

    Raises:
        MaskError: when there is no tensor, or one is not bool.

    >>> mask = Mask({"fc.weight": torch.tensor([[True, False], [False, False]])})
    >>> mask
    Mask(1 tensor, keeps 1 of 4 weights, density 0.25)
    >>> mask.apply_to({"fc.weight": torch.full((2, 2), 3.0), "fc.bias": torch.ones(2)})["fc.weight"]
    tensor([[3., 0.],
            [0., 0.]])
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        if not isinstance(tensors, Mapping):
            raise MaskError(
                f"a mask is made of bool tensors by name, got a {type(tensors).__name__}; prune a model with "
                f"prune_magnitude(model, density), or read its masks with Mask.from_module"
            )
        if not tensors:
            raise MaskError("a mask needs at least one tensor, got none; name the weights that are pruned")
        for name, tensor in tensors.items():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            if kind is not torch.bool:
                raise MaskError(f"the mask of '{name}' is {kind}, expected torch.bool; use `tensor != 0`")
        kept = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
        object.__setattr__(self, "_tensors", kept)

    @classmethod
    def full(cls, like: nn.Module | Mapping[str, Tensor]) -> "Mask":
        """Return the mask that keeps every weight of `like`: weights by name, or a module with all its tensors."""
        like = state_of(like, "like")
        return cls({name: torch.ones(tensor.shape, dtype=torch.bool, device="cpu") for name, tensor in like.items()})

    @classmethod
    def from_module(cls, pruned: nn.Module) -> "Mask":
        """Read the masks of a module pruned elsewhere.

        Understood are `torch.nn.utils.prune` (buffers `NAME_mask` beside `NAME_orig`) and `torch.nn.utils.parametrize`
        with a parametrization that holds a 0/1 buffer `mask`; several on one parameter are combined.

        Args:
            pruned: the module, in a parallel or compiled wrapper or not.

        Returns:
            The mask, by the names of the unpruned module ("conv1.weight", not "conv1.weight_orig").

        Raises:
            MaskError: when the module holds no such mask, or one that is neither 0 nor 1 or of another shape.
        """
        found: dict[str, Tensor] = {}
        pruned = inside(module_of(pruned, "pruned"))
        for prefix, module in pruned.named_modules():
            for name, mask, weight in _masks_of(module):
                key = f"{prefix}.{name}" if prefix else name
                flags = _as_flags(key, mask, weight)
                found[key] = found[key] & flags if key in found else flags
        if not found:
            raise MaskError(
                f"{type(pruned).__name__} holds no pruning mask; expected buffers 'weight_mask' (torch.nn.utils.prune) "
                f"or a parametrization with a buffer 'mask'; where the weights themselves are zero, build "
                f"Mask({{name: weight != 0}})"
            )
        return cls(found)

    def tensors(self) -> Mapping[str, Tensor]:
        """Return the tensors by name (`types.Permutable`)."""
        return dict(self._kept)

    def with_tensors(self, tensors: Mapping[str, Tensor]) -> "Mask":
        """Return a mask that holds `tensors` instead."""
        return type(self)(tensors)

    @property
    def kept(self) -> int:
        """Number of weights kept."""
        return sum(int(tensor.sum()) for tensor in self._kept.values())

    @property
    def numel(self) -> int:
        """Number of weights the mask is about, kept or not."""
        return sum(tensor.numel() for tensor in self._kept.values())

    @property
    def density(self) -> float:
        """Fraction of these weights that is kept, in [0, 1]."""
        return self.kept / self.numel

    @property
    def sparsity(self) -> float:
        """Fraction of these weights that is pruned, in [0, 1]."""
        return (self.numel - self.kept) / self.numel

    def per_layer(self) -> dict[str, float]:
        """Return the density of each tensor, by name."""
        return {name: int(tensor.sum()) / tensor.numel() for name, tensor in self._kept.items()}

    @overload
    def apply_to(self, state_dict: nn.Module) -> dict[str, Any]: ...
    @overload
    def apply_to(self, state_dict: S) -> S: ...
    def apply_to(self, state_dict: Any) -> Any:
        """Return a copy of `state_dict`, of the same type, in which the pruned weights are exactly 0.

        It is a fill and not a product, so that a pruned NaN or infinity is 0 as well. A tensor that stands in
        `state_dict` under several names (tied weights) is masked under all of them. Tensors that the mask does not name
        are shared with `state_dict`, which stays as it was.

        Args:
            state_dict: weights by name, or a module, which stays as it was: `load_into` writes the result.

        Raises:
            MaskError: when a weight is missing or has another shape: the mask belongs to another model.
            InputError: when `state_dict` is neither a module nor weights by name.
        """
        state_dict = state_of(state_dict, "state_dict")
        names = self.names_among(state_dict)
        filled: dict[Hashable, Tensor] = {}
        for name, tensor in self._kept.items():
            place = place_of(state_dict[names[name]])
            weight = filled.get(place, cast("Tensor", state_dict[names[name]]))
            filled[place] = weight.masked_fill(~tensor.to(weight.device), 0)
        places = {name: place_of(tensor) for name, tensor in state_dict.items() if isinstance(tensor, Tensor)}
        masked = {name: filled[place] for name, place in places.items() if place in filled}
        try:
            result = copy.copy(state_dict)
            cast("dict[str, Tensor]", result).update(masked)
        except (TypeError, AttributeError):  # a read-only mapping
            return {**state_dict, **masked}
        return result

    def names_among(self, weights: Weights) -> dict[str, str]:
        """Return what each masked weight is called among `weights`, which it must fit.

        Parallel, averaged and compiled models (`module.`, `_orig_mod.`) are looked through, and so is `weight_orig` of
        `torch.nn.utils.prune` and `spectral_norm`, whose zeros are zeros of the weight.

        Args:
            weights: by name, or a module.

        Raises:
            MaskError: when a weight is missing, is computed from several tensors, or has another shape.
            InputError: when `weights` is neither.
        """
        weights = state_of(weights)
        names = names_in(self._kept, weights)
        original = names_in([f"{name}_orig" for name in self._kept if name not in names], weights)
        for name in self._kept:
            if f"{name}_orig" in original:
                names[name] = original[f"{name}_orig"]
            elif name not in names and (parts := _parts_of(name, weights)):
                raise MaskError(
                    f"'{name}' is computed from {' and '.join(parts)}, so no tensor can hold its zeros; make the "
                    f"parametrization permanent first (torch.nn.utils.parametrize.remove_parametrizations)"
                )
        self.check_fits({**weights, **{name: weights[own] for name, own in names.items()}})
        return names

    def check_fits(self, weights: StateDict) -> None:
        """Raise unless each masked weight is there in its shape.

        Raises:
            MaskError: naming the first weight that is missing or of another shape.
        """
        for name, tensor in self._kept.items():
            if name not in weights:
                raise MaskError(
                    f"the mask belongs to another model: it masks '{name}', which is not among the {len(weights)} "
                    f"tensors given; use the mask of this model"
                )
            if weights[name].shape != tensor.shape:
                raise MaskError(
                    f"the mask belongs to another model: it masks '{name}' of shape {tuple(tensor.shape)}, but the "
                    f"weight has shape {tuple(weights[name].shape)}; use the mask of this model"
                )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the mask as safetensors, one bit a weight.

        Args:
            path: file to write, replaced when it exists.

        Raises:
            MaskError: when it cannot be written.
        """
        shapes = {name: list(tensor.shape) for name, tensor in self._kept.items()}
        storage.write(path, "mask", {f"mask:{n}": storage.pack(t) for n, t in self._kept.items()}, {"shapes": shapes})

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "Mask":
        """Read a mask that `save` wrote.

        Raises:
            MaskError: when the file is missing, a pickle, damaged or not a mask.
        """
        header, tensors = storage.read(path, ("mask",))
        return cls(storage.unpack_all(tensors, "mask:", storage.shapes_of(header, path), path))

    @property
    def _kept(self) -> dict[str, Tensor]:
        return self.__dict__["_tensors"]

    def __getitem__(self, name: str) -> Bool[Tensor, "..."]:
        return self._kept[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._kept)

    def __len__(self) -> int:
        return len(self._kept)

    def __and__(self, other: "Mask") -> "Mask":
        if self.keys() != other.keys():
            odd = min(self.keys() ^ other.keys())
            raise MaskError(f"cannot combine masks of different models: only one of them masks '{odd}'")
        self.check_fits(other)
        return Mask({name: tensor & other[name] for name, tensor in self._kept.items()})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self.keys() == other.keys() and all(torch.equal(t, other[name]) for name, t in self._kept.items())

    def __hash__(self) -> int:
        return hash(frozenset((name, tuple(t.shape), int(t.sum())) for name, t in self._kept.items()))

    def __repr__(self) -> str:
        tensors = f"{len(self)} tensor{'s' if len(self) != 1 else ''}"
        return f"Mask({tensors}, keeps {self.kept} of {self.numel} weights, density {self.density:.4g})"

    def _repr_html_(self) -> str:
        rows = [
            (name, str(tuple(t.shape)), int(t.sum()), f"{int(t.sum()) / t.numel():.4g}") for name, t in self.items()
        ]
        return html_table(repr(self), ("tensor", "shape", "kept", "density"), rows)

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"a Mask is a value and cannot be changed: '{name}'; make a new one")


def _masks_of(module: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (name of the parameter, mask, weight) for every mask directly on `module`."""
    for name, buffer in module.named_buffers(recurse=False):
        original = module._parameters.get(name.removesuffix("_mask") + "_orig") if name.endswith("_mask") else None
        if original is not None:
            yield name.removesuffix("_mask"), buffer, original
    if parametrize.is_parametrized(module):
        for name, chain in cast("nn.ModuleDict", module.parametrizations).items():
            for step in cast("nn.ModuleList", chain):
                mask = dict(step.named_buffers(recurse=False)).get("mask")
                if mask is not None:
                    yield name, mask, cast(Tensor, weight_used(module, name, name))


def _parts_of(name: str, weights: StateDict) -> list[str]:
    """Return the tensors that a weight without one of its own is computed from."""
    path, _, attribute = name.rpartition(".")
    stem = f"{path}." if path else ""
    wanted = [f"{name}_g", f"{name}_v", *(f"{stem}parametrizations.{attribute}.original{i}" for i in ("", 0, 1))]
    return [f"'{part}'" for part in names_in(wanted, weights).values()]


def _as_flags(name: str, mask: Tensor, weight: Tensor) -> Bool[Tensor, "..."]:
    flags = mask != 0
    if mask.shape != weight.shape:
        raise MaskError(
            f"the mask of '{name}' has shape {tuple(mask.shape)}, expected that of the weight, {tuple(weight.shape)}"
        )
    if not torch.equal(flags.to(mask.dtype), mask):
        raise MaskError(f"the mask of '{name}' holds values other than 0 and 1; threshold it before it is read")
    return flags.cpu()
