"""Linear algebra: what permuting the rows and the columns of a matrix does to its inverse, determinant or norm.

For permutations P and Q, inv(P A Q) = Q' inv(A) P', so rows and columns move by themselves; det(P A P') = det(A) and
exp(P A P') = P exp(A) P', so they move together. Triangular factors and eigenvectors depend on the order.

Such an operator mixes all entries of a matrix. Its iteration space names rows and columns also one without the other,
so that neither depends on the other; matrices of a batch stay separate.
"""

from reticket.symmetry.rules.elementwise import broadcast
from reticket.symmetry.rules.operator import Operator, Refusal, fixed, is_layout, rule, wrap
from reticket.symmetry.rules.reduction import ORDERED, drop
from reticket.symmetry.terms import Fixed, Layout, Term

SQUARE = "rows and columns of this matrix move together"
SOLVED = "equations move together with the rows of their matrix"
HALF = "only one triangle of this matrix is read"


FACTORS = ("LU", "pivots", "cloned_coefficient")


def used(op: Operator) -> list[str]:
    """Return the names of the results that something uses, checks for errors left aside."""
    names = [result.name for result in op.node.target._schema.returns]  # pyright: ignore
    taken = [user for user in op.node.users if any("check_errors" not in str(reader.target) for reader in user.users)]
    return [names[user.args[1]] for user in taken] if len(names) > 1 else names  # pyright: ignore


def refuse_factors(op: Operator) -> None:
    """Refuse a call of which the factors found on the way are used too."""
    if set(used(op)) & set(FACTORS):
        raise Refusal("factors that a solver returns beside its result have no rule")


def matrix(op: Operator, data: Layout) -> None:
    """Say that every matrix (the last two axes) is mixed as a whole, and read as a whole."""
    *batch, row, column = data
    op.iterates((*batch, row, column), (*batch, row), (*batch, column))
    op.reads(row, column)


def operand(op: Operator) -> Layout:
    """Return the layout of the only tensor of the operator."""
    return op.layout(next(name for name in ("A", "self", "input") if name in op.arguments))


def results(op: Operator, result: Layout, batch: Layout) -> Layout | list[Layout]:
    """Return the layout of the first result beside those of status codes and of factors that nothing uses."""
    if len(op.shapes()) == 1:
        return result
    return [result, *(for_each(batch, shape or ()) for shape in op.shapes()[1:])]


def for_each(batch: Layout, shape: tuple[int, ...]) -> Layout:
    """Return the layout of a result that has fixed axes for each matrix of the batch, or is empty."""
    if shape[: len(batch)] != tuple(term.size for term in batch):
        assert 0 in shape, f"a result of shape {shape} is not one for each matrix of a batch {batch}"
        return fixed(shape)
    return (*batch, *fixed(shape[len(batch) :]))


@rule("aten.linalg_inv", "aten.linalg_inv_ex", "aten.inverse", "aten.linalg_pinv", "aten.pinverse")
def inverse(op: Operator) -> Layout | list[Layout]:
    """The (pseudo-)inverse: its rows are the columns of the matrix, its columns the rows."""
    data = operand(op)
    if op.arguments.get("hermitian"):
        return _pinned(op, data, HALF)
    batch = broadcast(op, [data[:-2], *_tolerances(op)], "a tolerance for each matrix")
    matrix(op, (*batch, *data[-2:]))
    return results(op, (*batch, data[-1], data[-2]), batch)


def _tolerances(op: Operator) -> list[Layout]:
    return [op.raw(name) for name in ("atol", "rtol", "rcond", "tol") if is_layout(op.arguments.get(name))]


@rule("aten.linalg_solve", "aten.linalg_solve_ex", "aten._linalg_solve_ex")
def solve(op: Operator) -> Layout | list[Layout]:
    """A x = b: b has the rows of A, x its columns; the equations of one A may be several, side by side."""
    refuse_factors(op)
    left, right = op.layout("A"), op.layout("B")
    is_vector = len(right) == 1 or _sizes(right) == _sizes(left[:-1])
    row, column = (-2, -1) if op["left"] else (-1, -2)
    rows, columns, given = left[row], left[column], right[-1 if is_vector else row]
    side = () if is_vector else (right[column],)
    op.equal(rows, given, SOLVED)
    batch = broadcast(op, [left[:-2], right[: len(right) - 1 - len(side)]], "matrices of a batch move together")
    op.iterates((*batch, rows, columns, *side), (*batch, rows), (*batch, columns))
    op.reads(columns)
    end = (columns, *side) if op["left"] else (*side, columns)
    return results(op, op.solver.layout((*batch, *end)), batch)


def _sizes(layout: Layout) -> list[int]:
    return [term.size for term in layout]


DETERMINANTS = ["linalg_det", "det", "_linalg_det", "logdet", "linalg_slogdet", "slogdet", "_linalg_slogdet"]


@rule(*(f"aten.{name}" for name in DETERMINANTS))
def determinant(op: Operator) -> Layout | list[Layout]:
    """The determinant, or its sign and the logarithm of its size: an exchange of rows alone turns the sign."""
    refuse_factors(op)
    data = operand(op)
    if used(op) != ["logabsdet"]:
        op.equal(data[-2], data[-1], SQUARE)
    data = op.solver.layout(data)
    matrix(op, data)
    batch = data[:-2]
    return results(op, batch, batch)


@rule("aten.linalg_matrix_exp", "aten.matrix_exp", "aten.linalg_matrix_power", "aten.matrix_power")
def matrix_function(op: Operator) -> Layout:
    """f(P A P') = P f(A) P'."""
    data = operand(op)
    op.equal(data[-2], data[-1], SQUARE)
    data = op.solver.layout(data)
    matrix(op, data)
    return data


@rule("aten.trace")
def trace(op: Operator) -> Layout:
    """The sum of the diagonal."""
    _, entry = _along_diagonal(op, op.layout("self"), 0, 0, 1)
    op.iterates((entry,))
    return ()


@rule("aten.diagonal", "aten.diagonal_copy", "aten.linalg_diagonal")
def diagonal(op: Operator) -> Layout:
    """y[i] = x[i, i]: the axis of the entries stands last."""
    data = operand(op)
    others, entry = _along_diagonal(op, data, op["offset"], op["dim1"], op["dim2"])
    result = (*others, entry if entry.size == op.shape[-1] else Fixed(op.shape[-1]))
    op.iterates(result)
    return result


@rule("aten.diag_embed")
def diagonal_matrix(op: Operator) -> Layout:
    """y[i, i] = x[i], 0 elsewhere."""
    return _spread(op, op.layout("self"), op["offset"], op["dim1"], op["dim2"])


@rule("aten.diag")
def diagonal_or_matrix(op: Operator) -> Layout:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal."""
    data = op.layout("self")
    if len(data) == 1:
        return _spread(op, data, op["diagonal"], 0, 1)
    _, entry = _along_diagonal(op, data, op["diagonal"], 0, 1)
    result = (entry if entry.size == op.shape[0] else Fixed(op.shape[0]),)
    op.iterates(result)
    return result


@rule("aten.diagonal_scatter")
def write_diagonal(op: Operator) -> Layout:
    """x with its diagonal overwritten."""
    data, source = op.layout("self"), op.layout("src")
    first, second = (wrap(op[name], len(data)) for name in ("dim1", "dim2"))
    others, entry = _along_diagonal(op, data, op["offset"], first, second)
    entries = (*others, entry if entry.size == source[-1].size else Fixed(source[-1].size))
    for own, other in zip(entries, source, strict=True):
        op.equal(own, other, "a diagonal moves with its matrix")
    result = op.solver.layout(data)
    op.iterates(result)
    return result


def _along_diagonal(op: Operator, data: Layout, offset: int, first: int, second: int) -> tuple[Layout, Term]:
    """Return the axes beside a diagonal and the one along it; rows and columns move together if it is the main one."""
    first, second = wrap(first, len(data)), wrap(second, len(data))
    if offset or data[first].size != data[second].size:
        for axis in (first, second):
            op.pin(data[axis], "a diagonal other than the main one of a square matrix depends on the order")
    else:
        op.equal(data[first], data[second], "the main diagonal ties rows and columns")
    data = op.solver.layout(data)
    entry = data[first] if data[first] == data[second] else Fixed(min(data[first].size, data[second].size))
    return tuple(term for axis, term in enumerate(data) if axis not in (first, second)), entry


def _spread(op: Operator, data: Layout, offset: int, first: int, second: int) -> Layout:
    dims = len(op.shape)
    entry = data[-1]
    if offset:
        op.pin(entry, "a diagonal other than the main one of a square matrix depends on the order")
        entry = Fixed(op.shape[wrap(first, dims)])
    others = iter(op.solver.layout(data[:-1]))
    places = (wrap(first, dims), wrap(second, dims))
    op.iterates(data)
    return tuple(entry if axis in places else next(others) for axis in range(dims))


@rule("aten.eye")
def identity(op: Operator) -> Layout:
    """The identity, which P I P' is too: its rows and columns move together, by whatever permutation."""
    if op.shape[0] != op.shape[1]:
        return fixed(op.shape)
    return (op.fresh(op.shape[0]),) * 2


NORMS = ["linalg_matrix_norm", "linalg_matrix_rank", "linalg_cond", "linalg_svdvals"]


@rule(*(f"aten.{name}" for name in NORMS), "aten.linalg_svd", "aten._linalg_svd", "aten.svd")
def singular_values(op: Operator) -> Layout | list[Layout]:
    """The singular values and what is made of them do not depend on the order of rows and columns; vectors do."""
    data = operand(op)
    if op.arguments.get("hermitian"):
        return _pinned(op, data, HALF)
    axes = sorted(wrap(axis, len(data)) for axis in op.arguments.get("dim", (-2, -1)))
    others = drop(data, axes, keep=False)
    row, column = (data[axis] for axis in axes)
    op.iterates((*others, row, column), (*others, row), (*others, column))
    if len(op.shapes()) > 1:
        if used(op) != ["S"]:
            return _pinned(op, data, "singular vectors depend on the order along this axis")
        return [for_each(others, shape or ()) for shape in op.shapes()]
    batch = broadcast(op, [others, *_tolerances(op)], "a tolerance for each matrix")
    if op.arguments.get("keepdim"):
        return drop(data, axes, keep=True)
    return for_each(batch, op.shape)


FACTORED = ["linalg_cholesky", "linalg_cholesky_ex", "cholesky", "cholesky_inverse", "linalg_qr", "linalg_lu"]
FACTORED += ["linalg_lu_factor", "linalg_lu_factor_ex", "linalg_eig", "linalg_eigvals", "linalg_ldl_factor"]


@rule(*(f"aten.{name}" for name in FACTORED))
def factors(op: Operator) -> Layout | list[Layout]:
    """Triangular factors and eigenvectors."""
    return _pinned(op, operand(op), "factors of a matrix depend on the order of its rows and columns")


@rule("aten.linalg_eigh", "aten._linalg_eigh", "aten.linalg_eigvalsh")
def symmetric_eigenvalues(op: Operator) -> Layout | list[Layout]:
    """Of a symmetric matrix, which nobody checks: the other triangle is not read."""
    return _pinned(op, operand(op), HALF)


def _pinned(op: Operator, data: Layout, reason: str) -> Layout | list[Layout]:
    """Pin rows and columns; the matrices of a batch are still separate."""
    for term in data[-2:]:
        op.pin(term, reason)
    batch = op.solver.layout(data[:-2])
    op.iterates(batch)
    found = [for_each(batch, shape or ()) for shape in op.shapes()]
    return found if len(found) > 1 else found[0]


@rule("aten.linalg_solve_triangular", "aten.triangular_solve", "aten.cholesky_solve")
def triangular_solve(op: Operator) -> Layout | list[Layout]:
    """T x = b for a triangular T: the unknowns stand in their order, the equations side by side do not."""
    refuse_factors(op)
    name, other = ("self", "B") if "B" in op.arguments else ("A" if "A" in op.arguments else "input2", "self")
    left, right = op.layout(name), op.layout(other)
    solved, side = (-2, -1) if op.arguments.get("left", True) else (-1, -2)
    for term in (*left[-2:], right[solved]):
        op.pin(term, ORDERED)
    batch = broadcast(op, [left[:-2], right[:-2]], "matrices of a batch move together")
    op.iterates((*batch, right[side]))
    pair = op.solver.layout(right[-2:])
    result = (*batch, *(term if axis == side else Fixed(term.size) for axis, term in zip((-2, -1), pair, strict=True)))
    return results(op, result, batch)


@rule("aten.linalg_cross", "aten.cross")
def cross(op: Operator) -> Layout:
    """The product of vectors of three components along one axis; the other axes broadcast."""
    layouts = [list(op.raw(name)) for name in ("self", "other")]
    axis = (op.shape.index(3) if op["dim"] is None else wrap(op["dim"], len(op.shape))) - len(op.shape)
    for layout in layouts:
        op.pin(layout[axis], ORDERED)
        layout[axis] = Fixed(3)
    result = broadcast(op, [tuple(layout) for layout in layouts], "vectors move together along the other axes")
    op.iterates(tuple(term for i, term in enumerate(result) if i - len(result) != axis))
    return result


@rule("aten._linalg_check_errors", structural=True)
def check(op: Operator) -> None:
    """A check of a status code, which computes nothing."""
    del op
