from __future__ import annotations

import numpy as np
import pytest

from mbapps.geo.cell_map import CellMap
from mbapps.geo.cells import cell_ids
from mbapps.geo.distance import great_circle_km, moved
from mbapps.geo.shapes import centres
from mbapps.near_map import LEAST_KM, draw_near, reach_km
from mbapps.place_map import MARK, RING, TRUTH
from mbapps.place_page import MAP_WIDTH, NEAR, draw_page
from mbapps.place_prediction import PhotosLike, Place

ROME = (41.9, 12.5)


def place(lat: float, lon: float, radius_km: float | None = None) -> Place:
    cells = cell_ids([lat, 0.0], [lon, 0.0], 5)
    cells.sort()
    like = PhotosLike(["a"], np.ones(1), np.array([lat]), np.array([lon]), np.ones(1))
    shares = np.array([0.7, 0.3])
    return Place(lat, lon, 0.7, radius_km, None, 100, CellMap.of(cells, centres(cells)), shares, like)


@pytest.mark.parametrize(
    ("radius_km", "truth", "reach"),
    [
        (None, None, None),
        (300, None, 390),
        (9000, None, None),
        (9000, (45.9, 12.5), 1.3 * 333.585),
        (300, (-40.0, 100.0), 390),
        (1, None, LEAST_KM),
        (0, ROME, LEAST_KM),
    ],
)
def test_what_is_near_is_shown(
    radius_km: float | None, truth: tuple[float, float] | None, reach: float | None
) -> None:
    assert reach_km(Place(42.9, 12.5, 1, radius_km), truth) == (reach and pytest.approx(reach, rel=1e-4))


@pytest.mark.parametrize("at", [ROME, (10.0, 179.9), (-17.0, -179.9), (0.0, 0.0), (60.0, 25.0)])
def test_the_map_is_true_to_scale(at: tuple[float, float]) -> None:
    """The truth lies as far from the middle as it is away, in its direction, over 180 degrees too."""
    (lat,), (lon,) = moved(np.array([at[0]]), np.array([at[1]]), np.array([100.0]), np.array([np.pi / 4]))
    assert great_circle_km(*at, lat, lon) == pytest.approx(100)
    drawn = draw_near(place(*at, 150), 320, 200, (float(lat), float(lon)))
    assert drawn.shape == (320, 320, 3)
    rows, columns = np.nonzero((drawn == MARK).all(axis=2))
    assert (rows.mean(), columns.mean()) == pytest.approx((160, 160), abs=1)
    rows, columns = np.nonzero((drawn == TRUTH).all(axis=2) & (np.indices((320, 320))[1] > 210))
    away = 100 * np.sqrt(0.5) * 160 / 200
    assert (rows.mean(), columns.mean()) == pytest.approx((160 - away, 160 + away), abs=4)
    rows, columns = np.nonzero((drawn == RING).all(axis=2))
    assert np.hypot(rows - 160, columns - 160).mean() == pytest.approx(150 * 160 / 200, abs=2)


@pytest.mark.parametrize("at", [(90.0, 0.0), (-89.99, 100.0), (85.0, 180.0)])
def test_poles_are_drawn(at: tuple[float, float]) -> None:
    assert draw_near(place(*at, 300), 100, 400, (80.0, 10.0)).any()


def test_it_lies_where_it_hides_neither_answer_nor_truth() -> None:
    image = np.zeros((640, 640, 3), dtype=np.uint8)
    for lat, lon, left in ((41.9, 12.5, True), (-20.0, -150.0, False)):
        page = draw_page(image, place(lat, lon, 300))
        world = page[:, -MAP_WIDTH - 16 : -16]
        frame = (world[:, :1] if left else world[:, -1:]) == 240
        assert frame.all(axis=2).sum() == NEAR
    nothing = draw_page(image, place(41.9, 12.5)), draw_page(image, place(41.9, 12.5, 300), near=False)
    assert not any((page[:, -MAP_WIDTH - 16] == 240).any() for page in nothing)
