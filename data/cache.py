"""Keeps what was read from large annotations, so that the next start maps it and does not read them again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mbapps.batches import COLUMNS, BoxTable
from mbapps.columns import open_columns, write_columns

from .boxes import tell

WORTH_KEEPING = 10_000_000  # bytes of annotations: fewer are read in a moment
NOTES = "notes"  # the column that holds all but the columns, as bytes of json
NOT_KEPT = "annotations not cached: the next start reads them again"

Facts = Mapping[str, Any]  # of what json can hold


def data_home() -> Path:
    """Folder of what is made rather than given: $MBAPPS_DATA, or datasets/ below the working directory."""
    return Path(os.environ.get("MBAPPS_DATA") or "datasets")


def keep_table(
    source: Path,
    asked: Facts,
    folder: Path,
    *,
    version: int,
    read: Callable[[], tuple[BoxTable, Facts]],
    fresh: Callable[[Facts], bool],
) -> BoxTable:
    """Give the table of an annotations file, mapped from the cache, or else read and put there.

    What is kept is served only if the file has the size and the times of when it was read, `asked` is the
    same, and `fresh` agrees; damaged and older files are replaced. Where the cache can't be written, the
    table is as good and `problems` tells it. Small annotations are read each time.

    Args:
        source: the annotations file; it must be there.
        asked: the reader's arguments, each choice of which has a file of its own.
        folder: of the pictures, for the table.
        version: of the reader; what another one wrote is replaced.
        read: gives the table, and facts for `fresh`.
        fresh: whether the facts of what is kept still hold.
    """
    stamp = _stamp(source)
    if stamp[0] < WORTH_KEEPING:
        return read()[0]
    asked = {**asked, "source": str(source.resolve())}
    name = hashlib.blake2b(json.dumps(asked).encode(), digest_size=8).hexdigest()
    path = data_home() / "cache" / f"{source.stem}-{name}.safetensors"
    asked = {**asked, "stamp": stamp, "version": version}
    if kept := _open(path, asked, folder, fresh):
        return kept
    table, facts = read()
    if _stamp(source) != stamp:  # it changed meanwhile: who knows which half was read
        return table
    notes = {
        "asked": asked, "facts": facts, "class_names": table.class_names, "category_ids": table.category_ids,
        "problems": table.problems,
    }  # fmt: skip
    columns = {column: getattr(table, column) for column in COLUMNS}
    columns[NOTES] = np.frombuffer(json.dumps(notes).encode(), dtype=np.uint8)
    try:
        write_columns(path, columns)
    except OSError as error:
        tell(table.problems, NOT_KEPT, [f"{path.parent}: {error}"])
        return table
    return _open(path, asked, folder, fresh) or table


def _stamp(path: Path) -> list[int]:
    facts = path.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns]


def _open(path: Path, asked: Facts, folder: Path, fresh: Callable[[Facts], bool]) -> BoxTable | None:
    try:
        columns = open_columns(path)
    except ValueError:  # not there, or damaged
        return None
    notes = json.loads(columns.arrays[NOTES].tobytes()) if NOTES in columns.arrays else {}
    if notes.get("asked") != asked or not fresh(notes["facts"]):
        return None
    return BoxTable(
        folder=folder,
        **{name: columns.arrays[name] for name in COLUMNS},
        class_names=tuple(notes["class_names"]),
        category_ids=tuple(notes["category_ids"]),
        problems=notes["problems"],
        columns=columns,
    )
