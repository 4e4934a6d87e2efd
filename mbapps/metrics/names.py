"""Answers from a file matched by the names they carry, where their numbers may be somebody else's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np

from .matching import Rows


def rows_by_file(names: Sequence[str], files: Sequence[str]) -> Rows | None:
    """[N] row of `files` that each name means, -1 where none.

    Folders and stems are compared from the end on, as far as it takes to tell the files apart; endings are not,
    since pictures get saved in another format. None where that tells nothing: not every name is given, or two
    files differ in their ending alone.

    >>> rows_by_file(["photos/b/1.jpg", "1.jpg"], ["a/1.png", "b/1.png"]).tolist()
    [1, -1]
    """
    known = [_parts(file) for file in files]
    if not names or not all(names):
        return None
    for depth in range(1, max(map(len, known), default=0) + 1):
        rows = {parts[-depth:]: row for row, parts in enumerate(known)}
        if len(rows) == len(files):
            found = {name: rows.get(_parts(name)[-depth:], -1) for name in set(names)}
            return np.array([found[name] for name in names], dtype=np.int64)
    return None


def rows_by_class(names: Sequence[str], class_names: Sequence[str]) -> Rows | None:
    """[N] row of `class_names` that each name means, -1 where none; None where not every name is given."""
    if not names or not all(names):
        return None
    rows = {name: row for row, name in enumerate(class_names)}
    return np.array([rows.get(name, -1) for name in names], dtype=np.int64)


def settle(by_id: Rows, by_name: Rows | None) -> tuple[Rows, str]:
    """Choose between rows by number and by name, each -1 where unknown; say what was amiss, if anything.

    Names go before numbers, unless they are known for fewer answers.
    """
    if by_name is None or np.array_equal(by_id, by_name):
        return by_id, ""
    if (by_name >= 0).sum() >= (by_id >= 0).sum():
        return by_name, "numbers are not the truth's: matched by name"
    return by_id, "names are not the truth's: matched by number"


def _parts(file: str) -> tuple[str, ...]:
    return PurePosixPath(file.replace("\\", "/")).with_suffix("").parts
