"""The body: MobileNet V1 as a feature extractor that answers for its own widths and strides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .blocks import BlockStyle, ConvNorm, DepthwiseSeparable, Normalize

# Table 1, one row per block after the stem: output channels, stride. Strides multiply to 16, the stem's 2 makes 32.
# The last depthwise layer is printed with stride 2; its output size (7x7) shows that it has stride 1.
STEM_CHANNELS = 32
BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2),
    (512, 1), (512, 1), (512, 1), (512, 1), (512, 1),
    (1024, 2), (1024, 1),
)  # fmt: skip
SHALLOW_BLOCKS = BLOCKS[:6] + BLOCKS[11:]  # Table 5: without the five 14x14x512 layers
MIN_CHANNELS = 8
DEPTHWISE_NOISE = 0.1  # of the initial filters around the identity


class FeatureInfo(NamedTuple):
    """Width of one feature map and the pixels of input that one of its cells spans."""

    channels: int
    stride: int


def scaled(channels: int, alpha: float, minimum: int = MIN_CHANNELS) -> int:
    """Give the width of a layer under the width multiplier, as TF-Slim rounds it.

    >>> scaled(32, 0.25), scaled(1024, 0.75), scaled(16, 0.25)
    (8, 768, 8)
    """
    return max(minimum, int(channels * alpha))


class MobileNetV1(nn.Module):
    """uint8 RGB images [B, 3, H, W] -> {"c3", "c4", "c5"} feature maps at strides 8, 16 and 32.

    Args:
        alpha: width multiplier, > 0; the paper uses 1, 0.75, 0.5 and 0.25.
        padding: "same" (TensorFlow's, for weights that come from there) or "symmetric".
        activation: "relu6" as the released weights, "relu" or "hard_swish".
        bn_eps, bn_momentum: of every batch norm.
        shallow: leave out the five 14x14x512 blocks (Table 5's control).
        separable: False gives full 3x3 convolutions in place of separable blocks (Table 4's control).
        mean, std: what `Normalize` subtracts and divides by, three values each in 0-255.

    Source: Howard et al., MobileNets (2017), Table 1.
    """

    def __init__(
        self,
        alpha: float = 1.0,
        padding: str = "same",
        activation: str = "relu6",
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.03,
        shallow: bool = False,
        separable: bool = True,
        mean: Sequence[float] = (127.5, 127.5, 127.5),
        std: Sequence[float] = (127.5, 127.5, 127.5),
    ):
        super().__init__()
        if alpha <= 0:
            raise ValueError(f"backbone.alpha must be > 0, got {alpha}")
        self.alpha = alpha
        self.style = BlockStyle(padding, activation, bn_eps, bn_momentum).check()
        self.settings: dict[str, object] = {
            "alpha": alpha, **self.style._asdict(), "shallow": shallow, "separable": separable,
            "mean": [float(value) for value in mean], "std": [float(value) for value in std],
        }  # fmt: skip
        self.normalize = Normalize(tuple(mean), tuple(std))  # type: ignore[arg-type]
        channels = scaled(STEM_CHANNELS, alpha)
        self.stem = ConvNorm(3, channels, 3, 2, self.style)
        self.blocks = nn.ModuleList()
        self.features: dict[str, FeatureInfo] = {}
        self._ends: dict[int, str] = {}  # block index -> name of the feature map it completes
        stride = 2
        for index, (base, block_stride) in enumerate(SHALLOW_BLOCKS if shallow else BLOCKS):
            out = scaled(base, alpha)
            if separable:
                self.blocks.append(DepthwiseSeparable(channels, out, block_stride, self.style))
            else:
                self.blocks.append(ConvNorm(channels, out, 3, block_stride, self.style))
            channels, stride = out, stride * block_stride
            if stride >= 8:
                name = {8: "c3", 16: "c4", 32: "c5"}[stride]
                self._ends = {end: at for end, at in self._ends.items() if at != name} | {index: name}
                self.features[name] = FeatureInfo(channels, stride)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.stem(self.normalize(images))
        maps = {}
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self._ends:
                maps[self._ends[index]] = x
        return maps

    def scaled(self, channels: int, minimum: int = MIN_CHANNELS) -> int:
        """Width of a head's layer under this body's width multiplier."""
        return scaled(channels, self.alpha, minimum)

    def stages(self) -> list[nn.Module]:
        """Stem and blocks from the input on: what freezing the first n of them means."""
        return [self.stem, *self.blocks]


@torch.no_grad()
def initialise(module: nn.Module, std: float | None = None) -> None:
    """Initialise every convolution below `module`, biases with zero.

    Full and 1x1 filters are drawn from a truncated normal. Depthwise filters start as the identity with a
    little noise: thirteen random ones in a row would blur away where things are, and a network without
    shortcuts then learns nothing for its first thousand steps.

    Args:
        module: a body, a head or a layer.
        std: of the normal; None takes He's sqrt(2 / fan-in) of each layer.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            if layer.groups > 1:
                nn.init.normal_(layer.weight, std=DEPTHWISE_NOISE)
                layer.weight[:, 0, 1, 1] += 1
            else:
                layer_std = std if std is not None else (2 / layer.weight[0].numel()) ** 0.5
                nn.init.trunc_normal_(layer.weight, std=layer_std, a=-2 * layer_std, b=2 * layer_std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
