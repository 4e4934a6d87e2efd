from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mbapps.batches import BoxTable
from mbapps.metrics import confusion as module
from mbapps.metrics.coco import CocoMetric
from mbapps.metrics.confusion import Confusion, match_any_class
from mbapps.metrics.matching import Found

from .test_coco import FAR, A, B, C, found, iou, random_world, table


def confusion_of(
    truth: BoxTable, *predictions: object, score_thresh: float | Sequence[float] = 0.5
) -> Confusion:
    metric = CocoMetric(truth)
    metric.update(range(len(truth)), predictions)  # type: ignore[arg-type]
    return metric.confusion(score_thresh)


def test_right_confused_missed_and_made_up_by_hand() -> None:
    truth = table([[(0, A), (0, B), (1, C)], [(1, A)]])
    counts, names, _ = confusion_of(
        truth,
        found((0, 0.9, A), (1, 0.8, B), (1, 0.7, FAR), (1, 0.2, C)),  # the last is below the threshold
        found((1, 0.6, A)),
    )
    assert names == ("cat", "dog", "background")
    assert counts.tolist() == [[1, 1, 0], [0, 1, 1], [0, 1, 0]]


def test_the_closest_pair_goes_first_and_each_side_is_taken_once() -> None:
    near, nearer = (0.0, 0.0, 10.0, 8.0), (0.0, 0.0, 10.0, 9.0)
    counts, _, _ = confusion_of(table([[(0, A)]]), found((0, 0.9, near), (1, 0.6, nearer)))
    assert counts.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]  # the dog is closer; the cat is left over
    two = table([[(0, (0, 0, 10, 10)), (1, (0, 0, 10, 12))]])
    counts, _, _ = confusion_of(two, found((0, 0.9, (0, 0, 10, 11)), (1, 0.8, (0, 0, 10, 11.5))))
    assert counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]  # the dog takes the dog, the cat what is left


def test_of_equal_overlaps_the_higher_score_wins() -> None:
    counts, _, _ = confusion_of(table([[(1, A)]]), found((0, 0.6, A), (1, 0.9, A)))
    assert counts.tolist() == [[0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_crowds_and_what_lies_on_them_count_nowhere() -> None:
    truth = table([[(0, C), (0, A)]])
    truth.crowd[0] = True
    inside = (110.0, 10.0, 120.0, 20.0)
    counts, _, _ = confusion_of(truth, found((0, 0.9, C), (0, 0.8, inside), (0, 0.7, A), (1, 0.6, inside)))
    assert counts.tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]  # only a dog on a crowd of cats is made up


def test_one_threshold_per_class() -> None:
    answer = found((0, 0.4, A), (1, 0.4, B))
    counts, _, _ = confusion_of(table([[(0, A), (1, B)]]), answer, score_thresh=[0.3, 0.5])
    assert counts.tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("chunk", [100, 1_000_000])
def test_equals_pair_after_pair(seed: int, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK_PAIRS", chunk)
    truth, predictions = random_world(seed, crowded=False)
    rng = np.random.default_rng(seed)
    truth.crowd[:] = rng.random(len(truth.crowd)) < 0.1
    counts = [len(one) for one in predictions]
    rows = Found(
        np.repeat(np.arange(len(truth)), counts),
        np.concatenate([one.boxes for one in predictions]).astype(float),
        np.concatenate([one.scores for one in predictions])
        + rng.random(sum(counts)) * 1e-3,  # no equal scores
        np.concatenate([one.labels for one in predictions]),
    ).take(rng.permutation(sum(counts)))
    owner = truth.box_images()
    pairs = [
        (iou(rows.boxes[detection], truth.boxes[box]), rows.scores[detection], detection, box)
        for detection in range(len(rows.scores))
        for box in range(len(truth.boxes))
        if owner[box] == rows.images[detection] and not truth.crowd[box]
    ]
    left: set[int] = set()
    right: set[int] = set()
    wanted = set()
    for overlap, _, detection, box in sorted(pairs, key=lambda pair: (-pair[0], -pair[1], pair[3])):
        if overlap >= 0.5 and detection not in left and box not in right:
            left.add(detection)
            right.add(box)
            wanted.add((detection, box))
    detections, boxes = match_any_class(truth, rows, 0.5)
    assert set(zip(detections.tolist(), boxes.tolist(), strict=True)) == wanted
    assert len(wanted) > 50


def test_nothing_at_all() -> None:
    assert confusion_of(table([[], []]), found(), found()).counts.sum() == 0
    assert confusion_of(table([[(1, A)]]), found()).counts.tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert CocoMetric(table([[(0, A)]])).confusion(0.5).counts.sum() == 0  # no image was read


def test_every_box_and_every_answer_is_counted_once() -> None:
    truth, predictions = random_world(2, crowded=False)
    counts, _, _ = confusion_of(truth, *predictions)
    assert counts[:-1].sum() == len(truth.boxes)
    assert counts[:, :-1].sum() == sum((one.scores >= 0.5).sum() for one in predictions)


def test_largest_confusions_come_first() -> None:
    counts = np.array([[5, 2, 0, 3], [2, 0, 1, 0], [0, 0, 9, 9], [7, 0, 0, 0]])
    largest = Confusion(counts, ("cat", "dog", "cow", "background")).largest(10)
    assert list(largest) == ["dog → cat", "cat → dog", "dog → cow"]  # of equal counts the larger share
    assert largest["cat → dog"] == {"times": 2, "share of truth": pytest.approx(0.2)}


def test_what_became_of_each_class() -> None:
    metric = CocoMetric(table([[(0, A), (0, B), (0, C)], []], ("cat", "dog", "cow")))
    metric.update([0, 1], [found((0, 0.9, A), (1, 0.8, B)), found((0, 0.9, FAR))])
    by_class = metric.by_class([0.5, 0.25, 0.5])
    assert list(by_class) == ["cat", "dog"]  # no cow anywhere
    assert by_class["cat"] == {
        "threshold": "0.5", "boxes": 3, "right": 1, "taken for another": 1, "missed": 1,
        "on another's box": 0, "false alarms": 1,
        "precision": 0.5, "recall": pytest.approx(1 / 3),
    }  # fmt: skip
    assert by_class["dog"]["recall"] is None
    assert by_class["dog"]["precision"] == 0
    assert (by_class["dog"]["on another's box"], by_class["dog"]["false alarms"]) == (1, 0)
