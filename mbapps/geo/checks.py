"""Coordinates as they are found in files: what cannot be used is counted, and the first of it named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .partition import Partition

SWAPPED = 0.01  # share of rows from which latitudes beyond 90 degrees are no slips but another column


@dataclass(frozen=True, eq=False)
class PlaceReport:
    """Which places can be used, and why the others cannot."""

    usable: NDArray[np.bool_]  # [N]
    left_out: dict[str, NDArray[np.int64]]  # rows by reason; only reasons that occur

    def text(self, names: Sequence[str] | None = None) -> str:
        """Say how many are used and how many were left out and which first: by its name or its row, from 0."""
        parts = [
            f"{len(rows):,} {reason} (first: {names[rows[0]] if names is not None else f'row {rows[0]}'})"
            for reason, rows in self.left_out.items()
        ]
        used = f"{int(self.usable.sum()):,} of {len(self.usable):,} places used"
        return f"{used}; left out: {', '.join(parts)}" if parts else used


def check_places(
    latitudes: ArrayLike, longitudes: ArrayLike, *, drop_zero: bool = True, source: str = "the places"
) -> PlaceReport:
    """Tell which places are coordinates on Earth.

    Args:
        latitudes: [N] degrees; NaN where a place has none.
        longitudes: [N] degrees.
        drop_zero: leave out places at 0, 0, where a camera or a table says nothing by saying zero.
        source: a file's name, for messages.

    Raises:
        ValueError: the two differ in length; latitudes and longitudes are swapped; or no place can be used.

    >>> check_places([51.5, float("nan"), 0.0], [-0.1, 3.0, 0.0]).text()
    '1 of 3 places used; left out: 1 without coordinates (first: row 1), 1 at 0, 0 (first: row 2)'
    """
    lat, lng = (np.asarray(values, np.float64).reshape(-1) for values in (latitudes, longitudes))
    if len(lat) != len(lng):
        raise ValueError(
            f"{source}: {len(lat):,} latitudes and {len(lng):,} longitudes; each place needs both"
        )
    missing = np.isnan(lat) | np.isnan(lng)
    high = ~missing & (np.abs(lat) > 90)
    turned = high & (np.abs(lat) <= 180) & (np.abs(lng) <= 90)  # a place if the columns change names
    if turned.sum() > SWAPPED * (~missing).sum() and 2 * turned.sum() >= high.sum():
        row = int(turned.argmax())
        raise ValueError(
            f"{source}: latitude and longitude are swapped: {int(turned.sum()):,} of {len(lat):,} latitudes lie "
            f"outside [-90, 90] (first: row {row}, {lat[row]:g}, {lng[row]:g}); exchange the names of the columns"
        )
    outside = high | (~missing & (np.abs(lng) > 180))
    zero = (lat == 0) & (lng == 0) & drop_zero
    reasons = {"without coordinates": missing, "out of range": outside, "at 0, 0": zero}
    usable = ~(missing | outside | zero)
    report = PlaceReport(usable, {name: np.flatnonzero(rows) for name, rows in reasons.items() if rows.any()})
    if not usable.any():
        raise ValueError(f"{source}: no place is left: {report.text()}")
    return report


def check_head(num_classes: int, partition: Partition, name: str = "the partition") -> None:
    """See that a head has one class for each cell.

    Raises:
        ValueError: it has not.
    """
    if num_classes != len(partition):
        raise ValueError(
            f"the head has {num_classes:,} classes and {name} has {len(partition):,} cells: they are not of one model; "
            "use the partition that lies in the model's folder, or train a head for this one"
        )
