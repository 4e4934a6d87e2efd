"""What cannot be used is counted, named and left out."""

from __future__ import annotations

import numpy as np
import pytest

from mbapps.geo.checks import check_head, check_places
from mbapps.geo.counts import Photos
from mbapps.geo.partition import build_partition

NAN = float("nan")


def test_what_is_left_out() -> None:
    lat = [51.5, NAN, 10.0, 0.0, 0.0, 20.0, 95.0, -90.0]
    lng = [-0.1, 3.0, NAN, 0.0, 7.0, 181.0, 170.0, 180.0]
    report = check_places(lat, lng)
    assert report.usable.tolist() == [True, False, False, False, True, False, False, True]
    assert report.text() == (
        "3 of 8 places used; left out: 2 without coordinates (first: row 1), 2 out of range (first: row 5), "
        "1 at 0, 0 (first: row 3)"
    )
    assert "2 out of range (first: f.jpg)" in report.text(list("abcdefgh"[:5]) + ["f.jpg", "g", "h"])
    kept = check_places(lat, lng, drop_zero=False)
    assert kept.usable.sum() == 4
    assert "0, 0" not in kept.text()
    assert check_places([1.0], [1.0]).text() == "1 of 1 places used"
    assert not check_places([1.0, np.inf], [1.0, 1.0]).usable[1]


def test_swapped_columns_are_reported() -> None:
    rng = np.random.default_rng(0)
    lat, lng = rng.uniform(-60, 70, 1_000), rng.uniform(-180, 180, 1_000)
    with pytest.raises(
        ValueError, match=r"list.csv: latitude and longitude are swapped: \d+ of 1,000 latitudes"
    ):
        check_places(lng, lat, source="list.csv")
    assert check_places(lat, lng).usable.all()
    lat[17] = 123.0  # one slip is no swap
    lng[17] = 5.0
    assert check_places(lat, lng).left_out["out of range"].tolist() == [17]


def test_no_place_is_left() -> None:
    with pytest.raises(ValueError, match=r"a.csv: no place is left: 0 of 2 places used; left out: 1 without"):
        check_places([NAN, 0.0], [NAN, 0.0], source="a.csv")
    with pytest.raises(ValueError, match="no place is left: 0 of 0 places used"):
        check_places([], [])
    with pytest.raises(ValueError, match="2 latitudes and 1 longitudes; each place needs both"):
        check_places([1.0, 2.0], [1.0])


def test_a_head_of_another_size() -> None:
    partition = build_partition(Photos([1.0] * 60, [1.0] * 60))
    check_head(1, partition)
    with pytest.raises(ValueError, match="head has 9,766 classes and fine has 1 cells: they are not of one"):
        check_head(9766, partition, "fine")
