"""The part that every parameter of two axes or more plays in a model: what multiplies activations is a weight matrix.

A traced graph says it of every parameter that it computes with. Where there is none, the module does that a parameter
belongs to: those of torch and the `Conv1D` of transformers are known. Elsewhere, what is called after positions or has
one row for all examples is taken for no matrix, and the rest is not known.
"""

import re
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from reticket.symmetry.filled import check_shaped
from reticket.symmetry.model_tensors import named_state
from reticket.symmetry.multiplied import multiplied
from reticket.tickets.used import CONVOLUTIONS, attributes, place_of, source_of
from reticket.wrapped import inside

Part = Literal["matrix", "embedding", "norm", "elementwise", "unknown"]
"""What a parameter is to activations: it multiplies them, holds rows that are looked up, scales them inside a norm, or
meets them entry by entry or stands among them, as a table of positions, a token, the decay of a state; "unknown" where
no trace reaches it and no known module holds it."""

LAYERS = (nn.Linear, *CONVOLUTIONS)
WITH_MATRICES = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)  # all of two axes that they hold, but tokens
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
TABLES = (nn.Embedding, nn.EmbeddingBag)
NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)
POSITION = re.compile(r"(^|[._])pos[^.]*$")  # `pos_embed`, `positions`, `relative_position_bias_table`
TOKENS = ("bias_k", "bias_v")  # what an attention layer adds to the keys and values of each sequence


@dataclass(frozen=True, eq=False)
class Weight:
    """One parameter of two axes or more.

    Args:
        names: in the unpruned, unparametrized model; the first is what masks call it, more than one where it is tied.
        source: the parameter, or that from which it is computed; None where the module has none.
        part: what it is to activations.
    """

    names: tuple[str, ...]
    source: Tensor | None
    part: Part

    @property
    def name(self) -> str:
        """What a mask calls it."""
        return self.names[0]


def parts_of(model: nn.Module, example_inputs: Any = None, kwargs: Mapping[str, Any] | None = None) -> list[Weight]:
    """Return every parameter of two axes or more, each once, in the order of `model.named_modules()`, with its part.

    Args:
        model: any module; it is left as it was.
        example_inputs: a tensor, a tuple of positional inputs or a dict of keyword inputs, on which it is traced;
            without any, and without `kwargs`, only modules are looked at.
        kwargs: keyword inputs beside positional ones.

    Raises:
        ModelError: when a parameter has no shape yet, or the model cannot be traced on these inputs.
    """
    if any(map(is_lazy, model.parameters())):
        check_shaped(model)
    traced = {} if example_inputs is None and not kwargs else _traced(model, example_inputs, kwargs)
    found: list[Weight] = []
    for place, owners in _owners(model).items():
        names = tuple(owners)
        source = source_of(owners[names[0]], names[0].rpartition(".")[2])
        found.append(Weight(names, source, _part(owners, source, traced.get(place))))
    return found


def _owners(model: nn.Module) -> dict[Hashable, dict[str, nn.Module]]:
    """Return the names of every parameter of two axes or more with the module of each, by where its values lie."""
    found: dict[Hashable, dict[str, nn.Module]] = {}
    for prefix, module in model.named_modules():
        if "parametrizations" in prefix.split("."):
            continue
        for attribute in dict.fromkeys(attributes(module)):
            source, name = source_of(module, attribute), f"{prefix}.{attribute}" if prefix else attribute
            layer = attribute == "weight" and isinstance(module, LAYERS)
            if layer or (source is not None and source.dim() > 1):
                found.setdefault(name if source is None else place_of(source), {})[name] = module
    return found


def _traced(model: nn.Module, example_inputs: Any, kwargs: Mapping[str, Any] | None) -> dict[Hashable, str]:
    """Return what a traced graph does with each parameter that it computes with, by where its values lie."""
    found = multiplied(model, () if example_inputs is None else example_inputs, kwargs)
    state = named_state(model)
    parts = {"others": found.others, "unclear": found.unclear, "matrices": found.matrices, "tables": found.tables}
    return {place_of(state[name]): part for part, names in parts.items() for name in names}


def _part(owners: Mapping[str, nn.Module], source: Tensor | None, seen: str | None) -> Part:
    """Return the part of a parameter: a table is one whatever else it does; then what was seen; then what is known."""
    if seen == "tables" or any(isinstance(owner, TABLES) for owner in owners.values()):
        return "embedding"
    if any(isinstance(owner, NORMS) for owner in owners.values()):
        return "norm"
    if seen in ("matrices", "others"):
        return "matrix" if seen == "matrices" else "elementwise"
    if any(_is_matrix(owner, name) for name, owner in owners.items()):
        return "matrix"
    shape = [1] if source is None else list(source.shape)
    # one row for all examples: a token, a scale, and mostly a table of positions, which otherwise is called so
    single = shape[0] == 1 or sum(size > 1 for size in shape) < 2
    return "elementwise" if single or all(POSITION.search(name) for name in owners) else "unknown"


def _is_matrix(owner: nn.Module, name: str) -> bool:
    attribute = name.rpartition(".")[2]
    if isinstance(owner, WITH_MATRICES):
        return attribute not in TOKENS
    return attribute == "weight" and (_is_conv1d(owner) or isinstance(owner, (*LAYERS, nn.Bilinear)))


def _is_conv1d(module: nn.Module) -> bool:
    """Whether a module is the linear layer of GPT-2, which holds its weight inputs first."""
    return any(f"{one.__module__}.{one.__name__}" == "transformers.pytorch_utils.Conv1D" for one in type(module).mro())


def inputs_first(model: nn.Module, names: Iterable[str]) -> frozenset[str]:
    """Return those of a model's weights that stand inputs first: of transposed convolutions, and `Conv1D`.

    Args:
        model: any module, in a wrapper or not.
        names: of weights, as masks call them.

    >>> sorted(inputs_first(nn.Sequential(nn.Linear(2, 3), nn.ConvTranspose2d(2, 3, 1)), ["0.weight", "1.weight"]))
    ['1.weight']
    """
    owners = {name: module for owned in _owners(inside(model)).values() for name, module in owned.items()}
    return frozenset(
        name for name in names if name in owners and (_is_conv1d(owners[name]) or isinstance(owners[name], TRANSPOSED))
    )
