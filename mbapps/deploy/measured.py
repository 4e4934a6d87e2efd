"""A task's own number, of the original and of a file."""

from __future__ import annotations

import math
from typing import NamedTuple

MOST_LOST = 0.2  # of the task's own number, which no file in 8 bits may lose, be it ever so small
SHARE = 0.05  # of errors above 1, such as kilometres


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

    @property
    def lost(self) -> float:
        """By how much the file's is worse; below 0 it is better."""
        return (self.file - self.original) if self.lower else (self.original - self.file)

    def limit(self, tolerance: float, *, exact: bool) -> float:
        """Greatest difference, or with `exact` false greatest loss, that is allowed.

        Exact numbers above 1 may differ by the tolerance as a share of them. Others may lose the tolerance, or what
        one image and a half makes, or SHARE of errors above 1, but never MOST_LOST of themselves.
        """
        size = abs(self.original)
        if exact:
            return tolerance * max(1.0, size)
        if size > 1:
            return SHARE * size
        return min(max(tolerance, 1.5 / self.images if self.images else 0.0), MOST_LOST * size)

    def kept(self, tolerance: float, *, exact: bool) -> bool:
        """Whether the file's is within the limit."""
        gap = abs(self.lost) if exact else self.lost
        return math.isfinite(gap) and gap <= self.limit(tolerance, exact=exact)
