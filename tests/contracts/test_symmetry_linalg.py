"""Rules of linear algebra against brute force: which permutations of rows and columns keep the function."""

import pytest
import torch
from torch import Tensor

from tests.brute_force import Function, Tried, kept, tabled
from tests.together import Findings, built


def square(function: Function, *sizes: int, share: int = 1) -> Tried:
    return Tried(function, [(3, 3)], sizes, share)


def wide(function: Function, *sizes: int, share: int = 1) -> Tried:
    return Tried(function, [(2, 3)], sizes, share)


def pair(function: Function, *sizes: int, share: int = 1) -> Tried:
    return Tried(function, [(3, 3), (3, 2)], sizes, share)


def stack(function: Function, *sizes: int, share: int = 1) -> Tried:
    return Tried(function, [(2, 3, 3)], sizes, share)


def eye(x: Tensor) -> Tensor:
    return torch.eye(x.shape[-1], dtype=x.dtype)


def regular(x: Tensor) -> Tensor:
    """A matrix whose rows and columns move by themselves, far from singular for generic x."""
    return x + x.exp().square()


def positive(x: Tensor) -> Tensor:
    """A symmetric positive matrix with the last axis of x on both sides."""
    return x.mT @ x + 2 * eye(x)


# an even exchange of rows with an even one of columns keeps a determinant too: 18 instead of 6
TRIED = {
    "inv": square(lambda x: torch.linalg.inv(regular(x)), 3, 3),
    "inverse_of_parts": square(lambda x: torch.inverse(regular(x))[:, :, :2], 3, 2),
    "inv_symmetric": square(lambda x: torch.linalg.inv(positive(x)), 3, 3),
    "inv_ex": stack(lambda x: torch.linalg.inv_ex(regular(x)).inverse, 2, 3, 3),
    "pinv": wide(lambda x: torch.linalg.pinv(x), 2, 3),
    "pinv_hermitian": wide(lambda x: torch.linalg.pinv(x.mT @ x, hermitian=True), 2, share=6),
    "det": square(lambda x: x * torch.det(regular(x))[:, None, None], 3, share=3),
    "det_stacked": stack(lambda x: torch.linalg.det(regular(x)), 2, 3, share=3),
    "logdet": square(lambda x: torch.logdet(positive(x)), 3, 3),
    "slogdet": square(lambda x: torch.linalg.slogdet(regular(x)).logabsdet, 3, 3),
    "slogdet_sign": square(lambda x: torch.mul(*torch.slogdet(regular(x))), 3, share=3),
    "matrix_exp": square(lambda x: torch.linalg.matrix_exp(x), 3),
    "matrix_power": square(lambda x: torch.linalg.matrix_power(x, 3), 3),
    "inverse_power": square(lambda x: torch.matrix_power(regular(x), -2), 3),
    "solve": pair(lambda a, b: torch.linalg.solve(regular(a), b), 3, 3, 2),
    "solve_right": pair(lambda a, b: torch.linalg.solve(regular(a), b.mT, left=False), 3, 3, 2),
    "solve_vector": square(lambda a: torch.linalg.solve(regular(a), a[0].sum(1)), 3, 3),
    "solve_vectors": square(lambda a: torch.linalg.solve(regular(a), a.sum(2)), 3, 3),
    "solve_ex": pair(lambda a, b: torch.linalg.solve_ex(regular(a), b).result, 3, 3, 2),
    "solve_many": Tried(lambda a, b: torch.linalg.solve(regular(a), b), [(2, 2, 2), (2, 2, 2)], (2, 2, 2, 2)),
    "triangular_many": Tried(
        lambda a, b: torch.linalg.solve_triangular(a, b, upper=True), [(2, 2, 2), (2, 2, 2)], [2, 2]
    ),
    "triangular": pair(lambda a, b: torch.linalg.solve_triangular(a, b, upper=True), 2),
    "triangular_right": pair(lambda a, b: torch.linalg.solve_triangular(a, b.mT, upper=False, left=False), 2),
    "cholesky": wide(lambda x: torch.linalg.cholesky(positive(x)), 2),
    "cholesky_stacked": stack(lambda x: torch.linalg.cholesky(positive(x)), 2, 3),
    "cholesky_solve": pair(lambda a, b: torch.cholesky_solve(b, torch.linalg.cholesky(positive(a))), 3, 2, share=6),
    "cholesky_inverse": square(lambda x: torch.cholesky_inverse(x)),
    "qr": wide(lambda x: torch.linalg.qr(x.mT).Q),
    "qr_of_r": wide(lambda x: torch.linalg.qr(x.detach().mT, mode="r").R),
    "lu": square(lambda x: torch.linalg.lu_factor(x).LU, share=6),
    "eigvalsh": square(lambda x: torch.linalg.eigvalsh(x)),
    "eigh": square(lambda x: torch.linalg.eigh(x).eigenvalues),
    "svdvals": wide(lambda x: torch.linalg.svdvals(x), 2, 3),
    "svd_values": wide(lambda x: torch.linalg.svd(x).S, 2, 3),
    "svd_vectors": wide(lambda x: torch.linalg.svd(x, full_matrices=False).Vh, share=6),
    "nuclear": stack(lambda x: torch.linalg.matrix_norm(x, "nuc", dim=(1, 3), keepdim=True) * x.exp(), 2, 3, 3),
    "largest_row": square(lambda x: torch.linalg.matrix_norm(x, float("inf")), 3, 3),
    "rank": square(lambda x: torch.linalg.matrix_rank(x, atol=0.5), 3, 3),
    "cond": square(lambda x: torch.linalg.cond(regular(x)), 3, 3),
    "trace": square(lambda x: (x[0].exp().trace() * x).exp(), 3),
    "trace_of_wide": wide(lambda x: (x[0].exp().trace() * x).exp(), share=2),
    "diagonal": square(lambda x: x.diagonal(dim1=1, dim2=2), 3),
    "diagonal_outer": stack(lambda x: x.exp().diagonal(dim1=-1, dim2=-2), 2, 3),
    "diagonal_above": square(lambda x: x.diagonal(1, 1, 2), share=2),
    "diagonal_of_wide": wide(lambda x: x.diagonal(dim1=1, dim2=2), share=2),
    "diag_embed": wide(lambda x: torch.diag_embed(x.sum(1)).exp(), 2, 3),
    "diag_embed_first": wide(lambda x: torch.diag_embed(x, dim1=1, dim2=3).exp(), 2, 3),
    "diag_embed_above": wide(lambda x: torch.diag_embed(x.sum(1), offset=1).exp(), 2, share=6),
    "diag": square(lambda x: torch.diag(torch.diag(x[0])).exp().expand_as(x), 3),
    "diag_below": square(lambda x: torch.diag(x[0], -1).exp().expand_as(x[:, 0, :2]), share=2),
    "diagonal_scatter_pair": Tried(lambda a, b: a.diagonal_scatter(b, dim1=1, dim2=2), [(3, 3), (3,)], [3]),
    "diagonal_scatter": square(lambda x: x.diagonal_scatter(x.exp().sum(2), dim1=1, dim2=2), 3),
    "diagonal_scatter_above": square(lambda x: x.diagonal_scatter(x[:, 0, :2].exp(), 1, 1, 2)),
    "eye": square(lambda x: x + eye(x), 3),
    "eye_masks": square(lambda x: x.masked_fill(eye(x).bool(), 0.0).exp(), 3),
    "eye_ignored": square(lambda x: x @ eye(x), 3, 3),
    "eye_wide": wide(lambda x: x + torch.eye(2, 3, dtype=x.dtype), share=2),
    "whitened": wide(lambda x: x @ torch.linalg.inv(x.mT @ x + eye(x)), 2, 3),
    "cross": wide(lambda x: torch.linalg.cross(x, x.exp()), 2, share=3),
    "cross_pair": Tried(lambda a, b: torch.linalg.cross(a, b, dim=1), [(3, 2), (3, 2)], [2], 3),
}
BATCH, EACH, BOTH = (2, 3, 3), [2, 3, 3], [2, 3, 3, 3, 3]
# tables of matrices: every matrix has orders of its own, but rows have none for each column
TABLES = {
    "inv": tabled(lambda x: torch.linalg.inv(x), BATCH, BOTH),
    "inv_ex": tabled(lambda x: torch.linalg.inv_ex(x).inverse.exp(), (3, 3), [3, 3]),
    "pinv_hermitian": tabled(lambda x: torch.linalg.pinv(x, hermitian=True) + x.sum((1, 2), keepdim=True), BATCH, [2]),
    "det": tabled(lambda x: torch.linalg.det(x), BATCH, EACH),
    "slogdet": tabled(lambda x: torch.linalg.slogdet(x).logabsdet, BATCH, BOTH),
    "matrix_exp": tabled(lambda x: torch.linalg.matrix_exp(x), BATCH, EACH),
    "solve": tabled(lambda x: torch.linalg.solve(x[..., :3], x[..., 3:]), (2, 3, 5), [*BOTH, 2, 2]),
    "solve_ones": tabled(lambda x: torch.linalg.solve(x, torch.ones(3, dtype=x.dtype)), (3, 3), [3, 3]),
    "solve_triangular": tabled(
        lambda x: torch.linalg.solve_triangular(x[..., :3], x[..., 3:] + x.sum(1, keepdim=True)[..., 3:], upper=True),
        (2, 3, 5),
        [2, 2, 2],
    ),
    "svdvals": tabled(lambda x: torch.linalg.svdvals(x), BATCH, BOTH),
    "svd": tabled(lambda x: torch.linalg.svd(x).S, BATCH, BOTH),
    "matrix_norm": tabled(lambda x: torch.linalg.matrix_norm(x, 2), BATCH, BOTH),
    "qr": tabled(lambda x: torch.linalg.qr(x).Q + x.sum((2, 3), keepdim=True), (2, 2, 3, 3), [2, 2, 2]),
    "eigvalsh": tabled(lambda x: torch.linalg.eigvalsh(x) + x.sum((2, 3))[..., None], (2, 2, 3, 3), [2, 2, 2]),
    "diagonal": tabled(lambda x: x.diagonal(dim1=-2, dim2=-1), BATCH, EACH),
    "diagonal_above": tabled(lambda x: x.diagonal(1, 1, 2) + x.sum((1, 2))[:, None], BATCH, [2]),
    "diag_embed": tabled(lambda x: torch.diag_embed(x), (2, 3), EACH),
    "diag": tabled(lambda x: torch.diag(x), (3, 3), [3]),
    "diag_of_all": tabled(lambda x: torch.diag(x.flatten()).exp(), (2, 3), EACH),
    "diag_above": tabled(lambda x: torch.diag(x, 1) + x.sum(), (3, 3), []),
    "trace": tabled(lambda x: x.trace() * x, (3, 3), [3]),
    "trace_of_all": tabled(lambda x: (x.flatten()[:, None].exp() * x.flatten()).trace() * x, (2, 3), EACH),
    "diagonal_scatter": tabled(lambda x: x.diagonal_scatter(x.exp().sum(2), dim1=1, dim2=2), BATCH, EACH),
    "cross": tabled(lambda x: torch.linalg.cross(x, x.exp(), dim=1) + x.sum(1, keepdim=True), (2, 3, 4), [2, 4, 4]),
}
CASES = {
    **{name: tried.case() for name, tried in TRIED.items()},
    **{f"table_{name}": case for name, case in TABLES.items()},
}


@pytest.fixture(scope="module")
def found() -> Findings:
    return Findings(*built(CASES, seed=3))


@pytest.mark.parametrize("name", CASES)
def test_rule_claims_what_keeps_the_function(found: Findings, name: str) -> None:
    assert found.log10_order(name) == pytest.approx(CASES[name].log10_order), found.sizes(name)
    assert found.wrong(name) == []


@pytest.mark.parametrize("name", TRIED)
def test_brute_force_finds_no_more(name: str) -> None:
    torch.manual_seed(4)
    assert kept(CASES[name].build()) == TRIED[name].order  # pyright: ignore
