"""Cells against S2's own packages."""

from __future__ import annotations

import numpy as np
import pytest

from mbapps.geo.cells import (
    MAX_LEVEL,
    Cells,
    Floats,
    cell_ids,
    children,
    contains,
    from_tokens,
    is_valid,
    leaf_ranges,
    levels,
    parents,
    tokens,
)  # fmt: skip

s2sphere = pytest.importorskip("s2sphere", reason="the reference s2sphere is not installed")


def scattered(count: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Places evenly on the sphere."""
    rng = np.random.default_rng(seed)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, count))), rng.uniform(-180, 180, count)


def reference(lat: Floats, lng: Floats) -> Cells:
    """The leaves of places by s2sphere."""
    pairs = zip(lat.tolist(), lng.tolist(), strict=True)
    return np.array(
        [s2sphere.CellId.from_lat_lng(s2sphere.LatLng.from_degrees(*p)).id() for p in pairs], np.uint64
    )


def reference_cpp(lat: Floats, lng: Floats) -> Cells:
    """The leaves of places by the C++ library."""
    s2 = pytest.importorskip("s2geometry", reason="the reference s2geometry is not installed")
    pairs = zip(lat.tolist(), lng.tolist(), strict=True)
    return np.array([s2.S2CellId(s2.S2LatLng.FromDegrees(*p)).id() for p in pairs], np.uint64)


def borders() -> tuple[Floats, Floats]:
    """Poles, edges and corners of faces, the antimeridian, and places one rounding beside them."""
    corner = np.degrees(np.arctan(np.sqrt(0.5)))  # latitude where three faces meet
    lat = np.r_[np.arange(-90, 91, 7.5), 0.1, corner, -corner]
    lat = np.unique(np.clip(np.r_[lat, np.nextafter(lat, 0), np.nextafter(lat, 100)], -90, 90))
    lng = np.arange(-180, 181, 7.5)
    lng = np.unique(np.clip(np.r_[lng, np.nextafter(lng, 0), np.nextafter(lng, 200)], -180, 180))
    grid = np.meshgrid(lat, lng)
    on_edge = scattered(500, 3)[1]  # the upper edge of a side face at any longitude
    edge = np.degrees(np.arctan(np.cos(np.radians((on_edge + 45) % 90 - 45))))
    return np.r_[grid[0].ravel(), edge, -edge], np.r_[grid[1].ravel(), on_edge, on_edge]


@pytest.mark.parametrize("library", [reference, reference_cpp])
def test_ids_are_those_of_s2(library: object) -> None:
    for lat, lng in (scattered(5_000), borders()):
        assert np.array_equal(cell_ids(lat, lng), library(lat, lng))  # type: ignore[operator]


@pytest.mark.slow
@pytest.mark.parametrize("library", [reference, reference_cpp])
def test_a_million_ids_are_those_of_s2(library: object) -> None:
    lat, lng = scattered(1_000_000, seed=1)
    assert np.array_equal(cell_ids(lat, lng), library(lat, lng))  # type: ignore[operator]


def test_every_level_is_that_of_s2() -> None:
    lat, lng = scattered(50)
    leaves = [s2sphere.CellId(int(i)) for i in cell_ids(lat, lng)]
    for level in range(MAX_LEVEL + 1):
        cells = cell_ids(lat, lng, level)
        assert cells.tolist() == [leaf.parent(level).id() for leaf in leaves]
        assert levels(cells).tolist() == [level] * 50
        peers = [s2sphere.CellId(i) for i in cells.tolist()]
        assert tokens(cells).tolist() == [peer.to_token() for peer in peers]
        assert np.array_equal(from_tokens(tokens(cells).tolist()), cells)
        first, last = leaf_ranges(cells)
        assert first.tolist() == [peer.range_min().id() for peer in peers]
        assert last.tolist() == [peer.range_max().id() for peer in peers]
        assert is_valid(cells).all()
        if level < MAX_LEVEL:
            assert children(cells).tolist() == [[child.id() for child in peer.children()] for peer in peers]
            assert (parents(children(cells), level) == cells[:, None]).all()
            assert contains(cells[:, None], children(cells)).all()
            assert not contains(children(cells), cells[:, None]).any()


def test_contains_is_that_of_s2() -> None:
    cells = np.r_[cell_ids(*scattered(30), 3), cell_ids(*scattered(30), 5), cell_ids(*scattered(30, 1), 1)]
    peers = [s2sphere.CellId(i) for i in cells.tolist()]
    assert contains(cells[:, None], cells).tolist() == [[a.contains(b) for b in peers] for a in peers]


def test_is_valid_is_that_of_s2() -> None:
    numbers = np.r_[
        np.random.default_rng(0).integers(0, 2**64, 2_000, np.uint64),
        np.array([0, 1, 2, 2**63, 2**64 - 1, 6 << 61 | 1], np.uint64),
    ]
    assert is_valid(numbers).tolist() == [s2sphere.CellId(i).is_valid() for i in numbers.tolist()]


def test_the_antimeridian_has_two_sides() -> None:
    east, west = cell_ids([10.0, 10.0], [180.0, -180.0])
    assert east != west
    assert len(np.unique(cell_ids([90.0] * 3, [0.0, 77.0, -180.0], 20))) == 1  # the pole has none


def test_none() -> None:
    assert cell_ids([], []).shape == (0,)
    assert parents(np.empty(0, np.uint64), 3).shape == (0,)
    assert tokens(np.empty(0, np.uint64)).tolist() == []


@pytest.mark.parametrize(
    ("lat", "lng"),
    [(float("nan"), 0.0), (0.0, float("nan")), (90.1, 0.0), (0.0, -180.1), (float("inf"), 0.0)],
)
def test_places_that_are_none(lat: float, lng: float) -> None:
    with pytest.raises(ValueError, match="leave such places out"):
        cell_ids([1.0, lat], [1.0, lng])


def test_wrong_use() -> None:
    with pytest.raises(ValueError, match="2 latitudes and 1 longitudes"):
        cell_ids([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="level of a cell must be 0 to 30, got 31"):
        cell_ids([1.0], [1.0], 31)
    with pytest.raises(ValueError, match="cells of level 2 have no parents of the finer level 5"):
        parents(cell_ids([1.0], [1.0], 2), 5)
    with pytest.raises(ValueError, match="level 30 has no children"):
        children(cell_ids([1.0], [1.0]))


@pytest.mark.parametrize("name", ["", "xyz", "X", "-1", "47e67011111111111", "0", "f"])
def test_names_that_are_no_tokens(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is no token of a cell"):
        from_tokens(["47e6701", name])
