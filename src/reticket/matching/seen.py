"""What matching by activations has seen of a pair of networks: kept, saved, and gone on from."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_of
from torch import Tensor, nn

from reticket.errors import AlignmentError, InputError
from reticket.files import WRITABLE, write_file
from reticket.matching.accumulated import MomentAccumulator
from reticket.matching.moments import Moments, PairMoments, ScaledUnits
from reticket.symmetry import Symmetry
from reticket.symmetry.alignment import read_tensor_file
from reticket.symmetry.model_tensors import named_state
from reticket.untrusted import one_line, parsed

FORMAT = "1"
MEASURED = ("mean_a", "squares_a", "mean_b", "squares_b", "cross")  # tensors of a site that is measured
DERIVED = ("factor_a", "shift_a", "factor_b", "shift_b")  # of one that follows from another


class Activations:
    """What was seen of a pair of networks so far, for `match(..., seen=)`: empty at first, larger after every batch.

    It holds moments and products, no activations, and is whole at any time: what interrupts a call costs the batch that
    was being looked at.

    Args:
        symmetry: of the networks.

    Batches that are given twice are counted twice: after a call that was interrupted give those from `batches` on.

    >>> from reticket import build_model, discover, generator_for, match
    >>> a, b = (build_model("mlp", generator=generator_for(k)) for k in "ab")
    >>> batches = torch.randn(4, 32, 64, generator=generator_for("data"))
    >>> sym = discover(a, batches[0, :2], verify=False)
    >>> seen = Activations(sym)
    >>> begun = match(a, b, sym, batches[:2], seen=seen)
    >>> seen.examples, match(a, b, sym, batches[2:], seen=seen).examples
    (64, 128)
    """

    def __init__(self, symmetry: Symmetry) -> None:
        if not isinstance(symmetry, Symmetry):
            raise InputError(
                f"Activations are of a Symmetry, got {type(symmetry).__name__}; give what discover returned"
            )
        self.symmetry = symmetry
        self._networks = ""  # digest of their weights
        self._halves: tuple[MomentAccumulator, ...] = ()

    @property
    def examples(self) -> int:
        """Number of examples that both networks saw."""
        return sum(one.examples for one in self._halves)

    @property
    def batches(self) -> int:
        """Number of batches that they came in; a call that goes on takes those after them."""
        return sum(one.batches for one in self._halves)

    def __repr__(self) -> str:
        return f"Activations({self.examples} examples in {self.batches} batches)"

    def begin(
        self, sym: Symmetry, networks: Sequence[Sequence[nn.Module]], unseen: Callable[[], MomentAccumulator]
    ) -> tuple[MomentAccumulator, ...]:
        """Return what was seen of these networks, ready to see more.

        Args:
            sym: their symmetry.
            networks: the checkpoints of A and those of B.
            unseen: makes what takes in more.

        Raises:
            AlignmentError: when other networks were seen, or at other sites.
        """
        if (self.symmetry.sites, self.symmetry.groups) != (sym.sites, sym.groups):
            raise AlignmentError(
                "seen is of another symmetry or of other sites than sym; give that of Activations.symmetry, or begin "
                "anew with Activations(sym)"
            )
        of = _digest(networks)
        if self.batches and of != self._networks:
            raise AlignmentError(
                "seen is of other networks, or of others' weights, than model_a and model_b; give those that it was "
                "begun with, or begin anew with Activations(sym)"
            )
        self._networks = of
        return tuple(unseen().merged(one) for one in self._halves)  # which knows nothing of the models it was seen of

    def keep(self, halves: Sequence[MomentAccumulator]) -> None:
        """Take what was seen in the place of what was seen before.

        Args:
            halves: one, or the two that batches go to in turn.
        """
        self._halves = tuple(halves)

    def save(self, path: str | Path) -> None:
        """Write all as safetensors; the file is the old one or the new one at every moment.

        Args:
            path: of the file.

        Raises:
            AlignmentError: when it cannot be written.
        """
        tensors: dict[str, Tensor] = {}
        halves = [_written(one, f"{number}", tensors) for number, one in enumerate(self._halves)]
        metadata = {"format": "reticket-activations", "version": FORMAT, "symmetry": self.symmetry.to_json()}
        content = safetensors_of(tensors, {**metadata, "networks": self._networks, "halves": json.dumps(halves)})
        write_file(path, content, error=AlignmentError, advice=WRITABLE, what="the activations ")

    @classmethod
    def load(cls, path: str | Path) -> "Activations":
        """Read what `save` wrote.

        Args:
            path: of the file.

        Raises:
            AlignmentError: when it is missing, damaged or something else.
        """
        metadata, tensors = read_tensor_file(path, "the activations", "Activations.save")
        if metadata.get("format") != "reticket-activations" or metadata.get("version") != FORMAT:
            raise AlignmentError(f"'{path}' holds no activations of version {FORMAT}; write them with Activations.save")
        try:
            found = cls(Symmetry.from_json(metadata["symmetry"]))
            found._networks = metadata["networks"]
            halves = enumerate(parsed(metadata["halves"]))
            found.keep([_read(found.symmetry, half, f"{number}", tensors) for number, half in halves])
        except (KeyError, TypeError, ValueError, AttributeError, InputError) as error:
            raise AlignmentError(f"the activations '{path}' are damaged: {one_line(str(error))}") from error
        return found


def _digest(networks: Sequence[Sequence[nn.Module]]) -> str:
    found = hashlib.sha256()
    for number, models in enumerate(networks):
        for model in models:
            for name, tensor in sorted(named_state(model).items()):
                found.update(f"{number} {name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()


def _written(seen: MomentAccumulator, prefix: str, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Add the tensors of one half to others, and return what else there is to it."""
    sites: list[list[Any]] = []
    for (site, group), pairs in seen.moments.items():
        for one in pairs:
            values = (one.a.mean, one.a.squares, one.b.mean, one.b.squares, one.cross)
            tensors |= _named(f"{prefix}/{len(sites)}", MEASURED, values)
            sites.append([site, group, "", one.samples, one.a.resolution])
    for (site, group), scaled in seen.scaled.items():
        for a, b in scaled:
            tensors |= _named(f"{prefix}/{len(sites)}", DERIVED, (a.factor, a.shift, b.factor, b.shift))
            sites.append([site, group, a.source, 0, 0.0])
    return {"examples": seen.examples, "batches": seen.batches, "sites": sites}


def _named(where: str, names: Sequence[str], values: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{where}/{name}": value.cpu().contiguous() for name, value in zip(names, values, strict=True)}


def _read(sym: Symmetry, half: Mapping[str, Any], prefix: str, tensors: Mapping[str, Tensor]) -> MomentAccumulator:
    found = MomentAccumulator(sym)
    found.examples, found.batches = int(half["examples"]), int(half["batches"])
    for number, (site, group, source, samples, resolution) in enumerate(half["sites"]):
        if group not in found.groups_at[site]:
            raise ValueError(f"group '{group}' is not seen at site '{site}'")
        where, units = f"{prefix}/{number}", found.units(group)
        if source:
            a, b = (
                ScaledUnits(
                    source, *(_checked(tensors, f"{where}/{what}_{side}", units) for what in ("factor", "shift"))
                )
                for side in "ab"
            )
            found.scaled.setdefault((site, group), []).append((a, b))
        else:
            pair = PairMoments(units, units)
            for moments, side in ((pair.a, "a"), (pair.b, "b")):
                _fill(moments, tensors, where, side, units, int(samples), float(resolution))
            pair.cross = _checked(tensors, f"{where}/cross", units, units)
            found.moments.setdefault((site, group), []).append(pair)
    return found


def _fill(
    moments: Moments, tensors: Mapping[str, Tensor], where: str, side: str, units: int, samples: int, resolution: float
) -> None:
    moments.samples, moments.resolution = samples, resolution
    moments.mean = _checked(tensors, f"{where}/mean_{side}", units)
    moments.squares = _checked(tensors, f"{where}/squares_{side}", units)


def _checked(tensors: Mapping[str, Tensor], name: str, *shape: int) -> Tensor:
    tensor = tensors[name]
    if tensor.shape != shape or tensor.dtype != torch.float64:
        raise ValueError(f"'{name}' is {tensor.dtype} of shape {tuple(tensor.shape)}, expected float64 of {shape}")
    return tensor
