"""The network as a runtime gets it: camera pixels in, one flat list of tensors out, batch norms folded."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from mbapps.models.blocks import ConvNorm, Normalize
from mbapps.models.head_norms import HeadNorms, use_norms
from mbapps.models.network import Network

INPUT = "images"  # the name of the one input


class Output(NamedTuple):
    """One tensor that a file gives: its name there, its head and what that calls it; a layer has no head."""

    name: str
    head: str
    output: str


class Graph(nn.Module):
    """uint8 RGB images [B, S, S, 3] -> the outputs of all heads, as `self.outputs` lists them.

    What a head's `finish` makes of its raw outputs is in the graph: a detector gives boxes and scores. `self.order`
    has the place among them of each layer's output, in the order in which layers run, then of the heads' other outputs.

    Args:
        network: in evaluation mode.
        taps: give the output of each layer too, before the heads' own, in the order in which layers run;
            not of those that are a head's output.
        planes: take float images [B, 3, S, S] of 0-255 instead.

    Raises:
        ValueError: heads want images of different sizes.
    """

    def __init__(self, network: Network, *, taps: bool = False, planes: bool = False):
        super().__init__()
        sizes = {name: network.head(name).image_size for name in network.heads}
        if len(set(sizes.values())) != 1:
            listed = ", ".join(f"{name} {size} px" for name, size in sizes.items())
            raise ValueError(
                f"one file has one input, but the heads want images of different sizes: {listed}"
            )
        self.network = network
        self.image_size: int = next(iter(sizes.values()))
        self.taps, self.planes = taps, planes
        with torch.inference_mode():
            layers, answers = self._run(self.example(1))
        self.outputs = [
            Output(f"tap_{place}", "", name) for place, name in enumerate(_own(layers, answers))
        ] + [Output(f"{head}_{name}", head, name) for head, found in answers.items() for name in found]
        values = _flat(layers, answers)
        self.shapes = [list(value.shape[1:]) for value in values]
        places = {id(value): place for place, value in enumerate(values)}
        self.order = {name: places[id(value)] for name, value in layers.items()}
        for place, output in enumerate(self.outputs):
            if place not in self.order.values():
                self.order[f"{output.head}.{output.output}"] = place

    def example(self, batch: int) -> Tensor:
        """Grey images of a batch."""
        side = self.image_size
        if self.planes:
            return torch.full((batch, 3, side, side), 127.0)
        return torch.full((batch, side, side, 3), 127, dtype=torch.uint8)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return _flat(*self._run(images))

    def _run(self, images: Tensor) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
        layers: dict[str, Tensor] = {}
        hooks = [
            layer.register_forward_hook(partial(_note, layers, name))
            for name, layer in (tapped_layers(self.network) if self.taps else ())
        ]
        answers = self._answers(images)
        for hook in hooks:
            hook.remove()
        return layers, answers

    def _answers(self, images: Tensor) -> dict[str, dict[str, Tensor]]:
        planes = images if self.planes else images.permute(0, 3, 1, 2)
        return {
            name: finish(self.network.head(name), outputs) for name, outputs in self.network(planes).items()
        }


def _own(layers: dict[str, Tensor], answers: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Those of layers that are no head's output."""
    given = {id(value) for found in answers.values() for value in found.values()}
    return {name: value for name, value in layers.items() if id(value) not in given}


def _flat(layers: dict[str, Tensor], answers: dict[str, dict[str, Tensor]]) -> tuple[Tensor, ...]:
    own = _own(layers, answers).values()
    return (*own, *(value for found in answers.values() for value in found.values()))


def _note(
    layers: dict[str, Tensor], name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> None:
    layers[name] = output


def finish(head: Any, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Raw outputs of a head as a file gives them."""
    return head.finish(outputs) if hasattr(head, "finish") else outputs


def tapped_layers(network: Network) -> list[tuple[str, nn.Module]]:
    """Layers by name; of a convolution with its norm and activation the whole, of others what their norm gives."""
    kinds = (Normalize, ConvNorm, nn.Conv2d, nn.Linear)
    whole: list[str] = []
    norms: dict[str, nn.Module] = {}  # of the layers before them, as folding works them in
    layers: list[tuple[str, nn.Module]] = []
    for name, module in network.named_modules():
        if isinstance(module, kinds) and not any(name.startswith(f"{outer}.") for outer in whole):
            layers.append((name, norms.get(name, module)))
            whole += [name] if isinstance(module, ConvNorm) else []
        elif isinstance(module, nn.Sequential):
            norms |= {f"{name}.{first}": module[second] for first, second in _pairs(module)}
    return layers


@torch.no_grad()
def fold_norms(network: Network) -> Network:
    """Copy a network in evaluation mode with each batch norm worked into the layer before it: the same answers.

    Raises:
        ValueError: several heads have norms of their own: one set of weights can't hold them all.
    """
    folded = copy.deepcopy(network).to(memory_format=torch.contiguous_format)  # some converters read no other
    if folded.norm == "per_task":
        if len(folded.heads) != 1:
            raise ValueError(
                f"heads with norms of their own go into files of their own, not {', '.join(folded.heads)} into one"
            )
        use_norms(folded.body, next(iter(folded.heads)))
        folded.norm = "shared"
    for module in folded.modules():
        if isinstance(module, ConvNorm):
            held: Any = module.norm
            norm: Any = held.norms[held.active] if isinstance(held, HeadNorms) else held
            module.conv = fuse_conv_bn_eval(module.conv, norm)
            module.norm = nn.Identity()  # type: ignore[assignment]
        elif isinstance(module, nn.Sequential):
            for first, second in _pairs(module):
                layer, norm = module[first], module[second]
                fuse: Any = fuse_conv_bn_eval if isinstance(layer, nn.Conv2d) else fuse_linear_bn_eval
                module[first], module[second] = fuse(layer, norm), nn.Identity()
    return folded


def _pairs(layers: nn.Sequential) -> Iterator[tuple[int, int]]:
    kinds = ((nn.Conv2d, nn.BatchNorm2d), (nn.Linear, nn.BatchNorm1d))
    for place in range(len(layers) - 1):
        if any(isinstance(layers[place], a) and isinstance(layers[place + 1], b) for a, b in kinds):
            yield place, place + 1
