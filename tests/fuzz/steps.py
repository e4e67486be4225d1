"""The lines a random program may have; each draws its tensors, axes and sizes and returns an expression."""

from torch import Tensor

from tests.fuzz.programs import Step, Writer


def same_shape(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape


def _same_set(a: Tensor, b: Tensor) -> bool:
    return sorted(a.shape) == sorted(b.shape)


def linear(w: Writer) -> str:
    x = w.value()
    n = w.values[x].shape[-1]
    size = w.choose((n, *w.sizes))
    bias = f", {w.parameter(size)}" if w.choose((True, False)) else ""
    return f"F.linear({x}, {w.parameter(size, n)}{bias})"


def mix(w: Writer) -> str:
    """A linear layer along any axis."""
    x = w.value()
    axis = w.axis(x)
    weight = w.parameter(w.choose(w.sizes), w.values[x].shape[axis])
    return f"F.linear({x}.movedim({axis}, -1), {weight}).movedim(-1, {axis})"


def unary(w: Writer) -> str:
    return f"{w.choose(('torch.tanh', 'torch.relu', 'F.gelu', 'torch.abs', 'torch.sin'))}({w.value()})"


def along(w: Writer) -> str:
    """A function along one axis that treats all its positions alike."""
    x = w.value()
    axis = w.axis(x)
    return w.choose(
        (
            f"{x}.softmax({axis})",
            f"{x} - {x}.mean({axis}, keepdim=True)",
            f"{x} - {x}.amax({axis}, keepdim=True)",
            f"{x} * {x}.sum({axis}, keepdim=True)",
            f"{x} / (1 + {x}.norm(dim={axis}, keepdim=True))",
        )
    )


def reduction(w: Writer) -> str:
    x = w.value()
    kind = w.choose(("sum", "mean", "amax", "logsumexp"))
    return f"{x}.{kind}({w.axis(x)}{w.choose(('', ', keepdim=True'))})"


def scale(w: Writer) -> str:
    """A parameter over the last axes, or over some of them."""
    x = w.value()
    shape = tuple(w.values[x].shape)
    own = tuple(n if w.choose((True, True, False)) else 1 for n in shape[w.choose(range(len(shape))) :])
    return f"{x} {w.choose(('*', '+'))} {w.parameter(*own)}"


def elementwise(w: Writer) -> str:
    x = w.value()
    y = w.like(x, same_shape)
    return w.choose((f"{x} + {y}.tanh()", f"{x} * {y}", f"torch.maximum({x}, {y})", f"{x} - {y} * {y}"))


def broadcast(w: Writer) -> str:
    x, y = w.value(), w.value()
    return f"{x} {w.choose(('*', '+'))} {y}.unsqueeze({w.choose((0, -1, -2))})"


def twisted(w: Writer) -> str:
    """Two views of one tensor, or of two with the same axes in another order, meet elementwise."""
    x = w.value(2)
    y = w.like(x, _same_set)
    order = list(range(w.values[y].dim()))
    first, second = w.choose(order), w.choose(order)
    if w.choose((True, False)):
        return f"{x} * {y}.reshape({tuple(w.values[x].shape)})"
    return f"{x} + {y}.transpose({first}, {second}).reshape({tuple(w.values[x].shape)})"


def transpose(w: Writer) -> str:
    x = w.value(2)
    return f"{x}.transpose({w.axis(x)}, {w.axis(x)})"


def split_axis(w: Writer) -> str:
    x = w.value()
    axis = w.axis(x)
    n = w.values[x].shape[axis]
    first = w.choose([k for k in (2, 3, 4, 6) if n % k == 0] or [1])
    return f"{x}.unflatten({axis}, ({first}, {n // first}))"


def merge_axes(w: Writer) -> str:
    x = w.value(2)
    axis = w.choose(range(w.values[x].dim() - 1))
    return f"{x}.flatten({axis}, {axis + 1})"


def reshape(w: Writer) -> str:
    """Any other shape of the same number of entries."""
    x = w.value()
    left, shape = w.values[x].numel(), list[int]()
    while left > 1 and len(shape) < 3:
        size = w.choose([k for k in (2, 3, 4, 6, 12) if left % k == 0] or [left])
        shape.append(size)
        left //= size
    return f"{x}.reshape({[*shape, left] if left > 1 else shape})"


def swap_factors(w: Writer) -> str:
    """The factors of one axis in the other order, as in a channel shuffle."""
    x = w.value()
    axis = w.axis(x)
    n = w.values[x].shape[axis]
    first = w.choose([k for k in (2, 3) if n % k == 0] or [1])
    return f"{x}.unflatten({axis}, ({first}, {n // first})).transpose({axis}, {axis + 1}).flatten({axis}, {axis + 1})"


def cat(w: Writer) -> str:
    x = w.value()
    axis = w.axis(x)

    def fits(a: Tensor, b: Tensor) -> bool:
        return a.dim() == b.dim() and all(a.shape[i] == b.shape[i] for i in range(a.dim()) if i != axis)

    return f"torch.cat([{x}, {w.like(x, fits)}], {axis})"


def stack(w: Writer) -> str:
    x = w.value()
    return f"torch.stack([{x}, {w.like(x, same_shape)}, {w.like(x, same_shape)}], {w.axis(x)})"


def cut(w: Writer) -> str:
    x = w.value()
    axis = w.axis(x)
    return w.choose(
        (
            f"{x}.chunk(2, {axis})",
            f"{x}.unbind({axis})",
            f"{x}.narrow({axis}, 1, {w.values[x].shape[axis] - 1})",
            f"{x}.select({axis}, {w.choose((0, 1, -1))})",
            f"{x}.split({w.choose((1, 2, 3))}, {axis})",
        )
    )


def write_slice(w: Writer) -> str:
    x = w.value()
    axis = w.axis(x)
    y = f"{x}.narrow({axis}, 0, 1).relu()"
    return f"torch.slice_scatter({x}, {y}, {axis}, {w.choose((0, 1))}, {w.choose((1, 2))})"


def order(w: Writer) -> str:
    """Functions that depend on the order along an axis."""
    x = w.value()
    axis = w.axis(x)
    n = w.values[x].shape[axis]
    return w.choose(
        (
            f"{x}.cumsum({axis})",
            f"{x}.flip({axis})",
            f"{x}.roll(1, {axis})",
            f"{x}.sort({axis}).values",
            f"{x}.movedim({axis}, 0)[::2].movedim(0, {axis})",
            f"{x}.index_select({axis}, torch.tensor({[n - 1, *range(n - 1)]}))",
            f"{x} * torch.arange(1.0, {n + 1}).reshape({[-1 if i == axis else 1 for i in range(w.values[x].dim())]})",
        )
    )


def repeated(w: Writer) -> str:
    x = w.value()
    axis = w.axis(x)
    times = [2 if i == axis else 1 for i in range(w.values[x].dim())]
    padding = [0, 0] * (w.values[x].dim() - 1 - axis) + [w.choose((0, 1)), w.choose((1, 2))]
    return w.choose(
        (
            f"{x}.repeat({times})",
            f"{x}.repeat_interleave(2, {axis})",
            f"{x}.unsqueeze({axis}).expand({[*w.values[x].shape[:axis], 3, *w.values[x].shape[axis:]]})",
            f"F.pad({x}, {padding})",
            f"{x} * torch.ones_like({x}).cumsum({axis})",
        )
    )


def product(w: Writer) -> str:
    """Matrix products, mostly of a tensor with itself or with what was made from it."""
    x = w.value(2)
    y = w.value(2)
    return w.choose(
        (
            f"{x} @ {x}.mT",
            f"{x}.mT @ {x}",
            f"{x} @ {y}",
            f"{x} @ {y}.mT",
            f"{x}.softmax(-1) @ {y}",
            f"torch.einsum('...hd,...gd->...hg', {x}, {x})",
        )
    )


def einsum(w: Writer) -> str:
    """Letters that occur once, twice, in one operand or in both, contracted or kept."""
    x, y = w.value(), w.value()
    a, b = "abcde"[: w.values[x].dim()], list("abcde"[: w.values[y].dim()])
    b = [w.choose("abcdefg") for _ in b]
    kept = [c for c in dict.fromkeys([*a, *b]) if w.choose((True, True, False))]
    return f"torch.einsum('{a},{''.join(b)}->{''.join(kept)}', {x}, {y})"


def outer(w: Writer) -> str:
    x = w.value()
    flat = f"{x}.flatten()"
    return f"torch.outer({flat}[:6], {flat}[:6])" if w.values[x].dim() > 1 else f"torch.outer({x}, {x})"


def attention(w: Writer) -> str:
    x = w.value(2)
    y = w.like(x, lambda a, b: a.dim() == b.dim() and a.shape[-1] == b.shape[-1])
    z = w.choose((y, w.like(y, lambda a, b: a.shape[:-1] == b.shape[:-1])))
    return f"F.scaled_dot_product_attention({x}, {y}, {z}{w.choose(('', '', ', is_causal=True'))})"


def heads(w: Writer) -> str:
    """Self-attention over heads that are cut from the last axis."""
    x = w.value(2)
    n = w.values[x].shape[-1]
    h = w.choose([k for k in (2, 3) if n % k == 0] or [1])
    q, k = (f"F.linear({x}, {w.parameter(n, n)}).unflatten(-1, ({h}, {n // h})).transpose(-2, -3)" for _ in range(2))
    return f"F.scaled_dot_product_attention({q}, {k}, {k}).transpose(-2, -3).flatten(-2)"


def blocks(w: Writer) -> str:
    """Every block of the last axis through weights of its own, or all through the same."""
    x = w.value()
    n = w.values[x].shape[-1]
    h = w.choose([k for k in (2, 3) if n % k == 0] or [1])
    own, size = n // h, w.choose(w.sizes)
    cut = f"{x}.unflatten(-1, ({h}, {own}))"
    return w.choose(
        (
            f"torch.einsum('...hd,hde->...he', {cut}, {w.parameter(h, own, size)}).flatten(-2)",
            f"({cut}.unsqueeze(-2) @ {w.parameter(h, own, size)}).flatten(-3)",
            f"F.layer_norm({cut}, ({own},), {w.parameter(own)}).flatten(-2)",
            f"({cut} @ {w.parameter(own, size)}).relu().flatten(-2)",
            f"({cut} * {w.parameter(h, 1)}).flatten(-2)",
            f"{cut}.softmax({w.choose((-1, -2))}).flatten(-2)",
            f"{cut}.amax({w.choose((-1, -2))})",
        )
    )


def perceptron(w: Writer) -> str:
    x = w.value()
    n, hidden = w.values[x].shape[-1], w.choose(w.sizes)
    return f"{x} + F.linear(F.linear({x}, {w.parameter(hidden, n)}).relu(), {w.parameter(n, hidden)})"


def convolution(w: Writer) -> str:
    x = w.value(3)
    if w.values[x].dim() != 3:
        x = f"{x}.flatten(0, {w.values[x].dim() - 3})"
        channels = w.values[x.split(".")[0]].shape[-2]
    else:
        channels = w.values[x].shape[1]
    groups = w.choose([g for g in (1, 2, 3, 4, 6) if channels % g == 0])
    out = groups * w.choose((1, 2, 3))
    width = w.choose((1, 2))
    bias = w.choose(("None", w.parameter(out)))
    if w.choose((True, True, False)):
        weight = w.parameter(out, channels // groups, width)
        return f"F.conv1d({x}, {weight}, {bias}, groups={groups})"
    return f"F.conv_transpose1d({x}, {w.parameter(channels, out // groups, width)}, {bias}, groups={groups})"


def norm(w: Writer) -> str:
    x = w.value(2)
    shape = list(w.values[x].shape)
    count = w.choose(range(1, len(shape)))
    groups = w.choose([g for g in (1, 2, 3, 4, 6) if shape[1] % g == 0])
    own = tuple(shape[-count:])
    batch = w.submodule(f"nn.BatchNorm1d({shape[1]})") if len(shape) < 4 and w.choose((True, False)) else None
    return w.choose(
        (
            f"F.layer_norm({x}, {own}, {w.parameter(*own)}, {w.parameter(*own)})",
            f"F.layer_norm({x}, {own})",
            f"F.rms_norm({x}, {own}, {w.parameter(*own)})",
            f"F.group_norm({x}, {groups}, {w.parameter(shape[1])}, {w.parameter(shape[1])})",
            f"F.instance_norm({x}, weight={w.parameter(shape[1])}, bias={w.parameter(shape[1])})",
            f"{batch}({x})" if batch else f"F.group_norm({x}, {groups})",
        )
    )


def gate(w: Writer) -> str:
    x = w.value()
    axis = w.axis(x)
    return w.choose((f"F.glu({x}, {axis})", f"F.max_pool1d({x}, 2, 1)", f"F.avg_pool1d({x}, 2)"))


def weights(w: Writer) -> str:
    """A parameter as a value of its own, or a product of parameters."""
    p = w.parameter(*(w.choose(w.sizes) for _ in range(w.choose((1, 2, 2, 3)))))
    return w.choose((f"{p}.tanh()", f"{p} * 1.0", f"{p}.softmax(0)"))


FIRST: tuple[Step, ...] = (linear, mix, mix)
STEPS: tuple[Step, ...] = (
    *(linear, linear, linear, linear, mix, mix, mix, unary, along, reduction, scale, scale, elementwise, elementwise),
    *(broadcast, twisted, twisted, transpose, split_axis, split_axis, merge_axes, merge_axes, reshape, swap_factors),
    *(cat, cat, stack, cut, write_slice, order, repeated, product, product, einsum, outer, attention, heads, heads),
    *(blocks, blocks, blocks, perceptron, convolution, convolution, norm, norm, gate, weights),
)
