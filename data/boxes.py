"""What the readers of boxes share: columns sorted by image, bad ones dropped or mended and told, and their picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import BoxTable
from mbapps.images import BrokenImageError, UInt8Image, read_image

CLIP_TELLS = 1.0  # px beyond the edge at which clipping is told: less is rounding, or pixels counted from 1

ASPECT_TOLERANCE = 0.01  # a picture scaled to whole pixels differs from its annotated shape by less


def gather(box_images: NDArray[np.int64], num_images: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give the order that sorts boxes by their image row, and where each image's boxes start.

    >>> order, starts = gather(np.array([2, 0, 2]), 3)
    >>> order.tolist(), starts.tolist()
    ([1, 0, 2], [0, 1, 1, 3])
    """
    counts = np.bincount(box_images, minlength=num_images)
    return np.argsort(box_images, kind="stable"), np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def keep_boxes(table: BoxTable, kept: NDArray[np.bool_]) -> BoxTable:
    """Drop the boxes where `kept`, bool [M], is false; the images stay."""
    counts = np.bincount(table.box_images()[kept], minlength=len(table))
    return replace(
        table,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), boxes=table.boxes[kept],
        labels=table.labels[kept], areas=table.areas[kept], crowd=table.crowd[kept],
    )  # fmt: skip


def clean_boxes(table: BoxTable) -> BoxTable:
    """Drop boxes that no image can hold and clip those that reach over an edge, telling each in `problems`.

    Dropped: a NaN or infinite edge; no area, or the edges reversed; wholly outside. A right or lower edge is
    only known where the image's size is. A box that needs no clipping keeps its exact numbers. The area of a
    clipped box is at most the clipped box's: a mask's own area stays, width times height shrinks.
    """
    boxes, owner = table.boxes, table.box_images()
    height_width = np.where(table.sizes > 0, table.sizes, np.inf)[owner]
    far = height_width[:, [1, 0, 1, 0]]  # [M, 4] the largest x and y
    finite = np.all(np.isfinite(boxes), axis=1)
    solid = finite & np.all(boxes[:, 2:] > boxes[:, :2], axis=1)
    clipped = np.clip(boxes, 0, far)
    inside = solid & np.all(clipped[:, 2:] > clipped[:, :2], axis=1)
    moved = np.subtract(boxes, clipped, out=np.zeros_like(boxes), where=inside[:, None])
    moved = np.abs(moved).max(axis=1, initial=0)

    reasons = {
        "box not finite": ~finite,
        "box without area": finite & ~solid,
        "box outside the image": solid & ~inside,
        "box clipped to the image": inside & (moved > CLIP_TELLS),
    }
    problems = dict(table.problems)
    for reason, hit in reasons.items():
        if hit.any():
            told = zip(table.files[owner[hit]], boxes[hit].tolist(), strict=True)
            lines = [f"{file}: box {' '.join(f'{edge:g}' for edge in box)}" for file, box in told]
            problems[reason] = problems.get(reason, []) + lines

    table = keep_boxes(replace(table, boxes=clipped, problems=problems), inside)
    width, height = (table.boxes[:, 2:] - table.boxes[:, :2]).T
    shrunk = np.minimum(table.areas, width * height)
    return replace(table, areas=np.where(moved[inside] > 0, shrunk, table.areas))


def list_files(folder: Path) -> list[str]:
    """Names of the files in a folder, sorted: one scan, not a look at each of 118,000."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_file())


def tell(problems: dict[str, list[str]], reason: str, lines: Sequence[str]) -> None:
    """Add lines to a reason; none adds nothing, so a reason that is there always counts something."""
    if lines:
        problems.setdefault(reason, []).extend(lines)


def read_row(
    table: BoxTable, row: int, *, least_side: int | None = None
) -> tuple[UInt8Image, tuple[int, int]]:
    """Read a picture, and the height and width in which its boxes are counted.

    A picture that was scaled after it was annotated is as good as the original; `least_side` allows that it is
    scaled while it is read, as in `read_image`.

    Raises:
        FileNotFoundError: there is no such file.
        BrokenImageError: it can't be decoded, or its shape is not the annotated one: boxes would lie elsewhere.
    """
    path = table.folder / str(table.files[row])
    height, width = table.sizes[row].tolist()
    told = min(height, width) > 0
    image = read_image(path, least_side=least_side if told else None)
    rows, columns = image.shape[:2]
    if not told:
        return image, (rows, columns)
    if abs(height * columns - width * rows) > ASPECT_TOLERANCE * width * rows:
        raise BrokenImageError(f"{path}: annotated as {width}x{height}, the picture is {columns}x{rows}")
    return image, (height, width)


def scale_boxes(boxes: NDArray[np.float64], size: tuple[int, int], image: UInt8Image) -> NDArray[np.float64]:
    """Boxes counted in `size`, height and width, as they lie in `image`."""
    if image.shape[:2] == size:
        return boxes
    (height, width), (rows, columns) = size, image.shape[:2]
    return boxes * (np.array([columns, rows, columns, rows]) / np.array([width, height, width, height]))
