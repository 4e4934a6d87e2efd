"""Reads people: a folder of pictures for each person, as of LFW and ORL, and lists of names."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import IdentityTable
from mbapps.images import IMAGE_SUFFIXES

from .boxes import tell
from .image_folder import class_folders, image_files, subfolders


def read_people(root: Path, face_crop: float = 1.0) -> IdentityTable:
    """Read `<root>/<person>/…`: a person is a folder, named after them; their pictures may lie deeper.

    A lone folder that holds nothing but folders is gone into, as archives unpack to `lfw/lfw/<person>`.

    Args:
        root: the folder.
        face_crop: share of each picture's sides, round its middle, that shows the face, in (0, 1].

    Raises:
        FileNotFoundError: there is no such folder, or no picture in any person's.
        ValueError: the folders are splits, not people; or `face_crop` is out of its range.
    """
    if not isinstance(face_crop, (int, float)) or not 0 < face_crop <= 1:
        raise ValueError(f"data.face_crop must be in (0, 1], got {face_crop}")
    if not root.is_dir():
        raise FileNotFoundError(f"no folder of people at {root}")
    folder = root
    while len(inner := subfolders(folder)) == 1 and subfolders(inner[0]) and not _pictures(inner[0]):
        folder = inner[0]
    splits = class_folders(folder)
    if splits and "all" not in splits:
        raise ValueError(
            f"{folder} holds the splits {', '.join(sorted(path.name for path in splits.values()))}, not people: "
            "set data.root to the one to train on and data.test to the one to measure on"
        )
    found = {path.name: sorted(image_files(path, folder)) for path in subfolders(folder)}
    names = [name for name, files in found.items() if files]
    if not names:
        raise FileNotFoundError(
            f"no pictures in {folder}/<person>/: a person is a folder, named after them, with their pictures"
        )
    problems: dict[str, list[str]] = {}
    empty = [str(folder / name) for name, files in found.items() if not files]
    tell(problems, "folder of a person without pictures: left out", empty)
    files = np.array([file for name in names for file in found[name]], dtype=np.str_)
    counts = [len(found[name]) for name in names]
    return IdentityTable(
        folder=folder, files=files, labels=np.repeat(np.arange(len(names), dtype=np.int32), counts),
        class_names=tuple(names), problems=problems,
        face_crop=None if face_crop == 1 else np.full(len(files), face_crop, dtype=np.float32),
    )  # fmt: skip


def _pictures(folder: Path) -> bool:
    return any(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.iterdir())


def images_each(table: IdentityTable) -> NDArray[np.int64]:
    """[K] how many pictures there are of each person."""
    return np.bincount(table.labels, minlength=len(table.class_names))


def take_people(table: IdentityTable, wanted: NDArray[np.bool_]) -> IdentityTable:
    """Give the table of some people, bool [K], with labels of its own."""
    part = table.take(np.flatnonzero(wanted[table.labels]))
    labels = (np.cumsum(wanted) - 1)[part.labels].astype(np.int32)
    names = tuple(name for name, kept in zip(table.class_names, wanted, strict=True) if kept)
    return replace(part, labels=labels, class_names=names)


def named_people(table: IdentityTable, names: Collection[str]) -> NDArray[np.bool_]:
    """[K] which of a table's people are among `names`."""
    return np.array([name in names for name in table.class_names], dtype=np.bool_)


def read_people_list(path: Path) -> tuple[str, ...]:
    """Read a list of people in any form that LFW has: a name a line, or a name, a tab and a number of pictures.

    The first line may be the number of names. Or it is the number of folds, and each fold begins with its own
    number of names; the folds are then read one after the other.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no names, or not as many as it says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no list of people at {path}")
    lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    lines = [line for line in lines if line]
    counted = bool(lines) and lines[0].isdigit()
    body = _without_counts(lines) if counted else lines
    if body is None and not all(line.isdigit() for line in lines):  # else names that are numbers
        raise ValueError(
            f"{path}: its first line, {lines[0]}, is neither the number of the {len(lines) - 1} names below nor of "
            "folds that each begin with their number of names"
        )
    names = tuple(
        dict.fromkeys(line.partition("\t")[0].strip() for line in (lines if body is None else body))
    )
    if not names:
        raise ValueError(f"{path} names nobody")
    return names


def _without_counts(lines: list[str]) -> list[str] | None:
    """The names of a list that begins with a number; None where it counts neither names nor folds."""
    if int(lines[0]) == len(lines) - 1:
        return lines[1:]
    names: list[str] = []
    place = 1
    for _ in range(int(lines[0])):
        if place >= len(lines) or not lines[place].isdigit():
            return None
        end = place + 1 + int(lines[place])
        if end > len(lines):
            return None
        names += lines[place + 1 : end]
        place = end
    return names if place == len(lines) else None
