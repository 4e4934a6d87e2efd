"""Which layers suffer from 8 bits: each alone is rounded, and the answers tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from mbapps.models.network import Network

from .layer_names import weighted_layers
from .rounding import in_8_bits, mended, noted_means

GUILTY_SHARE = 0.5  # of all layers' error that the guilty make together
MOST_GUILTY = 5
DEAD = 1e-6  # of the largest range: a channel that weight decay has put out


@dataclass
class LayerReport:
    """What 8 bits do to one layer.

    kind: "depthwise", "conv" or "linear".
    ratio: largest range of a channel's weights by the smallest of one that is not dead.
    error: mean square error of the answers with this layer alone rounded, as a share of their variance.
    signal_db: the same in decibels, 10 log10(1 / error).
    share: of the errors of all layers that do not stay in float.
    guilty: one of the few that make half of them.
    kept: it stays in float.
    """

    name: str
    kind: str
    ratio: float
    error: float
    share: float = 0.0
    guilty: bool = False
    kept: bool = False

    @property
    def signal_db(self) -> float:
        return -10 * math.log10(max(self.error, 1e-12))

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings."""
        return {**asdict(self), "signal_db": self.signal_db}


@torch.inference_mode()
def triage(network: Network, pixels: Tensor, kept: Sequence[str] = ()) -> list[LayerReport]:
    """Round each layer of a network alone, its biases corrected as in the file, and see how far its answers move.

    The answers are the raw outputs of all heads; each output counts alike, whatever its size.

    Args:
        network: without norms, in evaluation mode.
        pixels: uint8 [B, 3, S, S].
        kept: layers that stay in float.
    """
    layers = weighted_layers(network)
    with noted_means(layers) as means:
        answers = _answers(network, pixels)
    spreads = [float(answer.var().clamp(min=1e-12)) for answer in answers]
    reports = []
    for name, layer in layers.items():
        with in_8_bits(network, [name]), mended({name: layer}, means):
            moved = _answers(network, pixels)
        errors = [
            float((one - two).square().mean()) / spread
            for one, two, spread in zip(answers, moved, spreads, strict=True)
        ]
        groups = getattr(layer, "groups", 0)
        kind = "linear" if not groups else "conv" if groups == 1 else "depthwise"
        reports.append(
            LayerReport(name, kind, channel_ratio(layer.weight), sum(errors) / len(errors), kept=name in kept)
        )
    rounded = sorted((report for report in reports if not report.kept), key=lambda report: -report.error)
    whole, found = sum(report.error for report in rounded) or 1.0, 0.0
    for place, report in enumerate(rounded):
        report.share = report.error / whole
        report.guilty = place < MOST_GUILTY and found < GUILTY_SHARE and report.error > 0
        found += report.share
    return reports


def channel_ratio(weights: Tensor) -> float:
    """Largest range of an output channel's weights [out, ...] by the smallest; dead ones do not count.

    >>> channel_ratio(torch.tensor([[8.0, 1.0], [0.0, -2.0], [0.0, 0.0]]))
    4.0
    """
    largest = weights.flatten(1).abs().amax(dim=1)
    largest = largest[largest > DEAD * largest.max()]
    return float(largest.max() / largest.min()) if len(largest) else 1.0


def _answers(network: Network, pixels: Tensor) -> list[Tensor]:
    return [value for outputs in network(pixels).values() for value in outputs.values()]


def rows(reports: Sequence[LayerReport]) -> list[list[str]]:
    """The printed table, without its titles: those with the most error first."""
    return [
        [
            report.name, report.kind, f"{report.ratio:.3g}", f"{report.signal_db:.1f}", f"{report.share:.0%}",
            "float" if report.kept else "guilty" if report.guilty else "",
        ]
        for report in sorted(reports, key=lambda report: -report.error)
    ]  # fmt: skip
