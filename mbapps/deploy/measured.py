"""A task's own number, of the original and of a file."""

from __future__ import annotations

import math
from typing import NamedTuple

MOST_LOST = 0.2  # of the task's own number, which no file in 8 bits may lose, be it ever so small


class Measured(NamedTuple):
    """A task's number on labelled images, of the original and of the file.

    lower: less is better.
    images: that it was measured on; 0: unknown.
    head: whose number it is; "" of the only one.
    """

    original: float
    file: float
    lower: bool = False
    images: int = 0
    head: str = ""

    def same(self, tolerance: float) -> bool:
        """Whether the two differ by no more than a tolerance, of numbers above 1 a share of them."""
        gap = abs(self.original - self.file)
        return math.isfinite(gap) and gap <= tolerance * max(1.0, abs(self.original))

    def kept(self, tolerance: float) -> bool:
        """Whether the file's is no worse than by a tolerance, or by one image and a half, nor by MOST_LOST of it."""
        lost = (self.file - self.original) if self.lower else (self.original - self.file)
        most = max(tolerance * max(1.0, abs(self.original)), 1.5 / self.images if self.images else 0.0)
        return math.isfinite(lost) and lost <= min(most, MOST_LOST * abs(self.original))
