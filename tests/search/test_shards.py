from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mbapps.search.checks import ModelId
from mbapps.search.shards import (
    Shard,
    contents_key,
    read_shard,
    remove_shards,
    shard_path,
    write_shard,
)

MODEL = ModelId("runs/a/model", "a" * 32, {"flip": False})


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    names = [tmp_path / "ü a.jpg", tmp_path / "b.jpg"]
    for name in names:
        name.write_text("picture")
    return names


def test_a_shard_comes_back(tmp_path: Path) -> None:
    made = Shard(np.ones((2, 4), np.float32), np.array([0, 2]), ["b.jpg: is broken"])
    path = shard_path(tmp_path / "shards", 3)
    write_shard(path, "key", made)
    found = read_shard(path, "key")
    assert found is not None
    np.testing.assert_array_equal(found.vectors, made.vectors)
    np.testing.assert_array_equal(found.rows, made.rows)
    assert found.broken == made.broken
    assert [file.name for file in path.parent.iterdir()] == ["000003.safetensors"]


def test_a_shard_of_broken_files_comes_back(tmp_path: Path) -> None:
    made = Shard(np.empty((0, 0), np.float32), np.empty(0, np.int64), ["a: is broken", "b: is broken"])
    write_shard(tmp_path / "s", "key", made)
    found = read_shard(tmp_path / "s", "key")
    assert found is not None
    assert found.broken == made.broken
    assert len(found.rows) == 0


def test_what_is_missing_damaged_or_of_others_is_made_again(tmp_path: Path) -> None:
    assert read_shard(tmp_path / "s", "key") is None
    write_shard(tmp_path / "s", "key", Shard(np.ones((2, 4), np.float32), np.arange(2), []))
    assert read_shard(tmp_path / "s", "other") is None
    sound = (tmp_path / "s").read_bytes()
    for content in (sound[:-1], sound[:20], b"", sound[:-3] + b"\x00" + sound[-2:]):
        (tmp_path / "s").write_bytes(content)
        assert read_shard(tmp_path / "s", "key") is None
    (tmp_path / "s").write_bytes(sound)
    assert read_shard(tmp_path / "s", "key") is not None


def test_the_key_follows_files_and_model(files: list[Path]) -> None:
    key = contents_key(files, MODEL)
    assert contents_key(files, replace(MODEL, name="elsewhere")) == key
    assert contents_key(files, replace(MODEL, fingerprint="b" * 32)) != key
    assert contents_key(files, replace(MODEL, view={"flip": True})) != key
    assert contents_key(files[:1], MODEL) != key
    assert contents_key(files[::-1], MODEL) != key
    os.utime(files[0], ns=(1, 1))
    assert contents_key(files, MODEL) != key
    files[0].unlink()
    with pytest.raises(FileNotFoundError, match="ü a.jpg"):
        contents_key(files, MODEL)


def test_removing_shards_takes_nothing_else(tmp_path: Path) -> None:
    folder, alone = tmp_path / "g.shards", tmp_path / "h.shards"
    for place in (folder, alone):
        write_shard(shard_path(place, 0), "key", Shard(np.ones((1, 4), np.float32), np.array([0]), []))
    (folder / "mine.txt").write_text("")
    for place in (folder, alone, tmp_path / "nowhere"):
        remove_shards(place)
    assert [path.name for path in folder.iterdir()] == ["mine.txt"]
    assert not alone.exists()
