"""Tables of counts: made here, made by a SQL engine, merged, and partitioned like the photos themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from geo_places import same, towns

from mbapps.geo.cells import cell_ids
from mbapps.geo.counts import QUERY, CountTable, Photos, codes, count_table, merge_tables, table_of
from mbapps.geo.partition import Rules, build_nested, build_partition

RULES = Rules(max_photos=400, min_photos=20, max_level=16)
COUNT = 200_000


def equal(a: CountTable, b: CountTable) -> None:
    """Assert that two tables are equal row by row."""
    assert a.level == b.level
    for column in ("cells", "users", "photos", "sums"):
        assert np.array_equal(getattr(a, column), getattr(b, column)), column


def by_sql(folder: Path, lat: np.ndarray, lng: np.ndarray, users: np.ndarray, level: int) -> CountTable:
    """The table of a shard as DuckDB makes it, from a CSV file with signed ids."""
    duckdb = pytest.importorskip("duckdb", reason="the SQL engine duckdb is not installed")
    path = folder / "photos.csv"
    cells = cell_ids(lat, lng, level).view(np.int64).tolist()
    rows = zip(lat.tolist(), lng.tolist(), users.tolist(), cells, strict=True)
    path.write_text("lat,lng,user_id,cell\n" + "".join(f"{a!r},{b!r},{c},{d}\n" for a, b, c, d in rows))
    with duckdb.connect() as engine:
        types = "{'lat': 'DOUBLE', 'lng': 'DOUBLE', 'user_id': 'VARCHAR', 'cell': 'BIGINT'}"
        engine.execute(
            f"CREATE VIEW photos AS SELECT * FROM read_csv('{path}', header=true, columns={types})"
        )
        return table_of(engine.execute(QUERY).fetchnumpy())


@pytest.mark.parametrize("rules", [RULES, Rules(400, 20, 0, 16, min_users=4)])
def test_three_ways_give_one_partition(tmp_path: Path, rules: Rules) -> None:
    lat, lng = towns(COUNT)
    users = np.array([f"user {n}" for n in np.random.default_rng(0).zipf(1.3, COUNT) % 3_000])
    shards = [slice(0, 70_000), slice(70_000, 70_001), slice(70_001, COUNT)]
    table = merge_tables(count_table(lat[s], lng[s], users[s], 16) for s in shards)
    equal(table, count_table(lat, lng, users, 16))
    assert table.photos.sum() == COUNT
    asked = [by_sql(tmp_path, lat[s], lng[s], users[s], 16) for s in shards]
    equal(table, merge_tables(asked))
    direct = build_partition(Photos(lat, lng, users), rules)
    same(direct, build_partition(table, rules))
    same(direct, build_partition(merge_tables(reversed(asked)), rules))


def test_tables_without_users() -> None:
    lat, lng = towns(5_000)
    table = count_table(lat, lng)
    assert table.users is None
    same(build_partition(Photos(lat, lng), Rules(400, 20)), build_partition(table, Rules(400, 20)))
    assert {part.total for part in build_nested(table, {"fine": Rules(400, 20)}).values()} == {5_000}


def test_a_table_too_coarse() -> None:
    table = count_table(*towns(500), level=12)
    with pytest.raises(
        ValueError, match="max_level=30 is finer than the cells of the count table, of level 12; set"
    ):
        build_partition(table)


def test_tables_that_do_not_merge() -> None:
    lat, lng = towns(10)
    with pytest.raises(ValueError, match=r"must be of one level, got levels \[12, 13\]"):
        merge_tables([count_table(lat, lng, level=12), count_table(lat, lng, level=13)])
    with pytest.raises(ValueError, match=r"must be of one level, got levels \[\]"):
        merge_tables([])
    with pytest.raises(ValueError, match="1 of 2 count tables have users; all must have them, or none"):
        merge_tables([count_table(lat, lng), count_table(lat, lng, lat)])


def test_tables_that_are_none() -> None:
    table = count_table(*towns(10), level=12)
    good = {"cell": table.cells, "photos": table.photos, **dict(zip("xyz", table.sums.T, strict=True))}
    equal_rows = table_of({name: column[::-1] for name, column in good.items()})
    assert np.array_equal(equal_rows.cells, table.cells)
    with pytest.raises(ValueError, match="has no column photos, z; it has cell, x, y"):
        table_of({name: good[name] for name in ("cell", "x", "y")})
    with pytest.raises(ValueError, match="column cell of the count table must hold ids of S2 cells"):
        table_of({**good, "cell": np.arange(10)})
    with pytest.raises(ValueError, match="column cell of the count table must hold ids of S2 cells"):
        table_of({**good, "cell": table.cells.astype(np.float64)})
    mixed = np.r_[table.cells[:9], cell_ids([1.0], [1.0], 3)]
    with pytest.raises(ValueError, match=r"must be of one level, got levels \[3, 12\]"):
        table_of({**good, "cell": mixed})
    with pytest.raises(ValueError, match="must count 1 photo or more, got 0"):
        table_of({**good, "photos": table.photos * 0})
    with pytest.raises(ValueError, match="the count table has no row"):
        table_of({name: column[:0] for name, column in good.items()})


@pytest.mark.parametrize(
    "users",
    [
        np.ma.masked_array([1, 2, 3], [False, True, False]),
        np.array([1.0, np.nan, 3.0]),
        np.array(["a", None, "b"], object),
        np.array(["a", float("nan"), "b"], object),
    ],
)
def test_photos_without_a_user(users: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"1 photos have no user \(first: row 1\); give each one an owner"):
        Photos([1.0] * 3, [1.0] * 3, users)


def test_users_are_numbered() -> None:
    assert codes(["b", "a", "b"]).tolist() == codes(np.array(["b", "a", "b"], object)).tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match="2 users for 3 photos; each photo needs one"):
        Photos([1.0] * 3, [1.0] * 3, [1, 2])
