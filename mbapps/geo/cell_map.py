"""The cells that a model tells apart, as places: middles and how far their points lie from them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .cells import Cells, tokens
from .distance import Floats, great_circle_km
from .shapes import areas_km2, corners


@dataclass(frozen=True, eq=False)
class CellMap:
    """K cells of the sphere, in the order of a head's classes."""

    cells: Cells  # [K]
    lat: Floats  # [K] degrees, of what a cell is answered by: the mean of the photos it was made from
    lon: Floats  # [K]
    reach_km: Floats  # [K] mean distance of a disc of the cell's area from its middle

    @classmethod
    def of(cls, cells: Cells, centres: Floats) -> CellMap:
        """Make the map of cells [K] with their middles [K, 2], degrees."""
        return cls(cells, centres[:, 0], centres[:, 1], 2 / 3 * np.sqrt(areas_km2(cells) / np.pi))

    def __len__(self) -> int:
        return len(self.cells)

    def tokens(self, rows: NDArray[np.int64]) -> list[str]:
        """Tokens of some cells."""
        return list(map(str, tokens(self.cells[rows]).tolist()))

    def outlines(self, rows: NDArray[np.int64]) -> Floats:
        """Corners [R, 4, 2] of some cells: latitude and longitude, degrees."""
        return corners(self.cells[rows])

    def distances_km(self, lat: Floats, lon: Floats) -> Floats:
        """Expected distances [Q, K] of a point in each cell from Q places, degrees: no less than a cell's reach."""
        middle = great_circle_km(lat[:, None], lon[:, None], self.lat, self.lon)
        return np.maximum(middle, self.reach_km)


def most_probable(probabilities: Floats, count: int) -> NDArray[np.int64]:
    """Columns [Q, count] of the largest of each row [Q, K], best first; all K where there are fewer."""
    count = min(count, probabilities.shape[1])
    rows = np.argpartition(-probabilities, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(probabilities, rows, axis=1), axis=1, kind="stable")
    return np.take_along_axis(rows, order, axis=1)
