"""A small convolution network with BatchNorm for CPU-sized experiments."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.models.init import initialise
from reticket.models.registry import model


class ConvSmall(nn.Module):
    """Four 3x3 convolutions, each with BatchNorm and ReLU, global average pooling, one linear layer.

    Args:
        in_channels: of the images.
        widths: channels of the convolutions; the first and the third have stride 2.
        classes: number of classes.
    """

    def __init__(self, in_channels: int, widths: Sequence[int], classes: int) -> None:
        super().__init__()
        channels = (in_channels, *widths)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels[i], channels[i + 1], 3, stride=2 if i in (0, 2) else 1, padding=1, bias=False)
            for i in range(len(widths))
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths)
        self.fc = nn.Linear(widths[-1], classes)
        initialise(self, self.fc)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits."""
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        return self.fc(x.mean((2, 3)))


@model("conv-small", input_shape=lambda in_channels, **_: (in_channels, 28, 28))
def build_conv_small(in_channels: int = 1, widths: Sequence[int] = (16, 32, 32, 64), classes: int = 10) -> ConvSmall:
    """Return the small convolution network.

    Args:
        in_channels: of the images, of any size from 4 x 4.
        widths: channels of the convolutions; the first and the third have stride 2.
        classes: number of classes.
    """
    return ConvSmall(in_channels, widths, classes)
