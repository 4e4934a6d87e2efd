"""Splits of photos by place: all photos of a user, or of a cell, are in one split."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mbapps.batches import GeoTable
from mbapps.geo.cells import cell_ids, tokens

from .boxes import tell
from .geotags import find_lists, read_geotags, read_place_list
from .splits import SPLITS

LEVEL = 7  # of the cells that are kept together: about 70 km across
LEFT_OUT = "photo of {}, or of a user of it: left out of {}"


def split_places(table: GeoTable, val_fraction: float, test_fraction: float) -> dict[str, GeoTable]:
    """Cut a table by a hash of who took each photo, or of the S2 cell, 70 km across, where nobody is told.

    A user's photos, or those of a cell, are all in one split, and stay there whatever is added to the set.

    Args:
        table: the whole.
        val_fraction: of the users or cells, about, in [0, 1); 0 makes no such split.
        test_fraction: likewise.

    Raises:
        ValueError: the fractions leave nothing to train on, or a split is empty.
    """
    if val_fraction + test_fraction >= 1:
        raise ValueError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave nothing to train on"
        )
    keys = np.char.add("cell ", tokens(cell_ids(table.lat, table.lon, LEVEL)))
    if table.users is not None:
        keys = np.where(table.users == "", keys, np.char.add("user ", table.users))
    once, owner = np.unique(keys, return_inverse=True)
    hashes = [int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") for key in once.tolist()]
    place = (np.array(hashes, dtype=np.float64) / 2**64)[owner]  # uniform in [0, 1)
    test, val = place < test_fraction, place < test_fraction + val_fraction
    rows = {"train": ~val, "val": val & ~test, "test": test}
    rows = {
        split: rows[split]
        for split in SPLITS
        if {"val": val_fraction, "test": test_fraction}.get(split, 1) > 0
    }
    for split, there in rows.items():
        if not there.any():
            kind = f"cells of level {LEVEL}" if table.users is None else "users"
            raise ValueError(
                f"the {split} split of {table.folder} is empty: its {len(table)} photos are of {len(once)} {kind}, "
                "each of which is in one split; raise data.val_fraction and data.test_fraction, or give lists of "
                "places called train, val and test"
            )
    return {split: table.take(np.flatnonzero(there)) for split, there in rows.items()}


def read_place_splits(
    root: Path,
    val_fraction: float,
    test_fraction: float,
    *,
    places: Path | None = None,
    images: Path | None = None,
    columns: Mapping[str, str] | None = None,
    drop_zero: bool = True,
) -> dict[str, GeoTable]:
    """Read train, val and test: from the lists of these names, or else cut from one list or the photos' EXIF.

    Photos of users who are in test are left out of val and train, and those of val out of train. Where there is a
    list of train but none of val or test, they are cut from it.

    Args:
        root: folder of the set.
        val_fraction, test_fraction: as in `split_places`.
        places, images, columns, drop_zero: as in `read_geotags`.

    Raises:
        FileNotFoundError, ImportError, ValueError: as `read_geotags`, `split_places` and `without`.
    """
    lists = {"all": places} if places or not root.is_dir() else find_lists(root)
    if "train" not in lists:
        table = read_geotags(root, lists.get("all"), images, columns=columns, drop_zero=drop_zero)
        return split_places(table, val_fraction, test_fraction)
    tables = {
        split: read_place_list(path, images or root, columns=columns, drop_zero=drop_zero)
        for split, path in lists.items()
        if path
    }
    for held, others in (("test", ("val", "train")), ("val", ("train",))):
        for split in others:
            if held in tables and split in tables:
                tables[split] = without(tables[split], tables[held], held, split)
    cut = {"val": val_fraction, "test": test_fraction}
    if missing := {split: share for split, share in cut.items() if share and split not in tables}:
        tables |= split_places(tables["train"], missing.get("val", 0.0), missing.get("test", 0.0))
    return {split: tables[split] for split in SPLITS if split in tables}


def without(table: GeoTable, held: GeoTable, held_name: str, name: str) -> GeoTable:
    """Give a split without the photos of another, and without those of its users, which are told.

    Raises:
        ValueError: no photo is left.
    """
    ours, theirs = (
        np.array([f"{one.folder.resolve()}/{file}" for file in one.files.tolist()]) for one in (table, held)
    )
    shared = np.isin(ours, theirs)
    if table.users is not None and held.users is not None:
        shared |= np.isin(table.users, held.users[held.users != ""])
    if not shared.any():
        return table
    if shared.all():
        raise ValueError(
            f"each photo of {name} is of {held_name} too, or of a user whose photos are: nothing is left of {name}; "
            "give lists that share no user"
        )
    problems = dict(table.problems)
    tell(problems, LEFT_OUT.format(held_name, name), table.files[shared].tolist())
    return replace(table.take(np.flatnonzero(~shared)), problems=problems)
