from __future__ import annotations

import numpy as np
import pytest

from mbapps.geo.cell_map import CellMap
from mbapps.geo.cells import cell_ids, from_tokens
from mbapps.geo.shapes import areas_km2, centres, corners
from mbapps.plots_places import cell_map, cell_outlines

EARTH_KM2 = 510_065_621.7


def area_km2(outline: np.ndarray) -> float:
    """Area of a polygon of longitude and latitude that is finely stepped: the integral of sin(latitude)."""
    x, y = np.radians(outline).T
    step = np.roll(x, -1) - x
    height = (np.sin(y) + np.sin(np.roll(y, -1))) / 2
    return abs((step * height).sum()) * EARTH_KM2 / (4 * np.pi)


@pytest.mark.parametrize("level", [1, 2, 4])
def test_outlines_hold_the_cells_areas(level: int) -> None:
    rng = np.random.default_rng(0)
    lat = np.append(np.degrees(np.arcsin(rng.uniform(-1, 1, 200))), [89.99, -89.99, 89.99, 0.1])
    lon = np.append(rng.uniform(-180, 180, 200), [10, 100, -100, 179.99])
    cells = np.unique(cell_ids(lat, lon, level))
    outlines, rows = cell_outlines(corners(cells))
    assert set(rows.tolist()) == set(range(len(cells)))
    areas = areas_km2(cells)
    for outline, row in zip(outlines, rows.tolist(), strict=True):
        assert area_km2(outline) == pytest.approx(areas[row], rel=0.02)
        assert np.abs(outline[:, 1]).max() <= 90


def test_a_cell_over_a_pole_reaches_it() -> None:
    (outline, *more), rows = cell_outlines(corners(from_tokens(["5"])))  # the face of the north pole
    assert outline[:, 1].max() == 90
    assert np.ptp(outline[:, 0]) == pytest.approx(360)
    assert len(more) + 1 == len(rows)


def test_a_cell_across_180_degrees_is_drawn_at_both_ends() -> None:
    cells = cell_ids([10.0], [180.0], 0)
    outlines, rows = cell_outlines(corners(cells))
    assert rows.tolist() == [0, 0]
    assert outlines[1] - outlines[0] == pytest.approx(np.tile([360, 0], (len(outlines[0]), 1)))


@pytest.mark.parametrize("counts", [None, [5, 0, 70]])
def test_a_map_of_cells(counts: list[int] | None) -> None:
    cells = np.sort(cell_ids([10.0, 42, -33], [0.0, 12, 151], 3))
    figure = cell_map(CellMap.of(cells, centres(cells)), None if counts is None else np.array(counts))
    (drawn,) = figure.axes[0].collections
    assert len(drawn.get_paths()) == 3
    assert len(figure.axes) == (1 if counts is None else 2)  # a bar of colours tells how many
    figure.canvas.draw()
