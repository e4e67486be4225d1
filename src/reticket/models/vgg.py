"""VGG11 for 32 x 32 images, without BatchNorm (Simonyan and Zisserman 2015, configuration A)."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.models.init import initialise
from reticket.models.registry import model
from reticket.models.widths import scaled

STAGES = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG11(nn.Module):
    """Eight 3x3 convolutions with ReLU, max pooling after each of five stages, one linear layer on top.

    Args:
        in_channels: of the images.
        classes: number of classes.
        width: factor on the channels 64-128-256-512-512.
    """

    def __init__(self, in_channels: int, classes: int, width: float | int) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for stage in STAGES:
            convs = nn.ModuleList()
            for channels in stage:
                convs.append(nn.Conv2d(in_channels, scaled(channels, width), 3, padding=1))
                in_channels = scaled(channels, width)
            self.stages.append(convs)
        self.fc = nn.Linear(in_channels, classes)
        initialise(self, self.fc)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits."""
        for stage in self.stages:
            assert isinstance(stage, nn.ModuleList)
            for conv in stage:
                x = F.relu(conv(x), inplace=True)
            x = F.max_pool2d(x, 2)
        return self.fc(x.mean((2, 3)))


@model("vgg11", input_shape=lambda in_channels, **_: (in_channels, 32, 32))
def build_vgg11(in_channels: int = 3, classes: int = 10, width: float | int = 1) -> VGG11:
    """Return VGG11 without BatchNorm, with one linear layer.

    Args:
        in_channels: of the images, which are 32 x 32 or larger.
        classes: number of classes.
        width: factor on all channels, rounded.
    """
    return VGG11(in_channels, classes, width)
