"""Partitions on disk: what is read is what was written, or an error says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from geo_places import same, towns

from mbapps.geo.counts import Photos
from mbapps.geo.partition import Partition, Rules, build_nested, build_partition
from mbapps.geo.partition_files import COLUMNS, FACTS, open_partitions, save_partitions

RULES = {"coarse": Rules(2_000, 20), "fine": Rules(400, 20)}


@pytest.fixture(scope="module")
def nested() -> dict[str, Partition]:
    """Two partitions of the same photos."""
    lat, lng = towns(20_000)
    return build_nested(Photos(lat, lng, np.arange(20_000) % 900), RULES)


@pytest.fixture
def folder(tmp_path: Path, nested: dict[str, Partition]) -> Path:
    """Both of them on disk, beside another file."""
    (tmp_path / "model.json").write_text("{}")
    return save_partitions(tmp_path, nested)


def test_there_and_back(folder: Path, nested: dict[str, Partition]) -> None:
    found = open_partitions(folder)
    assert list(found) == ["coarse", "fine"]
    for name, part in found.items():
        same(part, nested[name])
    assert (folder / "model.json").exists()
    lat, lng = towns(1_000, seed=5)
    assert np.array_equal(found["fine"].rows(lat, lng), nested["fine"].rows(lat, lng))
    alone = build_partition(Photos(lat, lng), Rules(400, 20))
    same(open_partitions(save_partitions(folder, {"cells": alone}))["cells"], alone)


def test_what_cannot_be_saved(tmp_path: Path, nested: dict[str, Partition]) -> None:
    with pytest.raises(ValueError, match="no partition to save"):
        save_partitions(tmp_path, {})
    with pytest.raises(ValueError, match="lie in no cell of the coarser partition"):
        save_partitions(tmp_path, dict(reversed(nested.items())))


def test_no_partition(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="it has no partition.json"):
        open_partitions(tmp_path)


def test_a_damaged_file_of_columns(folder: Path) -> None:
    path = folder / COLUMNS
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"\1" + content[-8:])
    with pytest.raises(
        ValueError, match="damaged: its numbers are not those that were written; bring back a copy"
    ):
        open_partitions(folder)
    path.write_bytes(content[:-100])
    with pytest.raises(ValueError, match="is not there or damaged: .*; bring back a copy of the two files"):
        open_partitions(folder)
    path.unlink()
    with pytest.raises(ValueError, match="is not there or damaged"):
        open_partitions(folder)


def test_files_of_two_partitions(folder: Path, tmp_path: Path, nested: dict[str, Partition]) -> None:
    other = save_partitions(tmp_path / "other", {"fine": nested["fine"]})
    (folder / COLUMNS).write_bytes((other / COLUMNS).read_bytes())
    with pytest.raises(ValueError, match="is not what partition.json describes: their checksums differ"):
        open_partitions(folder)


def test_a_newer_format(folder: Path) -> None:
    alter(folder, format=2)
    with pytest.raises(ValueError, match=r"has format 2, newer than this mbapps reads \(1\); update mbapps"):
        open_partitions(folder)


RULE = {"max_photos": 2_000, "min_photos": 20}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "one"},
        {"partitions": {"coarse": {"cells": 3, "total": 9, "rules": RULE}}},
        {"partitions": {"middle": {"cells": 3, "total": 9, "rules": RULE}}},
        {"partitions": {"coarse": {"cells": 3, "total": 9}}},
        {"partitions": [1]},
    ],
)
def test_damaged_facts(folder: Path, change: dict[str, Any]) -> None:
    alter(folder, **change)
    with pytest.raises(
        ValueError, match="is no description of a partition: .*; bring back a copy of the two files"
    ):
        open_partitions(folder)


def test_facts_that_are_no_json(folder: Path) -> None:
    for text in ("", "{", "[]", "7"):
        (folder / FACTS).write_text(text)
        with pytest.raises(ValueError, match="is no description of a partition"):
            open_partitions(folder)


def test_rules_in_a_file_are_checked(folder: Path) -> None:
    facts = json.loads((folder / FACTS).read_text())
    facts["partitions"]["fine"]["rules"]["max_photos"] = 0
    alter(folder, **facts)
    with pytest.raises(ValueError, match="min_photos must be 1 to max_photos=0"):
        open_partitions(folder)


def alter(folder: Path, **change: Any) -> None:
    """Change keys of the text file."""
    facts = json.loads((folder / FACTS).read_text())
    (folder / FACTS).write_text(json.dumps({**facts, **change}))
