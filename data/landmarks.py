"""Reads lists of five landmarks in each face, by which it is turned upright and cut out."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import IdentityTable

from .boxes import tell

POINTS = 5
LEAST_SPREAD = 1.0  # px between the outermost points of a face: less is no face
WITHOUT = "face without landmarks in the list: left out"


def read_landmarks(path: Path, table: IdentityTable) -> IdentityTable:
    """Give a table the landmarks of a list; pictures without are left out and told.

    A line is `file x1 y1 … x5 y5`, cut at blanks, tabs or commas: px of the eyes, the nose and the corners of the
    mouth, left and right as seen in the image. A count of the lines and a header may stand before them, as in
    CelebA's list_landmarks_align_celeba.txt. A file is named by its path from the folder of the people, or by its
    bare name where only one has it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is none of these or names a file a second time, left and right are swapped, or no picture
            has landmarks.
    """
    points, lines = _list(path)
    if not points:
        raise ValueError(f"{path} has no landmarks: a line is a file and {2 * POINTS} numbers")
    rows = np.array([points.get(name, -1) for name in _keys(table, points)], dtype=np.int64)
    found = lines[rows]
    found[rows < 0] = np.nan
    known = rows >= 0
    solid = known & np.isfinite(found).all(axis=(1, 2)) & (np.ptp(found, axis=1).max(axis=1) >= LEAST_SPREAD)
    swapped = _swapped(found[solid])
    if len(swapped) and swapped.mean() > 0.5:
        raise ValueError(
            f"{path}: left and right are swapped in {int(swapped.sum())} of {len(swapped)} faces; each line is left "
            "eye, right eye, nose, left and right corner of the mouth, as seen in the image"
        )
    if not solid.any():
        raise ValueError(
            f"{path} has landmarks for none of the {len(table)} pictures in {table.folder}; it begins with "
            f"{next(iter(points), None)!r}, the pictures with {str(table.files[0])!r}"
        )
    problems = {reason: list(places) for reason, places in table.problems.items()}
    tell(problems, WITHOUT, table.files[~known].tolist())
    tell(problems, "face whose landmarks are not five points: left out", table.files[known & ~solid].tolist())
    kept = np.flatnonzero(solid)
    return replace(table.take(kept), landmarks=found[kept].astype(np.float32), problems=problems)


def _list(path: Path) -> tuple[dict[str, int], NDArray[np.float64]]:
    """The row of each file, and [N, 5, 2] points."""
    if not path.is_file():
        raise FileNotFoundError(f"no list of landmarks at data.landmarks={path}")
    rows: dict[str, int] = {}
    points: list[list[float]] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1):
        name, values = _cut(line)
        if len(values) == 2 * POINTS and name:
            if name in rows:
                raise ValueError(f"{path}, line {number}: {name} has landmarks already")
            rows[name] = len(points)
            points.append(values)
        elif line.strip() and (points or not _heads(line)):
            raise ValueError(
                f"{path}, line {number}: expected a file and {2 * POINTS} numbers, got {line[:80]!r}"
            )
    return rows, np.array(points, dtype=np.float64).reshape(-1, POINTS, 2)


def _cut(line: str) -> tuple[str, list[float]]:
    """A file's name, which may hold blanks, and the numbers behind it; none where they are not numbers."""
    words = [
        word for word in re.split(r"[\t,]" if re.search(r"[\t,]", line) else r"\s", line) if word.strip()
    ]
    name = " ".join(words[: -2 * POINTS]).strip()
    try:
        return name.replace("\\", "/").removeprefix("./"), [float(word) for word in words[-2 * POINTS :]]
    except ValueError:
        return name, []


def _heads(line: str) -> bool:
    """Whether a line is a count or names of columns."""
    words = [word for word in re.split(r"[\s,]+", line.strip()) if word]
    return (len(words) == 1 and words[0].isdecimal()) or not any(
        re.fullmatch(r"[-+]?[\d.]+", word) for word in words
    )


def _keys(table: IdentityTable, points: dict[str, int]) -> list[str]:
    """How the list would name each picture; a bare name that several share names none."""
    files = [str(file).replace("\\", "/") for file in table.files]
    bare = [file.rpartition("/")[2] for file in files]
    names, counts = np.unique(bare, return_counts=True)
    once = set(names[counts == 1].tolist())
    return [
        file if file in points or name not in once else name for file, name in zip(files, bare, strict=True)
    ]


def _swapped(points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """[N] whether the mouth would lie above the eyes if these ran from left to right."""
    across = points[:, 1] - points[:, 0]
    down = points[:, 3:].mean(axis=1) - points[:, :2].mean(axis=1)
    return across[:, 0] * down[:, 1] - across[:, 1] * down[:, 0] < 0
