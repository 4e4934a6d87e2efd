"""Whole tables of boxes: pooled, cut, told apart by their images, and matched by the names of their classes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import BoxTable

from .boxes import keep_boxes, tell

SHOWN_NAMES = 20  # of classes in an error
UNLISTED = "image without annotation"
RENUMBERED = "image ids of pooled files clash: all are numbered anew"


def image_paths(table: BoxTable) -> list[str]:
    """Full path of each image, by which those of two tables are compared."""
    folder = table.folder.resolve()
    return [f"{folder}/{file}" for file in table.files.tolist()]


def pool(tables: Sequence[BoxTable]) -> BoxTable:
    """Join tables of the same classes into one, whose folder is the nearest that holds all of theirs.

    Classes match by name and keep the first table's order and numbers. An image that two tables list keeps
    the first one's boxes, and is told. Where different images share an id, as those of unlike data sets do,
    all images are numbered anew from 1, and that is told too.

    Raises:
        ValueError: the classes differ by name; both are listed.
    """
    first = tables[0]
    if len(tables) == 1:
        return first
    root = Path(os.path.commonpath([table.folder.resolve() for table in tables]))
    tables = [_moved(align(table, first.class_names), root) for table in tables]
    files = np.concatenate([table.files for table in tables])
    ids = np.concatenate([table.image_ids for table in tables])
    problems = merge_problems({str(number): table for number, table in enumerate(tables)})
    counts = np.concatenate([np.diff(table.starts) for table in tables])
    joined = BoxTable(
        folder=root,
        files=files,
        image_ids=ids,
        sizes=np.concatenate([table.sizes for table in tables]),
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=np.concatenate([table.boxes for table in tables]),
        labels=np.concatenate([table.labels for table in tables]),
        areas=np.concatenate([table.areas for table in tables]),
        crowd=np.concatenate([table.crowd for table in tables]),
        class_names=first.class_names,
        category_ids=first.category_ids,
        problems=problems,
    )
    once = np.sort(np.unique(files, return_index=True)[1])
    if len(once) < len(files):
        twice = np.delete(files, once)
        tell(problems, "image listed twice: boxes of the first list", twice.tolist())
        joined = joined.take(once)
    numbers, uses = np.unique(joined.image_ids, return_counts=True)
    if len(numbers) < len(joined):
        tell(problems, RENUMBERED, [f"{(uses > 1).sum()} ids, e.g. {numbers[uses > 1][0]}"])
        joined = replace(joined, image_ids=np.arange(1, len(joined) + 1, dtype=np.int64))
    return joined


def _moved(table: BoxTable, root: Path) -> BoxTable:
    """Give the table with its files counted from `root`, which holds its folder."""
    below = table.folder.resolve().relative_to(root).as_posix()
    if below == ".":
        return replace(table, folder=root)
    problems = dict(table.problems)
    if UNLISTED in problems:
        problems[UNLISTED] = [f"{below}/{place}" for place in problems[UNLISTED]]
    files = np.array([f"{below}/{file}" for file in table.files.tolist()], dtype=np.str_)
    return replace(table, folder=root, files=files, problems=problems)


def merge_problems(tables: Mapping[str, BoxTable]) -> dict[str, list[str]]:
    """Give all tables' problems, each place once; an image that any of them lists has its annotation."""
    listed = {path for table in tables.values() for path in image_paths(table)}
    merged: dict[str, dict[str, None]] = {}
    for table in tables.values():
        folder = table.folder.resolve()
        for reason, places in table.problems.items():
            if reason == UNLISTED:
                places = [place for place in places if f"{folder}/{place}" not in listed]
            merged.setdefault(reason, {}).update(dict.fromkeys(places))
    return {reason: list(places) for reason, places in merged.items() if places}


def choose_classes(table: BoxTable, classes: Sequence[str], source: str) -> BoxTable:
    """Keep the boxes of some classes, which become the table's own in this order, with their category ids.

    An image that loses all its boxes stays: a negative. How many boxes of `source` go is told.

    Raises:
        ValueError: the table has no class of that name.
    """
    known = table.class_names
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise ValueError(
            f"data.classes: no class {', '.join(map(repr, unknown))} in {source}; "
            f"its classes are [{', '.join(known)}]"
        )
    chosen = np.array([known.index(name) for name in classes])
    label_of = np.full(len(known), -1, dtype=np.int32)
    label_of[chosen] = np.arange(len(chosen))
    problems = dict(table.problems)
    lost = table.labels[label_of[table.labels] < 0]
    line = f"{source}: {len(lost)} boxes of {len(np.unique(lost))} classes"
    tell(problems, "class left out by data.classes", [line] if len(lost) else [])
    table = keep_boxes(table, label_of[table.labels] >= 0)
    return replace(
        table,
        labels=label_of[table.labels],
        class_names=tuple(classes),
        category_ids=tuple(table.category_ids[label] for label in chosen.tolist()),
        problems=problems,
    )


def align(table: BoxTable, class_names: Sequence[str]) -> BoxTable:
    """Give the table with its labels counted in `class_names`, matched by name, not by number.

    Raises:
        ValueError: the two sets of names differ; both are listed.
    """
    if table.class_names == tuple(class_names):
        return table
    if set(table.class_names) != set(class_names):
        raise ValueError(_mismatch(table, class_names))
    order = np.array([list(class_names).index(name) for name in table.class_names], dtype=np.int32)
    ids = np.argsort(order)
    return replace(
        table,
        labels=order[table.labels],
        class_names=tuple(class_names),
        category_ids=tuple(table.category_ids[index] for index in ids),
    )


def leave_out(tables: Mapping[str, BoxTable]) -> BoxTable:
    """Give train without the images of val and test, which are told.

    Raises:
        ValueError: no image is left.
    """
    train = tables["train"]
    held = {path for split in ("val", "test") if split in tables for path in image_paths(tables[split])}
    kept = np.array([path not in held for path in image_paths(train)], dtype=np.bool_)
    if kept.all():
        return train
    if not kept.any():
        raise ValueError(
            f"each of the {len(train)} training images is one of val or test too, so nothing is left to train "
            "on; name other files with data.train=, data.val= and data.test="
        )
    problems = dict(train.problems)
    tell(problems, "image of val or test left out of train", train.files[~kept].tolist())
    return replace(train.take(np.flatnonzero(kept)), problems=problems)


def read_ids(path: Path) -> NDArray[np.int64]:
    """Image ids from a text file, one a line, each once.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no whole number, or there is none at all.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"no file at data.test_ids={path}") from None
    ids: list[int] = []
    for number, line in enumerate(lines, start=1):
        try:
            ids += [int(np.int64(int(line)))] if line.strip() else []
        except (ValueError, OverflowError):
            raise ValueError(
                f"{path}:{number}: an image id must be a whole number of 64 bits, got {line!r}"
            ) from None
    if not ids:
        raise ValueError(f"data.test_ids={path} lists no image id")
    return np.unique(np.array(ids, dtype=np.int64))


def cut_ids(table: BoxTable, path: Path) -> tuple[BoxTable, BoxTable]:
    """Cut a table in two: without the images whose ids a file lists, and those alone.

    Raises:
        ValueError: the table has none of them.
    """
    if RENUMBERED in table.problems:
        raise ValueError(
            f"data.test_ids={path} can't tell images apart: two of the training files give different images the "
            f"same id ({table.problems[RENUMBERED][0]}); name one with data.train="
        )
    ids = read_ids(path)
    listed = np.isin(table.image_ids, ids)
    if not listed.any():
        raise ValueError(
            f"none of the {len(ids)} image ids of data.test_ids={path} is in the training files, e.g. {ids[0]}; "
            "name the files that hold them with data.train="
        )
    problems = dict(table.problems)
    lost = [str(number) for number in np.setdiff1d(ids, table.image_ids)]
    tell(problems, "image id of data.test_ids not in the training files", lost)
    rest, test = (table.take(np.flatnonzero(rows)) for rows in (~listed, listed))
    return rest, replace(test, problems=problems)


def _mismatch(table: BoxTable, class_names: Sequence[str]) -> str:
    """Say which classes differ, and what to do about it."""
    theirs, ours = table.class_names, class_names
    extra = [name for name in theirs if name not in ours]
    lacking = [name for name in ours if name not in theirs]
    parts = []
    if extra:
        parts.append(f"only the data has {_listed(extra)}")
    if lacking:
        parts.append(f"the data lacks {_listed(lacking)}")
    way_out = "train on this data with backbone.weights=<the model> to start from what it knows"
    if not lacking:
        way_out = f"'data.classes=[{','.join(ours)}]' takes these alone"
    return (
        f"the classes of {table.folder} are [{_listed(theirs)}], but the model or the training split has "
        f"[{_listed(ours)}]: {'; '.join(parts)}; {way_out}"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_NAMES} more" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
