from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mbapps.answers import CocoResults, drawn_names, json_file, number_images
from mbapps.predictions import Classification, Detections


def test_json_piece_by_piece_is_json(tmp_path: Path) -> None:
    with json_file(tmp_path / "a.json", "{}") as out:
        out.item("ü", "name")
        with out.nest("{}", "empty"):
            pass
        with out.nest("{}", 'a "quoted" key'):
            with out.nest("[]", "rows"):
                out.item({"x": 1})
                out.item([1.5])
            out.item(None, "after")
        out.item(True, "end")
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {
        "name": "ü",
        "empty": {},
        'a "quoted" key': {"rows": [{"x": 1}, [1.5]], "after": None},
        "end": True,
    }
    assert text.endswith("\n")


def test_what_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Out of range float"), json_file(tmp_path / "a.json", "[]") as out:
        out.item(float("nan"))
    assert list(tmp_path.iterdir()) == []


def test_coco_results_hold_boxes_only(tmp_path: Path) -> None:
    boxes = Detections(np.ones((2, 4), np.float32), np.ones(2, np.float32), np.array([0, 1]), ("a", "b"))
    none = Detections(np.ones((0, 4), np.float32), np.ones(0, np.float32), np.zeros(0, int), ("a", "b"))
    classes = Classification(np.array([0]), np.ones(1, np.float32), ("a", "b"))
    ids = {"a.jpg": 3, "b.jpg": 9}
    with CocoResults(tmp_path / "a.json", ids, range(1, 3)) as coco:
        coco.add("a.jpg", none)
        coco.add("b.jpg", boxes)
        assert coco.written
    rows = json.loads((tmp_path / "a.json").read_text())
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(9, 1), (9, 2)]
    with CocoResults(tmp_path / "b.json", ids, range(1, 3)) as coco:
        coco.add("a.jpg", classes)
        assert not coco.written
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize(
    ("names", "ids"),
    [
        (["000000000139.jpg", "000000000285.png"], [139, 285]),
        (["COCO_val2014_000000000139.jpg", "x/COCO_val2014_000000000042.jpg"], [139, 42]),
        (["IMG_1.jpg", "IMG_1 (2).jpg"], [1, 2]),
        (["a/7.jpg", "b/7.jpg"], [1, 2]),
        (["7.jpg", "cat.jpg"], [1, 2]),
        (["1.jpg", f"{2**63}.jpg"], [1, 2]),
        (["²5.jpg", "4².jpg"], [1, 2]),
        ([], []),
    ],
)
def test_image_ids(names: list[str], ids: list[int]) -> None:
    found, origin = number_images([Path(name) for name in names])
    assert list(found.values()) == ids
    assert list(found) == names
    assert origin


def test_no_two_pictures_have_one_name(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.bmp", "a.jpg", "a.tif", "sub/a.JPG")]
    out = Path("out")
    names = drawn_names(files, tmp_path, out, keep=(".jpg",), ending=".jpg")
    assert list(names.values()) == [out / name for name in ("a.jpg", "a_2.jpg", "a_3.jpg", "sub/a.JPG")]
    videos = [tmp_path / "sub" / "a.avi", tmp_path / "a.mp4"]
    names = drawn_names(videos, tmp_path / "**" / "*", out, keep=(), ending=".mp4")
    assert list(names.values()) == [out / "a.mp4", out / "a_2.mp4"]
