"""Which node of an exported file is which layer: files have names of their own, but the same weights."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

Weights = NDArray[np.float32]
Place = TypeVar("Place", bound=Hashable)


def weighted_layers(network: nn.Module) -> dict[str, nn.Conv2d | nn.Linear]:
    """Convolutions and linear layers by name, a convolution with its norm and activation by that of the whole."""
    return {
        name.removesuffix(".conv"): module
        for name, module in network.named_modules()
        if isinstance(module, (nn.Conv2d, nn.Linear))
    }


def chosen_layers(network: nn.Module, wanted: Sequence[str]) -> list[str]:
    """Names of layers that are wanted, or lie in a block that is, as `mbapps info` shows them.

    Raises:
        ValueError: there is no such layer; the message has those whose names are near.
    """
    known = list(weighted_layers(network))
    found: dict[str, None] = {}
    for name in wanted:
        plain = name.removesuffix(".conv")
        inside = [layer for layer in known if layer == plain or layer.startswith(f"{plain}.")]
        if not inside:
            near = difflib.get_close_matches(plain, known, 3, 0.5)
            hint = f"; near it are {', '.join(near)}" if near else f"; there is {known[0]}, for one"
            raise ValueError(
                f"quantize.keep: the model has no layer {name}{hint}; mbapps info model=… lists them"
            )
        found |= dict.fromkeys(inside)
    return list(found)


def weights_of(network: nn.Module, names: Iterable[str]) -> dict[str, Weights]:
    """Weights of layers by name."""
    layers = weighted_layers(network)
    with torch.no_grad():
        return {name: layers[name].weight.detach().cpu().numpy() for name in names}


def find_places(there: Iterable[tuple[Place, Weights]], wanted: Mapping[str, Weights]) -> list[Place]:
    """Where a file has layers, whatever the order of their weights' axes there.

    Args:
        there: places in the file and the weights of each.
        wanted: weights by the name of the layer.

    Raises:
        ValueError: a layer is not in the file.
    """
    left = {name: np.sort(weights, axis=None) for name, weights in wanted.items()}
    sizes = {weights.size for weights in left.values()}
    places: list[Place] = []
    found: set[str] = set()
    for place, weights in there:
        values = np.sort(weights, axis=None) if weights.size in sizes else None
        same = [name for name, known in left.items() if values is not None and np.array_equal(known, values)]
        places += [place] if same else []
        found |= set(same)
    if missing := sorted(set(left) - found):
        raise ValueError(f"quantize.keep: the file does not have {', '.join(missing)} as a layer of its own")
    return places
