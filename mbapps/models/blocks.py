"""The two blocks of MobileNets: a convolution with its norm, and the depthwise separable pair."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu6": nn.ReLU6, "relu": nn.ReLU, "hard_swish": nn.Hardswish}
PADDINGS = ("same", "symmetric")


class BlockStyle(NamedTuple):
    """What all convolutions of one network share, so that heads build theirs like the body's.

    padding: "same" pads as TensorFlow does (an even map at stride 2 gets one row below and one column
        right); "symmetric" pads one pixel on all four sides.
    bn_eps, bn_momentum: as in `torch.nn.BatchNorm2d`.
    """

    padding: str = "same"
    activation: str = "relu6"
    bn_eps: float = 1e-3
    bn_momentum: float = 0.03

    def check(self) -> BlockStyle:
        """Return itself, or raise ValueError naming the setting that is not one of ours."""
        if self.padding not in PADDINGS:
            raise ValueError(f"backbone.padding must be one of {list(PADDINGS)}, got {self.padding!r}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"backbone.activation must be one of {sorted(ACTIVATIONS)}, got {self.activation!r}"
            )
        return self


class PaddedConv2d(nn.Conv2d):
    """A bias-free 3x3 or 1x1 convolution that pads like TensorFlow's SAME where asked to.

    At stride 2 SAME pads an even side by (0, 1) and an odd one by (1, 1); weights trained one way lose
    points when run the other way.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, stride: int, groups: int, same: bool
    ):
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.same = same and kernel_size == 3 and stride == 2

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if self.same and not (height % 2 and width % 2):
            x = F.pad(x, (width % 2, 1, height % 2, 1))
            return F.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)
        return super().forward(x)


class ConvNorm(nn.Module):
    """Convolution, batch norm, activation: [B, in, H, W] -> [B, out, ceil(H / stride), ceil(W / stride)]."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int,
        style: BlockStyle,
        groups: int = 1,
    ):
        super().__init__()
        same = style.padding == "same"
        self.conv = PaddedConv2d(in_channels, out_channels, kernel_size, stride, groups, same)
        self.norm = nn.BatchNorm2d(out_channels, eps=style.bn_eps, momentum=style.bn_momentum)
        self.activation = ACTIVATIONS[style.activation](inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class DepthwiseSeparable(nn.Module):
    """A 3x3 filter per channel, then a 1x1 convolution across channels, each with norm and activation.

    Source: MobileNets (2017), section 3.1.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int, style: BlockStyle):
        super().__init__()
        self.depthwise = ConvNorm(in_channels, in_channels, 3, stride, style, groups=in_channels)
        self.pointwise = ConvNorm(in_channels, out_channels, 1, 1, style)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class Normalize(nn.Module):
    """uint8 RGB images [B, 3, H, W] -> float [B, 3, H, W], (x - mean) / std with mean and std in 0-255.

    It sits inside the network so that images stay uint8 until they are on the device and no exported
    file depends on preprocessing outside it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, float, float], std: tuple[float, float, float]):
        super().__init__()
        if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
            raise ValueError(f"mean and std need three values, std > 0, got mean {mean}, std {std}")
        self.register_buffer(
            "mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1), persistent=False
        )
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images.to(self.mean.dtype) - self.mean) / self.std
