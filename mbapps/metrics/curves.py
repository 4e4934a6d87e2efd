"""Rates of false and true accepts over the similarity of pairs, and what is read off them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .average_precision import Floats

# Of a count of 10 the standard error is a third; where fewer false accepts are expected, the threshold hangs on
# single pairs, and the rate that it keeps on others may be any.
LEAST_FALSE_ACCEPTS = 10
SLACK = 1e-12  # relative: 0.29 * 100 is a little below 29


class Curve:
    """How many genuine and impostor pairs have each similarity; a pair is accepted at or above a threshold.

    Args:
        values: [V] similarities, falling, no two alike.
        genuine: [V] pairs of one person, or their weights, of each similarity.
        impostor: [V] pairs of two persons, likewise.
    """

    def __init__(self, values: Floats, genuine: NDArray[Any], impostor: NDArray[Any]):
        self.values = values
        self.genuine, self.impostor = genuine, impostor
        self.true_accepts, self.false_accepts = np.cumsum(genuine), np.cumsum(impostor)
        self.num_genuine = float(self.true_accepts[-1]) if len(values) else 0.0
        self.num_impostor = float(self.false_accepts[-1]) if len(values) else 0.0

    @property
    def tar(self) -> Floats:
        """[V] share of the genuine pairs that is accepted at each value; NaN without any."""
        return np.asarray(self.true_accepts / (self.num_genuine or math.nan))

    @property
    def far(self) -> Floats:
        """[V] share of the impostor pairs that is accepted at each value; NaN without any."""
        return np.asarray(self.false_accepts / (self.num_impostor or math.nan))

    def auc(self) -> float:
        """Share of (genuine, impostor) where the genuine pair is more alike, ties half; NaN without either."""
        if not self.num_genuine or not self.num_impostor:
            return math.nan
        below = self.num_impostor - self.false_accepts + self.impostor / 2
        return float((self.genuine / self.num_genuine * (below / self.num_impostor)).sum())

    def eer(self) -> float:
        """The rate at which false accepts and false rejects are equal, on lines between the curve's points."""
        if not self.num_genuine or not self.num_impostor:
            return math.nan
        far, frr = np.append(0.0, self.far), np.append(1.0, 1 - self.tar)
        after = int(np.argmax(far >= frr))  # the first point where they have crossed; the last has 1 and 0
        gap = frr[after - 1] - far[after - 1]
        share = gap / (gap + far[after] - frr[after])
        return float(far[after - 1] + share * (far[after] - far[after - 1]))

    def at_far(self, far: float) -> tuple[float, float]:
        """The lowest similarity whose share of accepted impostors is at most `far`, and the TAR there.

        Where even the highest accepts more, the threshold lies just above it and nothing is accepted.
        """
        kept = int(np.searchsorted(self.false_accepts, far * self.num_impostor * (1 + SLACK), side="right"))
        if not kept:
            return (float(np.nextafter(self.values[0], np.inf)) if len(self.values) else math.nan), 0.0
        return float(self.values[kept - 1]), float(self.tar[kept - 1])

    def rates_at(self, threshold: float) -> tuple[float, float]:
        """FAR and TAR if all pairs at or above a similarity are accepted."""
        kept = int(np.searchsorted(-self.values, -threshold, side="right"))
        return (float(self.far[kept - 1]), float(self.tar[kept - 1])) if kept else (0.0, 0.0)

    def best_threshold(self, *, balanced: bool = False) -> float:
        """The threshold of best accuracy; balanced, genuine and impostor pairs weigh the same in sum."""
        yes, no = (self.num_impostor, self.num_genuine) if balanced else (1.0, 1.0)
        return best_cut(self.values, self.genuine * yes - self.impostor * no)


def best_cut(values: Floats, gain: Floats) -> float:
    """The threshold above which `gain` sums to the most; of equal ones the highest.

    It lies midway between the lowest value that it accepts and the next. To accept all it is the lowest value,
    to accept none a hair above the highest.

    Args:
        values: [V], V >= 1, falling, no two alike.
        gain: [V] of accepting each.

    >>> best_cut(np.array([0.9, 0.7, 0.3, 0.1]), np.array([1.0, 1.0, -1.0, 1.0]))
    0.5
    """
    kept = int(np.argmax(np.append(0.0, np.cumsum(gain))))
    if kept == 0:
        return float(np.nextafter(values[0], np.inf))
    return float((values[kept - 1] + values[min(kept, len(values) - 1)]) / 2)


def check_far(far: float, impostors: int) -> None:
    """Refuse a false accept rate that a number of impostor pairs can't tell.

    Raises:
        ValueError: `far` is no share, or fewer than 10 false accepts are expected.
    """
    if not 0 < far < 1:
        raise ValueError(f"far must lie between 0 and 1, got {far}")
    if not supports(far, impostors):
        needed = math.ceil(LEAST_FALSE_ACCEPTS / far * (1 - SLACK))
        least = (
            f"the least FAR they support is {LEAST_FALSE_ACCEPTS / impostors:.2g}"
            if impostors > LEAST_FALSE_ACCEPTS
            else "they support none"
        )
        raise ValueError(
            f"far={far:g} takes at least {needed:,} impostor pairs ({LEAST_FALSE_ACCEPTS} expected false accepts), "
            f"the data has {impostors:,}; {least}: give more people, or a higher far"
        )


def supports(far: float, impostors: float) -> bool:
    """Whether so many impostor pairs can tell a false accept rate."""
    return far * impostors * (1 + SLACK) >= LEAST_FALSE_ACCEPTS


def far_name(far: float) -> str:
    """A rate as it stands in the names of numbers.

    >>> far_name(1e-2), far_name(0.0005)
    ('1e-2', '5e-4')
    """
    mantissa, exponent = f"{far:.5e}".split("e")
    return f"{float(mantissa):g}e{int(exponent)}"
