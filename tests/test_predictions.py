from __future__ import annotations

import numpy as np
import pytest

from mbapps.predictions import Attributes, Detections, class_thresholds, colour

NAMES = [f"class {index}" for index in range(25)]


def test_coco_rows_keep_every_digit() -> None:
    boxes = np.array([[1.1, 2.2, 11.3, 7.4]], dtype=np.float32)
    scores = np.array([0.123456789], dtype=np.float32)
    found = Detections(boxes, scores, np.array([1]), ("a", "b"))
    (row,) = found.to_coco(139, (7, 90))
    assert (row["image_id"], row["category_id"]) == (139, 90)
    assert row["score"] == float(scores[0])
    x, y, width, height = row["bbox"]
    assert np.float32(x + width) == boxes[0, 2]
    assert np.float32(y + height) == boxes[0, 3]
    assert found.boxes[0, 2] == boxes[0, 2]
    assert Detections(boxes[:0], scores[:0], np.zeros(0, int), ("a", "b")).to_coco(1, (1, 2)) == []


def test_thresholds_by_number_class_and_name() -> None:
    names, own = ["cat", "dog", "3"], [0.1, 0.2, 0.3]
    assert class_thresholds(None, names, own) == own
    assert class_thresholds(None, names, None) is None
    assert class_thresholds(0, names, own) == [0, 0, 0]
    assert class_thresholds([0.5, 1, 0], names, own) == [0.5, 1, 0]
    assert class_thresholds({"dog": 0.9, 3: 0.4}, names, own) == [0.1, 0.9, 0.4]  # type: ignore[dict-item]
    assert class_thresholds({"dog": 0.9}, names, None) == [0, 0.9, 0]
    assert class_thresholds({"a": 0.9}, ["a", "a"], [0.1, 0.2]) == [0.9, 0.9]


@pytest.mark.parametrize(
    ("wanted", "names", "message"),
    [
        (1.5, NAMES, r"score_thresh must lie in \[0, 1\], got 1\.5"),
        (-0.1, NAMES, r"score_thresh must lie in \[0, 1\]"),
        (float("nan"), NAMES, r"score_thresh must lie in \[0, 1\]"),
        ({"cat": 2}, ["cat"], r"score_thresh must lie in \[0, 1\], got \{'cat': 2\}"),
        (
            {"cow": 0.5, "ape": 1},
            ["cat", "dog"],
            "score_thresh names ape, cow, but the model's classes are cat, dog$",
        ),
        ({"cow": 0.5}, NAMES, "the model's classes are class 0, .*, class 19, …$"),
        (
            [0.1, 0.2],
            NAMES,
            r"score_thresh must be one number, 25 numbers \(one per class\).*got \[0\.1, 0\.2\]",
        ),
        ("high", NAMES, "score_thresh must be one number, .*got 'high'"),
        ({"cat": None}, ["cat"], r"score_thresh must lie in \[0, 1\]"),
        ({"cat": [1, 2]}, ["cat", "dog"], "score_thresh must be one number"),
    ],
)
def test_bad_thresholds(wanted: object, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_thresholds(wanted, names, None)  # type: ignore[arg-type]


def test_attributes_at_thresholds() -> None:
    answer = Attributes(np.array([0.2, 0.5, 0.9]), ("a", "b", "c"))
    assert answer.present.tolist() == [False, True, True]
    assert answer.above([0.1, 0.6, 0.9]).present.tolist() == [True, False, True]
    assert answer.above(0.95).to_json() == [
        {"name": name, "score": score, "present": False}
        for name, score in (("a", 0.2), ("b", 0.5), ("c", 0.9))
    ]


def test_attributes_are_drawn_in_a_picture_of_the_same_size() -> None:
    grey = np.full((64, 90, 3), 127, dtype=np.uint8)
    drawn = Attributes(np.array([0.9, 0.8, np.nan]), ("a", "b", "c")).draw(grey)
    assert drawn.shape == grey.shape
    assert (drawn[:28, :20] != 127).any(axis=2).all()  # two lines
    assert (drawn[28:] == 127).all()  # what is unknown has none
    assert (drawn[:, 80:] == 127).all()
    assert (grey == 127).all()


def test_more_attributes_than_there_is_room_for() -> None:
    grey = np.full((64, 200, 3), 127, dtype=np.uint8)
    names = [f"attribute {index}" for index in range(40)]
    probs = np.full(40, 0.1)
    probs[30] = 0.9
    few = Attributes(probs, names).draw(grey)
    alone = Attributes(probs[30:31], names[30:31]).draw(grey)
    assert few.shape == grey.shape
    assert (few[56:] == 127).all()  # four lines: three attributes and the count of the others
    width = 60
    red = colour(30)
    assert (few[1:12, 1:width] == red).all(axis=2).any()  # the one that is present comes first
    assert not (few[15:56] == red).all(axis=2).any()
    assert (alone[14:] == 127).all()
    assert Attributes(np.zeros(0), ()).draw(grey).tolist() == grey.tolist()
