"""Parameters and mult-adds of a network, counted on the network itself."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

FLOPS_PER_MULT_ADD = 2


@dataclass(frozen=True)
class LayerRow:
    """One convolution or linear layer, for one image."""

    name: str
    kind: str  # "conv 3x3", "depthwise 3x3", "conv 1x1", "linear"
    shape: tuple[int, ...]  # of the output, without the batch
    params: int  # weight and bias, without the norm that follows
    macs: int


@dataclass(frozen=True)
class Complexity:
    """What a network costs for one image.

    params: weights, biases and the two trained numbers a channel of every norm; no running statistics.
    macs: mult-adds of convolutions and matrix products, as the MobileNets paper counts them.
    layers: in the order they run. The norms make up the difference between `params` and their sum.
    """

    params: int
    macs: int
    layers: list[LayerRow]


def count(network: nn.Module, image_size: int) -> Complexity:
    """Count for one image [3, image_size, image_size]; `network` itself is neither run nor changed.

    torch's flop counter watches a copy without data run once, on the meta device.
    """
    from torch.utils.flop_counter import FlopCounterMode  # not needed to open a model: 0.1 s

    twin = _without_data(network)
    names = {module: name for name, module in twin.named_modules()}
    shapes: dict[nn.Module, tuple[int, ...]] = {}

    def note(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        shapes[layer] = tuple(output.shape[1:])

    for module in names:
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(note)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        twin(torch.empty(1, 3, image_size, image_size, dtype=torch.uint8, device="meta"))
    flops = counter.get_flop_counts()
    rows = []
    for layer, shape in shapes.items():
        macs = sum(flops[f"{type(twin).__name__}.{names[layer]}"].values()) // FLOPS_PER_MULT_ADD
        rows.append(LayerRow(names[layer], _kind(layer), shape, _num_params(layer), macs))
    return Complexity(_num_params(twin), counter.get_total_flops() // FLOPS_PER_MULT_ADD, rows)


def _without_data(network: nn.Module) -> nn.Module:
    """Copy to the meta device, in evaluation mode, without copying the tensors first."""
    empty: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in network.buffers()}
    for parameter in network.parameters():
        empty[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    return copy.deepcopy(network, empty).eval()


def _kind(layer: nn.Module) -> str:
    if not isinstance(layer, nn.Conv2d):
        return "linear"
    sides = "x".join(str(side) for side in layer.kernel_size)
    return f"{'depthwise' if layer.groups == layer.in_channels > 1 else 'conv'} {sides}"


def _num_params(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
