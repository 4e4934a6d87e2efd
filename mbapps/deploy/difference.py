"""One output of a file and of the original, compared image by image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class Difference:
    """One output in both: the greatest absolute difference, the range of the original's values, each image's error.

    Noise is in it too: squares of the errors, and of the original's values and their sum, of which there are count.
    """

    error: float = 0.0
    low: float = math.inf
    high: float = -math.inf
    errors: list[float] = field(default_factory=list)
    noise_square: float = 0.0
    square: float = 0.0
    total: float = 0.0
    count: int = 0

    def add(self, ours: NDArray[Any], theirs: NDArray[Any]) -> None:
        """Take in one batch [B, ...]; what is no number, in either, differs without end."""
        errors, values = np.full(len(ours), math.inf), ours.astype(np.float64)
        if ours.shape == theirs.shape:
            with np.errstate(invalid="ignore"):  # infinity less infinity is no number
                gap = np.abs(values - theirs.astype(np.float64))
            gap = np.where(np.isfinite(gap), gap, math.inf)
            errors = gap.reshape(len(gap), -1).max(axis=1)
            self.noise_square += float(np.square(gap).sum())
            self.square += float(np.square(values).sum())
            self.total += float(values.sum())
            self.count += values.size
        self.errors += errors.tolist()
        self.error = max(self.error, *self.errors[-len(errors) :])
        self.low, self.high = min(self.low, float(ours.min())), max(self.high, float(ours.max()))

    def share(self, error: float) -> float:
        """An error as a share of the range."""
        return error / max(self.high - self.low, 1e-6) if math.isfinite(error) else math.inf

    @property
    def relative(self) -> float:
        """The greatest error as a share of the range."""
        return self.share(self.error)

    @property
    def noise(self) -> float:
        """Root mean square of the errors, as a share of the values' standard deviation."""
        if not math.isfinite(self.error):
            return math.inf
        spread = self.square / max(1, self.count) - (self.total / max(1, self.count)) ** 2
        return math.sqrt(self.noise_square / max(1, self.count) / max(spread, 1e-12))
