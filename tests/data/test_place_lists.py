from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from mbapps.data.place_lists import NO_HEADER, SHORT, is_list, read_list


def listed(folder: Path, text: str, name: str = "places.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "header",
    [
        "IMG_ID,LAT,LON,AUTHOR", "filename,latitude,longitude,user", "path,lat,lng,uid", "File,Latitude,LONG,owner_id",
        "\ufeffid,gps_latitude,gps_longitude,user nsid", "image,decimalLatitude,decimalLongitude,photographer",
    ],
)  # fmt: skip
def test_spellings(tmp_path: Path, header: str) -> None:
    found = read_list(listed(tmp_path, f"{header}\na.jpg,48.85,2.35,ann\nb.jpg,-33.9,151.2,\n"))
    assert found.files is not None
    assert found.users is not None
    assert found.files.tolist() == ["a.jpg", "b.jpg"]
    assert found.lat.tolist() == [48.85, -33.9]
    assert found.lon.tolist() == [2.35, 151.2]
    assert found.users.tolist() == ["ann", ""]
    assert found.problems == {}


@pytest.mark.parametrize("mark", [",", ";", "\t", "|", " "])
def test_what_parts_the_fields(tmp_path: Path, mark: str) -> None:
    path = listed(tmp_path, "extra,lon,lat,file\n1,2.5,1.5,a\n".replace(",", mark))
    found = read_list(path)
    assert (found.lat.tolist(), found.lon.tolist()) == ([1.5], [2.5])
    assert is_list(path)


def test_decimal_commas_beside_semicolons(tmp_path: Path) -> None:
    found = read_list(listed(tmp_path, "file;lat;lon\na;48,5;2,25\n"))
    assert (found.lat.tolist(), found.lon.tolist()) == ([48.5], [2.25])


@pytest.mark.parametrize(
    ("text", "order"),
    [
        ("1_2_7@N00.jpg 48.5 2.5\n", "file, lat, lon"), ("a/b.jpg,7@N00,48.5,2.5,0,12\n", "file, user, lat, lon"),
    ],
)  # fmt: skip
def test_lists_without_a_header(tmp_path: Path, text: str, order: str) -> None:
    found = read_list(listed(tmp_path, text, "im2gps.txt"))
    assert (found.lat.tolist(), found.lon.tolist()) == ([48.5], [2.5])
    assert found.problems == {NO_HEADER.format(order): ["im2gps.txt"]}


def test_columns_can_be_told(tmp_path: Path) -> None:
    path = listed(tmp_path, "id,north,east,lat,lon\na,1,2,3,4\n")
    found = read_list(path, {"lat": "north", "lon": "east"})
    assert (found.lat.tolist(), found.lon.tolist()) == ([1], [2])
    with pytest.raises(
        ValueError, match=r"data.columns.lat=nord: .*places.csv has no such column, it has \[id, nor"
    ):
        read_list(path, {"lat": "nord"})
    with pytest.raises(ValueError, match="data.columns names 'latitude'; it may name file, lat, lon, user"):
        read_list(path, {"latitude": "north"})


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    path = listed(tmp_path, "id,lat,height\na,1,2\n")
    with pytest.raises(ValueError, match=r"has no column of longitudes: .* name it with data.columns.lon="):
        read_list(path)
    assert not is_list(path)


def test_broken_lines(tmp_path: Path) -> None:
    found = read_list(listed(tmp_path, "id,lat,lon\na,1,2\nb,1\n\nc,north,2\nd,,\n"))
    assert found.files is not None
    assert found.files.tolist() == ["a", "c", "d"]
    assert np.isnan(found.lat).tolist() == [False, True, True]
    assert found.problems == {SHORT: ["places.csv:3"]}


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no list of places at"):
        read_list(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("id,lat,lon,författare\n".encode("latin-1"))
    with pytest.raises(ValueError, match="latin.csv is not UTF-8 text: .*; save it as UTF-8"):
        read_list(tmp_path / "latin.csv")
    assert not is_list(tmp_path / "latin.csv")
    (tmp_path / "later.csv").write_bytes(b"id,lat,lon\n" + b"a,1,2\n" * 20000 + "å,1,2\n".encode("latin-1"))
    with pytest.raises(ValueError, match="later.csv is not UTF-8 text"):
        read_list(tmp_path / "later.csv")
    listed(tmp_path, "id,lat,lon\n" + "x" * 200_000 + ",1,2\n", "wide.csv")
    with pytest.raises(ValueError, match="wide.csv:2: field larger than field limit"):
        read_list(tmp_path / "wide.csv")
    assert not is_list(listed(tmp_path, "Rendered by a machine", "notes.txt"))


def test_a_list_of_nothing(tmp_path: Path) -> None:
    assert len(read_list(listed(tmp_path, "id,lat,lon\n")).lat) == 0


def test_parquet(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb", reason="Parquet is read by duckdb: pip install 'mbapps[geo]'")
    path = tmp_path / "places.parquet"
    rows = "('a', 48.5, 2.5, 'ann'), ('b', NULL, -3, NULL)"
    duckdb.sql(f"COPY (SELECT * FROM (VALUES {rows}) t(IMG_ID, LAT, LON, AUTHOR)) TO '{path}'")
    found = read_list(path)
    assert found.files is not None
    assert found.users is not None
    assert found.files.tolist() == ["a", "b"]
    assert found.users.tolist() == ["ann", ""]
    assert np.isnan(found.lat).tolist() == [False, True]
    assert found.lon.tolist() == [2.5, -3]
    path.write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="places.parquet can't be read as Parquet"):
        read_list(path)


def test_parquet_without_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "places.parquet").touch()
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(ImportError, match=r"Parquet is read by duckdb, .*: pip install 'mbapps\[geo\]'"):
        read_list(tmp_path / "places.parquet")
