"""COCO results files: a list of {"image_id", "category_id", "bbox": [x, y, width, height], "score"}."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from itertools import starmap
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from mbapps.batches import BoxTable
from mbapps.predictions import Detections

from .matching import Floats, Rows
from .names import rows_by_class, rows_by_file, settle

KEYS = ("image_id", "category_id", "bbox", "score")
FORM = "a list of {image_id, category_id, bbox: [x, y, width, height], score}"
TOLERANCE = 1.0  # px that a box may reach over its image's edge before it is told
MUCH = 0.5  # share of boxes over the edge at which their form is in doubt


Answer = tuple[int, NDArray[Any], NDArray[Any], NDArray[Any]]  # image row, boxes, scores, labels


class _Entry(msgspec.Struct, gc=False, omit_defaults=True):
    image_id: int | float  # 42.0 is what is left of 42 in many a data frame
    category_id: int | float
    bbox: tuple[float, float, float, float]
    score: float
    file_name: str = ""
    category_name: str = ""


class _Columns(NamedTuple):
    image_ids: Rows  # [N]
    category_ids: Rows  # [N]
    boxes: Floats  # [N, 4] x y width height
    scores: Floats  # [N]
    file_names: list[str]  # [N], "" where an entry does not tell
    class_names: list[str]  # [N], likewise


class Results(NamedTuple):
    """Answers of a file, for every image of the truth, and what was odd about them."""

    predictions: list[Detections]  # one per image row of the truth
    problems: dict[str, list[str]]  # as BoxTable has them
    boxes: int  # that count
    skipped: int  # of images or categories that the truth does not list


def read_results(path: str | Path, truth: BoxTable) -> Results:
    """Read a COCO results file, sorted by the images of the truth; within one they keep the file's order.

    Boxes of images or categories that the truth does not list are skipped and told, since a file of the whole
    validation set is often measured on a part of it. Entries may say their "file_name" and "category_name",
    as those of `predict` do: where they contradict the ids, which `predict` may have had to make up, the names
    decide. Scores may be any numbers.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no results file, an entry lacks a key or holds what is no number, or the file has
            nothing in common with the truth.
    """
    path = Path(path)
    columns = _read(path)
    image_rows = _rows_of(columns.image_ids, truth.image_ids)
    labels = _rows_of(columns.category_ids, np.array(truth.category_ids, dtype=np.int64))
    problems: dict[str, list[str]] = {}
    image_rows, amiss = settle(image_rows, rows_by_file(columns.file_names, truth.files.tolist()))
    if amiss:
        problems[f"image {amiss}"] = [str(path)]
    labels, amiss = settle(labels, rows_by_class(columns.class_names, truth.class_names))
    if amiss:
        problems[f"category {amiss}"] = [str(path)]
    if not len(labels):
        problems["results file without a single box"] = [str(path)]
    for what, ids, rows, known in (
        ("image", columns.image_ids, image_rows, truth.image_ids),
        ("category", columns.category_ids, labels, np.array(truth.category_ids)),
    ):
        unknown, counts = np.unique(ids[rows < 0], return_counts=True)
        first = ", ".join(map(str, unknown[:5].tolist()))
        if len(ids) and counts.sum() == len(ids):
            theirs = ", ".join(map(str, np.sort(known)[:5].tolist()))
            raise ValueError(
                f"{path}: no {what}_id is one of the truth's: the file has {first} …, the truth {theirs} …; "
                "the two are of different data"
                + (", or the file counts its classes otherwise" if what == "category" else "")
            )
        if len(unknown):
            places = [f"{number} ({count} boxes)" for number, count in zip(unknown, counts, strict=True)]
            problems[f"{what}_id in the results that the truth does not list, its boxes skipped"] = places
    kept = (image_rows >= 0) & (labels >= 0)
    image_rows, labels = image_rows[kept], labels[kept]
    boxes, scores = columns.boxes[kept], columns.scores[kept]
    boxes[:, 2:] += boxes[:, :2]
    problems |= _oddities(path, truth, image_rows, boxes, scores, labels)
    order = np.argsort(image_rows, kind="stable")
    cuts = np.searchsorted(image_rows[order], np.arange(1, len(truth)))
    parts = zip(*(np.split(column[order], cuts) for column in (boxes, scores, labels)), strict=True)
    predictions = [Detections(xyxy, score, label, truth.class_names) for xyxy, score, label in parts]
    return Results(predictions, problems, len(scores), int((~kept).sum()))


def encode_results(truth: BoxTable, rows: Sequence[Answer]) -> bytes:
    """Write answers as the content of a COCO results file, by rising image id, in full precision.

    Read again, it gives the same numbers: scores keep every digit, and so their ties.

    Args:
        truth: gives images and classes their ids.
        rows: image row, boxes xyxy px, scores and labels of each image, as CocoMetric keeps them.
    """
    entries: list[_Entry] = []
    category_ids = np.array(truth.category_ids, dtype=np.int64)
    for row, corners, scores, labels in sorted(rows, key=lambda one: truth.image_ids[one[0]]):
        boxes = corners.astype(np.float64).reshape(-1, 4)
        boxes[:, 2:] -= boxes[:, :2]
        image_ids = [int(truth.image_ids[row])] * len(boxes)
        columns = (image_ids, category_ids[labels].tolist(), map(tuple, boxes.tolist()), scores.tolist())
        entries.extend(starmap(_Entry, zip(*columns, strict=True)))
    return msgspec.json.encode(entries)


def _read(path: Path) -> _Columns:
    if path.suffix.lower() != ".json":
        raise ValueError(f"predictions={path} must be a .json file for task=detection: COCO results, {FORM}")
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except FileNotFoundError:
        raise FileNotFoundError(f"no results file at predictions={path}") from None
    try:
        entries = msgspec.json.decode(content, type=list[_Entry])
        columns = _Columns(
            _whole([entry.image_id for entry in entries]),
            _whole([entry.category_id for entry in entries]),
            np.array([entry.bbox for entry in entries], dtype=np.float64).reshape(-1, 4),
            np.array([entry.score for entry in entries], dtype=np.float64),
            [entry.file_name for entry in entries],
            [entry.category_name for entry in entries],
        )
    except (ValueError, OverflowError):
        _explain(path, content)
    if (columns.boxes[:, 2:] < 0).any():
        _explain(path, content)
    return columns


def _whole(numbers: list[int | float]) -> Rows:
    values = np.array(numbers)
    whole = values.astype(np.int64)  # OverflowError, or another value, beyond 64 bits
    if not np.array_equal(whole, values):
        raise ValueError("not whole")
    return whole


def _explain(path: Path, content: bytes) -> NoReturn:
    """Say what is wrong with a file, and where: slow, but only on the way out."""
    try:
        entries = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{path} is no json file, or was cut short: {error}") from error
    if isinstance(entries, dict):
        kind = "an instances file, the truth" if "annotations" in entries else "an object"
        raise ValueError(f"{path} is {kind}; predictions= takes COCO results, {FORM}")
    if not isinstance(entries, list):
        raise ValueError(f"{path} is no COCO results file: {FORM}")
    for number, entry in enumerate(entries):
        if reason := _fault(entry):
            raise ValueError(f"{path}: entry {number} (the first is 0) {reason}; each must be as in {FORM}")
    raise ValueError(f"{path} is no COCO results file: {FORM}")


def _fault(entry: Any) -> str:
    if not isinstance(entry, dict):
        return f"is {str(entry)[:60]!r}"
    if missing := [key for key in KEYS if key not in entry]:
        others = [kind for kind in ("segmentation", "keypoints") if kind in entry and "bbox" in missing]
        hint = f": these are {others[0]} results, and detection takes boxes" if others else ""
        return f"has no {' and no '.join(missing)}{hint}"
    for key in KEYS[:2]:
        value = entry[key]
        if not _is_number(value) or value != int(value) or abs(value) >= 2**63:
            return f"has {key} {value!r}, which is no whole number of 64 bits"
    box = entry["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return f"has bbox {str(box)[:80]}, which is not four finite numbers"
    if min(box[2:]) < 0:
        return f"has bbox {box}, whose width or height is negative"
    return "" if _is_number(entry["score"]) else f"has score {entry['score']!r}, which is no finite number"


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and abs(float(value)) < float("inf")  # NaN is not
    except OverflowError:
        return False


def _rows_of(ids: Rows, known: NDArray[np.int64]) -> Rows:
    """[N] row of `known` that each id means, -1 where it means none.

    >>> _rows_of(np.array([7, 3, 8]), np.array([3, 9, 7])).tolist()
    [2, 0, -1]
    """
    order = np.argsort(known)
    rows = order[np.searchsorted(known[order], ids).clip(max=len(known) - 1)]
    return np.where(known[rows] == ids, rows, -1)


def _oddities(
    path: Path, truth: BoxTable, image_rows: Rows, boxes: Floats, scores: Floats, labels: Rows
) -> dict[str, list[str]]:
    """What is counted as it stands, but may not be meant: boxes over the edge or twice, images without a box."""
    problems = {}
    far = np.where(truth.sizes > 0, truth.sizes, np.inf)[image_rows][:, ::-1]
    over = np.any(boxes[:, 2:] > far + TOLERANCE, axis=1)
    if over.sum() > MUCH * len(boxes):
        problems["box in the results reaching over its image's edge: COCO wants x y width height in px"] = [
            f"{over.sum()} of {len(boxes)} boxes of {path}"
        ]
    order = np.lexsort((boxes[:, 0], scores, labels, image_rows))
    columns = np.column_stack([image_rows, labels, scores, boxes])[order]
    twice = order[1:][(columns[1:] == columns[:-1]).all(axis=1)]
    if len(twice):
        problems["box given twice in the results: the second counts as false"] = [
            f"{truth.files[image]}: {truth.class_names[label]} {score:.4g}"
            for image, label, score in zip(image_rows[twice], labels[twice], scores[twice], strict=True)
        ]
    silent = np.bincount(image_rows, minlength=len(truth)) == 0
    if len(boxes) and silent.any():
        problems["image without a box in the results: nothing found"] = truth.files[silent].tolist()
    return problems
