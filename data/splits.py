"""Which split comes from where: the format, the files of a folder, what is cut or left out, and the classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mbapps.batches import BoxTable

from .base import SPLITS, split_rows
from .boxes import tell
from .coco import read_coco
from .coco_files import coco_files, image_folder
from .voc import read_voc, voc_splits

FORMATS = ("coco", "voc")
UNLISTED = "image without annotation"
UNKNOWN = "object of unknown class"


class Reader(NamedTuple):
    """Files of the splits that a folder has, and how to read one: `load(file, class names or None)`."""

    root: Path
    format: str
    files: Mapping[str, Sequence[Path | None]]  # several where more than one file is of the same split
    load: Callable[[Path | None, Sequence[str] | None], BoxTable]

    def read(self, key: str, name: str, class_names: Sequence[str] | None = None) -> BoxTable:
        """Read a split or a file by its name, asked for by data.<key>.

        Raises:
            FileNotFoundError: it is neither a split of the folder nor a file.
            ValueError: two files are of this split.
        """
        files = self.files.get(name) or [_named_file(name, self.root)]
        if len(files) > 1:
            raise ValueError(
                f"{' and '.join(map(str, files))} are all of the split {name!r}; name one with data.{key}="
            )
        return self.load(files[0], class_names)


def open_reader(root: Path, format: str | None, images: str | None) -> Reader:
    """Find out what annotations a folder has, if `format` does not say so.

    Raises:
        FileNotFoundError: it has none, or none of that format.
        ValueError: it has both, or `images` is given for VOC.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"data.format must be one of {list(FORMATS)}, got {format!r}")
    coco = coco_files(root) if format != "voc" else {}
    voc = voc_splits(root) if format != "coco" else {}
    if coco and voc:
        raise ValueError(
            f"data.root={root} holds both COCO and VOC annotations; choose with data.format=coco or voc"
        )
    if not coco and not voc:
        if format:
            raise FileNotFoundError(f"no {format} annotations in data.root={root}")
        raise FileNotFoundError(
            f"no annotations in data.root={root}; looked for COCO (annotations/*.json, "
            "<split>/_annotations.coco.json) and VOC (Annotations/*.xml, or xml beside images)"
        )
    if coco:
        return Reader(root, "coco", coco, lambda file, _: _read_coco(root, file, images))
    if images:
        raise ValueError(f"data.images={images} is for COCO only; data.root={root} holds VOC annotations")
    return Reader(
        root, "voc", {name: [file] for name, file in voc.items()},
        lambda file, class_names: _read_voc(root, file, class_names),
    )  # fmt: skip


def _read_coco(root: Path, file: Path | None, images: str | None) -> BoxTable:
    assert file is not None
    return read_coco(file, Path(images) if images else image_folder(root, file))


def _read_voc(root: Path, file: Path | None, class_names: Sequence[str] | None) -> BoxTable:
    table = read_voc(root, file, class_names)
    if not len(table.boxes) and UNKNOWN in table.problems:
        theirs = sorted({place.rpartition(": ")[2] for place in table.problems[UNKNOWN]})
        raise ValueError(
            f"the classes of {file or root} are [{', '.join(theirs)}], "
            f"but the model has [{', '.join(class_names or ())}]: none is in both"
        )
    return table


def read_splits(
    reader: Reader,
    named: Mapping[str, str | None],
    fractions: Mapping[str, float],
    seed: int,
    class_names: Sequence[str] | None = None,
) -> dict[str, BoxTable]:
    """Read train, val and test: as named, as found, or cut from the training images.

    Images of val and test are left out of train, and told.

    Raises:
        FileNotFoundError: there is no training split.
        ValueError: nothing is left to train on.
    """
    free = reader.files.keys() - {named.get("train")}  # val, named to train on, is not measured as well
    found = {split: named.get(split) or (split if split in free else None) for split in SPLITS}
    if not found["train"]:
        if "all" not in reader.files:
            raise FileNotFoundError(
                f"no training split in data.root={reader.root}, only {', '.join(reader.files)}; "
                "name one with data.train="
            )
        found["train"] = "all"
    tables: dict[str, BoxTable] = {}
    for split, name in found.items():
        if name:
            tables[split] = reader.read(split, name, class_names)
            class_names = class_names or tables[split].class_names
    tables["train"] = _leave_out(tables)
    missing = [split for split in SPLITS if split not in tables]
    if missing:
        whole = tables["train"]
        *parts, rest = split_rows(len(whole), [fractions[split] for split in missing], seed)
        tables |= {split: whole.take(part) for split, part in zip(missing, parts, strict=True)}
        tables["train"] = whole.take(rest)
    return {split: tables[split] for split in SPLITS}


def read_one(
    reader: Reader, split: str, name: str | None, class_names: Sequence[str] | None = None
) -> dict[str, BoxTable]:
    """Read only one split, as named, as found, or else the whole of a set that has no splits, and tell it.

    Raises:
        FileNotFoundError: the folder has several splits, but not this one.
    """
    found = name or (split if split in reader.files else None)
    if not found:
        if "all" not in reader.files and len(reader.files) > 1:
            raise FileNotFoundError(
                f"no {split} split in data.root={reader.root}, only {', '.join(reader.files)}; "
                f"name one with data.{split}="
            )
        whole = "all" if "all" in reader.files else next(iter(reader.files))
        table = reader.read(split, whole, class_names)
        tell(table.problems, f"no {split} split: the whole set is measured", [str(reader.root)])
    else:
        table = reader.read(split, found, class_names)
    if reader.format == "coco" and (name or len(reader.files) > 1):
        table.problems.pop(UNLISTED, None)  # a file that was not read may list them
    return {split: table}


def image_paths(table: BoxTable) -> list[str]:
    """Full path of each image, by which those of two tables are compared."""
    folder = table.folder.resolve()
    return [f"{folder}/{file}" for file in table.files.tolist()]


def _leave_out(tables: Mapping[str, BoxTable]) -> BoxTable:
    """Give train without the images of val and test."""
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


def _named_file(name: str, root: Path) -> Path:
    for path in (Path(name), root / name, root / "annotations" / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name!r} is neither a split of {root} nor a file")


def licence(root: Path) -> str | None:
    """First line of the licence that lies beside the data."""
    for name in ("LICENSE", "LICENCE", "LICENSE.txt", "LICENSE.md"):
        if (root / name).is_file():
            lines = [line.strip() for line in (root / name).read_text(errors="replace").splitlines()]
            return next((line for line in lines if line), None)
    return None


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


def align(table: BoxTable, class_names: Sequence[str]) -> BoxTable:
    """Give the table with its labels counted in `class_names`, matched by name, not by number.

    Raises:
        ValueError: the two sets of names differ; both are listed.
    """
    if table.class_names == tuple(class_names):
        return table
    if set(table.class_names) != set(class_names):
        raise ValueError(
            f"the classes of {table.folder} are [{', '.join(table.class_names)}], "
            f"but the model or the training split has [{', '.join(class_names)}]"
        )
    order = np.array([list(class_names).index(name) for name in table.class_names], dtype=np.int32)
    ids = np.argsort(order)
    return replace(
        table,
        labels=order[table.labels],
        class_names=tuple(class_names),
        category_ids=tuple(table.category_ids[index] for index in ids),
    )
