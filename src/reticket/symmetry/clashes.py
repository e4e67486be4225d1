"""Members that are called what a traced graph calls its own: a parameter `code`, a layer `graph`, a buffer `meta`.

`torch.export` puts what stands at the top of a model under the same names into a `torch.fx.GraphModule`, which has
members of its own. Such a model is traced inside another module; one level down every name is free.
"""

from collections.abc import Mapping
from typing import Any

from torch import fx, nn
from torch.export import ExportedProgram

PREFIX = "model."
ADDED = ("_guards_fn",)  # what torch.export puts there as well


class Outer(nn.Module):
    """Holds a model and passes everything on to it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model."""
        return self.model(*args, **kwargs)


def to_trace(model: nn.Module) -> nn.Module:
    """Return the model, or a module around it where names at its top are taken."""
    graphs = fx.GraphModule(nn.Module(), fx.Graph())
    taken = {*dir(graphs), *ADDED} - {*dir(nn.Module())}
    own = {*model._parameters, *model._buffers, *model._modules, *vars(model)}
    return Outer(model) if own & taken else model


def traced_names(model: nn.Module, names: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of a model's tensors by what they are called where it is traced.

    >>> traced_names(nn.ModuleDict({"fc": nn.ReLU()}), {"fc.weight": 0})
    {'fc.weight': 'fc.weight'}
    >>> traced_names(nn.ModuleDict({"code": nn.ReLU()}), {"code.weight": 0})
    {'model.code.weight': 'code.weight'}
    """
    prefix = "" if to_trace(model) is model else PREFIX
    return {f"{prefix}{name}": name for name in names}


def leave_out(outer: nn.Module, program: ExportedProgram) -> None:
    """Take the module around a model out of what the nodes say they belong to."""
    if not isinstance(outer, Outer):
        return
    for node in program.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if stack:
            inner = list(stack.items())[1:]
            node.meta["nn_module_stack"] = {
                key: (path.removeprefix("model").removeprefix("."), kind) for key, (path, kind) in inner
            }
