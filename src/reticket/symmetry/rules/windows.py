"""Operators between positions in space and channels: windows as columns, pixels as channels, sampled grids."""

from reticket.symmetry.rules.convolution import SPACE
from reticket.symmetry.rules.operator import Operator, rule, wrap
from reticket.symmetry.terms import Fixed, Layout, product


@rule("aten.pixel_unshuffle", structural=True)
def pixel_unshuffle(op: Operator) -> Layout:
    """(c, h r, w r) to (c r r, h, w)."""
    data, r = op.layout("self"), op["downscale_factor"]
    (high, first), (wide, second) = (
        op.split(term, (term.size // r, r), "positions in space become channels") for term in data[-2:]
    )
    return op.solver.layout((*data[:-3], product(data[-3], first, second), high, wide))


@rule("aten.im2col")
def columns(op: Operator) -> Layout:
    """(n, c, h, w) to (n, c kh kw, windows): channels move, the places in a window and the windows do not."""
    data = op.layout("self")
    for term in data[-2:]:
        op.pin(term, SPACE)
    op.iterates(data[:-2])
    inside = Fixed(op.shape[-2] // data[-3].size)
    return op.solver.layout((*data[:-3], product(data[-3], inside), Fixed(op.shape[-1])))


@rule("aten.col2im")
def folded(op: Operator) -> Layout:
    """The adjoint: (n, c kh kw, windows) to (n, c, h, w)."""
    data = op.layout("self")
    channel, inside = op.split(data[-2], (op.shape[-3], data[-2].size // op.shape[-3]), "the channels of each window")
    op.pin(inside, SPACE)
    op.pin(data[-1], SPACE)
    layout = op.solver.layout((*data[:-2], channel))
    op.iterates(layout)
    return (*layout, Fixed(op.shape[-2]), Fixed(op.shape[-1]))


@rule("aten.unfold")
def sliding(op: Operator) -> Layout:
    """Windows over one axis; the places inside a window are a new last axis."""
    data = list(op.layout("self"))
    axis = wrap(op["dimension"], len(data))
    op.pin(data[axis], SPACE)
    op.iterates((*data[:axis], *data[axis + 1 :]))
    data[axis] = Fixed(op.shape[axis])
    return (*op.solver.layout(tuple(data)), Fixed(op.shape[-1]))


@rule("aten.grid_sampler", "aten.grid_sampler_2d", "aten.grid_sampler_3d")
def sampled(op: Operator) -> Layout:
    """The input (n, c, h, w) read at the points of a grid (n, h', w', 2): points move with the grid."""
    data, grid = op.layout("input"), op.layout("grid")
    for term in (*data[2:], grid[-1]):
        op.pin(term, SPACE)
    batch = op.equal(data[0], grid[0], "a grid for each input")
    layout = op.solver.layout((batch, data[1], *grid[1:-1]))
    op.iterates(layout)
    return layout
