"""Several heads round one body: what each is learned and measured by, and one score of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .lessons import Lessons


class Metric(Protocol):
    """What the task of a head is measured by, fed image by image."""

    rows: list[Any]  # picklable, one entry per image: gathered across processes

    def update(self, rows: Sequence[int], predictions: Sequence[Any]) -> None: ...

    def compute(self) -> dict[str, float]: ...


@dataclass
class Part:
    """One head's part in the training.

    Args:
        metric: makes a metric of a split's truth.
        monitor: the number that tells how good it is, the higher the better, or with a minus before it the lower.
        test_flip: measure by the mean over each image and its mirror image.
        weight: of its loss, > 0.
        floor: that number of what knows nothing.
        alone: that number of the head trained alone, or the best there can be.
        lessons: what a teacher is emulated by, in place of the labels.

    Raises:
        ValueError: `weight` is not > 0, or `alone` is not better than `floor`.
    """

    metric: Callable[[Any], Metric]
    monitor: str
    test_flip: bool = False
    weight: float = 1.0
    floor: float = 0.0
    alone: float = 1.0
    lessons: Lessons | None = None

    def check(self, name: str) -> Part:
        """Give itself, or raise the ValueError of one of several heads."""
        if not self.weight > 0:
            raise ValueError(f"heads.{name}.weight must be > 0, got {self.weight}")
        if not (self.alone < self.floor if self.monitor.startswith("-") else self.alone > self.floor):
            raise ValueError(
                f"heads.{name}.alone={self.alone} is no better than heads.{name}.floor={self.floor}: they are numbers "
                f"of {self.monitor.removeprefix('-')}, without a head's knowledge and with it"
            )
        return self

    def relative(self, numbers: Mapping[str, float]) -> float:
        """Where its number lies from `floor`, 0, to `alone`, 1; above or below where it is better or worse.

        >>> Part(list, "-median_error_km", floor=10000.0, alone=200.0).relative({"median_error_km": 1180.0})
        0.9
        """
        return (numbers[self.monitor.removeprefix("-")] - self.floor) / (self.alone - self.floor)


def mean_relative(parts: Mapping[str, Part], numbers: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over the heads of (score - floor) / (alone - floor), each by the number that its task watches.

    >>> parts = {"detection": Part(list, "AP", alone=0.5), "fine_grained": Part(list, "top1", floor=0.1, alone=0.9)}
    >>> mean_relative(parts, {"detection": {"AP": 0.4}, "fine_grained": {"top1": 0.9}})
    0.9
    """
    return sum(part.relative(numbers[name]) for name, part in parts.items()) / len(parts)
