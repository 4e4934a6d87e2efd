"""What a student sees belongs to what its teacher says of it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from class_files import CLASSES, break_file, write_classes, write_images
from torch import Tensor

from mbapps.batches import UNKNOWN, ClassificationBatch, IdentityTable, LabelTable
from mbapps.data.image_folder import read_image_folder
from mbapps.data.labelled import LabelledCollate
from mbapps.data.students import STILL, StudentDataset, add_unlabeled, moving_parts
from mbapps.data.teacher_outputs import OutputCache, teacher_outputs

SIZE, TEACHER_SIZE = 12, 16


@pytest.fixture
def table(tmp_path: Path) -> LabelTable:
    return read_image_folder(write_classes(tmp_path / "set", 4))


def halves(views: Tensor) -> Tensor:
    """Brightness of the left and of the right half, [B, 2]."""
    return views.float().unflatten(3, (2, views.shape[3] // 2)).mean(dim=(1, 2, 4))


def students(table: LabelTable, augment: dict[str, Any] | None, home: Path | None) -> StudentDataset:
    outputs = None
    if home:
        outputs, _ = teacher_outputs(
            table, halves, OutputCache({}, home),
            size=TEACHER_SIZE, central_crop=0.8, views=2, batch_size=8, num_workers=0,
        )  # fmt: skip
    return StudentDataset(
        table, image_size=SIZE, teacher_size=TEACHER_SIZE, central_crop=0.8, augment=augment, seed=3,
        collate=LabelledCollate(SIZE), outputs=outputs,
    )  # fmt: skip


def batch_of(dataset: StudentDataset, epoch: int) -> ClassificationBatch:
    return dataset.collate([dataset[epoch, row] for row in range(len(dataset))])


def test_outputs_are_of_the_view_that_the_student_sees(table: LabelTable, tmp_path: Path) -> None:
    dataset = students(table, {**STILL, "flip": 0.5}, tmp_path / "cache")
    sides = []
    for epoch in range(4):
        batch = batch_of(dataset, epoch)
        assert batch.images.shape == (12, 3, SIZE, SIZE)
        assert batch.views is None
        torch.testing.assert_close(
            halves(batch.images), batch.teacher, atol=3.0, rtol=0
        )  # other sizes of the same
        sides.append(batch.teacher[:, 0] > batch.teacher[:, 1])  # images are brighter on the left
        again = batch_of(dataset, epoch)
        assert torch.equal(again.images, batch.images)
    share = torch.stack(sides).float().mean()
    assert 0.2 < share < 0.8
    assert not torch.equal(sides[0], sides[1])


def test_without_augmentation_the_student_sees_the_centre(table: LabelTable, tmp_path: Path) -> None:
    dataset = students(table, None, tmp_path / "cache")
    batch = batch_of(dataset, 0)
    assert (batch.teacher[:, 0] > batch.teacher[:, 1]).all()
    assert torch.equal(batch.images, batch_of(dataset, 1).images)


def test_colours_change_for_the_student_alone(table: LabelTable, tmp_path: Path) -> None:
    plain = batch_of(students(table, None, tmp_path / "cache"), 0)
    coloured = batch_of(students(table, {**STILL, "flip": 0.0, "photometric": 0.5}, tmp_path / "cache"), 0)
    assert torch.equal(plain.teacher, coloured.teacher)
    assert not torch.equal(plain.images, coloured.images)


@pytest.mark.parametrize("teacher_size", [8, 16])
def test_a_teacher_that_is_asked_sees_what_the_student_sees(table: LabelTable, teacher_size: int) -> None:
    dataset = StudentDataset(
        table, image_size=SIZE, teacher_size=teacher_size, central_crop=0.8, augment={"flip": 0.5}, seed=3,
        collate=LabelledCollate(SIZE),
    )  # fmt: skip
    batch = batch_of(dataset, 0)
    assert batch.teacher is None
    assert batch.views.shape == (12, 3, teacher_size, teacher_size)
    assert batch.views.dtype == torch.uint8
    torch.testing.assert_close(halves(batch.images), halves(batch.views), atol=4.0, rtol=0)


def test_an_image_broken_since_gives_place_to_the_next(table: LabelTable, tmp_path: Path) -> None:
    dataset = students(table, None, tmp_path / "cache")
    break_file(table.folder / table.files[2])
    sample = dataset[0, 2].sample
    assert sample.row == 3
    assert table.files[2] in sample.broken[0]
    np.testing.assert_array_equal(dataset[0, 2].teacher, dataset[0, 3].teacher)
    for file in table.files:
        break_file(table.folder / file)
    batch = dataset.collate([dataset[0, 0]])
    assert len(batch.images) == 0
    assert len(batch.broken) == len(table)


@pytest.mark.parametrize(
    ("augment", "moving"),
    [
        (None, []),
        ({**STILL, "flip": 0.5, "photometric": 0.4, "erase": 0.3}, []),
        ({}, ["data.augment.crop_min_area=0.6", "data.augment.crop_max_aspect=1.33"]),
        ({"crop_min_area": 1.0}, []),  # without a crop its shape does not matter
        ({**STILL, "vertical_flip": 0.1}, ["data.augment.vertical_flip=0.1"]),
    ],
)
def test_what_moves_an_image_is_named(augment: dict[str, Any] | None, moving: list[str]) -> None:
    assert moving_parts(augment) == moving


def test_unlabeled_images_join_the_labelled(table: LabelTable, tmp_path: Path) -> None:
    write_images(tmp_path / "more" / "deep", 3, seed=50)
    break_file(tmp_path / "more" / "._1.png")  # what macOS leaves
    (tmp_path / "more" / "notes.txt").write_text("no image")
    joined, left_out = add_unlabeled(table, tmp_path / "more", keep=True, known=[table])
    assert left_out == 0
    assert joined.labels.tolist() == [*table.labels.tolist(), *[UNKNOWN] * 3]
    assert all(Path(file).is_file() for file in joined.files)
    assert joined.class_names == CLASSES
    alone, _ = add_unlabeled(table, tmp_path / "more", keep=False, known=[table])
    assert alone.files.tolist() == joined.files[-3:].tolist()
    crops = np.tile(np.array([1, 2, 30, 30], dtype=np.int32), (len(table), 1))
    cropped, _ = add_unlabeled(replace(table, crops=crops), tmp_path / "more", keep=True, known=[table])
    dataset = students(cropped, None, tmp_path / "cache")
    assert dataset[0, 0].sample.size == (28, 29)
    assert dataset[0, len(table)].sample.size == (40, 48)


def test_unlabeled_faces_are_taken_whole(table: LabelTable, tmp_path: Path) -> None:
    write_images(tmp_path / "more", 2, seed=50)
    shutil.copy(table.folder / table.files[1], tmp_path / "more" / "copy.png")
    faces = IdentityTable(
        table.folder, table.files, table.labels, table.class_names,
        face_crop=np.full(len(table), 0.5, dtype=np.float32),
    )  # fmt: skip
    joined, left_out = add_unlabeled(faces, tmp_path / "more", keep=True, known=[faces])
    assert left_out == 1  # told by the file, not by the part that counts
    dataset = students(joined, None, tmp_path / "cache")
    assert dataset[0, 0].sample.size == (20, 24)
    assert dataset[0, len(table)].sample.size == (40, 48)
    alone, _ = add_unlabeled(faces, tmp_path / "more", keep=False, known=[faces])
    assert students(alone, None, None)[0, 0].sample.size == (40, 48)


def test_images_that_are_measured_on_are_no_unlabeled_ones(table: LabelTable, tmp_path: Path) -> None:
    write_images(tmp_path / "more", 2, seed=50)
    for row in (1, 4):
        shutil.copy(table.folder / table.files[row], tmp_path / "more" / f"copy{row}.png")
    joined, left_out = add_unlabeled(
        table, tmp_path / "more", keep=True, known=[table.take(np.array([1, 4]))]
    )
    assert left_out == 2
    assert len(joined) == len(table) + 2
    with pytest.raises(ValueError, match=r"all images in distill\.images=.* are among the set's own"):
        add_unlabeled(table, table.folder, keep=True, known=[table])


def test_an_unlabeled_folder_without_images(table: LabelTable, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no folder at distill\.images=.*nowhere"):
        add_unlabeled(table, tmp_path / "nowhere", keep=True, known=[table])
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no images in distill\.images=.*empty; they end in .*\.jpg"):
        add_unlabeled(table, tmp_path / "empty", keep=True, known=[table])
    for number in range(3):
        break_file(tmp_path / "broken" / f"{number}.png")
    with pytest.raises(
        ValueError, match=r"none of the 3 images in distill\.images=.*broken can be read: .*0\.png"
    ):
        add_unlabeled(table, tmp_path / "broken", keep=True, known=[table])
