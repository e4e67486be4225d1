"""Alignments: one permutation for every group of a symmetry, and what they do to anything indexed like the weights."""

import copy
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as safetensors_of
from torch import Tensor, nn

from reticket.dense import described, is_dense
from reticket.errors import AlignmentError, InputError
from reticket.files import WRITABLE, check_plain, reason, write_file
from reticket.lookup import as_names
from reticket.rng import as_generator
from reticket.symmetry.gather import gather
from reticket.symmetry.model_tensors import is_extra
from reticket.symmetry.optimizer_state import moved_optimizer
from reticket.symmetry.showing import GroupTable, alignment_html, alignment_lines, alignment_report, plot_alignment
from reticket.symmetry.structure import Group
from reticket.symmetry.symmetry import Symmetry
from reticket.symmetry.terms import atoms
from reticket.symmetry.units import rows
from reticket.symmetry.writing import load_into
from reticket.types import Permutable, Permutation, Rebuilt
from reticket.untrusted import one_line, parsed
from reticket.weights import state_of
from reticket.wrapped import inside

FORMAT = "1"
CORRELATION, SIMILARITY = "correlation", "similarity of weights"
Value = TypeVar("Value")


@dataclass(frozen=True)
class Quality:
    """How well one group was matched.

    Args:
        correlation: mean correlation of matched units, in [-1, 1]; or the figure that `measure` names.
        margin: mean distance of a matched unit's figure to that of its best other partner.
        measure: what the figure is: `CORRELATION`, or of a matcher that looks at weights alone `SIMILARITY`, which is
            at most 1, for equal weights.
    """

    correlation: float
    margin: float
    measure: str = CORRELATION


@dataclass(frozen=True, eq=False, repr=False)
class Alignment(Rebuilt):
    """One permutation for every group: carries one network's units to another's order.

    The permuted tensor is `x[index]` along every axis that carries the group.

    Args:
        symmetry: groups of the model.
        permutations: permutation of every group by name.
        quality: how well groups were matched; empty where nothing was matched.
        left_out: by group, a bool tensor of its index's shape, True for the units, in the new order, that are matched
            so badly that no mask is to be carried to them; `apply` moves them like all others, see `transfer`. Mostly
            empty.

    Raises:
        AlignmentError: when a group lacks its permutation or has one of another shape.
    """

    symmetry: Symmetry
    permutations: Mapping[str, Permutation]
    quality: Mapping[str, Quality] = field(default_factory=dict)
    left_out: Mapping[str, Tensor] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        groups = self.symmetry.groups
        odd = [name for name in (*self.permutations, *self.quality, *self.left_out) if name not in groups]
        missing = [name for name in groups if name not in self.permutations]
        if odd or missing:
            raise AlignmentError(
                f"permutations do not fit the symmetry: {len(missing)} missing {missing[:3]}, {len(odd)} unknown "
                f"{odd[:3]}; give one for each of its {len(groups)} groups"
            )
        for name, group in groups.items():
            expected, seen = (*self.symmetry.parent_sizes(group), group.size), self.permutations[name].index.shape
            if tuple(seen) != expected:
                raise AlignmentError(f"group '{name}' needs an index of shape {expected}, got {tuple(seen)}")
        for name, flags in self.left_out.items():
            if flags.dtype != torch.bool or flags.shape != self.permutations[name].index.shape:
                raise AlignmentError(
                    f"left_out of group '{name}' is {flags.dtype} of shape {tuple(flags.shape)}, expected torch.bool "
                    f"of shape {tuple(self.permutations[name].index.shape)}"
                )
        ordered = {name: self.permutations[name] for name in groups}
        object.__setattr__(self, "permutations", MappingProxyType(ordered))
        object.__setattr__(self, "quality", MappingProxyType(dict(self.quality)))
        object.__setattr__(self, "left_out", MappingProxyType(dict(self.left_out)))

    def __repr__(self) -> str:
        return alignment_lines(self)

    def _repr_html_(self) -> str:
        return alignment_html(self)

    def report(self) -> GroupTable:
        """Return what the matching itself says of every group: units, how many move, how alike they are and the margin.

        The fourth column is named after what the matcher compared: "correlation" of activations, or "similarity of
        weights".

        `print` it, show it in a notebook, or take it `to_frame`. `rt.assess` looks further, with networks and data.

        >>> from reticket.symmetry import discover, identity_alignment
        >>> sym = discover(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), torch.randn(2, 4))
        >>> print(identity_alignment(sym).report())
        group     units  move  correlation  margin
        0.weight  8      0
        """
        return alignment_report(self)

    @property
    def measure(self) -> str:
        """What the figures of `quality` are, in a word or a few; that of activations where nothing was matched."""
        return " or ".join(dict.fromkeys(q.measure for q in self.quality.values())) or CORRELATION

    def plot(self, axes: Any = None) -> Any:
        """Draw how well each group was matched, and how near the best other partner came.

        Args:
            axes: of matplotlib, to draw on; None for new ones.

        Returns:
            The axes.

        Raises:
            InputError: when nothing was matched, or matplotlib is not installed.
        """
        return plot_alignment(self, axes)

    def apply(self, value: Value, *, names: Sequence[str] | None = None) -> Value:
        """Return the value with every tensor permuted like the parameter it belongs to; `value` is untouched.

        A module alone is changed in place, by `load_into`, and returned.

        Args:
            value: a state_dict, a `Permutable` (Mask, Ticket), `optimizer.state_dict()` or a module.
            names: for an optimizer's state without `param_names`, the names of its parameters in order; one may stand
                alone.

        Returns:
            A new value of the same type; the module itself.

        Raises:
            AlignmentError: when a tensor is not in the symmetry or has another shape, or an optimizer holds what does
                not go with a parameter entry by entry (factors of one axis, flat vectors, objects); for a mask or
                ticket where units are left out.
        """
        if isinstance(value, Permutable):
            if self.left_out:
                raise AlignmentError(
                    "this alignment leaves units out, of whose connections a mask of A says nothing; carry it by "
                    "rt.transfer(mask, alignment, b), or by alignment.whole() as if none were left out"
                )
            return value.with_tensors(self._tensors(value.tensors()))  # pyright: ignore[reportReturnType]
        if isinstance(value, Mapping) and "param_groups" in value and "state" in value:
            return _like(
                value, moved_optimizer(value, None if names is None else as_names(names), self._shape, self.tensor)
            )
        if isinstance(value, Mapping):
            return _like(value, self._tensors(value))
        if isinstance(value, nn.Module):
            load_into(inside(value), self._tensors(state_of(value)))
            return value
        raise AlignmentError(
            f"cannot apply an alignment to {type(value).__name__}: expected a module, a state_dict, a "
            f"Mask, a Ticket or optimizer.state_dict()"
        )

    def _tensors(self, tensors: Mapping[str, Any]) -> dict[str, Any]:
        return {n: copy.deepcopy(t) if is_extra(n) else self.tensor(n, t) for n, t in tensors.items()}

    def tensor(self, name: str, tensor: Tensor) -> Tensor:
        """Return one tensor permuted like the parameter of this name; always a new tensor.

        Args:
            name: of a tensor of the state_dict.
            tensor: of the same shape.
        """
        if not isinstance(tensor, Tensor):
            raise AlignmentError(
                f"'{name}' is {type(tensor).__name__}, not a tensor: leave it out or permute it yourself"
            )
        if tensor.dim() == 0:
            return tensor.detach().clone()
        layout = self.symmetry.layouts[self.owner_of(name, tensor.shape)]
        if not is_dense(tensor):
            if any(True for term in layout for _ in atoms(term)):
                raise AlignmentError(
                    f"'{name}' is {described(tensor)} and cannot be permuted; make it dense, or pin it with fixed="
                )
            return tensor.detach().clone()
        moved = gather(tensor.detach(), layout, self.permutations)
        return moved.clone() if moved.data_ptr() == tensor.data_ptr() else moved

    def owner_of(self, name: str, shape: Sequence[int]) -> str:
        """Return the tensor of the symmetry that one of this name and shape is indexed like.

        Args:
            name: of a tensor of the state_dict.
            shape: of it.

        Raises:
            AlignmentError: when there is none, or it has another shape.
        """
        owner = resolve_name(self.symmetry, name)
        if owner is None:
            known = ", ".join(list(self.symmetry.layouts)[:4])
            raise AlignmentError(
                f"'{name}' is no tensor of this symmetry, which has {known}, ...; is it another model's?"
            )
        expected = self.symmetry.shape(owner)
        if tuple(shape) != expected:
            raise AlignmentError(f"'{name}' has shape {tuple(shape)}, expected {expected} as in the symmetry")
        return owner

    def _shape(self, name: str) -> tuple[int, ...] | None:
        known = resolve_name(self.symmetry, name)
        return None if known is None else self.symmetry.shape(known)

    def whole(self) -> "Alignment":
        """Return the same alignment with no unit left out."""
        return replace(self, left_out={}) if self.left_out else self

    def left_out_in(self, name: str) -> Tensor | None:
        """Return which entries of the parameter of this name belong to units that are left out; None where none do.

        Args:
            name: of a tensor of the state_dict.
        """
        owner = resolve_name(self.symmetry, name) if self.left_out else None
        if owner is None:
            return None
        layout, shape = self.symmetry.layouts[owner], self.symmetry.shape(owner)
        places = torch.arange(math.prod(shape), device="cpu").reshape(shape)
        found = torch.zeros(math.prod(shape), dtype=torch.bool, device="cpu")
        for group in {str(atom.key): None for term in layout for atom in atoms(term)}:
            for units in rows(places, list(enumerate(layout)), group, None) if group in self.left_out else ():
                found[units[self.left_out[group]].flatten()] = True
        return found.reshape(shape) if bool(found.any()) else None

    def inverse(self) -> "Alignment":
        """Return the alignment that undoes this one, exactly: block sigma[p] of it is the inverse of block p."""
        permutations, left_out = {}, {}
        for name, group in self.symmetry.groups.items():
            index, above = self.permutations[name].index, old_parents(self.symmetry, group, self.permutations)
            inverse = torch.empty_like(index)
            inverse[above] = torch.argsort(index, dim=-1)
            permutations[name] = Permutation(inverse)
            if name in self.left_out:
                left_out[name] = torch.empty_like(self.left_out[name])
                left_out[name][above] = torch.zeros_like(self.left_out[name]).scatter(-1, index, self.left_out[name])
        return Alignment(self.symmetry, permutations, self.quality, left_out=left_out)

    def after(self, first: "Alignment") -> "Alignment":
        """Return the alignment that does `first` and then this one: `first.index[self.index]`, per parent position.

        A unit is left out of it that is left out of either.

        Raises:
            AlignmentError: when the two belong to different symmetries.
        """
        if first.symmetry.layouts != self.symmetry.layouts:
            raise AlignmentError("cannot combine alignments of different symmetries")
        permutations, left_out = {}, dict(self.left_out)
        for name, group in self.symmetry.groups.items():
            index, above = self.permutations[name].index, old_parents(self.symmetry, group, self.permutations)
            permutations[name] = Permutation(torch.gather(first.permutations[name].index[above], -1, index))
            if name in first.left_out:
                carried = torch.gather(first.left_out[name][above], -1, index)
                left_out[name] = carried | left_out[name] if name in left_out else carried
        return Alignment(self.symmetry, permutations, left_out=left_out)

    def save(self, path: str | Path) -> None:
        """Write permutations as safetensors, with the symmetry and the quality as metadata.

        The file is the old one or the new one at every moment.

        Raises:
            AlignmentError: when the file cannot be written; what was there stays as it was.
        """
        tensors = {name: p.index.contiguous() for name, p in self.permutations.items()}
        quality = {name: [q.correlation, q.margin] for name, q in self.quality.items()}
        metadata = {"format": "reticket-alignment", "version": FORMAT, "symmetry": self.symmetry.to_json()}
        if self.left_out:  # a field that readers of older versions look past
            left = {name: flags.flatten().nonzero().flatten().tolist() for name, flags in self.left_out.items()}
            metadata["left_out"] = json.dumps(left)
        measures = {name: q.measure for name, q in self.quality.items() if q.measure != CORRELATION}
        if measures:  # as left_out
            metadata["measures"] = json.dumps(measures)
        content = safetensors_of(tensors, metadata={**metadata, "quality": json.dumps(quality)})
        write_file(path, content, error=AlignmentError, advice=WRITABLE, what="the alignment ")

    @classmethod
    def load(cls, path: str | Path) -> "Alignment":
        """Read an alignment written by `save`.

        Raises:
            AlignmentError: when the file is missing, damaged or no alignment.
        """
        metadata, tensors = read_tensor_file(path, "the alignment", "Alignment.save")
        if metadata.get("format") != "reticket-alignment" or metadata.get("version") != FORMAT:
            raise AlignmentError(f"'{path}' is no alignment of version {FORMAT}; write one with Alignment.save")
        try:
            symmetry = Symmetry.from_json(metadata["symmetry"])
            measures = parsed(metadata.get("measures", "{}"))
            quality = {
                name: Quality(*map(float, pair), measure=_measure(measures.get(name, CORRELATION)))
                for name, pair in parsed(metadata["quality"]).items()
            }
            left_out = {
                name: _flagged(tensors[name], places) for name, places in parsed(metadata.get("left_out", "{}")).items()
            }
            permutations = {name: Permutation(index) for name, index in tensors.items()}
            return cls(symmetry, permutations, quality, left_out=left_out)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, InputError) as error:
            raise AlignmentError(f"the alignment '{path}' is damaged: {one_line(str(error))}") from error


def _measure(text: object) -> str:
    if text not in (CORRELATION, SIMILARITY):
        raise ValueError(f"a group was matched by {str(text)[:40]!r}, expected {CORRELATION} or {SIMILARITY}")
    return str(text)


def read_tensor_file(path: str | Path, what: str, written_by: str) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Return the metadata and the tensors of a file of safetensors.

    Args:
        path: of the file.
        what: it is, for the error.
        written_by: the method that writes such files.

    Raises:
        AlignmentError: when it is missing, damaged or something else.
    """
    try:
        check_plain(path)
        with safe_open(str(path), framework="pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        why = one_line(reason(error))
        raise AlignmentError(f"{what} '{path}' cannot be read ({why}); name a file that {written_by} wrote") from error


def old_parents(symmetry: Symmetry, group: Group, permutations: Mapping[str, Permutation]) -> tuple[Tensor, ...]:
    """Return, for the grid of new parent positions, the old position of each parent; a fixed one does not move."""
    if not group.parents:
        return ()
    grid = torch.meshgrid(*(torch.arange(n, device="cpu") for n in symmetry.parent_sizes(group)), indexing="ij")
    new = dict(zip(group.parents, grid, strict=True))
    return tuple(
        new[parent]
        if parent in symmetry.fixed_parents
        else permutations[parent].index[(*(new[above] for above in symmetry.groups[parent].parents), new[parent])]
        for parent in group.parents
    )


def _flagged(like: Tensor, places: Sequence[int]) -> Tensor:
    flags = torch.zeros(like.numel(), dtype=torch.bool, device="cpu")
    flags[torch.tensor(places, dtype=torch.int64, device="cpu")] = True
    return flags.reshape(like.shape)


WRAPPERS = ("module.", "_orig_mod.")


def resolve_name(symmetry: Symmetry, name: str) -> str | None:
    """Return the tensor of the symmetry that `name` is indexed like, None when there is none.

    `w_orig` and `w_mask` of `torch.nn.utils.prune` and `parametrizations.w.original` go with `w`, and the other way
    round; `module.` (averaged and parallel models) and `_orig_mod.` (compiled models) are looked through.
    """
    for prefix in WRAPPERS:
        if name not in symmetry.layouts and name.startswith(prefix):
            return resolve_name(symmetry, name.removeprefix(prefix))
    stem, _, leaf = name.rpartition(".")
    dot = f"{stem}." if stem else ""
    candidates = [name, f"{name}_orig", f"{dot}parametrizations.{leaf}.original"]
    candidates += [name.removesuffix(suffix) for suffix in ("_orig", "_mask") if name.endswith(suffix)]
    head, _, inner = name.partition("parametrizations.")
    if inner.endswith(".original"):
        candidates.append(head + inner.removesuffix(".original"))
    return next((candidate for candidate in candidates if candidate in symmetry.layouts), None)


def _like(value: Any, result: dict[str, Any]) -> Any:
    if type(value) is dict:
        return result
    try:
        return type(value)(result)
    except TypeError:
        return result


def identity_alignment(symmetry: Symmetry) -> Alignment:
    """Return the alignment of `symmetry` that moves nothing."""
    groups = symmetry.groups.values()
    return Alignment(symmetry, {g.name: Permutation.identity(g.size, symmetry.parent_sizes(g)) for g in groups})


def random_alignment(symmetry: Symmetry, generator: torch.Generator | int) -> Alignment:
    """Return a uniform draw from the whole group.

    Args:
        symmetry: groups of the model.
        generator: source of randomness, or a seed.

    Raises:
        InputError: when the generator is neither, or there is no symmetry.
    """
    if not isinstance(symmetry, Symmetry):
        raise InputError(f"symmetry is a {type(symmetry).__name__}, but what discover returns was expected")
    generator = as_generator(generator, "alignment")
    permutations = {}
    for group in symmetry.groups.values():
        noise = torch.rand(
            *symmetry.parent_sizes(group), group.size, generator=generator, dtype=torch.float64, device="cpu"
        )
        permutations[group.name] = Permutation(torch.argsort(noise, dim=-1))
    return Alignment(symmetry, permutations)
