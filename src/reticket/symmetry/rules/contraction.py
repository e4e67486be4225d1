"""Products of tensors: the contracted pair of axes moves together, the other axes pass through."""

from collections.abc import Sequence

from torch import fx

from reticket.symmetry.rules.elementwise import broadcast
from reticket.symmetry.rules.operator import Operator, fixed, is_layout, rule
from reticket.symmetry.terms import Fixed, Layout

CONTRACTED = "contracted axes move together"


@rule("aten.linear", weights=("weight",))
def linear(op: Operator) -> Layout:
    """y = x W^T + b."""
    data, weight = op.layout("input"), op.layout("weight")
    op.equal(data[-1], weight[-1], CONTRACTED)
    if is_layout(op["bias"]):
        op.equal(weight[0], op.layout("bias")[0], "one bias for each output")
    op.iterates((*data, *weight[:-1]))
    return (*data[:-1], *weight[:-1])


@rule(
    *("aten.addmm", "aten._sparse_addmm", "aten.baddbmm", "aten.addmv"),
    factors=("mat1", "mat2", "batch1", "batch2", "mat", "vec"),
)
def addmm(op: Operator) -> Layout:
    """y = beta c + alpha a b."""
    first, second = [name for name in op.arguments if name in ("mat1", "mat2", "batch1", "batch2", "mat", "vec")]
    result = _matmul(op, op.layout(first), op.layout(second))
    return broadcast(op, [op.raw("self"), result], "the added term moves with the product")


@rule("aten.addbmm", factors=("batch1", "batch2"))
def addbmm(op: Operator) -> Layout:
    """y = beta c + alpha sum_k a_k b_k."""
    left, right = op.layout("batch1"), op.layout("batch2")
    op.equal(left[2], right[1], CONTRACTED)
    op.equal(left[0], right[0], "batch axes move together")
    op.iterates((*left, right[2]))
    return broadcast(op, [op.raw("self"), (left[1], right[2])], "the added term moves with the product")


@rule(
    *("aten.mm", "aten._sparse_mm", "aten.bmm", "aten.matmul", "aten.mv", "aten.dot", "aten.vdot"),
    factors=("self", "sparse", "mat2", "dense", "other", "vec", "tensor"),
)
def matmul(op: Operator) -> Layout:
    """The product of matrices, batched by broadcasting."""
    first, second = [name for name, value in op.arguments.items() if is_layout(value)]
    return _matmul(op, op.layout(first), op.layout(second))


def _matmul(op: Operator, left: Layout, right: Layout) -> Layout:
    op.equal(left[-1], right[-1 if len(right) == 1 else -2], CONTRACTED)
    batch = broadcast(op, [left[:-2], right[:-2]], "batch axes move together")
    result = (*batch, *left[-2:-1], *(right[-1:] if len(right) > 1 else ()))
    op.iterates((*result, left[-1]))
    return result


@rule("aten.einsum", factors=("tensors",))
def einsum(op: Operator) -> Layout:
    """Axes of one letter move together."""
    tensors = [op.solver.instantiate(layout) for layout in op["tensors"]]
    names, result = _letters(op["equation"].replace(" ", ""), [len(layout) for layout in tensors])
    letters = {}
    for own, layout in zip(names, tensors, strict=True):
        for letter, term in zip(own, layout, strict=True):
            if letters.setdefault(letter, term).size == term.size:
                op.equal(letters[letter], term, CONTRACTED)
            elif letters[letter].size == 1:
                letters[letter] = term
    op.iterates(tuple(letters.values()))
    return op.solver.layout(tuple(letters[letter] for letter in result))


def _letters(equation: str, dims: Sequence[int]) -> tuple[list[str], str]:
    """Return a letter for every axis of the operands and of the result; dots stand for as many as there are.

    >>> _letters("...ij,...jk", [3, 4])
    (['1ij', '01jk'], '01ik')
    """
    inputs, arrow, result = equation.partition("->")
    names = inputs.split(",")
    hidden = [n - len(own.replace("...", "")) if "..." in own else 0 for own, n in zip(names, dims, strict=True)]
    dots = "".join(chr(ord("0") + i) for i in range(max(hidden)))
    if not arrow:
        once = sorted(letter for letter in set(inputs) - set(".,") if inputs.count(letter) == 1)
        result = "..." + "".join(once)
    own = [text.replace("...", dots[len(dots) - n :]) for text, n in zip(names, hidden, strict=True)]
    return own, result.replace("...", dots)


@rule("aten.bilinear", weights=("weight",))
def bilinear(op: Operator) -> Layout:
    """y_o = x_i W_oij z_j + b_o."""
    left, right, weight = op.layout("input1"), op.layout("input2"), op.layout("weight")
    op.equal(left[-1], weight[1], CONTRACTED)
    op.equal(right[-1], weight[2], CONTRACTED)
    if is_layout(op["bias"]):
        op.equal(weight[0], op.layout("bias")[0], "one bias for each output")
    batch = broadcast(op, [left[:-1], right[:-1]], "batch axes move together")
    op.iterates((*batch, *weight))
    return (*batch, weight[0])


@rule("aten.outer", "aten.ger")
def outer(op: Operator) -> Layout:
    """y_ij = a_i b_j."""
    result = (*op.layout("self"), *op.layout("vec2"))
    op.iterates(result)
    return result


@rule("aten.cdist", "aten._cdist_forward")
def distances(op: Operator) -> Layout:
    """y_ij = |a_i - b_j|."""
    left, right = op.layout("x1"), op.layout("x2")
    op.equal(left[-1], right[-1], "the distance is taken along this axis")
    batch = broadcast(op, [left[:-2], right[:-2]], "batch axes move together")
    result = (*batch, left[-2], right[-2])
    op.iterates((*result, left[-1]))
    return result


@rule("aten.dist")
def distance(op: Operator) -> Layout:
    """|a - b| over all entries."""
    op.iterates(broadcast(op, [op.layout("self"), op.layout("other")], "the distance is taken entry by entry"))
    return ()


@rule("aten._pdist_forward")
def distances_within(op: Operator) -> Layout:
    """|a_i - a_j| for i < j, row by row of that triangle."""
    data = op.layout("self")
    op.pin(data[0], "a triangle depends on the order along this axis")
    op.iterates(data[1:])
    return (Fixed(op.shape[0]),)


@rule("aten.embedding", tables=("weight",))
def embedding(op: Operator) -> Layout:
    """Rows are chosen by ids, which are inputs; columns pass."""
    weight, ids = op.layout("weight"), op.layout("indices")
    op.pin(weight[0], "rows of an embedding are addressed by their ids")
    op.iterates((*ids, weight[1]), weight[1:])
    return (*ids, weight[1])


@rule("aten.embedding_bag", "aten._embedding_bag", "aten._embedding_bag_forward_only", tables=("weight",))
def embedding_bag(op: Operator) -> list[Layout]:
    """The sum, mean or maximum of the rows in each bag; columns pass, and so do whole bags of equal length."""
    weight, ids = op.layout("weight"), op.layout("indices")
    op.pin(weight[0], "rows of an embedding are addressed by their ids")
    length = _bag_length(op, ids[0].size)
    counted = any(user.args[1] != 0 and user.users for user in op.node.users)
    if is_layout(op["per_sample_weights"]):
        op.equal(ids[0], op.layout("per_sample_weights")[0], "one weight for each row that is read")
    if counted or length is None:
        op.pin(ids[0], "which of these entries is in which bag depends on their order")
    bags, inside = (
        (Fixed(op.shape[0]), None)
        if length is None
        else op.split(ids[0], (op.shape[0], length), "entries are read bag by bag")
    )
    result = (bags, weight[1])
    op.iterates((*result, inside) if inside is not None else weight[1:], weight[1:])
    return [result, *(fixed(shape) for shape in op.shapes()[1:] if shape is not None)]


def _bag_length(op: Operator, entries: int) -> int | None:
    """Return the length of the bags where all are equally long, as they are for a table of ids; None where not."""
    offsets = op.node.args[2]
    if not (isinstance(offsets, fx.Node) and str(offsets.target) == "aten.arange.start_step"):
        return None
    start, end, step = (*offsets.args, 1)[:3]
    if not isinstance(step, int) or op["include_last_offset"]:
        return None
    return step if (start, end) == (0, entries) and op.shape[0] * step == entries else None


@rule("aten.scaled_dot_product_attention")
def attention(op: Operator) -> Layout:
    """softmax(q k^T / sqrt(d)) v: q and k share d, k and v share their tokens; queries may share keys and values."""
    query, key, value = op.layout("query"), op.layout("key"), op.layout("value")
    op.equal(query[-1], key[-1], CONTRACTED)
    op.equal(key[-2], value[-2], "keys and values of one token move together")
    if op["is_causal"]:
        op.pin(query[-2], "a causal mask depends on the order of the tokens")
        op.pin(key[-2], "a causal mask depends on the order of the tokens")
    if op.arguments.get("enable_gqa"):
        head = op.equal(key[-3], value[-3], "keys and values of one head move together")
        shared, _ = op.split(query[-3], (head.size, query[-3].size // head.size), "queries share a head of keys")
        op.equal(shared, head, "queries move with the head of keys that they share")
        key, value = ((*x[:-3], query[-3], *x[-2:]) for x in (key, value))
    batch = broadcast(op, [query[:-2], key[:-2], value[:-2]], "batch axes and heads move together")
    if is_layout(op["attn_mask"]):
        broadcast(op, [(*batch, query[-2], key[-2]), op.raw("attn_mask")], "the mask moves with queries and keys")
    result = (*batch, query[-2], value[-1])
    scores = (*batch, query[-2], key[-2])
    op.iterates((*scores, query[-1]), (*result, key[-2]), scores, (*batch, query[-2]))
    op.reads(query[-1])
    return result
