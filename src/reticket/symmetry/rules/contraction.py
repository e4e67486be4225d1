"""Products of tensors: the contracted pair of axes moves together, the other axes pass through."""

from collections.abc import Sequence

from reticket.symmetry.rules.elementwise import broadcast
from reticket.symmetry.rules.operator import Operator, is_layout, rule
from reticket.symmetry.terms import Layout

CONTRACTED = "contracted axes move together"


@rule("aten.linear")
def linear(op: Operator) -> Layout:
    """y = x W^T + b."""
    data, weight = op.layout("input"), op.layout("weight")
    op.equal(data[-1], weight[-1], CONTRACTED)
    if is_layout(op["bias"]):
        op.equal(weight[0], op.layout("bias")[0], "one bias for each output")
    op.iterates((*data, *weight[:-1]))
    return (*data[:-1], *weight[:-1])


@rule("aten.addmm", "aten._sparse_addmm", "aten.baddbmm", "aten.addmv")
def addmm(op: Operator) -> Layout:
    """y = beta c + alpha a b."""
    first, second = [name for name in op.arguments if name in ("mat1", "mat2", "batch1", "batch2", "mat", "vec")]
    result = _matmul(op, op.layout(first), op.layout(second))
    return broadcast(op, [op.raw("self"), result], "the added term moves with the product")


@rule("aten.mm", "aten._sparse_mm", "aten.bmm", "aten.matmul", "aten.mv", "aten.dot", "aten.vdot")
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


@rule("aten.einsum")
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


@rule("aten.bilinear")
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


@rule("aten.embedding")
def embedding(op: Operator) -> Layout:
    """Rows are chosen by ids, which are inputs; columns pass."""
    weight, ids = op.layout("weight"), op.layout("indices")
    op.pin(weight[0], "rows of an embedding are addressed by their ids")
    op.iterates((*ids, weight[1]), weight[1:])
    return (*ids, weight[1])


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
