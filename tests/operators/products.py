"""Products, distances, attention, embeddings, losses and matrix functions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.operators.case import Case, Operator, shaped, table
from tests.operators.pointwise import integers

PRODUCTS = table(
    {
        "torch.matmul": lambda x, y: torch.matmul(x, y.mT),
        "torch.mm": Case(lambda x, y: torch.mm(x[0], y[0].mT), operands=2, sizes=(2, 3), batch=False),
        "torch.bmm": lambda x, y: torch.bmm(x.mT, y),
        "torch.addmm": Case(
            lambda x, y: torch.addmm(x[1], x[0], y[0].mT @ y[1]), operands=2, sizes=(2, 3), batch=False
        ),
        "torch.baddbmm": lambda x, y: torch.baddbmm(x, x @ x.mT, y),
        "torch.addbmm": Case(lambda x, y: torch.addbmm(x[0], x @ x.mT, y), operands=2, sizes=(2, 3), batch=False),
        "torch.addmv": Case(
            lambda x, y: torch.addmv(x[0].sum(1), y[0], x[1].sum(0)), operands=2, sizes=(2, 3), batch=False
        ),
        "torch.addr": Case(
            lambda x, y: torch.addr(x[0], y[0].sum(1), x[1].sum(0)), operands=2, sizes=(2, 3), batch=False
        ),
        "torch.mv": Case(lambda x, y: torch.mv(x[0], y[0].sum(0)), operands=2, sizes=(2, 3), batch=False),
        "torch.dot": Case(lambda x, y: torch.dot(x[0].sum(0), y[0].sum(0)), operands=2, sizes=(2, 3)),
        "torch.inner": lambda x, y: torch.inner(x, y.sum((0, 1))),
        "torch.outer": Case(lambda x, y: torch.outer(x[0].sum(0), y[0].sum(0)), operands=2, sizes=(2, 3), batch=False),
        "torch.einsum": [
            lambda x, y: torch.einsum("btc,bsc->bts", x, y),
            lambda x, y: torch.einsum("btc,bsd->btd", x, y),
        ],
        "torch.tensordot": [
            lambda x, y: torch.tensordot(x, y[0], dims=([2], [1])),  # pyright: ignore
            lambda x, y: torch.tensordot(x, y[0].mT, 1),
        ],
        "torch.kron": Case(lambda x, y: torch.kron(x[0].sum(1), y[0].sum(1)), operands=2, sizes=(2, 3), batch=False),
        "torch.linalg.multi_dot": Case(
            lambda x, y: torch.linalg.multi_dot([x[0], y[0].mT, y[1]]), operands=2, sizes=(2, 3), batch=False
        ),
        "torch.chain_matmul": Case(
            lambda x, y: torch.chain_matmul(x[0], y[0].mT, y[1]), operands=2, sizes=(2, 3), batch=False
        ),
        "torch.linalg.vecdot": lambda x, y: torch.linalg.vecdot(x, y),
        "torch.linalg.cross": Case(lambda x, y: torch.linalg.cross(x, y, dim=1), operands=2, sizes=(3, 2)),
        "torch.cdist": [lambda x, y: torch.cdist(x, y), lambda x, y: torch.cdist(x, y, p=1.0)],
        "F.pairwise_distance": lambda x, y: F.pairwise_distance(x, y),
        "F.cosine_similarity": [lambda x, y: F.cosine_similarity(x, y, dim=-1), lambda x, y: F.cosine_similarity(x, y)],
        "F.scaled_dot_product_attention": [
            lambda x, y: F.scaled_dot_product_attention(x, y, y),
            lambda x, y: F.scaled_dot_product_attention(x, y, y, is_causal=True),
        ],
    },
    operands=2,
    sizes=(2, 3),
)

WEIGHTS = table(
    {
        "F.linear": shaped(lambda x, w, b: F.linear(x, w, b), (3, 3), (3,), sizes=(2, 3)),
        "F.bilinear": shaped(lambda x, w: F.bilinear(x, x, w), (2, 3, 3), sizes=(2, 3)),
        "F.embedding": shaped(lambda x, w: F.embedding(integers(x) % 4, w), (4, 3), sizes=(2, 3)),
        "F.embedding_bag": [
            shaped(lambda x, w: F.embedding_bag(integers(x[:, 0]) % 4, w, mode="mean"), (4, 3), sizes=(2, 3)),
            shaped(
                lambda x, w: F.embedding_bag(integers(x[:, 0]) % 4, w, per_sample_weights=x[:, 1], mode="sum"),
                (4, 3),
                sizes=(2, 3),
            ),
        ],
        "F.pdist": Case(lambda x: F.pdist(x[0]), batch=False),
        "torch.block_diag": Case(lambda x: torch.block_diag(x[0], x[1]), batch=False),
        "torch.cartesian_prod": Case(lambda x: torch.cartesian_prod(x[0, :, 0], x[0, 0]), batch=False),
        "torch.meshgrid": Case(lambda x: torch.meshgrid(x[0, :, 0], x[0, 0], indexing="ij"), batch=False),
        "torch.vander": Case(lambda x: torch.vander(x[0].sum(0), 3), batch=False),
    }
)


def chance(x: Tensor) -> Tensor:
    return x.sigmoid()


LOSSES = table(
    {
        "F.mse_loss": [F.mse_loss, lambda x, y: F.mse_loss(x, y, reduction="none")],
        "F.l1_loss": [F.l1_loss, lambda x, y: F.l1_loss(x, y, reduction="none")],
        "F.smooth_l1_loss": F.smooth_l1_loss,
        "F.huber_loss": F.huber_loss,
        "F.binary_cross_entropy": lambda x, y: F.binary_cross_entropy(chance(x), chance(y)),
        "F.binary_cross_entropy_with_logits": lambda x, y: F.binary_cross_entropy_with_logits(x, chance(y)),
        "F.cross_entropy": [
            lambda x, y: F.cross_entropy(x.mT, y.mT.softmax(1)),
            lambda x, y: F.cross_entropy(x, (y[:, 0] > 0).long()),
        ],
        "F.nll_loss": lambda x, y: F.nll_loss(x, (y[:, 0] > 0).long()),
        "F.kl_div": lambda x, y: F.kl_div(x, chance(y), reduction="batchmean"),
        "F.poisson_nll_loss": lambda x, y: F.poisson_nll_loss(x, y),
        "F.gaussian_nll_loss": lambda x, y: F.gaussian_nll_loss(x, y, x.exp()),
        "F.hinge_embedding_loss": lambda x, y: F.hinge_embedding_loss(x, y.sign()),
        "F.margin_ranking_loss": lambda x, y: F.margin_ranking_loss(x, y, x.sign()),
        "F.cosine_embedding_loss": lambda x, y: F.cosine_embedding_loss(x[:, 0], y[:, 0], x[:, 1, 1].sign()),
        "F.soft_margin_loss": lambda x, y: F.soft_margin_loss(x, y.sign()),
        "F.multilabel_soft_margin_loss": lambda x, y: F.multilabel_soft_margin_loss(x, chance(y)),
        "F.multi_margin_loss": lambda x, y: F.multi_margin_loss(x[:, 0], (y[:, 1, 1] > 0).long()),
        "F.triplet_margin_loss": lambda x, y: F.triplet_margin_loss(x, y, x * y),
    },
    operands=2,
    sizes=(2, 3),
)


def square(x: Tensor) -> Tensor:
    """A positive definite matrix for each input, one permutation on both axes."""
    return x.mT @ x + torch.eye(x.shape[-1], dtype=x.dtype)


MATRICES = table(
    {
        "torch.det": lambda x: torch.det(square(x)),
        "torch.logdet": lambda x: torch.logdet(square(x)),
        "torch.linalg.slogdet": lambda x: torch.linalg.slogdet(square(x)).logabsdet,
        "torch.inverse": lambda x: torch.inverse(square(x)),
        "torch.linalg.inv": lambda x: torch.linalg.inv(square(x)) @ x.mT,
        "torch.linalg.solve": lambda x: torch.linalg.solve(square(x), x.mT),
        "torch.linalg.cholesky": lambda x: torch.linalg.cholesky(square(x)),
        "torch.cholesky_solve": lambda x: torch.cholesky_solve(x.mT, torch.linalg.cholesky(square(x))),
        "torch.linalg.matrix_power": lambda x: torch.linalg.matrix_power(square(x), 3),
        "torch.matrix_exp": lambda x: torch.matrix_exp(0.1 * square(x)),
        "torch.linalg.pinv": lambda x: torch.linalg.pinv(x),
        "torch.linalg.svdvals": lambda x: torch.linalg.svdvals(x),
        "torch.linalg.eigvalsh": lambda x: torch.linalg.eigvalsh(square(x)),
        "torch.trace": Case(lambda x: torch.trace(square(x)[0])),
        "torch.eye": lambda x: x @ torch.eye(5, dtype=x.dtype),
        "torch.diagonal": lambda x: torch.diagonal(square(x), dim1=-2, dim2=-1),
        "torch.diag": Case(lambda x: torch.diag(square(x)[0]), batch=False),
        "torch.diag_embed": lambda x: torch.diag_embed(x.sum(1)),
    }
)

OPERATORS: list[Operator] = [*PRODUCTS, *WEIGHTS, *LOSSES, *MATRICES]
