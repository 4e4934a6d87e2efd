"""Results files good and bad."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mbapps.batches import BoxTable
from mbapps.metrics.coco import BACKENDS, CocoMetric
from mbapps.metrics.results import encode_results, read_results

from .test_coco import A, B, random_world, table

Write = Callable[[Any], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(content: Any) -> Path:
        path = tmp_path / "results.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return to_file


@pytest.fixture
def truth() -> BoxTable:
    """Three images with the ids 30, 10 and 20, and the categories 1 (cat) and 5 (dog)."""
    made = table([[(0, A)], [(1, B)], []])
    return replace(made, image_ids=np.array([30, 10, 20]), category_ids=(1, 5))


def entry(**changes: Any) -> dict[str, Any]:
    return {"image_id": 30, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5} | changes


def test_boxes_go_to_their_images_and_keep_their_order(write: Write, truth: BoxTable) -> None:
    path = write([
        entry(score=0.25), entry(image_id=20), entry(category_id=5, score=0.75, bbox=[0.5, 0, 10, 20.25]),
        entry(image_id=10.0, category_id=5.0, segmentation={"counts": "…"}),  # whole, and a key that is not ours
    ])  # fmt: skip
    found = read_results(path, truth)
    assert [len(one) for one in found.predictions] == [2, 1, 1]
    assert found.predictions[0].scores.tolist() == [0.25, 0.75]
    assert found.predictions[0].labels.tolist() == [0, 1]
    assert found.predictions[0].boxes.tolist() == [[1, 2, 4, 6], [0.5, 0, 10.5, 20.25]]
    assert (found.boxes, found.skipped, found.problems) == (4, 0, {})


def test_file_names_decide_where_ids_were_made_up(write: Write, truth: BoxTable) -> None:
    truth = replace(truth, files=np.array(["val/a.jpg", "val/b.jpg", "val/c.jpg"]))
    shifted = [
        entry(image_id=10, file_name="a.png"),
        entry(image_id=20, file_name="photos/b.jpg", score=0.75),
    ]
    found = read_results(write(shifted), truth)
    assert [len(one) for one in found.predictions] == [1, 1, 0]
    assert found.predictions[1].scores.tolist() == [0.75]
    assert "image numbers are not the truth's: matched by name" in found.problems
    same = read_results(write([entry(file_name="a.jpg")]), truth)
    assert not any("matched by" in reason for reason in same.problems)
    partly = read_results(write([*shifted, entry()]), truth)  # not every entry tells: the ids stand
    assert [len(one) for one in partly.predictions] == [1, 1, 1]
    with pytest.raises(ValueError, match="no image_id is one of the truth's"):
        read_results(write([entry(image_id=7, file_name="other.jpg")]), truth)


def test_folders_tell_files_of_one_name_apart(write: Write, truth: BoxTable) -> None:
    twins = replace(truth, files=np.array(["x/a.jpg", "y/a.jpg", "y/c.jpg"]))
    rows = [
        entry(image_id=20, file_name="set/x/a.jpg"),
        entry(image_id=30, file_name="set/y/a.jpg", score=0.75),
    ]
    found = read_results(write(rows), twins)
    assert [one.scores.tolist() for one in found.predictions] == [[0.5], [0.75], []]


def test_ids_stand_where_the_names_are_unknown(write: Write, truth: BoxTable) -> None:
    truth = replace(truth, files=np.array(["a.jpg", "b.jpg", "c.jpg"]))
    rows = [
        entry(file_name="renamed1.jpg", category_name="Katze"),
        entry(file_name="b.jpg", category_name="cat"),
    ]
    found = read_results(write(rows), truth)
    assert [len(one) for one in found.predictions] == [2, 0, 0]
    assert "image names are not the truth's: matched by number" in found.problems
    assert "category names are not the truth's: matched by number" in found.problems


def test_class_names_decide_where_sets_number_their_classes_otherwise(write: Write, truth: BoxTable) -> None:
    assert truth.class_names[:2] == ("cat", "dog")  # 1 and 5 here; elsewhere 5 is the cat
    rows = [entry(category_id=5, category_name="cat"), entry(category_id=9, category_name="dog", score=0.75)]
    found = read_results(write(rows), truth)
    assert found.predictions[0].labels.tolist() == [0, 1]
    assert "category numbers are not the truth's: matched by name" in found.problems


def test_a_byte_order_mark_is_no_harm(write: Write, truth: BoxTable) -> None:
    assert read_results(write("\ufeff" + json.dumps([entry()])), truth).boxes == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([entry(), {"image_id": 30, "category_id": 1, "bbox": [1, 2, 3, 4]}], "entry 1 .* has no score; each must"),
        ([{"image_id": 30, "category_id": 1}], "entry 0 .* has no bbox and no score"),
        ([entry(score=None)], "entry 0 .* has score None, which is no finite number"),
        ([entry(score="0.5")], "has score '0.5', which is no finite number"),
        ([entry(), entry(), entry(score=float("nan"))], "entry 2 .* has score nan, which is no finite number"),
        ([entry(score=float("inf"))], "entry 0 .* has score inf, which is no finite number"),
        ([entry(bbox=[1, float("nan"), 3, 4])], r"has bbox \[1, nan, 3, 4\], which is not four finite numbers"),
        ([entry(bbox=[1, 2, 3])], r"has bbox \[1, 2, 3\], which is not four finite numbers"),
        ([entry(bbox=[1, 2, "3", 4])], "which is not four finite numbers"),
        ([entry(), entry(bbox=[9, 9, -3, 4])], r"entry 1 .* has bbox \[9, 9, -3, 4\], whose width or height is neg"),
        ([entry(image_id="000000000030")], "has image_id '000000000030', which is no whole number of 64 bits"),
        ([entry(image_id=30.5)], "has image_id 30.5, which is no whole number"),
        ([entry(image_id=2**63)], "has image_id 9223372036854775808, which is no whole number of 64 bits"),
        ([entry(image_id=2**70)], "which is no whole number of 64 bits"),
        ([entry(category_id=True)], "has category_id True, which is no whole number"),
        ([entry(), 7], "entry 1 .* is '7'; each must be as in a list of {image_id"),
        ({"images": [], "annotations": [], "categories": []}, "is an instances file, the truth; predictions= takes"),
        ({"results": []}, "is an object; predictions= takes COCO results, a list of"),
        ("7", "is no COCO results file: a list of"),
        (json.dumps([entry(), entry()])[:-9], "is no json file, or was cut short"),
        ("", "is no json file, or was cut short"),
        (json.dumps([entry()]) + "x", "is no json file, or was cut short: Extra data"),
    ],
)  # fmt: skip
def test_no_results_file(write: Write, truth: BoxTable, content: Any, message: str) -> None:
    with pytest.raises(ValueError, match=rf"results\.json.*{message}"):
        read_results(write(content), truth)


@pytest.mark.parametrize("kind", ["segmentation", "keypoints"])
def test_results_of_another_kind(write: Write, truth: BoxTable, kind: str) -> None:
    other = entry(**{kind: []})
    del other["bbox"]
    with pytest.raises(ValueError, match=f"has no bbox: these are {kind} results, and detection takes boxes"):
        read_results(write([other]), truth)


@pytest.mark.parametrize("name", ["scores.csv", "embeddings.npz"])
def test_files_of_other_tasks(tmp_path: Path, truth: BoxTable, name: str) -> None:
    with pytest.raises(ValueError, match=rf"predictions=.*{name} must be a \.json file for task=detection"):
        read_results(tmp_path / name, truth)


def test_no_file(tmp_path: Path, truth: BoxTable) -> None:
    with pytest.raises(FileNotFoundError, match=r"no results file at predictions=.*none\.json"):
        read_results(tmp_path / "none.json", truth)


def test_ids_of_another_set(write: Write, truth: BoxTable) -> None:
    with pytest.raises(
        ValueError, match="no image_id is one of the truth's: the file has 7, 8 …, the truth 10, 20, 30"
    ):
        read_results(write([entry(image_id=8), entry(image_id=7)]), truth)
    with pytest.raises(
        ValueError, match="no category_id is one .* the file has 0 …, the truth 1, 5 .* otherwise"
    ):
        read_results(write([entry(category_id=0)]), truth)


def test_boxes_of_a_larger_set_are_skipped_and_told(write: Write, truth: BoxTable) -> None:
    path = write([entry(), entry(image_id=7), entry(image_id=7), entry(image_id=99), entry(category_id=0)])
    found = read_results(path, truth)
    assert (found.boxes, found.skipped) == (1, 4)
    assert found.problems["image_id in the results that the truth does not list, its boxes skipped"] == [
        "7 (2 boxes)", "99 (1 boxes)",
    ]  # fmt: skip
    assert found.problems["category_id in the results that the truth does not list, its boxes skipped"] == [
        "0 (1 boxes)"
    ]


def test_an_empty_list_is_told(write: Write, truth: BoxTable) -> None:
    path = write([])
    found = read_results(path, truth)
    assert found.problems == {"results file without a single box": [str(path)]}
    metric = CocoMetric(truth)
    metric.update(range(3), found.predictions)
    assert metric.compute()["AP"] == 0


def test_what_may_not_be_meant_is_told(write: Write, truth: BoxTable) -> None:
    found = read_results(
        write([entry(bbox=[90, 90, 180, 170]), entry(image_id=10), entry(image_id=10)]), truth
    )
    assert found.problems == {
        "box given twice in the results: the second counts as false": ["1.jpg: cat 0.5"],
        "image without a box in the results: nothing found": ["2.jpg"],
    }
    corners = [
        entry(bbox=[150, 150, 190, 190]),
        entry(image_id=10, bbox=[20, 20, 40, 180.5]),
        entry(image_id=20),
    ]
    told = read_results(write(corners), truth).problems
    assert "box in the results reaching over its image's edge: COCO wants x y width height in px" not in told
    told = read_results(write(corners[:2] * 2), truth).problems
    assert [places for reason, places in told.items() if "over its image's edge" in reason] == []
    told = read_results(write([corners[0], entry(image_id=10, bbox=[20, 20, 40, 190])]), truth).problems
    (places,) = (places for reason, places in told.items() if "over its image's edge" in reason)
    assert places[0].startswith("2 of 2 boxes of ")


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_of_any_size(write: Write, truth: BoxTable, backend: str) -> None:
    """Logits and percentages rank as well as probabilities do, and their thresholds are of their own size."""
    entries = [
        entry(bbox=[0, 0, 10, 10], score=-3.5), entry(bbox=[50, 0, 9, 9], score=-7),
        entry(image_id=10, category_id=5, bbox=[50, 50, 40, 40], score=99),
    ]  # fmt: skip
    metric = CocoMetric(truth, backend=backend)
    metric.update(range(3), read_results(write(entries), truth).predictions)
    assert metric.compute()["AP"] == pytest.approx(1)
    thresholds = metric.best_thresholds()
    assert thresholds.tolist() == [-3.5, 99]
    assert metric.confusion(thresholds).counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]
    assert [len(metric.answer(row, thresholds)) for row in range(3)] == [1, 1, 0]


def test_a_threshold_keeps_the_score_it_was_taken_from(write: Write, truth: BoxTable) -> None:
    """0.236 in 32 bits is more than 0.236 in 64."""
    metric = CocoMetric(truth)
    found = read_results(write([entry(bbox=[0, 0, 10, 10], score=0.236)]), truth)
    metric.update(range(3), found.predictions)
    assert len(metric.answer(0, metric.best_thresholds())) == 1


def test_boxes_without_width_count_as_false(write: Write, truth: BoxTable) -> None:
    metric = CocoMetric(truth)
    entries = [entry(bbox=[0, 0, 10, 10]), entry(bbox=[5, 5, 0, 4], score=0.9)]
    metric.update(range(3), read_results(write(entries), truth).predictions)
    numbers = metric.compute()
    other = CocoMetric(truth, backend="pycocotools")
    other.rows = metric.rows
    assert numbers["AP/cat"] == pytest.approx(0.5)
    assert numbers == pytest.approx(other.compute(), rel=0, abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("crowded", [False, True])
def test_what_is_written_reads_the_same(tmp_path: Path, crowded: bool) -> None:
    truth, predictions = random_world(3, crowded=crowded)
    rng = np.random.default_rng(0)
    ids = rng.permutation(1000)[: len(truth)]
    truth = replace(truth, image_ids=ids, category_ids=(2, 3, 9))
    predictions = [
        replace(
            one, boxes=np.sort(rng.random((len(one), 2, 2)) * 130, axis=1).reshape(-1, 4).astype(np.float32)
        )
        if row % 2
        else one
        for row, one in enumerate(predictions)
    ]
    metric = CocoMetric(truth)
    metric.update(range(len(truth)), predictions)
    path = tmp_path / "results.json"
    path.write_bytes(encode_results(truth, metric.rows))
    again = CocoMetric(truth)
    again.update(range(len(truth)), read_results(path, truth).predictions)
    for before, after in zip(predictions, again.rows, strict=True):
        assert np.array_equal(before.boxes, after[1])  # to the last bit, through x y width height
        assert np.array_equal(before.scores, after[2])
    assert again.compute() == metric.compute()
    assert json.loads(path.read_text())[0].keys() == {"image_id", "category_id", "bbox", "score"}
