from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mbapps.predictions import (
    SHADE,
    Attributes,
    Classification,
    Corners,
    Detections,
    class_thresholds,
    colour,
    write_label,
)

NAMES = [f"class {index}" for index in range(25)]


def test_coco_rows_keep_every_digit() -> None:
    boxes = np.array([[1.1, 2.2, 11.3, 7.4]], dtype=np.float32)
    scores = np.array([0.123456789], dtype=np.float32)
    found = Detections(boxes, scores, np.array([1]), ("a", "b"))
    (row,) = found.to_coco(139, (7, 90), "a.jpg")
    assert (row["image_id"], row["category_id"]) == (139, 90)
    assert row["score"] == float(scores[0])
    x, y, width, height = row["bbox"]
    assert np.float32(x + width) == boxes[0, 2]
    assert np.float32(y + height) == boxes[0, 3]
    assert found.boxes[0, 2] == boxes[0, 2]
    assert Detections(boxes[:0], scores[:0], np.zeros(0, int), ("a", "b")).to_coco(1, (1, 2), "a.jpg") == []


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


def test_classes_come_best_first_with_their_probabilities() -> None:
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32)) + 50
    answer = Classification(logits, ("a", "b", "c"), top_k=2)
    assert answer.labels.tolist() == [1, 2]
    assert answer.scores == pytest.approx([0.6, 0.3], abs=1e-5)
    assert answer.to_json()[0] == {"label": 1, "name": "b", "score": pytest.approx(0.6, abs=1e-5)}
    tied = Classification(np.zeros(4, np.float32), "abcd", top_k=9)
    assert tied.labels.tolist() == [0, 1, 2, 3]


def test_the_glow_lies_where_the_class_was_seen() -> None:
    image = np.full((100, 200, 3), 200, np.uint8)
    heat = np.array([[0, 1], [0, 0]], np.float32)
    answer = Classification(np.zeros(3, np.float32), "abc", 1, heat, (0.25, 0.25, 0.75, 0.75))
    glow = answer._glow(image).astype(float).mean(axis=2) / 200
    assert glow[:25].max() == glow[:, :50].max() == pytest.approx(SHADE)  # outside of what was seen
    assert glow[25:30, 145:150].mean() == pytest.approx(1, abs=0.02)  # upper right of the middle
    assert glow[70:75, 50:60].mean() == pytest.approx(SHADE, abs=0.02)
    assert image.min() == image.max() == 200
    assert Classification(np.zeros(3, np.float32), "abc")._glow(image) is image


def test_names_are_drawn_in_the_upper_left_corner() -> None:
    image = np.full((120, 160, 3), 50, np.uint8)
    drawn = Classification(
        np.array([5.0, 0, 0], np.float32), ("a very long name of a class", "b", "c"), 2
    ).draw(image)
    changed = (drawn != image).any(axis=2)
    assert changed[:40, :100].any()
    assert not changed[60:].any()
    one_pixel = Classification(np.zeros(2, np.float32), "ab", 1, np.zeros((2, 2), np.float32), (0, 0, 1, 1))
    assert one_pixel.draw(np.zeros((1, 1, 3), np.uint8)).shape == (1, 1, 3)
    unseen = Classification(
        np.zeros(2, np.float32), "ab", 1, np.zeros((2, 2), np.float32), (0.4, 0.4, 0.6, 0.6)
    )
    assert unseen.draw(np.zeros((2, 2, 3), np.uint8)).shape == (2, 2, 3)


def test_labels_lie_below_those_already_there() -> None:
    pen = ImageDraw.Draw(Image.new("RGB", (200, 200)))
    taken: list[Corners] = []
    for x, y in ((20, 50), (22, 50), (20, 55), (120, 50), (20, 50)):
        write_label(pen, x, y, "hot dog 0.66", (255, 0, 0), 12, taken)
    for row, (x1, y1, x2, y2) in enumerate(taken):
        for other in taken[:row]:
            assert x1 >= other[2] or x2 <= other[0] or y1 >= other[3] or y2 <= other[1]
    assert len({corners[1] for corners in taken if corners[0] < 100}) == 4


def test_a_drawing_full_of_labels_ends() -> None:
    boxes = np.tile(np.float32([[5, 20, 60, 60]]), (40, 1))
    found = Detections(boxes, np.linspace(1, 0, 40), np.zeros(40, int), ("hot dog",))
    drawn = found.draw(np.zeros((64, 64, 3), np.uint8))
    assert drawn.shape == (64, 64, 3)
    assert drawn.any()


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
