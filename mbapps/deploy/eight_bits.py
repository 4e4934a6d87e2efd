"""A network made ready for 8 bits, once for all runtimes: what stays in float, what was scaled, which layers suffer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbapps.images import UInt8Image
from mbapps.models.network import Network

from .bundle import Bundle, head_views
from .domain import FAR, domain_shift
from .equalize import equalize
from .graph import fold_norms
from .layer_names import Weights, chosen_layers, weighted_layers, weights_of
from .passes import view_of
from .rounding import correct_biases
from .triage import LayerReport, triage

CORRECTED_ON = 64 * 224**2  # pixels that biases are corrected on: one batch
TRIAGED_ON = 8  # images that each layer is tried on
FEW = 32  # calibration images, below which a warning is due


@dataclass
class Prepared:
    """What the files of all runtimes are quantised from.

    network: without norms; its biases make up for rounding.
    views: [N, S, S, 3] to calibrate on.
    keep: weights of the layers that stay in float, by name.
    layers: what 8 bits do to each, if that was asked for.
    scaled: channels that equalisation has scaled.
    shift: how far the images are from those of training; None if nobody can tell.
    """

    network: Network
    views: UInt8Image
    keep: dict[str, Weights]
    layers: list[LayerReport]
    scaled: int
    shift: float | None

    @property
    def guilty(self) -> list[str]:
        """Names of the few layers that make most of the error, the worst first."""
        return [layer.name for layer in sorted(self.layers, key=lambda one: -one.error) if layer.guilty]

    def facts(self) -> dict[str, Any]:
        """What a file says of itself."""
        return {
            "calibration_images": len(self.views), "domain_shift": self.shift, "kept": list(self.keep),
            "guilty": self.guilty, "guilty_share": sum(layer.share for layer in self.layers if layer.guilty),
            "equalized_channels": self.scaled, "warning": self.warning() or None,
        }  # fmt: skip

    def warning(self) -> str:
        """What to say of the images, if anything."""
        few = ""
        if len(self.views) < FEW:
            few = (
                f"ranges of {len(self.views)} calibration images may not hold for others; name {FEW} and more: "
                "calibration="
            )
        if self.shift is None or self.shift < FAR:
            return few
        return f"{few}; " * bool(few) + (
            f"calibration images look unlike those that the model learned from: channels are {self.shift:.2f} "
            f"standard deviations away, {FAR} is much; ranges measured on them may not hold; name others: calibration="
        )


def prepare(
    bundle: Bundle,
    images: Sequence[UInt8Image],
    *,
    keep: Sequence[str] = (),
    equalized: bool = False,
    triaged: bool = True,
    own: Sequence[UInt8Image] = (),
) -> Prepared:
    """Make a model folder's network ready for 8 bits.

    Args:
        bundle: with the heads that go into one file.
        images: [H, W, 3] of any sizes, to calibrate on.
        keep: names of layers, or of blocks of them, that stay in float.
        equalized: scale channels so that they share the range of their map.
        triaged: try each layer alone.
        own: images that are known to be like those of training.

    Raises:
        ValueError: there is no such layer, or none would be left, or the network's activation lets no factors through.
    """
    network = fold_norms(bundle.network)
    kept = chosen_layers(network, keep)
    if len(kept) == len(weighted_layers(network)):
        raise ValueError(
            f"quantize.keep={','.join(keep)} leaves no layer for 8 bits: precision=float32 writes such a file"
        )
    views = file_views(bundle, images)
    pixels = planes(views)
    several = spread(pixels, max(8, 3 * CORRECTED_ON // views[0].size))
    shift = domain_shift(bundle.network, several, planes(file_views(bundle, own)) if own else None)
    scaled = equalize(network, pixels) if equalized else 0
    layers = triage(network, spread(pixels, TRIAGED_ON), kept) if triaged else []
    rounded = [name for name in weighted_layers(network) if name not in kept]
    correct_biases(network, several, rounded)
    return Prepared(network, views, weights_of(network, kept), layers, scaled, shift)


def file_views(bundle: Bundle, images: Sequence[UInt8Image]) -> UInt8Image:
    """What the heads see of images, those that see different things by turns: [N, S, S, 3]."""
    heads = [bundle.facts["heads"][name] for name in bundle.network.heads]
    different = list({view_of(head): head for head in heads}.values())
    views = [head_views(different[row % len(different)], [image]) for row, image in enumerate(images)]
    return np.ascontiguousarray(torch.cat(views).permute(0, 2, 3, 1).numpy())


def planes(views: UInt8Image) -> Tensor:
    """[N, S, S, 3] -> uint8 [N, 3, S, S]."""
    return torch.from_numpy(views).permute(0, 3, 1, 2)


def spread(pixels: Tensor, count: int) -> Tensor:
    """At most `count` of images [N, ...], evenly chosen.

    >>> spread(torch.arange(10), 3).tolist()
    [0, 3, 6]
    """
    return pixels[evenly(len(pixels), count)]


def evenly(total: int, count: int) -> list[int]:
    """At most `count` rows of `total`, from the first to near the last, all as far apart as can be.

    >>> evenly(7, 5), evenly(2, 5)
    ([0, 1, 2, 4, 5], [0, 1])
    """
    count = min(count, total)
    return [row * total // count for row in range(count)]
