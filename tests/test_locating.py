from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mbapps.geo.cell_map import CellMap, most_probable
from mbapps.geo.cells import cell_ids
from mbapps.geo.distance import great_circle_km
from mbapps.geo.shapes import centres
from mbapps.locating import Fitted, Locator
from mbapps.search.checks import ModelId
from mbapps.search.gallery import Gallery

MODEL = ModelId("model", "0" * 32)
PARIS, LYON, SYDNEY = (48.857, 2.352), (45.764, 4.836), (-33.869, 151.209)
RADII = {"cells": 1.0, "neighbours": 2.0, "hybrid": 3.0}
FITTED = Fitted(weight=0.5, radius=RADII)


def world() -> CellMap:
    cells = np.sort(cell_ids(*np.array([PARIS, SYDNEY]).T, 6))
    return CellMap.of(cells, centres(cells))


def index(places: list[tuple[float, float]], vectors: np.ndarray) -> Gallery:
    gallery = Gallery(vectors.shape[1], MODEL)
    lat, lon = np.array(places, dtype=np.float64).T
    gallery.add(
        vectors.astype(np.float32), [f"{row}.jpg" for row in range(len(lat))], {"lat": lat, "lon": lon}
    )
    return gallery


def axes(count: int) -> np.ndarray:
    return np.eye(4, dtype=np.float32)[np.arange(count) % 4]


def test_cells_alone() -> None:
    cells = world()
    (place,) = Locator(None).locate(cells, np.array([[0.3, 0.7]]), None, FITTED)
    assert great_circle_km(place.lat, place.lon, cells.lat[1], cells.lon[1]) == 0
    assert (place.score, dict(place.others), place.neighbours) == (0.7, {}, None)
    far = great_circle_km(cells.lat[0], cells.lon[0], cells.lat[1], cells.lon[1])
    assert place.radius_km == pytest.approx(0.3 * far + 0.7 * cells.reach_km[1])


def test_neighbours_draw_the_answer_to_them() -> None:
    gallery = index([PARIS, LYON, SYDNEY], axes(3))
    probe = np.array([[1, 0.3, 0, 0]], dtype=np.float32) / np.float32(1.09**0.5)
    sydney = int(np.argmin(np.abs(world().lat - SYDNEY[0])))
    sure = np.full((1, 2), 0.1)
    sure[0, sydney] = 0.9
    (place,) = Locator(gallery, (0.1, 0.9)).locate(world(), sure, probe, FITTED)
    assert set(place.others) == {"cells", "neighbours", "0.1", "0.9"}
    assert great_circle_km(place.others["cells"].lat, place.others["cells"].lon, *SYDNEY) < 100
    assert great_circle_km(place.others["neighbours"].lat, place.others["neighbours"].lon, *PARIS) < 1
    assert great_circle_km(place.others["0.1"].lat, place.others["0.1"].lon, *SYDNEY) < 100
    assert great_circle_km(place.others["0.9"].lat, place.others["0.9"].lon, *PARIS) < 1
    assert place.others["neighbours"].score == pytest.approx(1, abs=1e-3)  # Lyon is near Paris
    assert 0 < place.others["0.1"].score < 1
    assert place.neighbours is not None
    assert place.neighbours.ids[0] == "0.jpg"
    assert place.neighbours.weights.sum() == pytest.approx(1)
    told = place.to_json()[0]["neighbours"]
    assert [each["id"] for each in told] == ["0.jpg", "1.jpg", "2.jpg"]
    assert (told[0]["lat"], told[0]["lon"]) == PARIS


def test_an_answer_is_the_same_alone_and_among_others() -> None:
    random = np.random.default_rng(0)
    vectors = random.normal(size=(300, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    places = list(zip(random.uniform(-60, 70, 300), random.uniform(-180, 180, 300), strict=True))
    locator = Locator(index(places, vectors))
    fitted = replace(FITTED, index=locator.digest)
    shares = random.dirichlet([1, 1], 20)
    together = locator.locate(world(), shares, vectors[:20], fitted)
    for row in range(20):
        (alone,) = locator.locate(world(), shares[row, None], vectors[row, None], fitted)
        assert alone.to_json() == together[row].to_json()


def test_most_probable() -> None:
    shares = np.array([[0.1, 0.5, 0.2, 0.2], [0.4, 0.3, 0.2, 0.1]])
    assert most_probable(shares, 2).tolist() == [[1, 2], [0, 1]]
    assert most_probable(shares, 9).shape == (2, 4)


def test_what_was_fitted_is_kept_as_plain_numbers() -> None:
    assert Fitted.of(FITTED.to_json()) == FITTED
    assert Fitted.of(None) == Fitted()


def test_galleries_that_are_no_geo_index() -> None:
    with pytest.raises(ValueError, match="the geo-index is empty"):
        Locator(Gallery(4, MODEL))
    faces = Gallery(4, MODEL)
    faces.add(axes(2), ["a", "b"], {"person": ["ann", "bob"]})
    with pytest.raises(ValueError, match="the gallery has no places, only person: it is no geo-index"):
        Locator(faces)
    with pytest.raises(ValueError, match="a coarse-only model gives no embeddings"):
        Locator(index([PARIS], axes(1))).locate(world(), np.array([[0.5, 0.5]]), None, FITTED)


def test_another_geo_index_than_the_fitted_one_is_shown_and_not_believed() -> None:
    gallery, other = index([PARIS, LYON, SYDNEY], axes(3)), index([PARIS, LYON], axes(2))
    fitted = Fitted(weight=0.9, radius=RADII, index=Locator(gallery).digest)
    shares, probe = np.array([[0.3, 0.7]]), axes(1)
    (alone,) = Locator(None).locate(world(), shares, None, fitted)
    (known,) = Locator(gallery).locate(world(), shares, probe, fitted)
    (place,) = Locator(other).locate(world(), shares, probe, fitted)
    assert (place.lat, place.lon, place.radius_km) == (alone.lat, alone.lon, alone.radius_km)
    assert place.neighbours is not None
    assert place.neighbours.ids[0] == "0.jpg"
    assert place.others["neighbours"].radius_km is None
    assert known.radius_km == pytest.approx(3 * known.spread_km)
    assert Locator(gallery).fits(fitted)
    assert not Locator(other).fits(fitted)
    assert Locator(other, (0.5,)).fits(fitted)  # it is being fitted
