"""Centres, corners and areas against S2's own package."""

from __future__ import annotations

import numpy as np
import pytest

from mbapps.geo.cells import cell_ids, children, levels
from mbapps.geo.distance import EARTH_KM, unit_vectors
from mbapps.geo.shapes import areas_km2, centres, corners

s2sphere = pytest.importorskip("s2sphere", reason="the reference s2sphere is not installed")

rng = np.random.default_rng(0)
LAT, LNG = np.degrees(np.arcsin(rng.uniform(-1, 1, 40))), rng.uniform(-180, 180, 40)
LEVELS = (0, 1, 2, 5, 10, 17, 23, 29, 30)


def pair(point: object) -> list[float]:
    """Degrees of a point of s2sphere."""
    place = s2sphere.LatLng.from_point(point)
    return [place.lat().degrees, place.lng().degrees]


@pytest.mark.parametrize("level", LEVELS)
def test_shapes_are_those_of_s2(level: int) -> None:
    cells = cell_ids(LAT, LNG, level)
    peers = [s2sphere.Cell(s2sphere.CellId(i)) for i in cells.tolist()]
    assert np.allclose(
        unit_vectors(*centres(cells).T),
        unit_vectors(*np.array([pair(p.get_center()) for p in peers]).T),
        atol=2e-15,
    )
    theirs = np.array([[pair(p.get_vertex(k)) for k in range(4)] for p in peers])
    ours = corners(cells)
    assert np.allclose(
        unit_vectors(ours[..., 0], ours[..., 1]), unit_vectors(theirs[..., 0], theirs[..., 1]), atol=2e-15
    )
    areas = np.array([peer.exact_area() for peer in peers]) * EARTH_KM**2
    assert np.allclose(areas_km2(cells), areas, rtol=1e-9 if level < 10 else 1e-5)


@pytest.mark.parametrize("level", [0, 5, 20, 29])
def test_areas_add_up(level: int) -> None:
    cells = cell_ids(LAT, LNG, level)
    parts = areas_km2(children(cells)).reshape(-1, 4).sum(1)
    assert np.allclose(parts, areas_km2(cells), rtol=1e-12)


def test_six_faces_are_the_earth() -> None:
    faces = np.unique(cell_ids(LAT, LNG, 0))
    assert len(faces) == 6
    assert areas_km2(faces).sum() == pytest.approx(4 * np.pi * EARTH_KM**2)


@pytest.mark.parametrize("level", LEVELS)
def test_a_centre_lies_in_its_cell(level: int) -> None:
    cells = cell_ids(LAT, LNG, level)
    assert (cell_ids(*centres(cells).T, level) == cells).all()
    assert (levels(cell_ids(*centres(cells).T, level)) == level).all()
