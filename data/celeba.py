"""Reads attributes in CelebA's layout: `list_attr_celeba.txt`, `list_eval_partition.txt` and a folder of pictures.

Source: Liu et al., Deep Learning Face Attributes in the Wild (2015): 202,599 pictures, 40 attributes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import UNKNOWN, AttributeTable

from .boxes import list_files, tell
from .splits import SPLITS

LIST, PARTITION = "list_attr_celeba.txt", "list_eval_partition.txt"
PICTURES = ("img_align_celeba", "images", "Img/img_align_celeba", "img_align_celeba/img_align_celeba")
VALUES = {"1": 1, "-1": 0, "0": UNKNOWN}
SHOWN = 12  # attributes that an error message lists


def celeba_list(root: Path) -> Path | None:
    """Find the list of a CelebA folder, in it or in `Anno/`."""
    return next((path for path in (root / LIST, root / "Anno" / LIST) if path.is_file()), None)


def read_celeba(root: Path, attributes: Sequence[str] | None = None) -> AttributeTable:
    """Read the whole list, whatever the split; what is wrong with a row is told and the row left out.

    A value of 1 is present, -1 absent, and 0 unknown.

    Args:
        root: holds the list and the pictures.
        attributes: those wanted and their order; None takes all of the list.

    Raises:
        FileNotFoundError: no list, or none of the listed pictures is there.
        ValueError: the list can't be read, or has not all of `attributes`.
    """
    file = celeba_list(root)
    if file is None:
        raise FileNotFoundError(f"no CelebA in data.root={root}: it needs {LIST}")
    problems: dict[str, list[str]] = {}
    names, files, labels = _parse(file, problems)
    wanted = tuple(attributes) if attributes else names
    missing = [name for name in wanted if name not in names]
    if missing:
        more = ", …" if len(names) > SHOWN else ""
        raise ValueError(
            f"{file} has no attribute {', '.join(missing)}; it has {', '.join(names[:SHOWN])}{more}"
        )
    folder, there = _pictures(root, files, file)
    tell(problems, "listed image not found", files[~there].tolist())
    columns = [names.index(name) for name in wanted]
    return AttributeTable(folder, files[there], labels[there][:, columns], wanted, problems=problems)


def read_partition(root: Path, table: AttributeTable) -> dict[str, AttributeTable] | None:
    """Cut a table as `list_eval_partition.txt` says, in the root or in `Eval/`; None where there is no such file.

    Images that the file does not list are left out, and told.

    Raises:
        ValueError: the file can't be read.
    """
    file = next((path for path in (root / PARTITION, root / "Eval" / PARTITION) if path.is_file()), None)
    if file is None:
        return None
    parts: dict[str, str] = {}
    for number, line in enumerate(_lines(file), start=1):
        name, _, part = line.strip().rpartition(" ")
        if part not in ("0", "1", "2"):
            raise ValueError(
                f"{file}, line {number}: a line is a file name and 0 (train), 1 (val) or 2 (test), got {line!r}"
            )
        parts[name.strip()] = part
    numbers = np.array([parts.get(name, "") for name in table.files.tolist()])
    tell(table.problems, f"image that {PARTITION} does not list", table.files[numbers == ""].tolist())
    return {split: table.take(np.flatnonzero(numbers == str(part))) for part, split in enumerate(SPLITS)}


def _parse(
    file: Path, problems: dict[str, list[str]]
) -> tuple[tuple[str, ...], NDArray[np.str_], NDArray[np.int8]]:
    """Attribute names, file names [N] and labels [N, A] of the list."""
    lines = _lines(file)
    if len(lines) < 3 or not lines[0].strip().isdigit():
        raise ValueError(
            f"{file} is no list of CelebA: its first line is the count of images, the second the attributes, and "
            "each other a file name with 1 or -1 per attribute"
        )
    names = tuple(lines[1].split())
    rows = [line.split() for line in lines[2:]]
    if int(lines[0]) != len(rows):
        told = f"{file}: {int(lines[0]):,} in its first line, {len(rows):,} rows"
        tell(problems, "list whose first line counts other images than it has", [told])
    good = [row for row in rows if len(row) == len(names) + 1 and VALUES.keys() >= set(row[1:])]
    if len(good) < len(rows):
        bad = [
            " ".join(row)[:60] for row in rows if len(row) != len(names) + 1 or set(row[1:]) - VALUES.keys()
        ]
        tell(problems, f"row without 1, -1 or 0 for each of {len(names)} attributes", bad)
    first = {row[0]: row for row in reversed(good)}
    if len(first) < len(good):
        again = [row[0] for row in good if first[row[0]] is not row]
        tell(problems, "image that is listed again: its first row counts", again)
        good = [row for row in good if first[row[0]] is row]
    if not good:
        raise ValueError(f"{file} has no row with 1, -1 or 0 for each of its {len(names)} attributes")
    labels = np.array([[VALUES[value] for value in row[1:]] for row in good], dtype=np.int8)
    return names, np.array([row[0] for row in good], dtype=np.str_), labels


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is no text: {error}") from None
    return [line for line in text.splitlines() if line.strip()]


def _pictures(root: Path, files: NDArray[np.str_], file: Path) -> tuple[Path, NDArray[np.bool_]]:
    """The folder of pictures, and which of the listed files it has."""
    for name in PICTURES:
        folder = root / name
        there = (
            np.isin(files, list_files(folder)) if folder.is_dir() else np.zeros(len(files), dtype=np.bool_)
        )
        if there.any():
            return folder, there
    raise FileNotFoundError(
        f"none of the {len(files):,} pictures that {file} lists is there, for instance {files[0]}: "
        f"put them into {root / PICTURES[0]} or {root / PICTURES[1]}"
    )
