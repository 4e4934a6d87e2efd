from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import write_files

from mbapps.data.detection import DetectionData
from mbapps.data.yolo_layout import YoloLayout, yolo_layout

BOX = "0 0.5 0.5 0.2 0.4\n"
NAMES = "names: [cat, dog]\n"
ROBOFLOW = ["train/images:train/labels", "valid/images:valid/labels"]


def pairs(images: str, labels: str, count: int = 4) -> dict[str, str | None]:
    """Pictures in one folder and their labels in another."""
    names = [f"{images.strip('/').replace('/', '_')}{row}" for row in range(count)]
    return {f"{images}/{name}.jpg": None for name in names} | {f"{labels}/{name}.txt": BOX for name in names}


def layout_of(root: Path) -> YoloLayout:
    layout = yolo_layout(root)
    assert layout is not None
    return layout


def splits(root: Path) -> dict[str, list[str]]:
    return {
        split: [str(place.relative_to(root)) for place in places]
        for split, places in layout_of(root).splits.items()
    }


def sizes(root: Path, **settings: Any) -> dict[str, int]:
    data = DetectionData(root=str(root), image_size=32, num_workers=0, **settings)
    assert all(len(table.boxes) == len(table) for table in data.tables.values())
    return {split: len(table) for split, table in data.tables.items()}


@pytest.mark.parametrize(
    ("places", "yaml", "expected"),
    [
        (["images/train:labels/train", "images/val:labels/val"], "train: images/train\nval: images/val\n", (4, 4)),
        (["images/train2017:labels/train2017", "images/val2017:labels/val2017"], "", (4, 4)),
        (ROBOFLOW, "train: ../train/images\nval: ../valid/images\n", (4, 4)),
        (ROBOFLOW, "", (4, 4)),
        (["train:train", "val:val"], "", (4, 4)),
        (["train:train/labels", "val:val/labels"], "train: train\nval: val\n", (4, 4)),
        (
            ["images/a:labels/a", "images/b:labels/b", "images/val:images/val"],
            "train: [images/a, images/b]\nval: images/val\n",
            (8, 4),
        ),
        (["set/images:set/labels"], "path: set\ntrain: images\n", (3, 1)),
        (["images:labels"], "path: /elsewhere/set\ntrain: images\ntest: null\nval:\n", (3, 1)),
        (["images:labels"], "", (3, 1)),
        (["images:images"], "", (3, 1)),
        (["/:/"], "", (3, 1)),
    ],
)  # fmt: skip
def test_layouts_in_the_wild(tmp_path: Path, places: list[str], yaml: str, expected: tuple[int, int]) -> None:
    root = tmp_path / "set"
    for place in places:
        images, _, labels = place.partition(":")
        write_files(root, pairs(images.strip("/") or ".", labels.strip("/") or "."))
    write_files(root, {"data.yaml": yaml + NAMES} if yaml else {"classes.txt": "cat\ndog\n"})
    found = sizes(root, test="val" if expected[1] > 1 else None, test_fraction=0.01)
    train, val = expected
    assert found == {"train": train if val > 1 else train - 1, "val": val, "test": val}


def test_two_folders_of_one_word_keep_their_names(tmp_path: Path) -> None:
    for name in ("train", "val2014", "val2017"):
        write_files(tmp_path, pairs(f"images/{name}", f"labels/{name}"))
    write_files(tmp_path, {"classes.txt": "cat"})
    assert splits(tmp_path) == {
        "train": ["images/train"], "val2014": ["images/val2014"], "val2017": ["images/val2017"],
    }  # fmt: skip
    assert sizes(tmp_path, val="val2014", test="images/val2017") == {"train": 4, "val": 4, "test": 4}
    assert sizes(tmp_path, train=["train", "val2014"], val="val2017", test="val2017")["train"] == 8


def test_lists_by_split(tmp_path: Path) -> None:
    files = pairs("images", "labels")
    names = sorted(name for name in files if name.endswith("jpg"))
    write_files(
        tmp_path, {**files, "train.txt": "\n".join(names[:2]), "valid.txt": names[2], "test.txt": names[3]}
    )
    write_files(tmp_path, {"classes.txt": "cat"})
    assert splits(tmp_path) == {"train": ["train.txt"], "val": ["valid.txt"], "test": ["test.txt"]}
    assert sizes(tmp_path) == {"train": 2, "val": 1, "test": 1}
    write_files(tmp_path, {"data.yaml": f"{NAMES}train: train.txt\nval: valid.txt\ntest: test.txt"})
    assert sizes(tmp_path) == {"train": 2, "val": 1, "test": 1}


def test_val_that_is_train_is_cut_from_it(tmp_path: Path) -> None:
    write_files(tmp_path, pairs("images/train", "labels/train", 10))
    write_files(tmp_path, {"data.yaml": f"{NAMES}train: images/train\nval: images/train\n"})
    data = DetectionData(root=str(tmp_path), image_size=32)
    assert {split: len(table) for split, table in data.tables.items()} == {"train": 8, "val": 1, "test": 1}
    told = data.problems()["val split that is train in data.yaml: cut from train"]
    assert told == [str(tmp_path / "images/train")]


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    write_files(tmp_path, pairs("images/train", "labels/train", 10))
    yaml = tmp_path / "data.yaml"
    yaml.write_text(f"{NAMES}train: images/train\nval: images/train\ntest: ../test/images\n")
    data = DetectionData(root=str(tmp_path), image_size=32)
    reason = "split that data.yaml names and that is not there"
    assert data.problems()[reason] == ["test: ../test/images"]
    yaml.write_text(f"{NAMES}train: [images/train, images/more]\n")
    with pytest.raises(
        FileNotFoundError, match=r"no images and no list of them at .*more, which .*data\.yaml names"
    ):
        DetectionData(root=str(tmp_path), image_size=32)
    yaml.write_text(f"{NAMES}train: images/old\nval: images/old\n")  # nothing is where it says: look
    data = DetectionData(root=str(tmp_path), image_size=32)
    assert data.problems()[reason] == ["train: images/old", "val: images/old"]
    assert len(data.truth("train")) == 8


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("names: [no, 1, 'traffic light']", ("no", "1", "traffic light")),
        ("names: {1: b, 0: a}\nnc: 2", ("a", "b")),
        ("names:\n  - a\n  - b\n", ("a", "b")),
        ("nc: 2", ("class0", "class1")),
    ],
)
def test_names(tmp_path: Path, yaml: str, expected: tuple[str, ...]) -> None:
    write_files(
        tmp_path, {**pairs("images", "labels"), "coco8.yaml": yaml, "other.yaml": "a: [", "args.yaml": "a: 1"}
    )
    layout = layout_of(tmp_path)
    assert layout.class_names == expected
    assert layout.source == tmp_path / "coco8.yaml"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("data.yaml", "names: [", r"data\.yaml is no yaml file"),
        ("data.yaml", "names: [a]\nnc: 2", r"data\.yaml: nc is 2, but names has 1: a"),
        ("data.yaml", "names: {0: a, 2: b}", r"names must be numbered from 0 to 1, got 0, 2"),
        ("data.yaml", "names: coco.names", r"data\.yaml: names must be a list of the classes"),
        ("data.yaml", "names: []", r"data\.yaml: names must be a list of the classes"),
        ("data.yaml", "names: [a, b, a]", r"data\.yaml: two classes are called 'a'"),
        ("data.yaml", "names: [a]\nkpt_shape: [17, 3]", r"has kpt_shape: labels of poses are not read"),
        ("classes.txt", "a\n\nb\n", r"classes\.txt:2: a class without a name"),
        ("obj.names", "a\na\n", r"obj\.names: two classes are called 'a'"),
    ],
)
def test_bad_names(tmp_path: Path, name: str, content: str, message: str) -> None:
    write_files(tmp_path, {**pairs("images", "labels"), name: content})
    with pytest.raises(ValueError, match=message):
        yolo_layout(tmp_path)


def test_other_folders_are_no_yolo_sets(tmp_path: Path) -> None:
    write_files(tmp_path, pairs("images", "labels"))
    assert yolo_layout(tmp_path) is None  # nothing names the classes
    with pytest.raises(
        FileNotFoundError, match=r"no yolo annotations in data\.root=.*data\.yaml or classes\.txt"
    ):
        DetectionData(root=str(tmp_path), image_size=32, format="yolo")
    photos = write_files(
        tmp_path / "photos", {"images/a.jpg": None, "data.yaml": NAMES, "images/classes.txt": ""}
    )
    assert yolo_layout(photos) is None  # nothing is labelled
    captions = write_files(tmp_path / "captions", {"a.jpg": None, "notes.txt": "", "classes.txt": "cat"})
    assert yolo_layout(captions) is None


def test_a_link_to_a_folder_above_is_followed_once(tmp_path: Path) -> None:
    write_files(tmp_path, {"classes.txt": "cat\ndog\n", **pairs("images/train", "labels/train")})
    (tmp_path / "images" / "train" / "up").symlink_to(tmp_path / "images")
    data = DetectionData(root=str(tmp_path), image_size=32, num_workers=0, train="train", split="test")
    assert len(data.truth("test")) == 4
