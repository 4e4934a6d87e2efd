"""Reads LFW's lists of pairs: which two pictures are compared, and whether they show one person."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mbapps.batches import IdentityTable, Pairs

from .boxes import tell

MISSING = 0.01  # share of a list's pairs above which pictures that are not there are no accident
Picture = tuple[str, int]  # a person and the number of the picture


class ListedPair(NamedTuple):
    """A line of a list."""

    line: int  # from 1
    first: Picture
    second: Picture
    fold: int

    @property
    def same(self) -> bool:
        """Whether both pictures are of one person."""
        return self.first[0] == self.second[0]


def list_pairs(path: Path) -> list[ListedPair]:
    """Read a list as LFW's pairs.txt and pairsDevTrain.txt.

    The first line is the number n of pairs of each kind, or the number of folds and then n. Each fold has n lines
    `name i j`, two pictures of a person, and n lines `name i other j`, of two people. Lines are cut at tabs, or at
    blanks where they have no tab.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is none of these, or there are not as many as it says.
    """
    if not path.is_file():
        raise FileNotFoundError(f"no list of pairs at {path}")
    text = path.read_text(encoding="utf-8-sig").splitlines()
    lines = [(number, line) for number, line in enumerate(text, 1) if line.strip()]
    header = _numbers(lines[0][1].split()) if lines else []
    if len(header) not in (1, 2) or 0 in header:
        raise ValueError(
            f"{path}: the first line must be the number of pairs of each kind, or the number of folds and that, "
            f"got {lines[0][1]!r}" if lines else f"{path} is empty"
        )  # fmt: skip
    folds, count = header if len(header) == 2 else [1, header[0]]
    if len(lines) - 1 != 2 * folds * count:
        raise ValueError(
            f"{path}: {folds} x {count} pairs of each kind are {2 * folds * count} lines after the first, there "
            f"are {len(lines) - 1}"
        )
    pairs = [_pair(path, *line, place // (2 * count)) for place, line in enumerate(lines[1:])]
    for fold in range(folds):
        genuine = sum(pair.same for pair in pairs[2 * count * fold : 2 * count * (fold + 1)])
        if genuine != count:
            raise ValueError(
                f"{path}: fold {fold + 1} has {genuine} pairs of one person and {2 * count - genuine} of two, "
                f"not {count} of each"
            )
    return pairs


def _numbers(words: list[str]) -> list[int]:
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []


def _pair(path: Path, number: int, line: str, fold: int) -> ListedPair:
    words = [word.strip() for word in (line.strip().split("\t") if "\t" in line else line.split())]
    if len(words) == 3:
        words = [words[0], words[1], words[0], words[2]]
    elif len(words) == 4 and words[0] == words[2]:
        raise ValueError(
            f"{path}, line {number}: a pair of two people names {words[0]} twice: {line.strip()!r}"
        )
    numbers = _numbers(words[1::2])
    if len(words) != 4 or not numbers:
        raise ValueError(
            f"{path}, line {number}: a pair is `name i j` or `name i other j`, i and j numbers of pictures, "
            f"got {line.strip()!r}"
        )
    first, second = (words[0], numbers[0]), (words[2], numbers[1])
    if first == second:
        raise ValueError(f"{path}, line {number}: a picture is paired with itself: {line.strip()!r}")
    return ListedPair(number, first, second, fold)


def read_pairs(path: Path, table: IdentityTable) -> IdentityTable:
    """Give a table the pairs of a list.

    Picture i of a person is `<name>_000i` in the person's folder, whatever it ends in, or the file whose name is
    the number i. A pair with a picture that is not there is left out and told.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it can't be read; or more than MISSING of its pairs, and more than one, name pictures that are
            not there.
    """
    pairs = list_pairs(path)
    rows = _rows(table, {name for pair in pairs for name in (pair.first[0], pair.second[0])})
    missing = [
        f"{path}, line {pair.line}: no picture {number} of {name}"
        for pair in pairs
        for name, number in [next((one for one in pair[1:3] if one not in rows), ("", 0))]
        if name
    ]
    if len(missing) > max(1, MISSING * len(pairs)):
        listing = "\n  ".join(missing[:10])
        raise ValueError(
            f"{len(missing)} of {len(pairs)} pairs name pictures that are not in {table.folder}, more than "
            f"{MISSING:.0%}: is it the list of this set? The first:\n  {listing}"
        )
    good = [pair for pair in pairs if pair.first in rows and pair.second in rows]
    problems = {reason: list(places) for reason, places in table.problems.items()}
    tell(problems, "pair with a picture that is not there: left out", missing)
    return replace(table, problems=problems, pairs=Pairs(
        first=np.array([rows[pair.first] for pair in good], dtype=np.int64),
        second=np.array([rows[pair.second] for pair in good], dtype=np.int64),
        same=np.array([pair.same for pair in good], dtype=np.bool_),
        folds=np.array([pair.fold for pair in good], dtype=np.int64),
    ))  # fmt: skip


def _rows(table: IdentityTable, names: set[str]) -> dict[Picture, int]:
    """The row of each picture of some people by its number; names as LFW's go before plain numbers."""
    wanted = [label for label, name in enumerate(table.class_names) if name in names]
    rows: dict[Picture, int] = {}
    plain: dict[Picture, int] = {}
    for row in np.flatnonzero(np.isin(table.labels, wanted)).tolist():
        name = table.class_names[table.labels[row]]
        stem = Path(str(table.files[row])).stem
        number = stem.removeprefix(f"{name}_")
        if number.isdecimal():
            (plain if number == stem else rows).setdefault((name, int(number)), row)
    return plain | rows
