"""What `reticket inspect` found, as data: groups, the axes that are pinned by each reason, and totals."""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from torch import nn

from reticket.cli.models import resolve
from reticket.symmetry import Symmetry, discover
from reticket.symmetry.reasons import Reason, read_reasons
from reticket.symmetry.terms import Fixed, leaves

VERSION = 1


@dataclass(frozen=True)
class Pinned:
    """The axes that one reason holds in place.

    Args:
        reason: the reason, without module and line.
        places: (tensor, axis, module, line) for each axis.
    """

    reason: Reason
    places: tuple[tuple[str, int, str, str], ...]


@dataclass(frozen=True)
class Inspection:
    """A symmetry and what was measured while finding it.

    Args:
        model: what the user called it.
        symmetry: what was found.
        seconds: duration of discovery, and of its steps where they are known.
        sites_of: names of the sites of each group.
    """

    model: str
    symmetry: Symmetry
    seconds: Mapping[str, float]
    sites_of: Mapping[str, tuple[str, ...]] = field(init=False)

    def __post_init__(self) -> None:
        found: dict[str, list[str]] = {name: [] for name in self.symmetry.groups}
        for site in self.symmetry.sites:
            for group in site.groups:
                found[group].append(site.name)
        object.__setattr__(self, "sites_of", {name: tuple(sites) for name, sites in found.items()})

    @property
    def numbers(self) -> int:
        """Number of entries of all tensors with axes in the state_dict."""
        return sum(math.prod(self.symmetry.shape(name)) for name, layout in self.symmetry.layouts.items() if layout)

    @property
    def axes(self) -> int:
        """Number of axes of all tensors that have something to permute."""
        return sum(term.size > 1 for layout in self.symmetry.layouts.values() for term in layout)

    def pinned(self) -> tuple[Pinned, ...]:
        """Return the reasons that hold an axis or a part of it, those of one kind together, the most frequent first."""
        places: dict[Reason, list[tuple[str, int, str, str]]] = {}
        for tensor, layout in self.symmetry.layouts.items():
            for axis, term in enumerate(layout):
                if not any(isinstance(leaf, Fixed) and leaf.size > 1 for leaf in leaves(term)):
                    continue
                for why in read_reasons(self.symmetry.reasons[tensor][axis] or "no reason given"):
                    places.setdefault(Reason(why.text, why.operator), []).append((tensor, axis, why.module, why.line))
        weight: dict[str, int] = {}
        for reason, where in places.items():
            weight[reason.kind.name] = weight.get(reason.kind.name, 0) + len(where)
        order = sorted(places, key=lambda r: (-weight[r.kind.name], r.kind.name, -len(places[r]), r.text))
        return tuple(Pinned(reason, tuple(places[reason])) for reason in order)

    def to_json(self) -> str:
        """Return everything as one JSON object."""
        sym = self.symmetry
        data: dict[str, Any] = {
            "format": "reticket-inspection",
            "version": VERSION,
            "model": self.model,
            "seconds": {name: round(value, 3) for name, value in self.seconds.items()},
            "log10_order": sym.log10_order,
            "movable": sym.movable,
            "numbers": self.numbers,
            "axes": self.axes,
            "groups": [self._group(name) for name in sym.groups],
            "pinned": [self._pinned(pinned) for pinned in self.pinned()],
            "pinned_by_verify": list(sym.pinned_by_verify),
            "notes": list(sym.notes),
        }
        return json.dumps(data, indent=1)

    def _group(self, name: str) -> dict[str, Any]:
        group = self.symmetry.groups[name]
        return {
            "name": name,
            "size": group.size,
            "copies": group.copies,
            "over": list(group.parents),
            "log10_order": group.log10_order,
            "members": [{"tensor": m.tensor, "axis": m.axis, "place": m.atom} for m in group.members],
            "sites": list(self.sites_of[name]),
        }

    @staticmethod
    def _pinned(pinned: Pinned) -> dict[str, Any]:
        reason = pinned.reason
        return {
            "kind": reason.kind.name,
            "reason": reason.text,
            "operator": reason.operator,
            "to_free_it": reason.remedy,
            "axes": [dict(zip(("tensor", "axis", "module", "line"), place, strict=True)) for place in pinned.places],
        }


def inspected(model: str, input_shape: str | None, vocabulary: int | None, *, prove: bool) -> Inspection:
    """Build the model that `model` names and discover its symmetry; see `resolve` for the arguments.

    Args:
        model: as MODEL of the command line.
        input_shape: shape of the example input as text.
        vocabulary: number of ids, for integer inputs.
        prove: whether the result is proven.

    Raises:
        ModelError, ConfigError: when there is no such model, or it does not run.
    """
    with Console(stderr=True).status(f"building {model}") as status:  # shown on a terminal only
        network, example = resolve(model, input_shape, vocabulary)
        status.update(f"discovering the symmetry of {model}")
        return discovered(model, network, example, prove=prove)


def discovered(model: str, network: nn.Module, example: Any, *, prove: bool) -> Inspection:
    """Discover the symmetry of a network and note how long it took; see `inspected`."""
    start = time.perf_counter()
    found = discover(network, example, verify=prove)
    return Inspection(model, found, {"all": time.perf_counter() - start, **found.seconds})
