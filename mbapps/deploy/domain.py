"""Whether images are like those that a model learned from: its norms remember what they saw."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mbapps.models.network import Network

FAR = 0.35  # own images are at 0.07 to 0.32, other photographs at 0.2 to 0.4, other domains at 0.33 to 1.0
CHUNK = 16  # images at a time
DEAD = 1e-6  # of the mean variance: a channel that gives one value whatever it sees


@torch.no_grad()
def domain_shift(network: Network, pixels: Tensor, own: Tensor | None = None) -> float | None:
    """How far the channels of a network move from where they were in training: 0 on images like those.

    A channel's move is the difference of its mean, in standard deviations; given is the root mean square over a norm's
    channels, as a mean over the norms. Their running statistics are what training saw.

    Args:
        network: in evaluation mode, with its norms.
        pixels: uint8 [B, 3, S, S].
        own: the same of images like those of training, for norms that remember nothing; None leaves those norms out.

    Returns:
        None where no norm remembers anything, as where weights came without norms, and `own` is None.
    """
    found = _means(network, pixels)
    known = {} if own is None else _means(network, own)
    moves = []
    for norm, (mean, _) in found.items():
        blank = not norm.running_mean.any() and bool((norm.running_var == 1).all())
        if not blank:
            centre, spread = norm.running_mean, norm.running_var
        elif norm in known:
            centre, spread = known[norm]
        else:
            continue
        alive = spread > DEAD * spread.mean()
        moves += (
            [float(((mean - centre)[alive].square() / spread[alive]).mean().sqrt())] if alive.any() else []
        )
    return sum(moves) / len(moves) if moves else None


def _means(network: Network, pixels: Tensor) -> dict[Any, tuple[Tensor, Tensor]]:
    """Mean and variance of each channel before each norm."""
    sums: dict[nn.Module, list[Tensor]] = {}
    with ExitStack() as stack:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                stack.callback(module.register_forward_hook(partial(_note, sums)).remove)
        for chunk in pixels.split(CHUNK):
            network(chunk)
    found: dict[Any, tuple[Tensor, Tensor]] = {}
    for norm, parts in sums.items():
        count, total, squares = (torch.stack(values).sum(dim=0) for values in zip(*parts, strict=True))
        mean = total / count
        found[norm] = mean, (squares / count - mean**2).clamp(min=0)
    return found


def _note(sums: dict[nn.Module, Any], norm: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
    values = inputs[0].double()
    count = torch.tensor(values.numel() // values.shape[1])
    dims = (0, 2, 3)
    sums.setdefault(norm, []).append((count, values.sum(dim=dims), values.square().sum(dim=dims)))
