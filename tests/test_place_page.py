from __future__ import annotations

import numpy as np
import pytest

from mbapps.geo.cell_map import CellMap
from mbapps.lettering import font
from mbapps.place_map import HEAT, LIKE, MARK, RING, TRUTH
from mbapps.place_page import MAP_WIDTH, PHOTO_WIDTH, draw_page, legend
from mbapps.place_prediction import PhotosLike, Place

ROME = (41.9, 12.5)


def place(radius_km: float | None = 300) -> Place:
    cells = CellMap.of(np.array([0x1325 << 48 | 1 << 47], dtype=np.uint64), np.array([[43.0, 12.0]]))
    one = np.ones(1)
    like = PhotosLike(["a"], one, one * 44, one * 11, one)
    return Place(43.0, 12.0, 0.5, radius_km, "Perugia, Italy", 100, cells, one, like)


@pytest.mark.parametrize("shape", [(480, 640), (900, 200), (20, 2000), (1, 1), (4000, 6000)])
def test_photos_of_any_shape_lie_beside_the_map(shape: tuple[int, int]) -> None:
    page = draw_page(np.full((*shape, 3), 127, dtype=np.uint8), place(), ROME)
    assert page.dtype == np.uint8
    assert MAP_WIDTH < page.shape[1] <= MAP_WIDTH + PHOTO_WIDTH + 100
    assert page.shape[0] == draw_page(np.zeros((9, 9, 3), dtype=np.uint8), place()).shape[0]
    assert (page == MARK).all(axis=2).any()
    assert (page == TRUTH).all(axis=2).any()


def test_the_legend_tells_what_is_drawn_alone() -> None:
    assert [colour for colour, _ in legend(place(), ROME)] == [MARK, RING, HEAT, LIKE, TRUTH]
    assert legend(place(), ROME)[-1][1] == "truth 41.90° N 12.50° E, 129 km away"
    assert legend(place(), (43.0, 12.01))[-1][1].endswith(", 0.8 km away")
    assert legend(Place(43.0, 12.0, 0.5), None) == [(MARK, "answer")]


def test_a_radius_beyond_half_the_way_round_rings_what_it_leaves_out() -> None:
    texts = {km: dict(legend(place(km), None)).get(RING) for km in (300, 13_000, 20_100)}
    assert texts == {300: "its radius", 13_000: "its radius: all but what is ringed", 20_100: None}


def test_letters_of_place_names_are_in_the_font() -> None:
    missing = bytes(font(20).getmask("\uffff"))
    for letter in "éĭêńüßøãşžłőđ°":
        assert bytes(font(20).getmask(letter)) != missing, letter
