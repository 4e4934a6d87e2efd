from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mbapps.deploy.likeness import alike, count_alike, count_roughly_alike, judged, told
from mbapps.place_prediction import Place
from mbapps.predictions import Attributes, Classification, Detections, Embedding


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ({"label": 1, "score": 0.5}, {"label": 1, "score": 0.501}, True),
        ({"label": 1, "score": 0.5}, {"label": 1, "score": 0.51}, False),
        ({"label": 1, "score": 0.5}, {"label": 2, "score": 0.5}, False),
        ({"name": "cat", "present": True}, {"name": "cat", "present": False}, False),
        ({"box": [0.0, 300.0]}, {"box": [0.5, 300.0]}, True),
        ({"box": [0.0, 300.0]}, {"box": [0.7, 300.0]}, False),
        ({"box": [0.0]}, {"box": [0.0, 1.0]}, False),
        ({"a": 1.0}, {"b": 1.0}, False),
        (np.float64(0.5), np.float32(0.501), True),
        ([np.float64(0.5), 1], [0.501, 1], True),
        (0.5, 1, False),
        (1, 1.001, True),
        (300, 301, False),
        (True, 1, False),
        (0.5, "0.5", False),
        (0.5, [0.5], False),
        (0.5, None, False),
        (None, 0.5, False),
        (None, None, True),
        ([0.5, None], [0.5, None], True),
        ([0.5, None], [0.5, 0.5], False),
        ({"a": 1.0}, None, False),
        (float("nan"), float("nan"), False),
        (float("inf"), float("inf"), False),
        ({"parts": [{"a": 1.0}, {"a": 2.0}]}, {"parts": [{"a": 1.0}, {"a": 2.001}]}, True),
    ],
)
def test_alike(one: Any, two: Any, same: bool) -> None:
    assert alike(one, two, 1e-3) is same


def test_each_item_is_paired_once() -> None:
    twice = [{"score": 0.5}, {"score": 0.5}]
    assert count_alike(twice, twice[:1], 1e-3) == 1
    assert count_alike(twice, list(reversed(twice)), 1e-3) == 2
    assert count_alike([], twice, 1e-3) == 0


def test_what_is_told_starts_at_the_thresholds() -> None:
    found = Detections(np.zeros((2, 4)), np.array([0.9, 0.2]), np.array([0, 0]), ["cat"])
    assert [item["score"] for item in told(judged(found, [0.3]))] == [0.9]
    assert [item["score"] for item in told(judged(found, None))] == [0.9, 0.2]


def boxes(*rows: tuple[list[float], float, int]) -> Detections:
    corners, scores, labels = zip(*rows, strict=True)
    return Detections(np.array(corners, dtype=np.float32), np.array(scores), np.array(labels), ("cat", "dog"))


def test_boxes_mean_the_same_where_they_overlap() -> None:
    ours = boxes(([600, 400, 630, 430], 0.9, 0), ([0, 0, 22, 22], 0.6, 1))
    assert count_roughly_alike(ours, ours) == {"": (4, 4)}
    near = boxes(([0, 0, 23, 22], 0.65, 1), ([601, 400, 630, 431], 0.85, 0))  # in another order
    assert count_roughly_alike(ours, near) == {"": (4, 4)}
    far = boxes(([545, 345, 575, 375], 0.9, 0), ([0, 0, 22, 22], 0.6, 1))
    assert count_roughly_alike(ours, far) == {"": (2, 4)}
    unsure = boxes(([600, 400, 630, 430], 0.7, 0), ([0, 0, 22, 22], 0.6, 0))
    assert count_roughly_alike(ours, unsure) == {"": (0, 4)}
    twice = boxes(([600, 400, 630, 430], 0.9, 0), ([600, 400, 630, 430], 0.9, 0))
    assert count_roughly_alike(ours, twice) == {"": (2, 4)}  # each is paired once
    none = Detections(np.empty((0, 4), np.float32), np.empty(0), np.empty(0, np.int64), ("cat", "dog"))
    assert count_roughly_alike(ours, none) == {"": (0, 2)}


def test_the_best_class_decides() -> None:
    ours = Classification(np.log(np.array([0.9, 0.08, 0.02])), ("a", "b", "c"))
    same = Classification(np.log(np.array([0.5, 0.1, 0.4])), ("a", "b", "c"))
    other = Classification(np.log(np.array([0.4, 0.5, 0.1])), ("a", "b", "c"))
    assert count_roughly_alike(ours, same) == {"": (1, 1)}
    assert count_roughly_alike(ours, other) == {"": (0, 1)}


def test_attributes_are_counted_one_by_one() -> None:
    ours = Attributes(np.array([0.9, 0.45, 0.2]), ("a", "b", "c"))
    theirs = Attributes(np.array([0.7, 0.55, 0.25]), ("a", "b", "c"))
    assert count_roughly_alike(ours, theirs) == {"a": (0, 1), "b": (0, 1), "c": (1, 1)}


def test_embeddings_are_compared_by_their_cosine() -> None:
    rng = np.random.default_rng(0)
    vector = rng.normal(size=1024)
    ours, noise = vector / np.linalg.norm(vector), rng.normal(size=1024) / 32
    for share, same in ((0.3, 1), (0.8, 0)):
        theirs = ours + share * noise
        found = count_roughly_alike(Embedding(ours), Embedding(theirs / np.linalg.norm(theirs)))
        assert found == {"": (same, 1)}


def test_places_are_near_by_kilometres() -> None:
    paris = Place(48.85, 2.35, 0.5)
    assert count_roughly_alike(paris, Place(48.9, 2.4, 0.4)) == {"": (1, 1)}
    assert count_roughly_alike(paris, Place(53.2, 2.35, 0.5)) == {"": (0, 1)}
    wide = Place(48.85, 2.35, 0.5, radius_km=3000.0)
    assert count_roughly_alike(wide, Place(53.2, 2.35, 0.5)) == {"": (1, 1)}
    unsure = Place(0.0, 0.0, 0.4, probabilities=np.array([0.4, 0.38, 0.22]))
    tied = Place(60.0, 60.0, 0.4, probabilities=np.array([0.38, 0.4, 0.22]))
    assert count_roughly_alike(unsure, tied) == {"": (1, 1)}
    wrong = Place(60.0, 60.0, 0.4, probabilities=np.array([0.3, 0.2, 0.5]))
    assert count_roughly_alike(unsure, wrong) == {"": (0, 1)}


def test_other_answers_are_compared_item_by_item() -> None:
    class Words:
        def __init__(self, *words: str):
            self.words = words

        def to_json(self) -> list[dict[str, str]]:
            return [{"word": word} for word in self.words]

    assert count_roughly_alike(Words("a", "b"), Words("b", "c")) == {"": (2, 4)}
