from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import coco_splits

from mbapps.data.coco_files import coco_files, image_folder

CONTENT: dict[str, object] = {"images": [], "annotations": [], "categories": []}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("images", ["train2017", "images/train2017", "images", "."])
def test_the_usual_layout(tmp_path: Path, images: str) -> None:
    (tmp_path / images).mkdir(parents=True, exist_ok=True)
    path = write(tmp_path / "annotations" / "instances_train2017.json", CONTENT)
    write(tmp_path / "annotations" / "captions_train2017.json", CONTENT)
    assert coco_splits(tmp_path) == {"train": (path, tmp_path / images)}


def test_plain_names_and_trainval(tmp_path: Path) -> None:
    paths = {
        name: write(tmp_path / "annotations" / f"{name}.json", CONTENT)
        for name in ("train", "val", "trainval")
    }
    (tmp_path / "images" / "valid").mkdir(parents=True)
    assert coco_splits(tmp_path) == {
        "train": (paths["train"], tmp_path / "images"),
        "val": (paths["val"], tmp_path / "images" / "valid"),
    }


def test_roboflow_layout(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write(tmp_path / split / "_annotations.coco.json", CONTENT)
    folders = {split: folder for split, (_, folder) in coco_splits(tmp_path).items()}
    assert folders == {"train": tmp_path / "train", "val": tmp_path / "valid", "test": tmp_path / "test"}


def test_one_file_beside_other_json(tmp_path: Path) -> None:
    path = write(tmp_path / "annotations.json", CONTENT)
    write(tmp_path / "results.json", [{"image_id": 1}])
    (tmp_path / "empty.json").touch()
    assert coco_splits(tmp_path) == {"all": (path, tmp_path)}


def test_a_folder_without_coco_files(tmp_path: Path) -> None:
    write(tmp_path / "package.json", {"name": "a"})
    assert coco_splits(tmp_path) == {}
    assert coco_splits(tmp_path / "not there") == {}


def test_two_files_of_one_split_are_left_to_the_user(tmp_path: Path) -> None:
    folder = tmp_path / "annotations"
    train = write(folder / "instances_train2014.json", CONTENT)
    both = [write(folder / f"instances_{name}2014.json", CONTENT) for name in ("minival", "val")]
    for name in ("train2014", "val2014", "val2017"):
        (tmp_path / name).mkdir()
    assert coco_splits(tmp_path) == {"train": (train, tmp_path / "train2014")}
    assert coco_files(tmp_path) == {"train": [train], "val": both}
    assert [image_folder(tmp_path, path) for path in both] == [tmp_path / "val2014"] * 2


def test_images_of_a_file_from_elsewhere(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root / "val", other / "images" / "test", tmp_path / "lists"):
        folder.mkdir(parents=True)
    assert image_folder(root, other / "annotations" / "instances_test.json") == other / "images" / "test"
    assert image_folder(root, tmp_path / "lists" / "my_val.json") == root / "val"
