"""Which split of a set of classes comes from where: as named, as found, or cut from each class's training images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mbapps.batches import LabelTable

from .boxes import tell
from .image_folder import class_folders, read_image_folder
from .splits import SPLITS
from .stanford_dogs import dogs_lists, read_stanford_dogs

FORMATS = ("image_folder", "stanford_dogs")
SHOWN = 20  # classes that an error message lists


class ClassReader:
    """Splits of a folder of classes, or of Stanford Dogs, found by looking.

    Args:
        root: folder of the set.
        format: "image_folder" or "stanford_dogs"; None looks.
        box_crop: let only the object's box count (Stanford Dogs).
        classes: the only ones to be read, by name, in this order; None reads all.

    Raises:
        FileNotFoundError: the folder holds neither, or not that format.
        ValueError: the format is unknown, or has no boxes to crop to.
    """

    def __init__(
        self, root: Path, format: str | None, box_crop: bool = False, classes: Sequence[str] | None = None
    ):
        if format is not None and format not in FORMATS:
            raise ValueError(f"data.format must be one of {list(FORMATS)}, got {format!r}")
        lists = dogs_lists(root) if format != "image_folder" else {}
        if format == "stanford_dogs" and not lists:
            raise FileNotFoundError(
                f"no Stanford Dogs in data.root={root}: it needs Images/ and train_list.mat"
            )
        if box_crop and not lists:
            raise ValueError(
                f"data.box_crop=true needs boxes: only Stanford Dogs has them, not data.root={root}"
            )
        self.root = root
        self.box_crop = box_crop
        self.classes = classes
        self.dogs = bool(lists)
        self.sources: Mapping[str, Path] = lists or class_folders(root)
        if not self.sources:
            raise FileNotFoundError(
                f"no classes in data.root={root}; looked for <class>/<image>, <split>/<class>/<image> and Stanford Dogs"
            )

    def read(self, name: str) -> LabelTable:
        """Read a split of the folder, or a folder or list elsewhere, by its name.

        Raises:
            FileNotFoundError: it is none of these.
            ValueError: one of `classes` is not there.
        """
        places = (self.sources[name],) if name in self.sources else (self.root / name, Path(name))
        source = next((place for place in places if place.exists()), None)
        if source is None:
            raise FileNotFoundError(
                f"{name!r} is neither a split of {self.root}, which has {', '.join(self.sources)}, nor a folder"
            )
        if self.dogs:
            table = read_stanford_dogs(self.root, source, box_crop=self.box_crop)
        else:
            table = read_image_folder(source)
        return table if self.classes is None else only_classes(table, self.classes)


def read_class_splits(
    reader: ClassReader,
    named: Mapping[str, str | None],
    fractions: Mapping[str, float],
    seed: int,
) -> dict[str, LabelTable]:
    """Read train, val and test; a split that is neither named nor there is cut from each class of train.

    Raises:
        FileNotFoundError: there is no training split.
        ValueError: val or test has a class that train has not, or a class has too few images to be cut.
    """
    name = named["train"] or next((split for split in ("train", "all") if split in reader.sources), None)
    if name is None:
        raise FileNotFoundError(
            f"no training split in data.root={reader.root}, only {', '.join(reader.sources)}; name one with data.train="
        )
    tables = {"train": reader.read(name)}
    for split in ("val", "test"):
        source = named[split] or (split if split in reader.sources and split != name else None)
        if source:
            known = tables["train"].class_names
            tables[split] = as_classes(reader.read(source), known, f"the training images in {name!r}")
    missing = [split for split in SPLITS if split not in tables]
    if missing:
        whole = tables["train"]
        parts = cut_classes(whole, [fractions[split] for split in missing], seed)
        *cut, rest = (whole.take(part) for part in parts)
        tables |= dict(zip(missing, cut, strict=True)) | {"train": rest}
    return {split: tables[split] for split in SPLITS}


def read_class_split(reader: ClassReader, split: str, name: str | None) -> LabelTable:
    """Read only one split, as named, as found, or else the whole of a set that has no splits, and tell it."""
    source = name or (split if split in reader.sources else None)
    if source:
        return reader.read(source)
    if "all" not in reader.sources:
        raise FileNotFoundError(
            f"no {split} split in data.root={reader.root}, only {', '.join(reader.sources)}; "
            f"name one with data.{split}="
        )
    table = reader.read("all")
    problems = dict(table.problems)
    tell(problems, f"no {split} split: the whole set is measured", [str(reader.root)])
    return replace(table, problems=problems)


def only_classes(table: LabelTable, classes: Sequence[str]) -> LabelTable:
    """Give the images of some classes, numbered in the order given.

    Raises:
        ValueError: one of them is not there.
    """
    unknown = [name for name in classes if name not in table.class_names]
    if unknown:
        raise ValueError(
            f"data.classes names {_listed(unknown)}, but {table.folder} has {_listed(table.class_names)}"
        )
    rows = np.flatnonzero(np.isin(np.array(table.class_names)[table.labels], list(classes)))
    return as_classes(table.take(rows), classes, "data.classes")


def as_classes(table: LabelTable, class_names: Sequence[str], whose: str) -> LabelTable:
    """Number the classes of a table as another list does.

    Args:
        class_names: the list; classes of it without an image stay.
        whose: it is, for the error.

    Raises:
        ValueError: an image is of a class that is not in the list.
    """
    number = {name: row for row, name in enumerate(class_names)}
    present = [table.class_names[label] for label in np.unique(table.labels)]
    unknown = [name for name in present if name not in number]
    if unknown:
        raise ValueError(
            f"{table.folder} holds classes that {whose} does not have: {_listed(unknown)}; it has "
            f"{_listed(class_names)}"
        )
    renamed = np.array([number.get(name, -1) for name in table.class_names], dtype=np.int32)
    return replace(table, labels=renamed[table.labels], class_names=tuple(class_names))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def cut_classes(table: LabelTable, fractions: Sequence[float], seed: int) -> list[np.ndarray]:
    """Cut the rows of each class at random into the given fractions and a rest, at least one row to each.

    Returns:
        One sorted array of rows per fraction, and last the rest.

    Raises:
        ValueError: a class has no more images than there are fractions, or they leave nothing of it.
    """
    random = np.random.default_rng(seed)
    parts: list[list[np.ndarray]] = [[] for _ in range(len(fractions) + 1)]
    for label in np.unique(table.labels):
        rows = random.permutation(np.flatnonzero(table.labels == label))
        sizes = [max(1, round(len(rows) * fraction)) for fraction in fractions]
        if sum(sizes) >= len(rows):
            raise ValueError(
                f"the class {table.class_names[label]!r} has {len(rows)} images, too few to cut {sizes} for validation "
                "and test from: add images, leave it out with data.classes=, or name the splits with data.val= and "
                "data.test="
            )
        for part, cut in zip(parts, np.split(rows, np.cumsum(sizes)), strict=True):
            part.append(cut)
    return [np.sort(np.concatenate(part)) for part in parts]
