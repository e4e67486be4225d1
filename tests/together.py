"""Many small models in one: a trace costs the same for one as for fifty, so that they share it."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from reticket.symmetry import Symmetry, discover
from reticket.symmetry.graph import Inputs
from reticket.symmetry.verify import guilty_groups


class Together(nn.Module):
    """Runs every model on its own input and returns all their outputs."""

    def __init__(self, models: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.names, self.models = list(models), nn.ModuleList(models.values())

    def forward(self, *inputs: Any) -> list[Any]:
        return [model(*x) if isinstance(x, tuple) else model(x) for model, x in zip(self.models, inputs, strict=True)]


class Findings:
    """What the rules alone find for many models, and which of these groups the numerical proof refuses."""

    def __init__(
        self, models: Mapping[str, nn.Module], examples: Mapping[str, Any], *, draws: int = 4, free: Sequence[str] = ()
    ) -> None:
        self.model, self.inputs = Together(models), tuple(examples.values())
        self.symmetry: Symmetry = discover(self.model, self.inputs, verify=False, free=free)
        self.guilty, self.notes = guilty_groups(self.symmetry, self.model, Inputs.of(self.inputs), draws=draws)

    def _prefix(self, name: str) -> str:
        return f"models.{self.model.names.index(name)}."

    def sizes(self, name: str) -> list[int]:
        """Sizes of the groups of one model, in increasing order, each as often as it has copies."""
        prefix = self._prefix(name)
        groups = [group for group in self.symmetry.groups.values() if group.name.startswith(prefix)]
        return sorted(group.size for group in groups for _ in range(group.copies))

    def log10_order(self, name: str) -> float:
        """The freedom found in one model."""
        return sum(math.lgamma(n + 1) for n in self.sizes(name)) / math.log(10)

    def wrong(self, name: str, reason: str = "") -> list[str]:
        """Groups of one model that change its function, those refused for a reason alone."""
        own = ((group, why) for group, why in self.guilty.items() if group.startswith(self._prefix(name)))
        return [group for group, why in own if reason in ("", why)]

    def explain(self, name: str) -> str:
        """Every tensor of one model explained."""
        tensors = [t for t in self.symmetry.layouts if t.startswith(self._prefix(name))]
        return "\n".join(self.symmetry.explain(tensor) for tensor in tensors)


def built(cases: Mapping[str, Any], seed: int) -> tuple[dict[str, nn.Module], dict[str, Any]]:
    """Build the models of the cases and their example inputs."""
    torch.manual_seed(seed)
    return {name: case.build() for name, case in cases.items()}, {name: case.example() for name, case in cases.items()}
