"""The convolution network of airbench (Jordan 2024, arXiv 2404.00498): 94 % on CIFAR-10 in seconds of a GPU."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.models.init import initialise
from reticket.models.registry import model
from reticket.models.widths import scaled

GROUPS = (64, 256, 256)
FIRST = 24  # channels of the 2x2 convolution, at any width
SCALE = 1 / 9  # of the logits


class Airbench(nn.Module):
    """A 2x2 convolution, three groups of two 3x3 convolutions with BatchNorm and GELU, max pooling, one linear layer.

    The layers are the original's, the rest is not: the first convolution is trained and no fixed whitening of patches,
    BatchNorm has weights and torch's momentum and epsilon, no convolution begins as an identity, by which the units of
    two networks would stand in the same order, and how it is trained is the recipe's matter.

    Args:
        in_channels: of the images.
        classes: number of classes.
        width: factor on the channels 64-256-256.
    """

    def __init__(self, in_channels: int, classes: int, width: float | int) -> None:
        super().__init__()
        self.first = nn.Conv2d(in_channels, FIRST, 2)
        self.convs, self.norms, channels = nn.ModuleList(), nn.ModuleList(), FIRST
        for group in GROUPS:
            for _ in range(2):
                self.convs.append(nn.Conv2d(channels, scaled(group, width), 3, padding=1, bias=False))
                channels = scaled(group, width)
                self.norms.append(nn.BatchNorm2d(channels))
        self.fc = nn.Linear(channels, classes, bias=False)
        initialise(self, self.fc)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits."""
        x = F.gelu(self.first(x))
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = conv(x)
            x = F.gelu(norm(F.max_pool2d(x, 2) if number % 2 == 0 else x))
        return self.fc(x.amax((2, 3))) * SCALE


@model("airbench", input_shape=lambda in_channels, **_: (in_channels, 32, 32))
def build_airbench(in_channels: int = 3, classes: int = 10, width: float | int = 1) -> Airbench:
    """Return the convolution network of airbench, with a first layer that is trained.

    Args:
        in_channels: of the images, which are 9 x 9 or larger.
        classes: number of classes.
        width: factor on the channels of the groups, rounded.
    """
    return Airbench(in_channels, classes, width)
