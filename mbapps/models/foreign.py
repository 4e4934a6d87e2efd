"""What the readers of foreign weights share: a MobileNet's tensors, in the paper's order, under our names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .mobilenet import BLOCKS, scaled

FORMATS = (
    "it may be a Keras MobileNet (.h5), a frozen TF-Slim MobileNet (.pb), a TFLite MobileNet or SSD of it "
    "(.tflite), a timm mobilenetv1 state dict (.safetensors, .pth, .bin), a timm name such as mobilenetv1_100, "
    "or a model folder"
)
BLOCK_IDS = range(1, len(BLOCKS) + 1)  # as Keras and TF-Slim count the blocks
LAYERS = ("stem", *(f"blocks.{n}.{part}" for n in range(len(BLOCKS)) for part in ("depthwise", "pointwise")))
NORM_KEYS = ("weight", "bias", "running_mean", "running_var")
PIXELS = (127.5, 127.5, 127.5)  # mean and std alike: Keras, TF-Slim and timm all see [-1, 1]

Array = NDArray[np.float32]
ConvNormTensors = tuple[Tensor, Sequence[Tensor]]  # kernel; NORM_KEYS


@dataclass(frozen=True)
class HeadWeights:
    """A head's tensors, and what it takes to build a head that they fit.

    tensors: the keys of that head's own `state_dict()`; `num_batches_tracked` may be missing.
    num_classes: K, without the background.
    class_names: K names, or () where the file does not tell.
    image_size: side in px that the weights were trained at, None where the file does not tell.
    settings: keyword arguments of the head; those left out keep its defaults.
    category_ids: the number that its data set gives each of K classes; () where there is none.
    """

    tensors: dict[str, Tensor]
    num_classes: int
    class_names: tuple[str, ...] = ()
    image_size: int | None = None
    settings: dict[str, object] = field(default_factory=dict)
    category_ids: tuple[int, ...] = ()


@dataclass(frozen=True)
class Weights:
    """A body's tensors under our names, what it takes to build a body that they fit, and the heads beside it.

    body: the keys of `MobileNetV1.state_dict()`; `num_batches_tracked` may be missing.
    settings: keyword arguments of `MobileNetV1`; bn_eps is 0 where the norms were folded into the convolutions.
    heads: by the name of their task; a linear layer on the pooled c5 is "fine_grained".
    source: file name or known name.
    """

    body: dict[str, Tensor]
    settings: dict[str, object]
    heads: dict[str, HeadWeights]
    source: str


def learned(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the norms' counters of batches, which no file needs to have."""
    return {key: value for key, value in tensors.items() if not key.endswith("num_batches_tracked")}


def named(
    layers: Sequence[ConvNormTensors],
    settings: Mapping[str, object],
    classifier: dict[str, Tensor],
    source: str,
    image_size: int | None,
) -> Weights:
    """Name the tensors of stem, depthwise 1, pointwise 1, depthwise 2, ...; the last width tells alpha.

    A classifier is {} or the "weight" [K, C] and "bias" [K] of a linear layer on the pooled c5.
    """
    body: dict[str, Tensor] = {}
    for name, layer in zip(LAYERS, layers, strict=True):
        body |= conv_norm(name, layer)
    full, width = BLOCKS[-1][0], len(layers[-1][0])
    alpha = width / full  # gives every layer its width, since all full widths divide this one
    if scaled(full, round(alpha, 2)) == width:
        alpha = round(alpha, 2)
    heads = {}
    if classifier:
        tensors = {f"linear.{key}": tensor for key, tensor in classifier.items()}
        heads["fine_grained"] = HeadWeights(tensors, len(classifier["bias"]), image_size=image_size)
    return Weights(body, {"alpha": alpha, "mean": PIXELS, "std": PIXELS, **settings}, heads, source)


def conv_norm(name: str, layer: ConvNormTensors) -> dict[str, Tensor]:
    """Name the tensors of one `ConvNorm`."""
    kernel, norm = layer
    return {
        f"{name}.conv.weight": kernel,
        **{f"{name}.norm.{key}": tensor for key, tensor in zip(NORM_KEYS, norm, strict=True)},
    }


def folded(kernel: Tensor, bias: Tensor) -> ConvNormTensors:
    """Give a convolution that has its norm folded into it the norm that adds its bias and no more, at bn_eps 0."""
    return kernel, (torch.ones_like(bias), bias, torch.zeros_like(bias), torch.ones_like(bias))


def conv(kernel: Array) -> Tensor:
    """TensorFlow's [H, W, in, out] -> [out, in, H, W]."""
    return torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy())


def depthwise(kernel: Array) -> Tensor:
    """TensorFlow's [H, W, C, 1] -> [C, 1, H, W]."""
    return torch.from_numpy(kernel.transpose(2, 3, 0, 1).copy())


def linear(kernel: Array, bias: Array) -> dict[str, Tensor]:
    """TensorFlow's [C, K] or [1, 1, C, K] and [K] -> the tensors of a linear layer."""
    return {
        "weight": torch.from_numpy(kernel.reshape(kernel.shape[-2:]).T.copy()),
        "bias": torch.from_numpy(bias),
    }
