"""Which split comes from where: as named, as found, by the ids of its images, or cut from the training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mbapps.batches import BoxTable

from .boxes import tell
from .readers import Reader
from .tables import UNLISTED, cut_ids, leave_out

SPLITS = ("train", "val", "test")
Named = Mapping[
    str, Sequence[str]
]  # what data.train=, data.val= and data.test= say, each () where it is null


def read_splits(
    reader: Reader,
    named: Named,
    fractions: Mapping[str, float],
    seed: int,
    class_names: Sequence[str] | None = None,
    test_ids: str | None = None,
) -> dict[str, BoxTable]:
    """Read train, val and test: as named, as found, or cut from the training images.

    Images of val and test are left out of train, and told. With `test_ids` the test split is those of the
    training images.

    Raises:
        FileNotFoundError: there is no training split.
        ValueError: a fraction is not within (0, 1); nothing is left to train on; or both `test_ids` and a
            test split are named.
    """
    for split, fraction in fractions.items():
        if not 0 < fraction < 1:
            raise ValueError(f"data.{split}_fraction must be in (0, 1), got {fraction}")
    ids_file = _ids_file(reader, named, test_ids)
    train = named["train"] or _training(reader)
    tables = {"train": reader.read("train", train, class_names)}
    for split in ("val", "test"):
        found = split in reader.files and not _trained_on(reader, split, train)  # else it is cut from train
        names = named[split] or ([split] if found else [])
        if split == "test" and ids_file:
            tables["train"], tables["test"] = cut_ids(tables["train"], ids_file)
        elif names:
            tables[split] = reader.read(split, names, class_names or tables["train"].class_names)
    if not len(tables["train"]):
        raise ValueError(f"data.test_ids={ids_file} lists all training images: nothing is left to train on")
    tables["train"] = leave_out(tables)
    missing = [split for split in SPLITS if split not in tables]
    if missing:
        whole = tables["train"]
        *parts, rest = split_rows(len(whole), [fractions[split] for split in missing], seed)
        tables |= {split: whole.take(part) for split, part in zip(missing, parts, strict=True)}
        tables["train"] = whole.take(rest)
    return {split: tables[split] for split in SPLITS}


def read_one(
    reader: Reader,
    split: str,
    named: Named,
    class_names: Sequence[str] | None = None,
    test_ids: str | None = None,
) -> dict[str, BoxTable]:
    """Read only one split, as named, as found, or else the whole of a set that has no splits, and tell it.

    With `test_ids`, test is those of the training images.

    Raises:
        FileNotFoundError: the folder has several splits, but not this one.
        ValueError: it is one that `named` trains on, or both `test_ids` and a test split are named.
    """
    ids_file = _ids_file(reader, named, test_ids)
    names = named[split]
    if split == "test" and ids_file:
        names = named["train"] or _training(reader)
        table = cut_ids(reader.read("train", names, class_names), ids_file)[1]
    elif names or split in reader.files:
        if not names and named["train"] and _trained_on(reader, split, named["train"]):
            raise ValueError(
                f"the {split} split is part of data.train={','.join(named['train'])}, so it does not measure what "
                f"was learned; name another with data.{split}="
            )
        table = reader.read(split, names or [split], class_names)
    else:
        if "all" not in reader.files and len(reader.files) > 1:
            raise FileNotFoundError(
                f"no {split} split in data.root={reader.root}, only {', '.join(reader.files)}; "
                f"name one with data.{split}="
            )
        whole = "all" if "all" in reader.files else next(iter(reader.files))
        table = reader.read(split, [whole], class_names)
        if not reader.lone:
            tell(table.problems, f"no {split} split: the whole set is measured", [str(reader.root)])
    if reader.format == "coco" and (names or len(reader.files) > 1 or reader.lone):
        table.problems.pop(UNLISTED, None)  # a file that was not read may list them
    return {split: table}


def _training(reader: Reader) -> list[str]:
    """Name of the training split that a folder has."""
    name = next((name for name in ("train", "all") if name in reader.files), None)
    if name is None:
        raise FileNotFoundError(
            f"no training split in data.root={reader.root}, only {', '.join(reader.files)}; "
            "name one with data.train="
        )
    return [name]


def _trained_on(reader: Reader, split: str, train: Sequence[str]) -> bool:
    return bool(set(reader.files[split]) & set(reader.sources("train", train)))


def _ids_file(reader: Reader, named: Named, test_ids: str | None) -> Path | None:
    """The file of ids, which may lie in the root; checked that test is not set in another way too."""
    if test_ids is None:
        return None
    if named["test"]:
        raise ValueError(
            f"data.test_ids={test_ids} and data.test={','.join(named['test'])} both set the test split; "
            "leave one out"
        )
    if reader.format != "coco":
        raise ValueError(
            f"data.test_ids={test_ids} needs COCO's image ids; data.root={reader.root} holds "
            f"{reader.format.upper()} annotations"
        )
    below = reader.root / test_ids
    return below if below.is_file() and not Path(test_ids).is_file() else Path(test_ids)


def split_rows(count: int, fractions: Sequence[float], seed: int) -> list[np.ndarray]:
    """Cut `count` rows at random into the given fractions and a rest, each at least one row.

    Returns:
        One sorted array of rows per fraction, and last the rest.

    Raises:
        ValueError: the fractions leave nothing for the rest.
    """
    sizes = [max(1, round(count * fraction)) for fraction in fractions]
    if sum(sizes) >= count:
        raise ValueError(
            f"{count} images can't be split by data.val_fraction and data.test_fraction {list(fractions)}: "
            "nothing is left to train on"
        )
    order = np.random.default_rng(seed).permutation(count)
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes))]


def licence(root: Path) -> str | None:
    """First line of the licence that lies beside the data."""
    for name in ("LICENSE", "LICENCE", "LICENSE.txt", "LICENSE.md"):
        if (root / name).is_file():
            lines = [line.strip() for line in (root / name).read_text(errors="replace").splitlines()]
            return next((line for line in lines if line), None)
    return None
