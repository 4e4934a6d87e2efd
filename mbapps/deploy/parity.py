"""How far a file's answers are from the original's: from real images to raw outputs and to what is told of them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mbapps.images import UInt8Image
from mbapps.models.network import Network

from .bundle import Bundle, head_views
from .graph import Graph, finish

METRIC_TOLERANCE = 1e-3  # of the task's own number
LEAST_AGREEMENT = (
    0.99  # share of what is told that must be alike; a tie that falls otherwise costs one of many
)


@dataclass
class Difference:
    """One output in both: the greatest absolute difference, and the range of the original's values."""

    error: float = 0.0
    low: float = math.inf
    high: float = -math.inf

    def add(self, ours: NDArray[Any], theirs: NDArray[Any]) -> None:
        """Take in one batch; what is no number differs without end."""
        gap = (
            np.abs(ours.astype(np.float64) - theirs.astype(np.float64))
            if ours.shape == theirs.shape
            else math.inf
        )
        error = float(np.max(gap))
        self.error = max(self.error, error if math.isfinite(error) else math.inf)
        self.low, self.high = min(self.low, float(ours.min())), max(self.high, float(ours.max()))

    @property
    def relative(self) -> float:
        """Error as a share of the range."""
        return self.error / max(self.high - self.low, 1e-6) if math.isfinite(self.high) else 0.0


@dataclass
class Parity:
    """What comparing a file with the original has shown.

    tolerance: greatest error of an output, as a share of its range.
    outputs: by the file's name of the output.
    alike, told: by head, items of the answers that both tell, and how many there are.
    layer: the first that differs by more than the tolerance, where something does.
    metrics: tasks' numbers that were measured on labelled images, of the original and of the file.
    near: numbers of two answers may differ by twice this share of their size; None takes the tolerance.
    least_agreement: share of what is told by a head that must be alike.
    metric_tolerance: greatest difference of the task's number.
    least_told: items that must be told, so that there is something to compare, unless a task's number was measured.
    """

    runtime: str
    tolerance: float
    images: int = 0
    outputs: dict[str, Difference] = field(default_factory=dict)
    alike: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    layer: str | None = None
    metrics: dict[str, tuple[float, float]] = field(default_factory=dict)
    near: float | None = None
    least_agreement: float = LEAST_AGREEMENT
    metric_tolerance: float = METRIC_TOLERANCE
    least_told: int = 0

    @property
    def relative(self) -> float:
        """The greatest error of all outputs, as a share of the range."""
        return max((found.relative for found in self.outputs.values()), default=0.0)

    @property
    def agreement(self) -> float:
        """Share of what is told that both tell, of the head that agrees least; 1 where neither tells anything."""
        return min((self.alike[name] / told for name, told in self.told.items() if told), default=1.0)

    @property
    def passed(self) -> bool:
        """Whether the file may be used in the original's place."""
        measured = all(
            abs(ours - theirs) <= self.metric_tolerance * max(1.0, abs(ours))
            for ours, theirs in self.metrics.values()
        )
        compared = sum(self.told.values()) >= self.least_told or bool(self.metrics)
        agreed = self.agreement >= self.least_agreement and compared
        return self.relative <= self.tolerance and agreed and measured

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings; an error without end is null."""
        outputs = {
            name: {
                key: value if math.isfinite(value) else None
                for key, value in {**asdict(found), "relative": found.relative}.items()
            }
            for name, found in self.outputs.items()
        }
        metrics = {name: {"original": ours, "file": theirs} for name, (ours, theirs) in self.metrics.items()}
        return {
            "runtime": self.runtime, "passed": self.passed, "images": self.images,
            "tolerance": self.tolerance if math.isfinite(self.tolerance) else None,
            "least_agreement": self.least_agreement,
            "relative_error": self.relative if math.isfinite(self.relative) else None,
            "agreement": self.agreement, "first_layer": self.layer, "metrics": metrics, "outputs": outputs,
            "heads": {name: {"alike": self.alike[name], "told": told} for name, told in self.told.items()},
        }  # fmt: skip


@torch.inference_mode()
def compare(
    bundle: Bundle,
    other: Network,
    batches: Iterable[Sequence[UInt8Image]],
    parity: Parity,
    *,
    suppressed: bool = False,
) -> Parity:
    """Answer for images with a model folder's own network and with another, and add up how they differ.

    Args:
        bundle: the original.
        other: a network of the same heads.
        batches: images [H, W, 3] of any sizes.
        parity: what was found before.
        suppressed: `other` gives 0 as the score of boxes that suppression takes away.
    """
    near = parity.tolerance if parity.near is None else parity.near
    for images in batches:
        parity.images += len(images)
        sizes = torch.tensor([image.shape[:2] for image in images])
        for name in bundle.network.heads:
            head, facts = bundle.network.head(name), bundle.facts["heads"][name]
            views = head_views(facts, images)
            ours, theirs = bundle.network(views, [name])[name], other(views, [name])[name]
            other_outputs = finish(head, theirs)
            for output, value in finish(head, ours).items():
                found = parity.outputs.setdefault(f"{name}_{output}", Difference())
                other_value = other_outputs[output]
                if suppressed and output == "scores":
                    value = value * (other_value > 0)  # which boxes went shows in the answers
                found.add(value.numpy(), other_value.numpy())
            pairs = zip(head.decode(ours, sizes), head.decode(theirs, sizes), strict=True)
            for answers in pairs:
                one, two = (told(answer, facts.get("thresholds")) for answer in answers)
                parity.alike[name] = parity.alike.get(name, 0) + 2 * count_alike(one, two, near)
                parity.told[name] = parity.told.get(name, 0) + len(one) + len(two)
    return parity


def told(answer: Any, thresholds: Sequence[float] | None) -> list[Mapping[str, Any]]:
    """The items that predict would write of an answer; lists inside them, as a place's likeliest cells, count too."""
    answer = answer.above(thresholds) if thresholds and hasattr(answer, "above") else answer
    return [part for item in answer.to_json() for part in _parts(item)]


def _parts(item: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """An item without the lists of items in it, and those.

    >>> _parts({"lat": 1.0, "cells": [{"cell": "1b"}, {"cell": "2c"}]})
    [{'lat': 1.0}, {'cell': '1b'}, {'cell': '2c'}]
    """
    inner = [
        key
        for key, value in item.items()
        if isinstance(value, list) and value and isinstance(value[0], Mapping)
    ]
    own = {key: value for key, value in item.items() if key not in inner}
    return [own, *(part for key in inner for part in item[key])]


def count_alike(
    ours: Sequence[Mapping[str, Any]], theirs: Sequence[Mapping[str, Any]], tolerance: float
) -> int:
    """Count the items that have a like one on the other side, in whatever order; each is paired once.

    >>> count_alike([{"label": 1, "score": 0.5}], [{"label": 2, "score": 0.5}, {"label": 1, "score": 0.5001}], 1e-3)
    1
    """
    left = list(theirs)
    count = 0
    for item in ours:
        place = next((place for place, other in enumerate(left) if alike(item, other, tolerance)), None)
        if place is not None:
            del left[place]
            count += 1
    return count


def alike(one: Any, two: Any, tolerance: float) -> bool:
    """Tell whether two plain values are the same but for rounding: numbers may differ by 2 * tolerance of the size.

    The size of numbers is the greatest of their list, at least 1.
    """
    if isinstance(one, Mapping):
        return one.keys() == two.keys() and all(
            alike(value, two[key], tolerance) for key, value in one.items()
        )
    if isinstance(one, list):
        if len(one) != len(two):
            return False
        if not all(type(value) in (int, float) for value in [*one, *two]):
            return all(alike(a, b, tolerance) for a, b in zip(one, two, strict=True))
        first, second = np.array(one, dtype=float), np.array(two, dtype=float)
        size = max(1.0, float(np.abs(first).max(initial=0)))
        return bool((np.abs(first - second) <= 2 * tolerance * size).all())
    if isinstance(one, float):
        return alike([one], [two], tolerance)
    return bool(one == two)


def first_divergence(
    original: Network,
    exported: Network,
    images: NDArray[np.uint8],
    write: Callable[[Graph, Path], Any],
    tolerance: float,
) -> str | None:
    """Name the first layer whose output is not the original's.

    The network is written once more with the output of every layer visible.

    Args:
        original: the network as it was trained.
        exported: as it is written, its norms folded.
        images: [B, S, S, 3].
        write: writes a graph below a folder and opens it: a session.
        tolerance: of an output's range.

    Returns:
        None where no layer differs: visible outputs keep a runtime from joining layers, and joined ones may differ.
    """
    ours, theirs = Graph(original, taps=True), Graph(exported, taps=True)
    with tempfile.TemporaryDirectory() as folder:
        session = write(theirs, Path(folder))
        with torch.inference_mode():
            truths = [value.numpy() for value in ours(torch.from_numpy(images))]
        found = session.run(images)
    for output, truth, value in zip(ours.outputs, truths, found, strict=True):
        difference = Difference()
        difference.add(truth, value)
        if difference.relative > tolerance:
            return output.output if not output.head else f"{output.head}.{output.output}"
    return None
