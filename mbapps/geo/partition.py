"""PlaNet's partition of the sphere: small cells where there are many photos, large ones where there are few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from .cells import (
    CHUNK,
    MAX_LEVEL,
    Cells,
    Floats,
    Ints,
    cell_ids,
    children,
    from_tokens,
    leaf_ranges,
    levels,
    tokens,
)  # fmt: skip
from .counts import CountTable, Photos, rows_of
from .distance import places_of

FACES = np.arange(1, 12, 2, dtype=np.uint64) << np.uint64(60)


@dataclass(frozen=True)
class Rules:
    """When a cell is split and when it is dropped. The defaults are PlaNet's.

    Args:
        max_photos: a cell with more is split, unless it is of `max_level`.
        min_photos: a cell that ends with fewer is dropped, and its photos with it.
        min_level: larger cells are split, however few photos they have.
        max_level: the finest level, at most 30; such a cell stays, however full.
        min_users: a cell whose photos come from fewer different users is dropped too; "" is nobody who is known, and 0
            asks for no users.

    Raises:
        ValueError: no partition can follow these rules.

    Source: Weyand et al., PlaNet (2016), section 3; Müller-Budack et al., ISN (2018), for `min_level`.
    """

    max_photos: int = 10_000
    min_photos: int = 50
    min_level: int = 0
    max_level: int = MAX_LEVEL
    min_users: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.min_photos <= self.max_photos:
            raise ValueError(
                f"min_photos must be 1 to max_photos={self.max_photos}, got {self.min_photos}: "
                "cells just split would all be dropped"
            )
        if not 0 <= self.min_level <= self.max_level <= MAX_LEVEL:
            raise ValueError(
                f"levels must be 0 <= min_level <= max_level <= {MAX_LEVEL}, "
                f"got min_level={self.min_level}, max_level={self.max_level}"
            )
        if self.min_users < 0:
            raise ValueError(f"min_users must be >= 0, got {self.min_users}")


ISN = {
    name: Rules(max_photos=most, min_level=2)
    for name, most in (("coarse", 5_000), ("middle", 2_000), ("fine", 1_000))
}


@dataclass(frozen=True, eq=False)
class Partition:
    """Disjoint cells, one class each, in the order of their ids. Places outside them have no class."""

    cells: Cells  # [K] ascending
    photos: Ints  # [K]
    centres: Floats  # [K, 2] degrees: the mean of the cell's photos on the sphere, what a prediction says
    users: Ints | None  # [K] different users, where they are known
    rules: Rules
    total: int  # photos that were partitioned

    def __len__(self) -> int:
        return len(self.cells)

    @property
    def kept(self) -> int:
        """Photos that lie in a cell."""
        return int(self.photos.sum())

    @property
    def dropped(self) -> int:
        """Photos whose cell was dropped."""
        return self.total - self.kept

    def text(self) -> str:
        """Say how many cells there are and how many photos they hold."""
        low, high = levels(self.cells).min(), levels(self.cells).max()
        return (
            f"{len(self):,} cells of levels {low} to {high} hold {self.kept:,} of {self.total:,} photos "
            f"({self.kept / self.total:.1%}); {self.dropped:,} lie in cells that were dropped"
        )

    def rows(self, latitudes: ArrayLike, longitudes: ArrayLike) -> Ints:
        """Give each place the row of its cell, -1 where there is none: [N].

        Raises:
            ValueError: a coordinate is NaN or out of range, or the two differ in length.
        """
        return self.rows_of(cell_ids(latitudes, longitudes))

    def rows_of(self, ids: Cells) -> Ints:
        """Give each cell or leaf [N] the row of the cell that holds it, -1 where none does."""
        rows = np.empty(len(ids), np.int64)
        for start in range(0, len(ids), CHUNK):
            rows[start : start + CHUNK] = rows_of(self.cells, ids[start : start + CHUNK])
        return rows

    def parents_in(self, coarse: Partition) -> Ints:
        """Give each cell the row of the cell of a coarser partition that holds it: [K].

        Raises:
            ValueError: one lies in none: the two are not nested.
        """
        rows = coarse.rows_of(self.cells)
        outside = rows < 0  # a larger cell, too: its id lies between those of its quarters
        if outside.any():
            raise ValueError(
                f"{int(outside.sum()):,} of {len(self):,} cells (first: {tokens(self.cells[outside])[0]}) lie in "
                "no cell of the coarser partition; build both from the same photos and change max_photos alone"
            )
        return rows


def build_partition(source: Photos | CountTable, rules: Rules | None = None) -> Partition:
    """Split the six faces until no cell holds more than `max_photos`; drop cells with too few photos or users.

    The photos' order changes nothing. A photo on a border lies in one cell, the one that `cell_ids` says.

    Args:
        source: photos by place, or a table of counts; both ways give the same partition.
        rules: when to split and drop; None means PlaNet's.

    Raises:
        ValueError: no cell is left, the table is coarser than `max_level`, or `min_users` lacks users.
    """
    rules = rules or Rules()
    if rules.max_level > source.level:
        raise ValueError(
            f"max_level={rules.max_level} is finer than the cells of the count table, of level {source.level}; "
            f"set max_level={source.level}, or count by finer cells"
        )
    if rules.min_users and source.users is None:
        raise ValueError(
            f"min_users={rules.min_users} needs to know whose each photo is; give a column of users"
        )
    cells, photos = _split(source, rules)
    total = int(photos.sum())
    enough = photos >= rules.min_photos
    if not enough.any():
        raise ValueError(
            f"no cell is left: the fullest of {len(cells):,} holds {photos.max(initial=0):,} of {total:,} photos, "
            f"fewer than min_photos={rules.min_photos}; lower min_photos, or raise max_photos or lower min_level"
        )
    cells, photos = cells[enough], photos[enough]
    users = source.users_of(cells)
    if users is not None and rules.min_users:
        enough = users >= rules.min_users
        if not enough.any():
            raise ValueError(
                f"no cell is left: none has photos of min_users={rules.min_users} users, the most is {users.max()}; "
                "lower min_users, or raise max_photos"
            )
        cells, photos, users = cells[enough], photos[enough], users[enough]
    centres = np.stack(places_of(source.sums_of(cells).astype(np.float64)), axis=-1)
    return Partition(cells, photos, centres, users, rules, total)


def build_nested(
    source: Photos | CountTable, rules: Mapping[str, Rules] | None = None
) -> dict[str, Partition]:
    """Build several partitions by name, coarsest first, each one's cells within those of the one before.

    Args:
        source: photos by place, or a table of counts.
        rules: they may differ in `max_photos`, which falls; None means ISN's coarse, middle and fine.

    Raises:
        ValueError: the rules give no nested partitions, or `build_partition` says why not.
    """
    rules = ISN if rules is None else rules
    for (name, coarse), (finer, fine) in zip(list(rules.items())[:-1], list(rules.items())[1:], strict=True):
        if coarse.max_photos <= fine.max_photos or _apart(coarse) != _apart(fine):
            raise ValueError(
                f"{finer} does not nest in {name}: max_photos must fall and all other rules be equal, "
                f"got {name}={coarse} and {finer}={fine}"
            )
    return {name: build_partition(source, own) for name, own in rules.items()}


def parent_maps(nested: Mapping[str, Partition]) -> dict[str, Ints]:
    """Give, for each but the coarsest partition, the row in the one before of each of its cells: [K].

    Raises:
        ValueError: they are not nested.
    """
    names = list(nested)
    return {
        fine: nested[fine].parents_in(nested[coarse])
        for coarse, fine in zip(names[:-1], names[1:], strict=True)
    }


def class_names_of(nested: Mapping[str, Partition]) -> list[str]:
    """Name the classes of a head over partitions, coarsest first: the cells' tokens, after the partition's name.

    Of a single partition the tokens alone.
    """
    if len(nested) == 1:
        return tokens(next(iter(nested.values())).cells).tolist()
    return [f"{name}/{token}" for name, part in nested.items() for token in tokens(part.cells).tolist()]


def cells_of(class_names: Sequence[str]) -> dict[str, Cells]:
    """Read what `class_names_of` gave: the cells of each partition by its name, "" of a single one.

    Raises:
        ValueError: a name is no token of a cell, or the cells of a partition overlap or do not ascend.

    >>> {name: cells.tolist() for name, cells in cells_of(["a/1", "b/04", "b/1c"]).items()}
    {'a': [1152921504606846976], 'b': [288230376151711744, 2017612633061982208]}
    """
    names: dict[str, list[str]] = {}
    for each in class_names:
        part, _, token = each.rpartition("/")
        names.setdefault(part, []).append(token)
    found = {part: from_tokens(each) for part, each in names.items()}
    for part, cells in found.items():
        first, last = leaf_ranges(cells)
        if (first[1:] <= last[:-1]).any():
            raise ValueError(f"the cells of the partition {part!r} overlap or are not in order")
    return found


def _apart(rules: Rules) -> tuple[int, ...]:
    return rules.min_photos, rules.min_level, rules.max_level, rules.min_users


def _split(source: Photos | CountTable, rules: Rules) -> tuple[Cells, Ints]:
    """Give cells that hold a photo and are not split, by id, and how many each holds."""
    cells, ends = FACES, []
    for level in range(rules.max_level + 1):
        first, last = leaf_ranges(cells)
        photos = source.count(np.searchsorted(source.ids, first), np.searchsorted(source.ids, last, "right"))
        split = (
            ((photos > rules.max_photos) | (level < rules.min_level))
            & (level < rules.max_level)
            & (photos > 0)
        )
        stay = ~split & (photos > 0)
        ends.append((cells[stay], photos[stay]))
        if not split.any():
            break
        cells = children(cells[split]).reshape(-1)
    found, counts = (np.concatenate(parts) for parts in zip(*ends, strict=True))
    order = np.argsort(found)
    return found[order], counts[order]
