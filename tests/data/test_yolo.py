from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import write_files
from PIL import Image

from mbapps.batches import BoxTable
from mbapps.data.detection import DetectionData
from mbapps.data.yolo import read_yolo
from mbapps.data.yolo_layout import yolo_layout

BOX = "0 0.5 0.5 0.2 0.4\n"  # of 60 x 40 px: 24, 12, 36, 28


def read(root: Path, split: str = "all", **settings: Any) -> BoxTable:
    layout = yolo_layout(root)
    assert layout is not None
    (source,) = layout.splits[split]
    return read_yolo(layout, source, **settings)


def test_columns(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100)).save(
        write_files(tmp_path, {"images/a.jpg": None, "images/b.png": None}) / "images/7.jpg"
    )
    labels = {"7": "1 0.25 0.5 0.5 1\n0 0.1 0.1 0.1 0.1\n", "a": "", "b": "0 0.1 0.2 0.9 0.2 0.1 0.7\n"}
    write_files(tmp_path, {f"labels/{stem}.txt": text for stem, text in labels.items()})
    table = read(write_files(tmp_path, {"classes.txt": "cat\ntraffic light\n"}))
    assert table.folder == tmp_path / "images"
    assert table.files.tolist() == ["7.jpg", "a.jpg", "b.png"]
    assert table.image_ids.tolist() == [1, 2, 3]
    assert table.sizes.tolist() == [[100, 200], [40, 60], [40, 60]]
    assert table.starts.tolist() == [0, 2, 2, 3]
    assert table.labels.tolist() == [1, 0, 0]
    np.testing.assert_allclose(table.boxes, [[0, 0, 100, 100], [10, 5, 30, 15], [6, 8, 54, 28]])
    np.testing.assert_allclose(table.areas, [10000, 200, 48 * 20 / 2])  # the polygon is a triangle
    assert not table.crowd.any()
    assert (table.class_names, table.category_ids) == (("cat", "traffic light"), (0, 1))
    assert table.problems == {}


def test_names_that_are_numbers_are_the_ids(tmp_path: Path) -> None:
    files: dict[str, str | None] = {f"images/{name}.jpg": None for name in ("000009", "12")}
    table = read(
        write_files(tmp_path, {**files, "labels/12.txt": BOX, "labels/000009.txt": "", "obj.names": "cat"})
    )
    assert table.image_ids.tolist() == [9, 12]


def test_an_image_that_lies_on_its_side_is_read_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    write_files(tmp_path, {"classes.txt": "cat", "labels/a.txt": BOX, "labels/b.txt": BOX, "images/x": ""})
    Image.new("RGB", (40, 60)).save(tmp_path / "images" / "a.jpg", exif=exif)
    Image.new("RGB", (40, 60)).save(tmp_path / "images" / "b.png", exif=exif)
    table = read(tmp_path)
    assert table.sizes.tolist() == [[40, 60]] * 2
    np.testing.assert_allclose(table.boxes, [[24, 12, 36, 28]] * 2)


def test_images_without_labels_and_labels_without_images_are_told(tmp_path: Path) -> None:
    files = {"images/a.jpg": None, "images/b.jpg": None, "labels/a.txt": BOX, "labels/c.txt": BOX}
    table = read(write_files(tmp_path, {**files, "labels/classes.txt": "cat\ndog"}))
    assert table.files.tolist() == ["a.jpg", "b.jpg"]
    assert table.starts.tolist() == [0, 1, 1]
    assert table.problems == {
        "image without a label file: a negative": ["b.jpg"],
        "label file without an image": [f"{tmp_path}/labels/c.txt"],
    }


def test_a_class_beyond_the_names(tmp_path: Path) -> None:
    files = {"images/a.jpg": None, "labels/a.txt": f"{BOX}2 0.5 0.5 0.1 0.1\n"}
    write_files(tmp_path, {**files, "data.yaml": "names: [cat, dog]"})
    message = r"labels/a\.txt:2: class 2, but .*data\.yaml names 2 classes, counted from 0: cat, dog"
    with pytest.raises(ValueError, match=message):
        read(tmp_path)


def test_a_line_too_short_is_skipped_and_told(tmp_path: Path) -> None:
    write_files(
        tmp_path, {"images/a.jpg": None, "labels/a.txt": f"{BOX}0 0.5 0.5 0.1\n", "classes.txt": "cat"}
    )
    table = read(tmp_path)
    assert len(table.boxes) == 1
    assert table.problems == {
        "label line dropped: it is no box": [f"{tmp_path}/labels/a.txt:2: 4 numbers, a box needs 5"]
    }


def test_bad_boxes_are_dropped_or_clipped(tmp_path: Path) -> None:
    lines = [
        "0 0.9 0.5 0.4 0.5",
        "0 1.5 0.5 0.2 0.2",
        "0 nan 0.5 0.2 0.2",
        "0 0.5 0.5 0 0.2",
        "0 .5 .5 -.2 .2",
    ]
    write_files(tmp_path, {"images/a.jpg": None, "labels/a.txt": "\n".join(lines), "classes.txt": "cat"})
    table = read(tmp_path)
    np.testing.assert_allclose(table.boxes, [[42, 10, 60, 30]])
    np.testing.assert_allclose(table.areas, [18 * 20])
    assert {reason: len(lines) for reason, lines in table.problems.items()} == {
        "box not finite": 1, "box without area": 2, "box outside the image": 1, "box clipped to the image": 1,
    }  # fmt: skip
    assert len(read(tmp_path, clean=False).boxes) == 5


def test_boxes_in_pixels(tmp_path: Path) -> None:
    write_files(tmp_path, {"images/a.jpg": None, "labels/a.txt": "0 30 20 10 10", "classes.txt": "cat"})
    with pytest.raises(
        ValueError, match=r"no box of .*images lies in its image, e\.g\. .*a\.txt:1: edges at 25 15 35"
    ):
        read(tmp_path)


def test_an_image_that_can_not_be_read_loses_its_boxes(tmp_path: Path) -> None:
    files = {"images/a.jpg": None, "images/b.jpg": "no picture", "labels/a.txt": BOX, "labels/b.txt": BOX}
    table = read(write_files(tmp_path, {**files, "classes.txt": "cat"}))
    assert table.files.tolist() == ["a.jpg", "b.jpg"]  # reading it will count it as broken
    assert table.starts.tolist() == [0, 1, 1]
    assert table.problems == {"image size can't be read: its boxes are dropped": ["b.jpg"]}


def test_no_label_file_at_all(tmp_path: Path) -> None:
    files = {"train/images/a.jpg": None, "train/labels/a.txt": BOX, "test/images/t.jpg": None}
    write_files(tmp_path, {**files, "classes.txt": "cat"})
    with pytest.raises(
        FileNotFoundError, match=r"none of the 1 images of .*test/images has a label file, e\.g\. .*t\.txt"
    ):
        read(tmp_path, "test")


def test_a_list_of_images(tmp_path: Path) -> None:
    files: dict[str, str | None] = {
        "images/a/1.jpg": None, "images/b/1.jpg": None, "labels/a/1.txt": BOX, "labels/b/1.txt": "",
        "classes.txt": "cat", "train.txt": "./images/b/1.jpg\n\nimages\\a\\1.jpg\nimages/a/1.jpg\nimages/a/2.jpg\n",
    }  # fmt: skip
    table = read(write_files(tmp_path, files), "train")
    assert table.folder == tmp_path / "images"
    assert table.files.tolist() == ["b/1.jpg", "a/1.jpg"]
    assert table.starts.tolist() == [0, 0, 1]
    assert table.problems == {"image file missing": ["images/a/2.jpg"]}
    (tmp_path / "train.txt").write_text("images/c/1.jpg\n")
    with pytest.raises(
        FileNotFoundError, match=r"none of the 1 images of .*train\.txt is there, e\.g\. images/c"
    ):
        read(tmp_path, "train")
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(FileNotFoundError, match=r"train\.txt lists no images"):
        read(tmp_path, "train")


def test_a_darknet_export(tmp_path: Path) -> None:
    files: dict[str, str | None] = {
        "obj.data": "classes = 1", "obj.names": "cat\n", "train.txt": "data/obj_train_data/a.jpg\n",
        "obj_train_data/a.jpg": None, "obj_train_data/a.txt": BOX,
    }  # fmt: skip
    table = read(write_files(tmp_path, files), "train")
    assert table.folder == tmp_path / "obj_train_data"
    assert len(table.boxes) == 1
    assert table.problems == {}


def test_a_folder_without_images(tmp_path: Path) -> None:
    write_files(tmp_path, {"classes.txt": "cat", "labels/a.txt": BOX, "images/readme": ""})
    with pytest.raises(FileNotFoundError, match=r"no images in .*images"):
        read(tmp_path)


def test_coco128_is_the_same_in_both_formats(test_data: Path) -> None:
    root = test_data / "datasets/detection/coco128"
    coco, yolo = (
        DetectionData(root=str(root), format=format, image_size=32, split="train")
        for format in (None, "yolo")
    )
    assert coco.class_names == yolo.class_names
    left, right = (
        table.take(np.argsort(table.image_ids)) for table in (coco.truth("train"), yolo.truth("train"))
    )
    assert left.files.tolist() == right.files.tolist()
    assert left.image_ids.tolist() == right.image_ids.tolist()
    assert left.sizes.tolist() == right.sizes.tolist()
    assert left.starts.tolist() == right.starts.tolist()
    ours, theirs = (
        np.lexsort((table.boxes[:, 1].round(1), table.boxes[:, 0].round(1), table.labels, table.box_images()))
        for table in (left, right)
    )
    assert left.labels[ours].tolist() == right.labels[theirs].tolist()
    np.testing.assert_allclose(left.boxes[ours], right.boxes[theirs], atol=0.001)
    assert coco.problems() == {"YOLO labels beside COCO not read; data.format=yolo reads them": [str(root)]}
    assert sorted(yolo.problems()) == [
        "image without a label file: a negative",
        "label file without an image",
    ]
