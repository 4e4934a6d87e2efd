from __future__ import annotations

import numpy as np
import pytest

from mbapps.geo.worldmap import LAND, SEA, land, map_points, world_picture

DRY = {
    "Paris": (48.9, 2.4),
    "Sydney": (-33, 149),
    "Quito": (-0.2, -78.5),
    "Nairobi": (-1.3, 36.8),
    "Omsk": (55, 73.4),
}
WET = {"Atlantic": (0, -30), "Pacific": (0, -150), "Caspian": (41.9, 51.2), "Mediterranean": (35, 18)}


def test_outlines() -> None:
    rings = land()
    assert len(rings) > 100
    assert max(np.abs(ring[:, 0]).max() for ring in rings) <= 180
    assert min(ring[:, 1].min() for ring in rings) == -90


@pytest.mark.parametrize("width", [720, 1200])
def test_cities_lie_on_land_and_seas_do_not(width: int) -> None:
    picture = world_picture(width)
    assert picture.shape == (width // 2, width, 3)
    for places, colour in ((DRY, LAND), (WET, SEA)):
        for name, place in places.items():
            x, y = map_points(*place, width).astype(int)
            assert tuple(picture[y, x]) == colour, name


def test_a_picture_is_the_callers_own() -> None:
    picture = world_picture(360)
    picture[:] = 0
    assert world_picture(360).any()
    assert (world_picture(36, ground=(1, 2, 3))[4] == (1, 2, 3)).all(axis=1).any()
