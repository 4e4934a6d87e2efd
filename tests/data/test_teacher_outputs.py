"""What a teacher said is kept by the images' content, and used for that teacher alone."""

from __future__ import annotations

import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from class_files import break_file, write_classes
from torch import Tensor

from mbapps.batches import LabelTable
from mbapps.data import teacher_outputs as module
from mbapps.data.image_folder import read_image_folder
from mbapps.data.teacher_outputs import OutputCache, TeacherOutputs, content_keys, teacher_outputs
from mbapps.images import central_view, read_image

SIZE = 16


class Teacher:
    """Tells the brightness of the left and of the right half; counts what it was asked."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, views: Tensor) -> Tensor:
        self.asked += len(views)
        assert views.shape[1:] == (3, SIZE, SIZE)
        assert views.dtype == torch.uint8
        halves = views.float().unflatten(3, (2, SIZE // 2))
        return halves.mean(dim=(1, 2, 4))  # [B, 2]


@pytest.fixture
def table(tmp_path: Path) -> LabelTable:
    return read_image_folder(write_classes(tmp_path / "set", 4))


def ask(
    table: LabelTable, teacher: Any, home: Path, *, asked: str = "a", views: int = 2
) -> tuple[TeacherOutputs, dict[int, str]]:
    cache = OutputCache({"teacher": asked}, home)
    return teacher_outputs(
        table, teacher, cache, size=SIZE, central_crop=0.8, views=views, batch_size=5, num_workers=0
    )


def shards(home: Path) -> list[Path]:
    return sorted(home.rglob("*.safetensors"))


def test_outputs_are_those_of_the_centre_and_of_its_mirror_image(table: LabelTable, tmp_path: Path) -> None:
    outputs, failed = ask(table, Teacher(), tmp_path / "cache")
    assert failed == {}
    for row, file in enumerate(table.files):
        square = central_view(read_image(table.folder / file), SIZE, 0.8).astype(np.float64)
        left, right = square[:, : SIZE // 2].mean(), square[:, SIZE // 2 :].mean()
        np.testing.assert_allclose(outputs[row, 0], [left, right], rtol=1e-5)
        np.testing.assert_allclose(outputs[row, 1], [right, left], rtol=1e-5)


def test_a_teacher_is_asked_once(table: LabelTable, tmp_path: Path) -> None:
    home, teacher = tmp_path / "cache", Teacher()
    first, _ = ask(table, teacher, home)
    assert teacher.asked == 2 * len(table)
    second, _ = ask(table, teacher, home)
    third, _ = ask(table.take(np.array([5, 2])), teacher, home, views=1)
    assert teacher.asked == 2 * len(table)
    np.testing.assert_array_equal(first[5, 0], second[5, 0])
    np.testing.assert_array_equal(first[2, 0], third[1, 0])
    elsewhere = tmp_path / "moved"
    shutil.move(table.folder, elsewhere)  # content counts, not the place
    ask(replace(table, folder=elsewhere), teacher, home)
    assert teacher.asked == 2 * len(table)


def test_a_new_image_a_changed_one_and_another_crop_are_asked_about(
    table: LabelTable, tmp_path: Path
) -> None:
    home, teacher = tmp_path / "cache", Teacher()
    ask(table, teacher, home)
    teacher.asked = 0
    changed = table.folder / table.files[0]
    shutil.copy(table.folder / table.files[1], changed)
    ask(table, teacher, home)
    assert teacher.asked == 0  # the same as another one now
    write_classes(tmp_path / "set", 5)
    ask(read_image_folder(tmp_path / "set"), teacher, home)
    assert teacher.asked == 2 * 3
    crops = np.tile(np.array([0, 0, 20, 20], dtype=np.int32), (len(table), 1))
    teacher.asked = 0
    ask(replace(table, crops=crops), teacher, home, views=1)
    assert teacher.asked == len(table)


def test_another_teacher_is_asked_itself(table: LabelTable, tmp_path: Path) -> None:
    home = tmp_path / "cache"
    ask(table, Teacher(), home)
    other = Teacher()
    outputs, _ = ask(table, lambda views: -other(views), home, asked="b")
    assert other.asked == 2 * len(table)
    assert (outputs[0, 0] < 0).all()


def test_a_shard_of_another_teacher_is_not_used_wherever_it_lies(table: LabelTable, tmp_path: Path) -> None:
    home = tmp_path / "cache"
    ask(table, Teacher(), home)
    (shard,) = shards(home)
    wrong = OutputCache({"teacher": "b"}, home).folder
    wrong.mkdir()
    shutil.copy(shard, wrong / shard.name)
    other = Teacher()
    ask(table, other, home, asked="b")
    assert other.asked == 2 * len(table)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_half_written_or_damaged_shard_is_asked_anew(
    table: LabelTable, tmp_path: Path, damage: str
) -> None:
    home, teacher = tmp_path / "cache", Teacher()
    first, _ = ask(table, teacher, home)
    (shard,) = shards(home)
    content = bytearray(shard.read_bytes())
    content[-3] ^= 0xFF
    left = {"cut": content[: len(content) // 2], "flipped": content, "empty": b""}[damage]
    shard.unlink()  # mapped by `first`: written over, it would change under it
    shard.write_bytes(left)
    second, _ = ask(table, teacher, home)
    assert teacher.asked == 4 * len(table)
    np.testing.assert_array_equal(first[3, 1], second[3, 1])


def test_a_kill_loses_no_finished_shard(
    table: LabelTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SHARD_IMAGES", 5)
    home, teacher = tmp_path / "cache", Teacher()

    def dying(views: Tensor) -> Tensor:
        if teacher.asked >= 20:  # two batches of five, each with its mirror images
            raise KeyboardInterrupt
        return teacher(views)

    with pytest.raises(KeyboardInterrupt):
        ask(table, dying, home)
    assert len(shards(home)) == 2
    ask(table, teacher, home)
    assert teacher.asked == 2 * len(table)


def test_broken_and_missing_images_have_their_reasons(table: LabelTable, tmp_path: Path) -> None:
    broken, gone = table.folder / table.files[3], table.folder / table.files[7]
    break_file(broken)
    shutil.copy(broken, table.folder / table.files[4])  # two copies
    gone.unlink()
    teacher = Teacher()
    outputs, failed = ask(table, teacher, tmp_path / "cache")
    assert sorted(failed) == [3, 4, 7]
    assert failed[3].startswith(f"{broken}: ")
    assert failed[4] == f"{table.folder / table.files[4]}: a copy of {failed[3]}"
    assert f"{gone}: No such file" in failed[7]
    assert teacher.asked == 2 * (len(table) - 3)
    assert np.isfinite(outputs[11, 1]).all()


def test_a_teacher_out_of_its_mind_is_not_kept(table: LabelTable, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="the teacher answers with numbers that are not finite"):
        ask(table, lambda views: torch.full((len(views), 2), torch.nan), tmp_path / "cache")
    assert shards(tmp_path / "cache") == []


def test_other_processes_map_the_same_files(table: LabelTable, tmp_path: Path) -> None:
    outputs, _ = ask(table, Teacher(), tmp_path / "cache")
    content = pickle.dumps(outputs)
    assert len(content) < 5000
    np.testing.assert_array_equal(pickle.loads(content)[3, 1], outputs[3, 1])


def test_keys_differ_by_content_and_view(table: LabelTable) -> None:
    keys, failed = content_keys(table)
    assert failed == {}
    assert len(np.unique(keys)) == 2 * len(table)
