"""Members of a model that are called what a traced graph calls its own are members like any other."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import reticket as rt
from reticket.symmetry import graph

NAMES = {"parameter": ("_guards_fn",), "buffer": ("code",), "module": ("graph",), "attribute": ("meta",)}
X = torch.linspace(-1, 1, 24).reshape(4, 6)


class Named(nn.Module):
    """Two layers with a member between them that may be called anything; the writes in place need decomposing."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__()
        self.a, self.b, self.name = nn.Linear(6, 8), nn.Linear(8, 4), name
        if kind == "parameter":
            self.register_parameter(name, nn.Parameter(torch.ones(8)))
        elif kind == "buffer":
            self.register_buffer(name, torch.zeros(8))
        elif kind == "module":
            self.add_module(name, nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)))
        else:
            setattr(self, name, torch.linspace(0, 1, 8))

    def forward(self, x: Tensor) -> Tensor:
        hidden, own = self.a(x), getattr(self, self.name)
        if isinstance(own, nn.Module):
            hidden, own = own(hidden), torch.ones(8)
        if self.training and self.name in self._buffers:
            own.mul_(0.9).add_(0.1 * hidden.detach().mean(0))
        with torch.no_grad():
            more = hidden.detach()[:, :8].sin_()
        return self.b(torch.relu(hidden * own + more))


def looks(kind: str, name: str) -> dict[str, Any]:
    """Return what discovery says of a model, with the member's name written as `#`."""
    sym = rt.discover(Named(kind, name), X, verify=False)  # names are given before the proof
    said: dict[str, list[Any]] = {
        "order": [round(sym.log10_order, 6)],
        "groups": [f"{group.name}: {[f'{m.tensor}:{m.axis}' for m in group.members]}" for group in sym.groups.values()],
        "sites": [f"{site.name} in {site.module or 'the model'}" for site in sym.sites],
        "why": [sym.explain(tensor) for tensor in sym.layouts],
        "notes": [*sym.notes, *sym.pinned_by_verify],
    }
    return {key: [str(one).replace(name, "#") for one in value] for key, value in said.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_a_name_that_graphs_have_for_themselves_is_a_name(kind: str) -> None:
    usual = looks(kind, "words")
    assert usual["order"] == [{"module": "9.211041", "attribute": "0.0"}.get(kind, "4.605521")], "log10(8!) is 4.605521"
    for name in NAMES[kind]:
        assert looks(kind, name) == usual, name


def test_a_member_that_is_called_like_the_module_around_it() -> None:
    class Both(Named):
        def __init__(self) -> None:
            super().__init__("parameter", "code")
            self.model = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.model(super().forward(x))

    sym = rt.discover(Both(), X, verify=False)
    assert [group.size for group in sym.groups.values()] == [8, 4]
    assert {"code", "a", "b", "model"} >= {site.module for site in sym.sites if not site.operator}


def test_the_assertion_sees_a_model_that_is_traced_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "to_trace", lambda model: model)
    with pytest.raises(rt.ReticketError, match="'code' already exists"):
        looks("parameter", "code")
