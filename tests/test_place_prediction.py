from __future__ import annotations

import json

import numpy as np
import pytest

from mbapps.geo.distance import great_circle_km
from mbapps.place_map import MARK, circle
from mbapps.place_prediction import Place


def test_json() -> None:
    place = Place(
        np.float64(43.4680001), np.float64(11.885), np.float32(0.25), np.float64(120.1234), "Arezzo, Italy"
    )
    told = {"lat": 43.468, "lon": 11.885, "score": 0.25, "radius_km": 120.123, "name": "Arezzo, Italy"}
    assert json.loads(json.dumps(place.to_json())) == [told]
    assert Place(1, 2, 0.5).to_json() == [{"lat": 1, "lon": 2, "score": 0.5}]


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (Place(-33.87, -70.6, 0.5), "33.87° S 70.60° W 0.50"),
        (Place(1, 2, 0.123, 1234, "Lagos, Nigeria"), "Lagos, Nigeria 0.12, within 1,234 km"),
        (Place(1, 2, 1, 0.5, "Lagos"), "Lagos 1.00, within 0.5 km"),
    ],
)
def test_in_words(place: Place, text: str) -> None:
    assert place.text == text


@pytest.mark.parametrize("shape", [(480, 640), (64, 64), (30, 300), (900, 200), (2, 2)])
def test_drawn(shape: tuple[int, int]) -> None:
    image = np.full((*shape, 3), 127, dtype=np.uint8)
    drawn = Place(43.468, 11.885, 0.4, 800, "Arezzo, Italy").draw(image)
    assert drawn.shape == image.shape
    assert drawn.dtype == np.uint8
    assert (image == 127).all()
    assert not np.array_equal(drawn, image)


def test_the_mark_lies_where_the_place_is() -> None:
    drawn = Place(43.468, 11.885, 0.4).draw(np.full((480, 640, 3), 127, dtype=np.uint8))
    rows, columns = np.nonzero((drawn == MARK).all(axis=2))
    width = int(640 * 0.42)
    assert 640 - width + (11.885 + 180) * width / 360 == pytest.approx(columns.mean(), abs=1)
    assert 480 - width // 2 + (90 - 43.468) * width / 360 == pytest.approx(rows.mean(), abs=1)


@pytest.mark.parametrize("place", [(43, 11), (10, 179), (85, -100), (-89, 0)])
def test_circles(place: tuple[float, float]) -> None:
    lines = circle(*place, 800)
    assert lines
    for line in lines:
        assert great_circle_km(*place, line[:, 0], line[:, 1]) == pytest.approx(800)
        assert np.abs(np.diff(line[:, 1])).max() < 180
    assert circle(*place, 20_100) == []
    drawn = Place(*place, 0.1, 20_100).draw(np.zeros((200, 300, 3), dtype=np.uint8))
    assert drawn.any()
