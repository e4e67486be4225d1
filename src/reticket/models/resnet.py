"""ResNet20 for 32 x 32 images (He et al. 2016, section 4.2) with 3x3 convolution projection shortcuts."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.models.init import initialise
from reticket.models.registry import model
from reticket.models.widths import scaled

STAGES = (16, 32, 64)
BLOCKS = 3


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm and a shortcut.

    Args:
        in_channels: of the input.
        channels: of the output.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut = nn.Sequential()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """Return the block's output after the last ReLU."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x), inplace=True)


class ResNet20(nn.Module):
    """A 3x3 convolution, three stages of three basic blocks, global average pooling, one linear layer.

    Args:
        in_channels: of the images.
        classes: number of classes.
        width: factor on the channels 16-32-64.
    """

    def __init__(self, in_channels: int, classes: int, width: float | int) -> None:
        super().__init__()
        channels = scaled(STAGES[0], width)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        one, two, three = (scaled(stage, width) for stage in STAGES)
        self.layer1 = _stage(channels, one, 1)
        self.layer2 = _stage(one, two, 2)
        self.layer3 = _stage(two, three, 2)
        self.fc = nn.Linear(three, classes)
        initialise(self, self.fc)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))


def _stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, channels, stride)
    return nn.Sequential(first, *(BasicBlock(channels, channels, 1) for _ in range(BLOCKS - 1)))


@model("resnet20", input_shape=lambda in_channels, **_: (in_channels, 32, 32))
def build_resnet20(in_channels: int = 3, classes: int = 10, width: float | int = 1) -> ResNet20:
    """Return CIFAR's ResNet20.

    Args:
        in_channels: of the images.
        classes: number of classes.
        width: factor on all channels; the paper has 1, 4, 8 and 16.
    """
    return ResNet20(in_channels, classes, width)
