"""More lines of random programs: parts of tables, lengths, uniform axes, modules with state or with made weights."""

from tests.fuzz.programs import Step, Writer
from tests.fuzz.steps import same_shape


def table(w: Writer) -> str:
    """An operator on a whole table, or on a whole projection, of which a part as long as another tensor is kept."""
    x = w.value()
    axis = w.axis(x)
    rows, width = w.values[x].shape[axis] + w.choose((1, 2, 3)), w.choose((*w.sizes, w.values[x].shape[-1]))
    p, q = w.parameter(rows, width), w.parameter(w.choose(w.sizes), width)
    whole = w.choose(
        (
            f"(2 * {p})",
            f"F.linear({p}, {q})",
            f"F.layer_norm({p}, ({width},))",
            f"{p}.softmax(-1)",
            f"{p}.softmax(0)",
            f"({p} - {p}.mean(0))",
            f"({p} @ {p}.mT)",
            f"({p} * {w.parameter(rows, 1)})",
            f"torch.cat([{q}, {p}])",
            f"torch.cat([{p}, {q}])",
            f"F.pad({p}, (0, 0, 1, 2))",
            f"{p}.repeat(2, 1)",
            f"{p}.unsqueeze(0).expand(3, -1, -1).transpose(0, 1)",
            f"{p}.T.reshape({rows}, {width})",
            f"F.scaled_dot_product_attention({p}, {q}, {q})",
            f"F.scaled_dot_product_attention({p}, {p}, {p})",
            f"F.embedding(torch.arange({rows}), {p})",
            f"F.conv1d({p}.T.unsqueeze(0), {w.parameter(2, width, 1)})[0].T",
            f"F.linear({w.parameter(2, width)}, {p}).T",
        )
    )
    n = f"{x}.shape[{axis}]"
    part = w.choose(
        (f"{whole}[:{n}]", f"{whole}[-{n}:]", f"{whole}[torch.arange({n})]", f"{whole}[1:].narrow(0, 0, {n})")
    )
    return _along(w, x, axis, part)


def _along(w: Writer, x: str, axis: int, part: str) -> str:
    """What is read of a table, row by row with an axis that has as many positions.

    A sum over the rows alone would be one of fewer rows for a shorter input: only the numerical proof, which tries one,
    can tell such a part from one that is always the same.
    """
    rows = f"{x}.movedim({axis}, 0).reshape({x}.shape[{axis}], -1)"
    return w.choose(
        (
            f"{x}.movedim({axis}, -1) @ {part}",
            f"{rows} @ {w.parameter(w.values[x].numel() // w.values[x].shape[axis], 1)} * {part}",
            f"{rows}.amax(1, keepdim=True) + {part}",
            f"torch.cat([{rows}, {part}], 1)",
        )
    )


def projection(w: Writer) -> str:
    """A projection of which only some of the outputs are kept, after an operator on all of them."""
    x = w.value(2)
    n = w.values[x].shape[-1]
    size = w.choose((3, 4, 6))
    whole = f"F.linear({x}, {w.parameter(size, n)}, {w.parameter(size)})"
    whole = w.choose((whole, f"{whole}.tanh()", f"F.layer_norm({whole}, ({size},))", f"{whole}.softmax(-1)"))
    return f"{whole}[..., {w.choose((':2', '1:', ':-1', '0', '1:3', f':{x}.shape[-1]'))}]"


def positions(w: Writer) -> str:
    """What is made anew for the length of an axis: numbers, masks, rows of a table by number."""
    x = w.value(2)
    axis = w.axis(x)
    n, length = f"{x}.shape[{axis}]", w.values[x].shape[axis]
    p = w.parameter(2 * length + 5, w.values[x].shape[-1])
    return w.choose(
        (
            _along(w, x, axis, f"F.embedding(torch.arange({n}), {p})"),
            f"{x}.movedim({axis}, 0) * torch.arange(1.0, {n} + 1).reshape(-1{', 1' * (w.values[x].dim() - 1)})",
            f"{p}[torch.arange({n}).unsqueeze(1) - torch.arange({n}) + {length + 2}].sum(1)",
            f"{x}.movedim({axis}, -2).cumsum(-2)",
            f"{x}.movedim({axis}, -1) @ torch.ones({n}, {n}).tril()",
            f"{x}.movedim({axis}, -1) @ torch.ones({n}, {w.choose(w.sizes)})",
            f"{x}.movedim({axis}, 0)[-1]",
            f"{x}.reshape({x}.shape[0], -1)",
        )
    )


def uniform(w: Writer) -> str:
    """Axes along which nothing varies, joined with others of their kind or of another, then read by a parameter."""
    x = w.value()
    axis, new = w.axis(x), w.choose((2, 3))
    dims = range(w.values[x].dim())
    rest = [str(new) if i == axis else f"{x}.shape[{i}]" for i in dims]
    zeros, ones = f"torch.zeros({', '.join(rest)})", f"torch.full(({', '.join(rest)},), 0.5)"
    y = w.like(x, same_shape)
    wide, other = (
        f"{v}.unsqueeze({axis}).expand({', '.join('-1' if i != axis else str(new) for i in range(len(rest) + 1))})"
        for v in (x, y)
    )
    padding = [0, 0] * (len(rest) - 1 - axis) + [1, w.choose((1, 2))]
    more = [0, 0] * (len(rest) - axis) + [w.choose((0, 1)), 2]
    joined = w.choose(
        (
            f"torch.cat([{x}, {zeros}], {axis})",
            f"torch.cat([{zeros}, {x}, {ones}], {axis})",
            f"torch.cat([{ones}, {zeros}], {axis})",
            f"torch.cat([{wide}, {other}], {axis})",
            f"torch.cat([{wide}, 0 * {other}], {axis})",
            f"torch.stack([{zeros}, {ones}], {axis})",
            f"F.pad({ones}, {padding}, value=0.2)",
            f"F.pad({wide}, {more}, value=0.2)",
            f"F.pad(F.pad({x}, {padding}), {padding}, value=0.2)",
            f"F.pad({x}.mean({axis}, keepdim=True), {padding})",
            f"F.pad({wide}, {more}).flatten({axis}, {axis + 1})",
            f"torch.cat([{wide}, {other}], {axis}).flatten({axis}, {axis + 1})",
            f"torch.cat([{zeros}.cos(), {wide}.mean({axis + 1})], {axis})" if axis + 1 <= len(rest) - 1 else zeros,
            f"torch.slice_scatter({ones}, {zeros}.narrow({axis}, 0, 1), {axis}, 0, 1)",
        )
    )
    found = w.results(joined)
    if not found or w.choose((True, False, False)):
        return joined
    shape = [found[0][0].shape[axis] if i == axis else 1 for i in range(found[0][0].dim())]
    return f"{joined} {w.choose(('*', '+'))} {w.parameter(*shape)}"


def state(w: Writer) -> str:
    """A module that keeps something between calls."""
    x = w.value(2)
    n = w.values[x].shape[-1]
    hidden, out = w.choose(w.sizes), w.choose(w.sizes)
    batch = f"nn.BatchNorm1d({n}{w.choose(('', ', affine=False', ', momentum=None', ', track_running_stats=False'))})"
    text = w.choose(
        (
            f"stateful.Running({n})",
            "stateful.Positions()",
            f"stateful.Folded({n}, {hidden}, {out})",
            f"stateful.Scaled({n}, buffer={w.choose((True, False))})",
        )
    )
    if w.choose((True, False, False)):
        return f"{w.submodule(batch)}({x}.flatten(0, -2))"
    return f"{w.submodule(text)}({x})"


def wrapped(w: Writer) -> str:
    """A layer whose weight is made from other tensors."""
    x = w.value(2)
    n = w.values[x].shape[-1]
    size = w.choose((n, *w.sizes))
    layer, square = f"nn.Linear({n}, {size})", f"nn.Linear({n}, {n})"
    text = w.choose(
        (
            f"nn.utils.parametrizations.weight_norm({layer}, dim={w.choose((0, 1, None))})",
            f"nn.utils.weight_norm({layer}, dim={w.choose((0, 1, None))})",
            f"nn.utils.parametrizations.spectral_norm({layer})",
            f"nn.utils.spectral_norm({layer})",
            f"stateful.parametrized({square}, stateful.Symmetric())",
            f"stateful.parametrized({square}, stateful.Even())",
            f"stateful.parametrized({layer}, stateful.Shares())",
            f"stateful.parametrized(nn.Linear({n}, {size}, bias=False), stateful.Doubled())",
            f"stateful.pruned({layer})",
            f"stateful.tied({square}, {square})",
            f"stateful.tied({layer}, {layer})",
        )
    )
    return f"{w.submodule(text)}({x})"


LENGTHS: tuple[Step, ...] = (table, table, table, projection, positions, positions)
STATE: tuple[Step, ...] = (uniform, uniform, uniform, state, state, wrapped, wrapped)
