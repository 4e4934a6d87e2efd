"""Partitions on disk: one file of columns, and one of text that says what they are and holds their checksum."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.columns import open_columns, write_columns
from mbapps.files import write_text

from .cells import is_valid, leaf_ranges
from .partition import Partition, Rules, parent_maps

FORMAT = 1  # of partition.json; a newer one is refused
COLUMNS, FACTS = "partition.safetensors", "partition.json"
AGAIN = "bring back a copy of the two files, or build the partition again"


def save_partitions(folder: str | Path, nested: Mapping[str, Partition]) -> Path:
    """Write one or several nested partitions by name, coarsest first, to two files of a folder.

    Raises:
        ValueError: there is none, or they are not nested.
        OSError: there is no room, or no right to write.
    """
    if not nested:
        raise ValueError("no partition to save")
    parent_maps(nested)
    folder = Path(folder)
    arrays: dict[str, NDArray[Any]] = {}
    for name, part in nested.items():
        arrays |= {
            f"{name}.cells": part.cells,
            f"{name}.photos": part.photos,
            f"{name}.centres": part.centres,
        }
        arrays |= {f"{name}.users": part.users} if part.users is not None else {}
    write_columns(folder / COLUMNS, arrays)
    facts = {
        "format": FORMAT,
        "digest": open_columns(folder / COLUMNS).digest,
        "partitions": {
            name: {"cells": len(part), "total": part.total, "rules": asdict(part.rules)}
            for name, part in nested.items()
        },
    }
    write_text(folder / FACTS, json.dumps(facts, indent=1) + "\n")
    return folder


def open_partitions(folder: str | Path) -> dict[str, Partition]:
    """Read what `save_partitions` wrote, checked against its checksum; the columns are mapped, not copied.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file is damaged, altered, of another partition, or newer than this version.
    """
    path = Path(folder) / FACTS
    if not path.is_file():
        raise FileNotFoundError(f"no partition at {folder}: it has no {FACTS}")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        newer = facts["format"] > FORMAT
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path} is no description of a partition: {error!r}; {AGAIN}") from error
    if newer:
        raise ValueError(
            f"{path} has format {facts['format']}, newer than this mbapps reads ({FORMAT}); update mbapps"
        )
    try:
        columns = open_columns(path.parent / COLUMNS)
    except ValueError as error:
        raise ValueError(f"{error}; {AGAIN}") from error
    if columns.digest != facts.get("digest"):
        raise ValueError(
            f"{path.parent / COLUMNS} is not what {FACTS} describes: their checksums differ; {AGAIN}"
        )
    try:
        nested = {name: _partition(name, own, columns.arrays) for name, own in facts["partitions"].items()}
        parent_maps(nested)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is no description of a partition: {error!r}; {AGAIN}") from error
    return nested


def _partition(name: str, facts: Mapping[str, Any], arrays: Mapping[str, Any]) -> Partition:
    cells, photos, centres = (arrays[f"{name}.{column}"] for column in ("cells", "photos", "centres"))
    users = arrays.get(f"{name}.users")
    first, last = leaf_ranges(cells)
    shapes = {facts["cells"]} == {len(column) for column in (cells, photos, centres)}
    if not shapes or not is_valid(cells).all() or (first[1:] <= last[:-1]).any():
        raise ValueError(f"the cells of {name} are not disjoint, sorted and {facts['cells']}")
    if not np.isfinite(centres).all() or (users is not None and len(users) != len(cells)):
        raise ValueError(f"the columns of {name} do not fit its cells")
    return Partition(cells, photos, centres, users, Rules(**facts["rules"]), int(facts["total"]))
