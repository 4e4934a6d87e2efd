"""Convolutions of a TFLite graph with what is folded into them: bias, activation, padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .foreign import ConvNormTensors, folded
from .tflite_graph import Graph, Operator

CASTS = ("QUANTIZE", "DEQUANTIZE")  # they change how numbers are stored
ACTIVATIONS = {"RELU6": "relu6", "RELU": "relu"}
SAME = 0  # the schema's padding


class Layer(NamedTuple):
    """One convolution with what follows it.

    form: "conv" or "depthwise", side of the kernel, stride.
    paddings: which of ours give the same.
    activation: one of ours, None where there is none.
    row: tensor that it reads.
    """

    tensors: ConvNormTensors
    form: tuple[str, int, int]
    paddings: frozenset[str]
    activation: str | None
    row: int


def chain(graph: Graph, end: int, start: int) -> list[Layer]:
    """The convolutions from one tensor to another, in the order they run."""
    layers: list[Layer] = []
    row = skip(graph, end, CASTS)
    while row != start:
        layers.append(read_layer(graph, row))
        row = skip(graph, layers[-1].row, CASTS)
    return layers[::-1]


def read_layer(graph: Graph, row: int) -> Layer:
    """Read the convolution that computes a tensor; ValueError where another operator does."""
    op = graph.producer(row)
    if op is None or op.kind not in ("CONV_2D", "DEPTHWISE_CONV_2D") or len(op.inputs) < 2:
        found = "the input" if op is None else f"operator {op.kind}"
        raise ValueError(f"{graph.path} is no MobileNet V1: {found} where a convolution is expected")
    options = op.options
    kernel = torch.from_numpy(graph.constant(op.inputs[1]))
    if kernel.ndim != 4 or len(graph.tensors[op.inputs[0]].shape) != 4:
        raise ValueError(f"{graph.path} is no MobileNet V1: a convolution over {kernel.ndim - 2} sides")
    depthwise = op.kind == "DEPTHWISE_CONV_2D"
    kernel = kernel.permute(3, 0, 1, 2) if depthwise else kernel.permute(0, 3, 1, 2)
    _, _, height, width = kernel.shape
    stride = options["StrideH"]
    odd = height != width or stride != options["StrideW"] or options.get("DepthMultiplier", 1) != 1
    if odd or (options["DilationHFactor"], options["DilationWFactor"]) != (1, 1):
        raise ValueError(
            f"{graph.path} is no MobileNet V1: a {height}x{width} convolution with "
            + ", ".join(f"{name} {value}" for name, value in options.items())
        )
    source, paddings = _padding(graph, op, height, stride)
    tensors = folded(kernel.contiguous(), read_bias(graph, op, len(kernel)))
    form = ("depthwise" if depthwise else "conv", height, stride)
    return Layer(tensors, form, paddings, _activation(graph, op), source)


def _padding(graph: Graph, op: Operator, kernel: int, stride: int) -> tuple[int, frozenset[str]]:
    """The tensor that a convolution reads before any PAD, and which of our paddings give what it does."""
    row = skip(graph, op.inputs[0], CASTS)
    before = graph.producer(row)
    explicit = [(0, 0), (0, 0)]
    if before is not None and before.kind == "PAD":
        amounts = graph.tensors[before.inputs[1]].stored
        if amounts is None or amounts.shape != (4, 2) or amounts[[0, 3]].any():
            raise ValueError(f"{graph.path} is no MobileNet V1: it pads other sides than height and width")
        explicit = [(int(low), int(high)) for low, high in amounts[1:3]]
        row = skip(graph, before.inputs[0], CASTS)
    padded = [side + sum(pads) for side, pads in zip(graph.tensors[row].shape[1:3], explicit, strict=True)]
    found = explicit
    if op.options["Padding"] == SAME:
        found = [
            (a + c, b + d)
            for (a, b), (c, d) in zip(explicit, (_same(s, kernel, stride) for s in padded), strict=True)
        ]
    ours = {
        "same": [_same(side, kernel, stride) for side in graph.tensors[row].shape[1:3]],
        "symmetric": [(kernel // 2, kernel // 2)] * 2,
    }
    return row, frozenset(name for name, pads in ours.items() if pads == found)


def _same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Cells that TensorFlow's SAME adds before and after a side."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


def _activation(graph: Graph, op: Operator) -> str | None:
    """What is fused, or what the range of a quantised output cuts off: 0 to 6 is ReLU6."""
    fused = ACTIVATIONS.get(op.options["Activation"])
    tensor = graph.tensors[op.outputs[0]]
    if fused is None and tensor.scale.size == 1 and tensor.dtype.kind in "iu":
        limits = np.iinfo(tensor.dtype)
        low, high = ((limit - tensor.zero_point[0]) * tensor.scale[0] for limit in (limits.min, limits.max))
        return "relu6" if low == 0 and abs(high - 6) < 0.05 else None
    return fused


def read_bias(graph: Graph, op: Operator, width: int) -> Tensor:
    """Read the bias of a convolution or linear layer, zeros where it has none."""
    given = len(op.inputs) > 2 and op.inputs[2] >= 0
    return torch.from_numpy(graph.constant(op.inputs[2])) if given else torch.zeros(width)


def skip(graph: Graph, row: int, kinds: Sequence[str]) -> int:
    """Walk back over operators of these kinds."""
    while (op := graph.producer(row)) is not None and op.kind in kinds:
        row = op.inputs[0]
    return row
