"""Cross-layer equalisation: channels that hardly use the range of their map are scaled up, the next layer back down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mbapps.models.blocks import ConvNorm, DepthwiseSeparable
from mbapps.models.network import Network

CEILING = 6.0  # of ReLU6
CHUNK = 16  # images at a time
MOST = 32.0  # times that a channel is scaled up: one that hardly gave anything here may give more elsewhere
ROOM = 0.75  # of the ceiling that scaled channels may reach: other images may give a little more
SCALED = {
    nn.ReLU6: CEILING,
    nn.ReLU: None,
}  # activations that let factors through, and where they stop doing so


@torch.no_grad()
def equalize(network: Network, pixels: Tensor) -> int:
    """Scale channels between two layers of the body, in place, so that they share the range of their map more evenly.

    A factor on a channel passes ReLU unchanged, and ReLU6 as long as the channel stays below 6 before and after. So a
    channel that meets 6 on these images is left alone, and no other is scaled beyond ROOM * 6: the float answers stay
    the same, except where another image drives a channel further than all of these did. The sum is spread between a
    channel's activations and the weights that read them; a depthwise layer that reads has a scale for each channel of
    its own, and takes all of it. Maps that heads read are left alone.

    Args:
        network: without norms, in evaluation mode.
        pixels: uint8 [B, 3, S, S].

    Returns:
        How many channels were scaled.

    Raises:
        ValueError: the activation is none of those.

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (2019), section 4.1;
    activations in place of the first layer's weights, whose channels have scales of their own in every runtime here.
    """
    pairs = list(_pairs(network.body))
    peaks: dict[nn.Module, Tensor] = {}
    with ExitStack() as stack:
        for first, _ in pairs:
            stack.callback(first.register_forward_hook(partial(_note_peak, peaks)).remove)
        for chunk in pixels.split(CHUNK):
            network(chunk)
    count = 0
    for first, second in pairs:
        kind: Any = type(first.activation)
        if kind not in SCALED:
            raise ValueError(
                "quantize.equalize=true is for relu6 and relu, which let factors through, not for "
                f"{kind.__name__}: leave it out"
            )
        factors = _factors(peaks[first], second.conv, SCALED[kind])
        first.conv.weight.data /= factors.view(-1, 1, 1, 1)
        first.conv.bias.data /= factors  # type: ignore[union-attr]
        depthwise = second.conv.groups > 1
        second.conv.weight.data *= factors.view(-1, 1, 1, 1) if depthwise else factors.view(1, -1, 1, 1)
        count += int((factors != 1).sum())
    return count


def _factors(peaks: Tensor, reader: nn.Conv2d, ceiling: float | None) -> Tensor:
    """What each channel is divided by: [C], 1 for those that are left alone.

    Args:
        peaks: [C] greatest activation of each.
        reader: the convolution that reads them.
        ceiling: at which activations are cut off.
    """
    if reader.groups > 1:
        wanted = peaks.clone()  # all channels as large
    else:
        wanted = (peaks / reader.weight.abs().amax(dim=(0, 2, 3)).clamp(min=1e-12)).sqrt()
    top = float(peaks.max()) if ceiling is None else ROOM * ceiling
    free = (peaks > 0) & (wanted > 0)
    if ceiling is not None:
        free &= peaks < ceiling
    if not free.any():
        return torch.ones_like(peaks)
    wanted = wanted * float((peaks / wanted)[free].max() / top)  # the greatest comes out at the top
    return torch.where(free, wanted.clamp(min=1 / MOST), 1.0)


def _pairs(body: nn.Module) -> Iterator[tuple[ConvNorm, ConvNorm]]:
    """Layers of which the second alone reads what the first gives."""
    layers: list[ConvNorm] = [body.stem]  # type: ignore[list-item]
    shown: set[nn.Module] = set()
    for place, block in enumerate(body.blocks):  # type: ignore[arg-type]
        layers += [block.depthwise, block.pointwise] if isinstance(block, DepthwiseSeparable) else [block]
        if place in body._ends:  # type: ignore[operator]
            shown.add(layers[-1])
    for first, second in zip(layers, layers[1:], strict=False):
        if first not in shown and first.conv.bias is not None:
            yield first, second


def _note_peak(peaks: dict[nn.Module, Tensor], module: nn.Module, inputs: Any, output: Tensor) -> None:
    peak = output.amax(dim=(0, 2, 3))
    peaks[module] = torch.maximum(peaks[module], peak) if module in peaks else peak
