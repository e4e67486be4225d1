"""ResNet50 with the parameter names and shapes of torchvision, so that its weights load."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from reticket.models.registry import model
from reticket.models.widths import scaled

STAGES = (64, 128, 256, 512)  # channels of the 3x3 convolutions
BLOCKS = (3, 4, 6, 3)
EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with BatchNorm and a shortcut; the stride is in the 3x3 convolution.

    Args:
        in_channels: of the input.
        channels: of the 3x3 convolution; the output has four times as many.
        stride: of the 3x3 convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        out_channels = channels * EXPANSION
        self.conv1 = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n d h2 w2"]:
        """Return the block's output after the last ReLU."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)), inplace=True)


class ResNet50(nn.Module):
    """Stem, four stages of 3, 4, 6 and 3 bottlenecks, global average pooling, one linear layer.

    Args:
        in_channels: of the images.
        classes: number of classes.
        width: factor on all channels.
    """

    def __init__(self, in_channels: int, classes: int, width: float | int) -> None:
        super().__init__()
        channels = scaled(64, width)
        self.conv1 = nn.Conv2d(in_channels, channels, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        one, two, three, four = (scaled(stage, width) for stage in STAGES)
        self.layer1 = _stage(channels, one, BLOCKS[0], 1)
        self.layer2 = _stage(one * EXPANSION, two, BLOCKS[1], 2)
        self.layer3 = _stage(two * EXPANSION, three, BLOCKS[2], 2)
        self.layer4 = _stage(three * EXPANSION, four, BLOCKS[3], 2)
        self.fc = nn.Linear(four * EXPANSION, classes)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n classes"]:
        """Return the logits."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x)), inplace=True), 3, stride=2, padding=1)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean((2, 3)))


def _stage(in_channels: int, channels: int, blocks: int, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, channels, stride)
    return nn.Sequential(first, *(Bottleneck(channels * EXPANSION, channels, 1) for _ in range(blocks - 1)))


@model("resnet50", input_shape=lambda in_channels, **_: (in_channels, 64, 64))
def build_resnet50(in_channels: int = 3, classes: int = 1000, width: float | int = 1) -> ResNet50:
    """Return ResNet50 as in torchvision, its initialisation included (Kaiming normal with fan-out; torch's own for fc).

    Args:
        in_channels: of the images, 224 x 224 for ImageNet; any size from 32 x 32 works.
        classes: number of classes.
        width: factor on all channels, the inner ones and the residual stream alike.
    """
    return ResNet50(in_channels, classes, width)
