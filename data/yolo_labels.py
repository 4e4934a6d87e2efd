"""Parses the label lines of a YOLO set: all text at once into columns, with no work per box in Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .boxes import tell

CHUNK = 8_000_000  # bytes of text parsed at once: bounds the memory that long polygons take
BOX, EXPORT, TRIANGLE = 5, 6, 7  # numbers on a line: class and box; a score as well; class and three points
BLANK = np.isin(np.arange(256), np.frombuffer(b" \t\n\r\x0b\x0c", dtype=np.uint8))  # as bytes.split has it


class Labels(NamedTuple):
    """Boxes of several label files, M in the order of their lines."""

    owners: NDArray[np.int64]  # [M] row of the file
    lines: NDArray[np.int64]  # [M] line in it, from 1
    classes: NDArray[np.float64]  # [M] whole numbers, >= 0
    boxes: NDArray[np.float64]  # [M, 4] xyxy as fractions of the image's sides
    areas: NDArray[np.float64]  # [M] fractions of the image's area, the polygon's where one is given

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Labels:
        """Give some of the boxes."""
        owners, lines, classes, boxes, areas = self
        return Labels(owners[rows], lines[rows], classes[rows], boxes[rows], areas[rows])


def read_labels(files: Sequence[str], problems: dict[str, list[str]]) -> Labels:
    """Read label files: `class cx cy w h`, or `class x1 y1 x2 y2 …` with three points or more.

    A polygon gives its bounding box, and its own area. A line that is neither is dropped, and told with its
    file and number. So is a line that its file repeats. A sixth number, the score that a detector writes, is
    told and not used.

    Raises:
        ValueError: there are lines, and none can be read.
    """
    parts: list[Labels] = []
    broken: list[str] = []
    scored: list[str] = []
    for start, texts in _chunks(files):
        part, bad, sixth = _parse(texts)
        broken += [f"{files[start + row]}:{line}: {why}" for row, line, why in bad]
        scored += [f"{files[start + row]}:{line}" for row, line in sixth]
        parts.append(part._replace(owners=part.owners + start))
    labels = Labels(*map(np.concatenate, zip(*parts, strict=True))) if parts else _parse([])[0]
    if broken and not len(labels.owners):
        raise ValueError(f"no line of {len(files)} label files can be read as a box, e.g. {broken[0]}")
    tell(problems, "label line dropped: it is no box", broken)
    tell(problems, "sixth number of a label line not used", scored)
    again = _repeated(labels)
    lines = zip(labels.owners[again].tolist(), labels.lines[again].tolist(), strict=True)
    tell(problems, "label line repeated", [f"{files[row]}:{line}" for row, line in lines])
    return labels.take(np.delete(np.arange(len(labels.owners)), again))


def _chunks(files: Sequence[str]) -> Iterator[tuple[int, list[bytes]]]:
    """Contents of consecutive files, a few megabytes at a time, with the row of the first."""
    start, size, texts = 0, 0, []
    for row, file in enumerate(files):
        with open(file, "rb") as stream:
            texts.append(stream.read().removeprefix(b"\xef\xbb\xbf"))
        size += len(texts[-1])
        if size > CHUNK or row == len(files) - 1:
            yield start, texts
            start, size, texts = row + 1, 0, []


def _parse(texts: list[bytes]) -> tuple[Labels, list[tuple[int, int, str]], list[tuple[int, int]]]:
    """Boxes of some files, the lines that are none as (file, line, why), and those with a sixth number."""
    text = b"\n".join(texts)
    letters = np.frombuffer(text, dtype=np.uint8)
    blank = BLANK[letters]
    before = np.ones_like(blank)
    before[1:] = blank[:-1]
    newlines = np.flatnonzero(letters == ord("\n"))
    line_of = np.searchsorted(newlines, np.flatnonzero(~blank & before))  # [numbers]
    words = text.split()
    values, wrong = _numbers(words)
    per_file = np.array([content.count(b"\n") + 1 for content in texts], dtype=np.int64)
    owners = np.repeat(np.arange(len(texts)), per_file)  # [lines]
    numbers = np.arange(len(owners)) - np.repeat(np.cumsum(per_file) - per_file, per_file) + 1

    counts = np.bincount(line_of, minlength=len(owners))
    firsts = np.cumsum(counts) - counts
    filled = np.flatnonzero(counts)
    owners, numbers, counts, firsts = (column[filled] for column in (owners, numbers, counts, firsts))
    classes = values[firsts]
    no_number = np.isin(filled, line_of[wrong])
    no_class = ~(np.isfinite(classes) & (classes >= 0) & (classes == np.floor(classes)))
    no_box = (counts < BOX) | ((counts > EXPORT) & (counts % 2 == 0))
    bad = [
        (int(owners[row]), int(numbers[row]), _why(words[firsts[row] : firsts[row] + counts[row]]))
        for row in np.flatnonzero(no_number | no_class | no_box)
    ]
    good = ~(no_number | no_class | no_box)
    owners, numbers, counts, firsts, classes = (
        column[good] for column in (owners, numbers, counts, firsts, classes)
    )
    boxes, areas = np.empty((len(firsts), 4)), np.empty(len(firsts))
    outlined = counts >= TRIANGLE
    boxes[~outlined], areas[~outlined] = _from_centres(values, firsts[~outlined] + 1)
    if outlined.any():
        boxes[outlined], areas[outlined] = _from_outlines(values, firsts[outlined] + 1, counts[outlined] // 2)
    sixth = counts == EXPORT
    scored = list(zip(owners[sixth].tolist(), numbers[sixth].tolist(), strict=True))
    return Labels(owners, numbers, classes, boxes, areas), bad, scored


def _numbers(words: Sequence[bytes]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Value of each word, NaN for those that are no number, and the rows of these."""
    try:
        return np.fromiter(map(float, words), dtype=np.float64, count=len(words)), np.empty(0, dtype=np.int64)
    except ValueError:
        pass
    values = np.full(len(words), np.nan)
    wrong = []
    for row, word in enumerate(words):
        try:
            values[row] = float(word)
        except ValueError:
            wrong.append(row)
    return values, np.array(wrong, dtype=np.int64)


def _why(words: Sequence[bytes]) -> str:
    """Say why a line is no box."""
    strange = next((word for word in words if len(_numbers([word])[1])), None)
    if strange is not None:
        return f"{strange[:20].decode('latin-1')!r} is no number"
    if len(words) < BOX:
        return f"{len(words)} numbers, a box needs {BOX}"
    if len(words) > EXPORT and len(words) % 2 == 0:
        return f"{len(words)} numbers are neither a class and a box nor a class and points"
    return f"the class must be a whole number >= 0, got {words[0].decode()}"


def _from_centres(
    values: NDArray[np.float64], starts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges and areas of boxes whose centre, width and height stand at `starts`."""
    centre, side = values[starts[:, None] + [0, 1]], values[starts[:, None] + [2, 3]]
    return np.concatenate([centre - side / 2, centre + side / 2], axis=1), side[:, 0] * side[:, 1]


def _from_outlines(
    values: NDArray[np.float64], starts: NDArray[np.int64], points: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounding boxes and areas (shoelace formula) of polygons whose points stand at `starts`."""
    offsets = np.cumsum(points) - points  # of each polygon's first point among all
    places = np.repeat(starts - 2 * offsets, points) + 2 * np.arange(points.sum())
    x, y = values[places], values[places + 1]
    following = np.arange(1, len(x) + 1)
    following[offsets + points - 1] = offsets
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is told by clean_boxes
        areas = np.abs(np.add.reduceat(x * y[following] - x[following] * y, offsets)) / 2
    edges = [ufunc.reduceat(axis, offsets) for ufunc in (np.minimum, np.maximum) for axis in (x, y)]
    return np.stack(edges, axis=1), areas


def _repeated(labels: Labels) -> NDArray[np.int64]:
    """Rows that an earlier line of the same file equals."""
    columns = np.column_stack([labels.owners, labels.classes, labels.boxes, labels.areas])
    order = np.lexsort(columns.T)
    same = np.all(columns[order[1:]] == columns[order[:-1]], axis=1)
    return np.sort(order[1:][same])
