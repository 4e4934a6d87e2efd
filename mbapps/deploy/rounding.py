"""A network whose layers are rounded to 8 bits, in torch: what quantisation will do, before any runtime does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mbapps.models.network import Network

from .layer_names import weighted_layers

MOST = 127  # of a weight in 8 bits
STEPS = 255  # from the least to the greatest activation


def round_weights(weights: Tensor) -> Tensor:
    """Round [out, ...] to 8 bits, each output channel by its own range, zero in the middle.

    >>> round_weights(torch.tensor([[127.0, 0.4], [12.7, 0.4]])).tolist()
    [[127.0, 0.0], [12.699999809265137, 0.4000000059604645]]
    """
    largest = weights.flatten(1).abs().amax(dim=1).clamp(min=1e-12)
    scale = (largest / MOST).view(-1, *[1] * (weights.dim() - 1))
    return (weights / scale).round() * scale


def round_activations(values: Tensor) -> Tensor:
    """Round to 8 bits by the range of the whole tensor, which zero is part of."""
    low, high = values.detach().amin().clamp(max=0), values.detach().amax().clamp(min=0)
    scale = float(((high - low) / STEPS).clamp(min=1e-12))
    zero = int((-low / scale).round())
    return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, STEPS)


@contextmanager
def in_8_bits(network: Network, names: Iterable[str]) -> Iterator[None]:
    """Round the weights of layers, and what they take, while this is open; what reads them rounds what they give."""
    layers = weighted_layers(network)
    with ExitStack() as stack:
        for name in names:
            layer = layers[name]
            before = layer.weight.data
            stack.callback(setattr, layer.weight, "data", before)
            layer.weight.data = round_weights(before)
            stack.callback(layer.register_forward_pre_hook(_round_input).remove)
        yield


def _round_input(module: nn.Module, inputs: tuple[Tensor]) -> Tensor:
    return round_activations(inputs[0])


@torch.no_grad()
def correct_biases(network: Network, pixels: Tensor, names: Iterable[str]) -> None:
    """Change biases, in place, so that rounding does not shift the mean of any channel on these images.

    Each layer is corrected with those before it rounded and corrected already.

    Args:
        network: without norms, in evaluation mode.
        pixels: uint8 [B, 3, S, S].
        names: of the layers that will be in 8 bits, in any order.

    Source: Nagel et al., Data-Free Quantization Through Weight Equalization and Bias Correction (2019), section 4.2;
    with images, as its appendix D.
    """
    layers = weighted_layers(network)
    chosen = {name: layers[name] for name in names}
    with noted_means(chosen) as means:
        network(pixels)
    with in_8_bits(network, chosen), mended(chosen, means, _shift):
        network(pixels)


@contextmanager
def noted_means(layers: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Note the mean of each channel that layers give in what runs while this is open, by their names."""
    means: dict[str, Tensor] = {}
    with ExitStack() as stack:
        for name, layer in layers.items():
            stack.callback(layer.register_forward_hook(partial(_note_mean, means, name)).remove)
        yield means


@contextmanager
def mended(
    layers: Mapping[str, nn.Module], means: Mapping[str, Tensor], mend: Callable[..., Tensor] | None = None
) -> Iterator[None]:
    """Give the outputs of layers the means that they had, while this is open; nothing stays changed."""
    with ExitStack() as stack:
        for name, layer in layers.items():
            hook = layer.register_forward_hook(partial(mend or _put_right, means, name))
            stack.callback(hook.remove)
        yield


def _put_right(means: Mapping[str, Tensor], name: str, layer: Any, inputs: Any, output: Tensor) -> Tensor:
    """Give the output with its mean put right."""
    shift = means[name] - _mean(output)
    return output + shift.view(-1, *[1] * (output.dim() - 2))


def _mean(output: Tensor) -> Tensor:
    """Mean of each channel, of maps [B, C, H, W] or vectors [B, C]."""
    return output.mean(dim=[0, 2, 3] if output.dim() == 4 else 0)


def _note_mean(means: dict[str, Tensor], name: str, layer: nn.Module, inputs: Any, output: Tensor) -> None:
    means[name] = _mean(output)


def _shift(means: Mapping[str, Tensor], name: str, layer: Any, inputs: Any, output: Tensor) -> Tensor:
    """Give the output with its mean put right, and the layer a bias that does so."""
    shift = means[name] - _mean(output)
    if layer.bias is None:
        layer.bias = nn.Parameter(torch.zeros_like(shift))
    layer.bias.data = layer.bias.data + shift
    return _put_right(means, name, layer, inputs, output)
