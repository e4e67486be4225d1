"""Whether an exported graph is functional as it stands, so that decomposing it, half of the work, can be spared.

A graph without writes in place is functional. A write into a tensor that an operator has just made, with no view of it
taken before (`relu_` after a convolution, `+=` on a block's result), is turned into its functional form here, and a
write into slices of one (`mask[:, :2] = 1`) into `slice_scatter`. Anything else, writes into buffers and through other
views above all, is left to `run_decompositions`.
"""

import operator
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx
from torch._ops import OpOverload

FACTORIES = (("", ""), ("new_", ""), ("", "_like"))
# operators whose result is memory of its own, never a view of an argument
FRESH = frozenset(
    f"aten.{name}"
    for name in [
        *("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear"),
        *("batch_norm", "layer_norm", "group_norm", "rms_norm", "matmul", "mm", "bmm", "addmm", "cat", "stack"),
        *("add", "sub", "mul", "div", "neg", "pow", "sqrt", "rsqrt", "exp", "log", "abs", "clamp", "where"),
        *("relu", "gelu", "silu", "mish", "elu", "leaky_relu", "hardswish", "hardsigmoid", "hardtanh", "relu6"),
        *("sigmoid", "tanh", "softplus", "softmax", "log_softmax", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"),
        *("mean", "sum", "scaled_dot_product_attention", "embedding", "clone", "slice_scatter"),
        *(f"{new}{name}{like}" for name in ("zeros", "ones", "full", "empty") for new, like in FACTORIES),
    ]
)

# operators made of others that decomposing would take apart, with rules of their own for what they are
WHOLE = frozenset(
    f"aten.{name}"
    for name in ["reshape", "reshape_as", "view_as", "expand_as", "flatten", "chunk", "contiguous", "to", "batch_norm"]
)
# operators whose result may lie in the memory of their first argument
VIEWS = frozenset(
    f"aten.{name}"
    for name in ["alias", "slice", "view", "reshape", "flatten", "unsqueeze", "squeeze", "transpose", "permute"]
)


def functional(graph: fx.Graph, known: Callable[[Any], bool]) -> bool:
    """Make the graph functional where this is simple; return whether it is functional and all of it is known.

    Args:
        graph: graph of `torch.export.export`; simple writes in place are replaced.
        known: whether a rule covers an operator.
    """
    order = {node: float(i) for i, node in enumerate(graph.nodes)}
    for node in list(order):
        if node.op == "get_attr":
            return False
        if node.op != "call_function" or node.target is operator.getitem:
            continue
        if not isinstance(node.target, OpOverload) or not _functionalise(node, order):
            return False
        _drop_padding(node)
        if not (known(node.target) and _is_left_whole(node)):
            return False
    return True


def has_plain_shape(node: fx.Node) -> bool:
    """Whether the sizes of a node's results are numbers, not symbols for what only values decide."""
    value = node.meta.get("val")
    values = value if isinstance(value, tuple | list) else (value,)
    return all(isinstance(size, int) for v in values if isinstance(v, torch.Tensor) for size in v.shape)


def _functionalise(node: fx.Node, order: dict[fx.Node, float]) -> bool:
    """Turn a write in place into its functional form; return whether the node writes nothing now."""
    target = node.target
    assert isinstance(target, OpOverload)
    if _name(node) in ("aten.batch_norm", "aten.instance_norm"):
        flag = {"aten.batch_norm": "training", "aten.instance_norm": "use_input_stats"}[_name(node)]
        return not _argument(node, flag)
    if not target._schema.is_mutable:
        return True
    twin = _twin(target)
    base = node.args[0] if node.args else None
    if twin is None or not isinstance(base, fx.Node) or _shape(base) != _shape(node):
        return False
    slices = _slices(base)
    if slices and _is_read_past(slices, node, order):
        _scatter(slices, node, order)
    elif _is_its_own(base) and all(_name(u) in FRESH for u in base.users if order[u] < order[node]):
        _replace_later(base, node, node, order)
    else:
        return False
    node.target = twin
    return True


def _slices(node: fx.Node) -> list[fx.Node]:
    """Return the slices that lead from a node to fresh memory, itself the first; none where anything else does."""
    slices = []
    while str(node.target) == "aten.slice.Tensor":
        slices.append(node)
        node = node.args[0]  # type: ignore[assignment]
    return slices if _name(node) in FRESH else []


def _is_read_past(slices: list[fx.Node], write: fx.Node, order: Mapping[fx.Node, float]) -> bool:
    """Whether all who see a write into the first of some slices do so through the tensor that was sliced."""
    whole = slices[-1].args[0]
    assert isinstance(whole, fx.Node)
    seen = [user for user in whole.users if order[user] < order[write]]
    seen += [user for piece in slices for user in piece.users if user is not write]
    return not write.users and all(user in slices or _is_past(user, write, order) for user in seen)


def _is_past(user: fx.Node, write: fx.Node, order: Mapping[fx.Node, float]) -> bool:
    """Whether a user of memory and all that may be views of it come before a write, or are read by it."""
    return order[user] <= order[write] and (_name(user) in FRESH or all(_is_past(u, write, order) for u in user.users))


def _scatter(slices: list[fx.Node], write: fx.Node, order: dict[fx.Node, float]) -> None:
    """Have all that comes after a write see it in the tensor that was sliced."""
    written = write
    for step, piece in enumerate(slices):
        whole = piece.args[0]
        assert isinstance(whole, fx.Node)
        with write.graph.inserting_after(written):
            target = torch.ops.aten.slice_scatter.default
            scattered = write.graph.call_function(target, (whole, written, *piece.args[1:]))
        scattered.meta = {**write.meta, "val": whole.meta["val"]}
        order[scattered] = order[write] + (step + 1) / (len(slices) + 1)
        _replace_later(whole, scattered, write, order)
        written = scattered


def _replace_later(old: fx.Node, new: fx.Node, write: fx.Node, order: Mapping[fx.Node, float]) -> None:
    """Have all users of a node after a write use another node."""
    old.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new and order[user] > order[write])


def _drop_padding(node: fx.Node) -> None:
    """Write padding by nothing as a copy: all else that pads asks for whole axes."""
    if _name(node) == "aten.pad" and not any(node.args[1]):  # type: ignore[arg-type]
        node.target, node.args, node.kwargs = torch.ops.aten.clone.default, node.args[:1], {}


def _is_its_own(node: fx.Node) -> bool:
    """Whether nobody else sees what is written into a tensor: it is fresh, or the only view of one that is."""
    while _name(node) in VIEWS:
        node = node.args[0]  # type: ignore[assignment]
        if len(node.users) > 1:
            return False
    return _name(node) in FRESH


def _twin(target: OpOverload) -> OpOverload | None:
    """Return the functional form of an operator that writes into its first argument and nothing else."""
    space, _, name = target._schema.name.partition("::")
    writes = [a.alias_info is not None and a.alias_info.is_write for a in target._schema.arguments]
    if space != "aten" or not name.endswith("_") or name.endswith("__") or writes != [True] + [False] * len(writes[1:]):
        return None
    packet = getattr(torch.ops.aten, name[:-1], None)
    return getattr(packet, target._overloadname, None) if packet is not None else None


def _is_left_whole(node: fx.Node) -> bool:
    """Whether decomposing would give this operator back under its own name, or its rule is one for the whole.

    `run_decompositions({})` takes apart what is made of other operators only where it may share memory or write.
    """
    assert isinstance(node.target, OpOverload)
    made_of_others = torch._C._dispatch_has_kernel_for_dispatch_key(node.target.name(), "CompositeImplicitAutograd")
    schema = node.target._schema
    shares = any(value.alias_info is not None for value in (*schema.arguments, *schema.returns))
    return not (made_of_others and shares) or _name(node) in FRESH or _name(node) in WHOLE


def _argument(node: fx.Node, name: str) -> Any:
    assert isinstance(node.target, OpOverload)
    for i, argument in enumerate(node.target._schema.arguments):
        if argument.name == name:
            return node.args[i] if i < len(node.args) else node.kwargs.get(name, argument.default_value)
    return None


def _name(node: fx.Node) -> str:
    return str(node.target).rpartition(".")[0]


def _shape(node: fx.Node) -> Any:
    value = node.meta.get("val")
    return (value.shape, value.dtype) if isinstance(value, torch.Tensor) else None
