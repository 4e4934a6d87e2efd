from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

from mbapps import columns
from mbapps.columns import Arrays, lend_columns, open_columns, write_columns


@pytest.fixture
def arrays() -> Arrays:
    return {
        "boxes": np.random.default_rng(0).random((100, 4)), "ids": np.arange(7), "none": np.zeros((0, 4)),
        "names": np.array(["a", "ü/b.jpg", "", "日本"]), "labels": np.arange(5, dtype=np.int32),
        "crowd": np.array([True, False, True]),
    }  # fmt: skip


def same(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(
        one[name].dtype == other[name].dtype and np.array_equal(one[name], other[name]) for name in one
    )


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def test_what_is_written_is_read(tmp_path: Path, arrays: Arrays) -> None:
    path = tmp_path / "new" / "a.safetensors"
    write_columns(path, arrays)
    assert same(open_columns(path).arrays, arrays)
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


def test_arrays_can_not_be_changed(tmp_path: Path, arrays: Arrays) -> None:
    write_columns(tmp_path / "a", arrays)
    with pytest.raises(ValueError, match="read-only"):
        open_columns(tmp_path / "a").arrays["boxes"][0, 0] = 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_arrays_are_mapped_and_not_copied(tmp_path: Path, arrays: Arrays) -> None:
    write_columns(tmp_path / "a", arrays)
    found = open_columns(tmp_path / "a")
    assert mapped(tmp_path / "a")
    del found
    assert not mapped(tmp_path / "a")


def test_every_damage_is_noticed(tmp_path: Path, arrays: Arrays) -> None:
    path = tmp_path / "a"
    write_columns(path, arrays)
    sound = path.read_bytes()
    for size in (0, 4, 100, len(sound) // 2, len(sound) - 1):
        path.write_bytes(sound[:size])
        with pytest.raises(ValueError, match=r"a is not there or damaged"):
            open_columns(path)
    places = np.random.default_rng(0).integers(0, len(sound), 100).tolist()
    for place in [*places, len(sound) - 1]:
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
        with pytest.raises(ValueError, match="damaged"):
            open_columns(path)
    path.write_bytes(sound)
    assert same(open_columns(path).arrays, arrays)


def test_other_files_are_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    with pytest.raises(ValueError, match=r"nothing is not there or damaged"):
        open_columns(tmp_path / "nothing")
    (tmp_path / "folder").mkdir()
    with pytest.raises(ValueError, match=r"folder is not there or damaged"):
        open_columns(tmp_path / "folder")
    save_file({"weights": np.ones(3)}, tmp_path / "other")
    with pytest.raises(ValueError, match="other is damaged: its numbers are not those that were written"):
        open_columns(tmp_path / "other")


def test_a_pickle_names_the_file(tmp_path: Path, arrays: Arrays) -> None:
    write_columns(tmp_path / "a", {**arrays, "large": np.zeros(100_000)})
    found = open_columns(tmp_path / "a")
    content = pickle.dumps(found)
    assert len(content) < 1000
    assert same(pickle.loads(content).arrays, found.arrays)


def test_a_file_that_was_replaced_is_not_taken_for_the_old_one(tmp_path: Path, arrays: Arrays) -> None:
    write_columns(tmp_path / "a", arrays)
    found = open_columns(tmp_path / "a")
    content = pickle.dumps(found)
    assert found.in_place()
    write_columns(tmp_path / "a", {**arrays, "ids": np.arange(8)})
    assert not found.in_place()
    assert same(found.arrays, arrays)  # the old file lives on as long as it is mapped
    with pytest.raises(ValueError, match=r"a was replaced while its data set was in use; start again"):
        pickle.loads(content)
    write_columns(tmp_path / "a", arrays)
    assert found.in_place()


def test_a_lent_file_goes_with_its_columns(arrays: Arrays) -> None:
    lent = lend_columns(arrays)
    path = lent.path
    assert same(lent.arrays, arrays)
    assert path.exists()
    del lent
    assert not path.parent.exists()


def test_a_forked_process_does_not_remove_a_lent_file(
    arrays: Arrays, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent = lend_columns(arrays)
    with monkeypatch.context() as patch:
        patch.setattr("os.getpid", lambda: -1)
        columns._remove(lent.path.parent, 1)
    assert lent.path.exists()


def test_a_full_disk_leaves_nothing(tmp_path: Path, arrays: Arrays, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(OSError, match="No space left"):
        write_columns(tmp_path / "a", arrays)
    with pytest.raises(OSError, match="No space left"):
        lend_columns(arrays)
    assert list(tmp_path.iterdir()) == []
