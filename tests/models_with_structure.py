"""Convolutions, norms, experts and views in awkward combinations, with the freedom of each derived by hand."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.models_for_symmetry import Case, features, image, orders


class Around(nn.Module):
    """`first -> something -> last`; the units between the two are what may move."""

    def __init__(self, first: nn.Module, middle: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.middle, self.last = first, middle, last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)).relu())


def between(middle: nn.Module, inner: int = 6, outer: int = 6, dims: int = 2) -> nn.Module:
    """A module on channels between two convolutions that are free of their kernels."""
    conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
    return Around(conv(3, inner, 1), middle, conv(outer, 2, 1))


def signal() -> Tensor:
    return torch.linspace(-2, 2, 2 * 3 * 8).reshape(2, 3, 8).sin()


def volume() -> Tensor:
    return torch.linspace(-2, 2, 2 * 3 * 27).reshape(2, 3, 3, 3, 3).sin()


class Experts(nn.Module):
    """Five experts with eight hidden units each, their weights stacked; every token goes through all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.gate, self.head = nn.Linear(6, 7), nn.Linear(7, 5), nn.Linear(7, 3)
        self.up, self.bias = nn.Parameter(torch.randn(5, 8, 7)), nn.Parameter(torch.randn(5, 8))
        self.down = nn.Parameter(torch.randn(5, 7, 8))

    def weigh(self, x: Tensor) -> Tensor:
        return self.gate(x).softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        hidden = (torch.einsum("nd,ehd->neh", x, self.up) + self.bias).relu()
        each = torch.einsum("neh,edh->ned", hidden, self.down)
        return self.head((self.weigh(x).unsqueeze(-1) * each).sum(1))


class RoutedExperts(Experts):
    """Only the two best experts are used: which ones is an index, so that the experts must keep their places."""

    def weigh(self, x: Tensor) -> Tensor:
        best, which = self.gate(x).topk(2, -1)
        return torch.zeros(x.shape[0], 5).scatter(-1, which, best.softmax(-1))


class BatchedExperts(Experts):
    """The same experts by batched matrix products, as mixtures of experts are mostly written."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        hidden = torch.baddbmm(self.bias.unsqueeze(1), x.expand(5, -1, -1), self.up.mT).relu()
        each = torch.bmm(hidden, self.down.mT)
        return self.head((self.weigh(x).T.unsqueeze(-1) * each).sum(0))


class ListedExperts(nn.Module):
    """Experts as modules in a list: nothing moves a whole one, each has its own hidden units."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = (
            nn.Linear(6, 3),
            nn.ModuleList(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in range(3)),
        )

    def forward(self, x: Tensor) -> Tensor:
        gates = self.gate(x).softmax(-1)
        return sum(gates[:, i : i + 1] * expert(x) for i, expert in enumerate(self.experts))  # pyright: ignore


class Maxout(nn.Module):
    """The largest of each group of pieces, along either factor of the view."""

    def __init__(self, *, leading: bool) -> None:
        super().__init__()
        self.first, self.last, self.leading = nn.Linear(6, 12), nn.Linear(4, 3), leading

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return self.last(y.view(-1, 3, 4).amax(1) if self.leading else y.view(-1, 4, 3).amax(2))


class Mixer(nn.Module):
    """Seven learned mixtures of the input's tokens, mixed again by a hidden layer over tokens, then averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.tokens = nn.Linear(6, 8), nn.Linear(5, 7)
        self.norm, self.up, self.down = nn.LayerNorm(8), nn.Linear(7, 9), nn.Linear(9, 7)
        self.channels, self.head = nn.Sequential(nn.Linear(8, 10), nn.GELU(), nn.Linear(10, 8)), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.tokens(self.embed(x).mT).mT
        x = x + self.down(F.gelu(self.up(self.norm(x).mT))).mT
        x = x + self.channels(self.norm(x))
        return self.head(x.mean(1))


class Patches(nn.Module):
    """Non-overlapping patches cut by views, as einops writes (c, h p, w q) -> (h w, p q c), then a hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.color, self.embed, self.head = nn.Conv2d(3, 5, 1), nn.Linear(5 * 16, 7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.color(x).relu()
        n, c, h, w = x.shape
        x = x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, -1, 16 * c)
        return self.head(self.embed(x).relu().mean(1))


class WriteIntoSlice(nn.Module):
    """A part of the units is overwritten in place, and two results are written into one tensor of zeros."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b, self.last = nn.Linear(6, 8), nn.Linear(8, 5), nn.Linear(8, 4), nn.Linear(11, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x[:, :3] = x[:, :3].relu() + 1
        y = torch.zeros(x.shape[0], 11)
        y[:, 1:6], y[:, 6:10] = self.a(x).relu(), self.b(x).tanh()
        return self.last(y)


class SqueezeExcite(nn.Module):
    """A gate for each channel from the mean of all."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(6, 4, 1), nn.Conv2d(4, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(self.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()


class Gated(nn.Module):
    """Gated hidden layers: one projection cut in halves by GLU, and two projections multiplied (SwiGLU)."""

    def __init__(self) -> None:
        super().__init__()
        self.both, self.one, self.other = nn.Linear(6, 14), nn.Linear(7, 9), nn.Linear(7, 9)
        self.last = nn.Linear(9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.glu(self.both(x), -1)
        return self.last(F.silu(self.one(x)) * self.other(x))


class TwoSided(nn.Module):
    """One weight with the same units on both of its axes, read as a step of a recurrence and as a quadratic form."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.step, self.last = nn.Linear(6, 7), nn.Parameter(torch.randn(7, 7)), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(2):
            x = torch.tanh(x @ self.step)
        return self.last(x * torch.einsum("ni,ij,nj->n", x, self.step, x)[:, None])


class Gram(nn.Module):
    """Products of a tensor with itself: units that stand on two axes of one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.mix, self.head = nn.Linear(6, 4), nn.Linear(5, 5), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        gram = torch.einsum("nti,ntj->nij", x, x)
        return self.head((gram @ gram.mT + torch.eye(4)).softmax(-1).mean(1))


class Sliding(nn.Module):
    """The largest of every three neighbours, by windows."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unfold(-1, 3, 1).amax(-1)


class SampledGrid(nn.Module):
    """Points that the network chooses itself are looked up in the image of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.points, self.last = nn.Conv2d(3, 6, 1), nn.Linear(6, 5), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        where = self.points(x.mean((2, 3))).tanh()
        grid = torch.stack([where, where.square()], -1).unsqueeze(1)
        return self.last(F.grid_sample(x, grid, align_corners=False).mean((2, 3)))


class Bilinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.both, self.last = nn.Linear(6, 5), nn.Linear(6, 4), nn.Bilinear(5, 4, 7), nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.both(self.a(x).relu(), self.b(x).relu()).tanh())


class Dots(nn.Module):
    """Einsum with dots, with letters in another order than the axes, and without a result written out."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(6, 8)), nn.Parameter(torch.randn(5, 8, 7))
        self.last = nn.Parameter(torch.randn(7, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.einsum("...i,ij", x, self.first).relu()
        x = torch.einsum("n...j,...jk->n...k", x, self.second)
        return torch.einsum("...k,kl->...l", x.tanh(), self.last)


class LateFusion(nn.Module):
    """Branches that are concatenated, shuffled by views, cut again and added."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.last = nn.Linear(6, 4), nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        joined = torch.cat([self.a(x), self.b(x)], -1).relu()
        first, second = joined.view(-1, 2, 4).unbind(1)
        return self.last(first * second + joined[:, 4:])


def images(*, grid: int = 5) -> Tensor:
    """Two sequences of five tokens with six features."""
    return torch.linspace(-2, 2, 12 * grid).reshape(2, grid, 6).sin()


CONVOLUTION = {
    # 2 groups: they change places, and within each the 3 channels read and the 4 made move on their own
    "grouped-convolution": Case(lambda: between(nn.Conv2d(6, 8, 3, groups=2), 6, 8), image, orders(2, 3, 3, 4, 4)),
    "grouped-1d": Case(lambda: between(nn.Conv1d(6, 8, 3, groups=2), 6, 8, 1), signal, orders(2, 3, 3, 4, 4)),
    "grouped-3d": Case(lambda: between(nn.Conv3d(6, 8, 2, groups=2), 6, 8, 3), volume, orders(2, 3, 3, 4, 4)),
    "grouped-transposed": Case(
        lambda: between(nn.ConvTranspose2d(6, 8, 3, groups=2), 6, 8), image, orders(2, 3, 3, 4, 4)
    ),
    # the same 2 groups all the way; 3 channels, 2 channels and 4 channels in each
    "grouped-twice": Case(
        lambda: between(nn.Sequential(nn.Conv2d(6, 4, 3, groups=2), nn.ReLU(), nn.Conv2d(4, 8, 1, groups=2)), 6, 8),
        image,
        orders(2, 3, 3, 2, 2, 4, 4),
    ),
    # 2 groups, then 3 groups of the same 6 channels: neither cut refines the other, which pins these; the 3 channels
    # read in each of 2 groups and the 2 made in each of 3 move (the true group is 8 times as large: its blocks overlap)
    "grouped-by-two-then-three": Case(
        lambda: between(nn.Sequential(nn.Conv2d(6, 6, 1, groups=2), nn.ReLU(), nn.Conv2d(6, 6, 1, groups=3)), 6, 6),
        image,
        2 * orders(3) + 3 * orders(2),
    ),
    # 6 channels, each with its 2 outputs
    "depthwise-multiplier": Case(
        lambda: between(nn.Conv2d(6, 12, 3, groups=6), 6, 12), image, orders(6) + 6 * orders(2)
    ),
    "transposed-1d": Case(lambda: between(nn.ConvTranspose1d(6, 5, 3), 6, 5, 1), signal, orders(6, 5)),
    "transposed-3d": Case(lambda: between(nn.ConvTranspose3d(6, 5, 2), 6, 5, 3), volume, orders(6, 5)),
    "convolution-1d": Case(lambda: between(nn.Conv1d(6, 5, 3), 6, 5, 1), signal, orders(6, 5)),
    "convolution-3d": Case(lambda: between(nn.Conv3d(6, 5, 2), 6, 5, 3), volume, orders(6, 5)),
    # 3 groups of 2 channels
    "group-norm": Case(lambda: between(nn.GroupNorm(3, 6)), image, orders(3, 2, 2, 2)),
    "group-norm-plain": Case(lambda: between(nn.GroupNorm(3, 6, affine=False)), image, orders(3, 2, 2, 2)),
    "group-norm-of-one": Case(lambda: between(nn.GroupNorm(1, 6)), image, orders(6)),
    "group-norm-of-all": Case(lambda: between(nn.GroupNorm(6, 6)), image, orders(6)),
    "group-norm-tokens": Case(lambda: between(nn.GroupNorm(2, 6), dims=1), signal, orders(2, 3, 3)),
    "instance-norm": Case(lambda: between(nn.InstanceNorm2d(6)), image, orders(6)),
    "instance-norm-affine": Case(lambda: between(nn.InstanceNorm2d(6, affine=True)), image, orders(6)),
    "instance-norm-tracked": Case(
        lambda: between(nn.InstanceNorm2d(6, affine=True, track_running_stats=True)), image, orders(6)
    ),
    "batch-norm-plain": Case(lambda: between(nn.BatchNorm2d(6, affine=False)), image, orders(6)),
    "batch-norm-3d": Case(lambda: between(nn.BatchNorm3d(6), dims=3), volume, orders(6)),
    # the weight of this layer norm covers positions as well, which are an axis of the input
    "layer-norm-of-image": Case(lambda: between(nn.LayerNorm([6, 8, 8])), image, orders(6)),
    "squeeze-excite": Case(lambda: between(SqueezeExcite()), image, orders(6, 4)),
    "local-response-norm": Case(lambda: between(nn.LocalResponseNorm(3)), image, 0.0),
    "prelu": Case(lambda: between(nn.PReLU(6)), image, orders(6)),
    # (c r r) to (c, r, r): the 3 channels that are left may move
    "pixel-unshuffle": Case(lambda: between(nn.PixelUnshuffle(2), 6, 24), image, orders(6)),
    "upsample": Case(lambda: between(nn.Upsample(scale_factor=2, mode="bilinear")), image, orders(6)),
    # channels beside 3 x 3 places of a window
    "unfold": Case(lambda: Around(nn.Conv2d(3, 6, 1), nn.Unfold(3), nn.Conv1d(54, 2, 1)), image, orders(6)),
    "unfold-and-fold": Case(
        lambda: between(nn.Sequential(nn.Unfold(2), nn.Conv1d(24, 20, 1), nn.Fold((8, 8), 2)), 6, 5),
        image,
        orders(6, 5),
    ),
    "sliding-windows": Case(lambda: between(Sliding(), 6, 6, 1), signal, orders(6)),
    # 5 points to look at, which come from the channels and are averaged in the end
    "sampled-grid": Case(SampledGrid, image, orders(6, 5)),
}
STRUCTURE = {
    # 7 features before and 7 after; 5 experts change places, each with 8 hidden units in an order of its own
    "soft-experts": Case(Experts, features, orders(7, 7, 5) + 5 * orders(8)),
    "soft-experts-batched": Case(BatchedExperts, features, orders(7, 7, 5) + 5 * orders(8)),
    # the same without the 5!: an index says which expert is meant
    "routed-experts": Case(RoutedExperts, features, orders(7, 7) + 5 * orders(8)),
    "listed-experts": Case(ListedExperts, features, 3 * orders(5)),
    # 4 outputs change places, each with its 3 pieces
    "maxout-leading": Case(lambda: Maxout(leading=True), features, orders(4) + 4 * orders(3)),
    "maxout-trailing": Case(lambda: Maxout(leading=False), features, orders(4) + 4 * orders(3)),
    # channels 8!, hidden channels 10!; 7 tokens that are averaged in the end, 9 hidden units over tokens
    "token-mixer": Case(Mixer, images, orders(8, 10, 7, 9)),
    "patches-by-views": Case(Patches, image, orders(5, 7)),
    # 3 units are overwritten and 5 are not; 5 and 4 units are written into zeros
    "write-into-slice": Case(WriteIntoSlice, features, orders(3, 5, 5, 4)),
    "gated": Case(Gated, features, orders(7, 9)),
    "same-units-on-two-axes": Case(TwoSided, features, orders(7)),
    "product-with-itself": Case(Gram, images, orders(4)),
    # the tokens read the second weight each in a place of their own, the weights around it all alike
    "einsum-dots": Case(Dots, images, orders(8, 7)),
    "bilinear": Case(Bilinear, features, orders(5, 4, 7)),
    # the two halves are multiplied, so that they move alike
    "cat-view-unbind": Case(LateFusion, features, orders(4)),
    "rms-norm": Case(
        lambda: Around(nn.Linear(6, 8), nn.Sequential(nn.RMSNorm(8), nn.LayerNorm(8)), nn.Linear(8, 3)),
        features,
        orders(8),
    ),
}
