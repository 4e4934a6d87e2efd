"""The adaptive partition against a recursion of ten lines, and against a table that a SQL engine makes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from geo_places import same, towns

from mbapps.geo.cells import Cells, cell_ids, children, contains, leaf_ranges, levels, parents
from mbapps.geo.counts import Photos
from mbapps.geo.distance import great_circle_km, places_of, unit_vectors
from mbapps.geo.partition import FACES, Rules, build_nested, build_partition, parent_maps

SMALL = Rules(max_photos=400, min_photos=20)


def recursion(cell: int, leaves: Cells, users: np.ndarray, rules: Rules, level: int = 0) -> dict[int, int]:
    """Cells and counts as the paper words it: split what is too full, drop what is too empty."""
    if level < rules.max_level and (len(leaves) > rules.max_photos or level < rules.min_level):
        found = {}
        for child in children([cell])[0]:
            inside = parents(leaves, level + 1) == child
            found |= (
                recursion(int(child), leaves[inside], users[inside], rules, level + 1) if inside.any() else {}
            )
        return found
    enough = len(leaves) >= rules.min_photos and len(set(users.tolist())) >= rules.min_users
    return {cell: len(leaves)} if enough else {}


@pytest.mark.parametrize(
    "rules",
    [
        SMALL,
        Rules(400, 20, 2, 9),
        Rules(2_000, 50, min_level=4),
        Rules(400, 1, 0, 30, min_users=5),
        Rules(400, 20, 3, 3),
    ],
)
def test_partition_is_the_recursion(rules: Rules) -> None:
    count = 200_000
    lat, lng = towns(count)
    users = np.random.default_rng(1).zipf(1.3, count) % 5_000
    leaves = cell_ids(lat, lng)
    expected: dict[int, int] = {}
    for face in FACES:
        inside = parents(leaves, 0) == face
        expected |= recursion(int(face), leaves[inside], users[inside], rules)
    part = build_partition(Photos(lat, lng, users), rules)
    assert dict(zip(part.cells.tolist(), part.photos.tolist(), strict=True)) == expected
    assert (np.diff(part.cells.astype(object)) > 0).all()
    assert len(part) > 100
    assert part.kept + part.dropped == part.total == count
    assert part.users is not None
    rows = part.rows(lat, lng)
    for row in range(0, len(part), 37):
        assert part.users[row] == len(np.unique(users[rows == row]))
    if not rules.min_users:
        alone = build_partition(Photos(lat, lng), rules)
        assert alone.users is None
        same(alone, replace(part, users=None))


def test_the_order_of_photos_changes_nothing() -> None:
    lat, lng = towns(20_000)
    order = np.random.default_rng(0).permutation(len(lat))
    users = np.arange(len(lat)) % 700
    same(
        build_partition(Photos(lat, lng, users), SMALL),
        build_partition(Photos(lat[order], lng[order], users[order].astype(str)), SMALL),
    )


def test_rows_and_centres() -> None:
    lat, lng = towns(20_000)
    part = build_partition(Photos(lat, lng), SMALL)
    rows = part.rows(lat, lng)
    assert np.array_equal(np.bincount(rows[rows >= 0], minlength=len(part)), part.photos)
    assert (rows < 0).sum() == part.dropped > 0
    held = contains(part.cells[:, None], cell_ids(lat, lng))
    assert np.array_equal(held.argmax(0)[rows >= 0], rows[rows >= 0])
    assert not held[:, rows < 0].any()
    for row in (0, 7, len(part) - 1):
        mean = places_of(unit_vectors(lat[rows == row], lng[rows == row]).mean(0))
        assert great_circle_km(*mean, *part.centres[row]) < 1e-4
    assert (part.rows_of(part.cells) == np.arange(len(part))).all()
    assert part.rows([], []).shape == (0,)


def test_the_centre_of_photos_across_the_antimeridian() -> None:
    part = build_partition(Photos([0.0] * 60, [179.0] * 30 + [-179.0] * 30), Rules(max_photos=100))
    assert len(part) == 1
    assert great_circle_km(*part.centres[0], 0.0, 180.0) < 1e-4


def test_photos_on_the_borders_of_cells() -> None:
    """Each lies in one cell, and is counted once."""
    grid = np.meshgrid(np.arange(-90, 91, 15.0), np.arange(-180, 181, 15.0))
    lat, lng = np.repeat(grid[0].ravel(), 5), np.repeat(grid[1].ravel(), 5)
    part = build_partition(Photos(lat, lng), Rules(max_photos=20, min_photos=1))
    assert part.dropped == 0
    rows = part.rows(lat, lng)
    assert (rows >= 0).all()
    assert np.array_equal(np.bincount(rows, minlength=len(part)), part.photos)
    first, last = leaf_ranges(part.cells)
    assert (first[1:] > last[:-1]).all()


def test_a_full_cell_of_the_finest_level_stays() -> None:
    spot = Photos([48.0] * 500 + [10.0] * 60, [2.0] * 500 + [20.0] * 60)
    part = build_partition(spot, Rules(max_photos=100, min_photos=50, max_level=8))
    assert sorted(part.photos.tolist()) == [60, 500]
    assert levels(part.cells)[part.photos == 500].tolist() == [8]
    assert build_partition(spot, Rules(100, 50)).photos.max() == 500


def test_nested_partitions() -> None:
    photos = Photos(*towns(100_000))
    nested = build_nested(photos)
    maps = parent_maps(nested)
    assert list(maps) == ["middle", "fine"]
    for coarse, fine in (("coarse", "middle"), ("middle", "fine")):
        up = maps[fine]
        assert contains(nested[coarse].cells[up], nested[fine].cells).all()
        held = np.bincount(up, nested[fine].photos, len(nested[coarse]))
        assert (held <= nested[coarse].photos).all()
    assert len(nested["coarse"]) < len(nested["middle"]) < len(nested["fine"])
    assert all(levels(part.cells).min() >= 2 for part in nested.values())
    assert parent_maps({"fine": nested["fine"]}) == {}


def test_partitions_that_do_not_nest() -> None:
    photos = Photos(*towns(20_000))
    with pytest.raises(ValueError, match="fine does not nest in coarse: max_photos must fall"):
        build_nested(photos, {"coarse": SMALL, "fine": SMALL})
    with pytest.raises(ValueError, match="all other rules be equal"):
        build_nested(photos, {"coarse": SMALL, "fine": Rules(200, 10)})
    with pytest.raises(
        ValueError, match=r"lie in no cell of the coarser partition; build both from the same photos"
    ):
        parent_maps(
            {"fine": build_partition(photos, Rules(200, 20)), "coarse": build_partition(photos, SMALL)}
        )


def test_it_says_what_it_kept() -> None:
    part = build_partition(Photos([1.0] * 98 + [-50.0] * 2, [1.0] * 98 + [120.0] * 2), Rules(max_photos=100))
    assert part.text() == (
        "1 cells of levels 0 to 0 hold 98 of 100 photos (98.0%); 2 lie in cells that were dropped"
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_photos": 0}, "min_photos must be 1 to max_photos=10000, got 0"),
        ({"max_photos": 10}, "min_photos must be 1 to max_photos=10, got 50"),
        ({"min_level": 5, "max_level": 4}, "got min_level=5, max_level=4"),
        ({"max_level": 31}, "max_level <= 30"),
        ({"min_users": -1}, "min_users must be >= 0, got -1"),
    ],
)
def test_rules_that_cannot_be(settings: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Rules(**settings)


def test_no_cell_is_left() -> None:
    photos = Photos([1.0, 2.0, -40.0], [1.0, 2.0, 100.0])
    with pytest.raises(
        ValueError, match="fullest of 2 holds 2 of 3 photos, fewer than min_photos=50; lower min_photos"
    ):
        build_partition(photos)
    with pytest.raises(ValueError, match="fullest of 0 holds 0 of 0 photos"):
        build_partition(Photos([], []))
    few = Photos([1.0] * 60, [1.0] * 60, ["ann", "bob"] * 30)
    with pytest.raises(
        ValueError, match="none has photos of min_users=3 users, the most is 2; lower min_users"
    ):
        build_partition(few, Rules(min_users=3))
    assert build_partition(few, Rules(min_users=2)).users.tolist() == [2]  # type: ignore[union-attr]


def test_users_that_are_asked_for_and_unknown() -> None:
    with pytest.raises(
        ValueError, match="min_users=2 needs to know whose each photo is; give a column of users"
    ):
        build_partition(Photos([1.0] * 60, [1.0] * 60), Rules(min_users=2))
