from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import coco_splits

from mbapps.data.coco import read_coco

Content = dict[str, Any]


@pytest.fixture
def content() -> Content:
    """Three images with ids and categories in no order and with gaps; the second has no box."""
    return {
        "images": [
            {"id": 70, "file_name": "c.jpg", "height": 100, "width": 200},
            {"id": -5, "file_name": "a.jpg", "height": 50, "width": 60},
            {"id": 2**40, "file_name": "b.jpg", "height": 10, "width": 20},
        ],
        "categories": [
            {"id": 90, "name": "toothbrush"},
            {"id": 1, "name": "person"},
            {"id": 13, "name": "sign"},
        ],
        "annotations": [
            {"id": 1, "image_id": 2**40, "category_id": 13, "bbox": [1, 2, 3, 4], "area": 7.5, "iscrowd": 1},
            {"id": 2, "image_id": 70, "category_id": 90, "bbox": [0.1, 0.2, 10.5, 20.25]},
            {"id": 3, "image_id": 70, "category_id": 1, "bbox": [5, 5, 1, 1], "area": 1, "iscrowd": 0},
        ],
    }


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def test_columns(tmp_path: Path, content: Content) -> None:
    table = read_coco(write(tmp_path / "a.json", content))
    assert table.class_names == ("person", "sign", "toothbrush")
    assert table.category_ids == (1, 13, 90)
    assert table.files.tolist() == ["c.jpg", "a.jpg", "b.jpg"]
    assert table.image_ids.tolist() == [70, -5, 2**40]
    assert table.sizes.tolist() == [[100, 200], [50, 60], [10, 20]]
    assert table.starts.tolist() == [0, 2, 2, 3]
    assert table.labels.tolist() == [2, 0, 1]
    assert table.boxes.tolist() == [[0.1, 0.2, 0.1 + 10.5, 0.2 + 20.25], [5, 5, 6, 6], [1, 2, 4, 6]]
    assert table.areas.tolist() == [10.5 * 20.25, 1, 7.5]
    assert table.crowd.tolist() == [False, False, True]
    assert table.problems == {}
    assert table.folder == tmp_path


def test_bad_boxes_go_only_where_asked(tmp_path: Path, content: Content) -> None:
    content["annotations"] += [
        {"id": 4, "image_id": 70, "category_id": 1, "bbox": [150, 50, 100, 10]},
        {"id": 5, "image_id": 70, "category_id": 1, "bbox": [5, 5, 0, 3]},
    ]
    path = write(tmp_path / "a.json", content)
    assert read_coco(path, clean=False).boxes[2:4].tolist() == [[150, 50, 250, 60], [5, 5, 5, 8]]
    table = read_coco(path)
    assert table.boxes[2].tolist() == [150, 50, 200, 60]
    assert table.areas[2] == 500
    assert {reason: len(lines) for reason, lines in table.problems.items()} == {
        "box without area": 1,
        "box clipped to the image": 1,
    }


def test_strange_annotations_are_dropped_and_told_by_number(tmp_path: Path, content: Content) -> None:
    content["annotations"] += [
        {"id": 4, "image_id": 3, "category_id": 1, "bbox": [1, 1, 1, 1]},
        {"id": 5, "image_id": 70, "category_id": 2, "bbox": [1, 1, 1, 1]},
        {"id": 6, "image_id": 70, "category_id": 1, "bbox": []},
        {"id": 7, "image_id": 70, "category_id": 1},
        {"id": 8, "image_id": 70, "category_id": 1, "bbox": [1, 1, None, 1]},
    ]
    table = read_coco(write(tmp_path / "a.json", content))
    assert len(table.boxes) == 3
    assert table.problems == {
        "annotation without a box": ["annotation 6", "annotation 7"],
        "annotation of unknown image": ["annotation 4: image_id 3"],
        "annotation of unknown category": ["annotation 5: category_id 2"],
        "box not finite": ["c.jpg: box 1 1 nan 2"],
    }


def test_images_are_looked_up_in_the_folder(tmp_path: Path, content: Content) -> None:
    for name in ("b.jpg", "c.jpg", "extra.png", "notes.txt"):
        (tmp_path / name).touch()
    table = read_coco(write(tmp_path / "a.json", content), tmp_path)
    assert table.files.tolist() == ["c.jpg", "b.jpg"]
    assert table.starts.tolist() == [0, 2, 3]
    assert table.problems == {"image file missing": ["a.jpg"], "image without annotation": ["extra.png"]}


def test_names_with_a_folder(tmp_path: Path, content: Content) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.jpg").touch()
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").touch()
    names = ["sub/c.jpg", "not there/a.jpg", "D:\\photos\\b.jpg"]
    for image, name in zip(content["images"], names, strict=True):
        image["file_name"] = name
    table = read_coco(write(tmp_path / "a.json", content), tmp_path)
    assert table.files.tolist() == ["sub/c.jpg", "a.jpg", "b.jpg"]
    assert table.problems == {}


def test_roboflow_lists_its_project_as_a_class(tmp_path: Path, content: Content) -> None:
    content["categories"] = [
        {"id": 0, "name": "sign", "supercategory": "none"},
        {"id": 1, "name": "person", "supercategory": "sign"},
        {"id": 13, "name": "sign", "supercategory": "sign"},
        {"id": 90, "name": "toothbrush", "supercategory": "sign"},
    ]
    assert read_coco(write(tmp_path / "a.json", content)).category_ids == (1, 13, 90)


def test_no_annotations_make_an_all_negative_set(tmp_path: Path, content: Content) -> None:
    content["annotations"] = []
    table = read_coco(write(tmp_path / "a.json", content))
    assert len(table) == 3
    assert table.boxes.shape == (0, 4)


@pytest.mark.parametrize("key", ["images", "annotations", "categories"])
def test_a_missing_key_is_named(tmp_path: Path, content: Content, key: str) -> None:
    del content[key]
    with pytest.raises(ValueError, match=f"no COCO instances file: it has no key '{key}'"):
        read_coco(write(tmp_path / "a.json", content))


def test_a_missing_key_of_an_entry_is_named(tmp_path: Path, content: Content) -> None:
    del content["images"][1]["file_name"]
    with pytest.raises(ValueError, match="an entry has no key 'file_name'"):
        read_coco(write(tmp_path / "a.json", content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "lists no images"),
        ({"images": "many"}, "'images' must be a list of objects"),
        ({"categories": [3]}, "'categories' must be a list of objects"),
        ({"categories": []}, "lists no categories"),
        ({"images": [{"id": 1, "file_name": "a"}, {"id": 1, "file_name": "b"}]}, "two images have the id 1"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two categories have the id 1"),
        ({"categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}, "two categories are called 'a'"),
        ({"images": [{"id": "one", "file_name": "a"}]}, r"a\.json: id must be a whole number .*, got 'one'"),
        ({"images": [{"id": 2**63, "file_name": "a"}]}, r"a\.json: id must be a whole number of 64 bits"),
        ({"categories": [{"id": None, "name": "a"}]}, r"a\.json: id must be a whole number .*, got None"),
        ({"annotations": [{"image_id": 70, "category_id": 1}]}, "no annotation has a 'bbox' of four numbers"),
        (
            {"annotations": [{"image_id": 70, "category_id": 1, "bbox": [1, 2, 3, "wide"]}]},
            "a bbox must hold four numbers: .*wide",
        ),
    ],
)
def test_what_is_no_truth_is_refused(tmp_path: Path, content: Content, change: Content, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_coco(write(tmp_path / "a.json", content | change))


def test_other_files_are_refused(tmp_path: Path, content: Content) -> None:
    with pytest.raises(FileNotFoundError, match=r"no annotations at .*nothing\.json"):
        read_coco(tmp_path / "nothing.json")
    (tmp_path / "text.json").write_text("not json")
    with pytest.raises(ValueError, match=r"text\.json is no json file"):
        read_coco(tmp_path / "text.json")
    with pytest.raises(ValueError, match="has no key 'images'"):
        read_coco(write(tmp_path / "list.json", [1, 2]))
    path = write(tmp_path / "a.json", content)
    with pytest.raises(FileNotFoundError, match=r"no image folder at .*photos, which .*a\.json needs"):
        read_coco(path, tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    with pytest.raises(
        FileNotFoundError, match=r"none of the 3 images of .*a\.json is in .*photos, e\.g\. c\.jpg"
    ):
        read_coco(path, tmp_path / "photos")


@pytest.mark.parametrize("side", [None, float("nan"), float("inf"), -3, "60", 2**40])
def test_a_side_that_is_no_size_is_unknown(tmp_path: Path, content: Content, side: object) -> None:
    content["images"][1]["width"] = side
    table = read_coco(write(tmp_path / "a.json", content))
    assert table.sizes.tolist() == [[100, 200], [50, 0], [10, 20]]


@pytest.mark.parametrize("value", [None, "1", 1.5, [1], 2**70])
@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_an_annotation_of_no_number_is_counted(
    tmp_path: Path, content: Content, key: str, value: object
) -> None:
    content["annotations"][2][key] = value
    content["annotations"][1]["area"] = "large"
    table = read_coco(write(tmp_path / "a.json", content))
    assert table.areas.tolist() == [10.5 * 20.25, 7.5]
    reason = f"annotation of unknown {key.removesuffix('_id')}"
    assert table.problems == {reason: [f"annotation 3: {key} {value}"]}


def test_coco128(test_data: Path) -> None:
    root = test_data / "datasets/detection/coco128"
    assert list(coco_splits(root)) == ["train"]
    table = read_coco(*coco_splits(root)["train"])
    assert len(table) == 128
    assert len(table.boxes) == 929
    assert len(table.class_names) == 80
    assert len(np.unique(table.labels)) == 71
    assert np.count_nonzero(np.diff(table.starts) == 0) == 2
    assert table.problems == {}


def test_official_truth_is_kept_as_written(test_data: Path) -> None:
    table = read_coco(test_data / "datasets/detection/coco_eval/instances_val2014_100.json", clean=False)
    assert (len(table), len(table.boxes), int(table.crowd.sum())) == (100, 839, 9)
    assert (table.category_ids[0], table.category_ids[-1]) == (1, 90)
