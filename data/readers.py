"""Finds out which annotations a folder holds, and reads those of a split or a file by its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mbapps.batches import BoxTable

from .boxes import tell
from .coco import read_coco
from .coco_files import coco_files, image_folder
from .tables import RENUMBERED, choose_classes, pool
from .voc import read_voc, voc_splits
from .yolo import read_yolo
from .yolo_layout import holds_yolo, yolo_layout

FORMATS = ("coco", "voc", "yolo")
LOOKED_FOR = {
    "coco": "COCO (annotations/*.json, <split>/_annotations.coco.json)",
    "voc": "VOC (Annotations/*.xml, or xml beside images)",
    "yolo": "YOLO (data.yaml or classes.txt, with labels/*.txt or txt beside images)",
}
UNKNOWN = "object of unknown class"
Load = Callable[[Path | None, Sequence[str] | None], BoxTable]


def as_names(value: str | Sequence[str] | None) -> list[str]:
    """One name, several, or none, as a list.

    >>> as_names("train"), as_names(["a.json", "b.json"]), as_names(None)
    (['train'], ['a.json', 'b.json'], [])
    """
    return [] if value is None else [value] if isinstance(value, str) else [str(name) for name in value]


def as_classes(value: str | Sequence[str] | None) -> list[str]:
    """Names in data.classes as a list; [] takes all.

    Raises:
        ValueError: the list is empty, or has a name twice.
    """
    names = as_names(value)
    if value is not None and not names:
        raise ValueError("data.classes is an empty list; data.classes=null takes all")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"data.classes names {twice!r} twice")
    return names


class Reader(NamedTuple):
    """Files of the splits that a folder has, and how to read one: `load(file, class names or None)`."""

    root: Path
    format: str
    files: Mapping[str, Sequence[Path | None]]  # several where more than one file is of the same split
    load: Load
    classes: Sequence[str] = ()  # the only ones to be read, in this order; () reads all
    lone: bool = False  # a single file that the user named: measured whole without a word

    def sources(self, key: str, names: Sequence[str]) -> list[Path | None]:
        """Files that some splits or files by name mean, asked for by data.<key>.

        Raises:
            FileNotFoundError: a name is neither a split of the folder nor a file.
            ValueError: two files are of one split, and no list says that both are meant.
        """
        known = {file.resolve(): file for files in self.files.values() for file in files if file}
        found: list[Path | None] = []
        for name in names:
            files = self.files.get(name)
            if files is None:
                path = self._named(name)
                files = [known.get(path.resolve(), path)]
            elif len(files) > 1 and self.format != "yolo":
                raise ValueError(
                    f"{' and '.join(map(str, files))} are all of the split {name!r}; name one with data.{key}=, "
                    f"or both with data.{key}=[…,…]"
                )
            found += files
        return list(dict.fromkeys(found))

    def read(self, key: str, names: Sequence[str], class_names: Sequence[str] | None = None) -> BoxTable:
        """Read splits or files by name as one table; `class_names` spare VOC the look for its own.

        Raises:
            FileNotFoundError: as `sources`.
            ValueError: as `sources`; or two files have unlike classes, or none of the name of `classes`.
        """
        tables = []
        for source in self.sources(key, names):
            table = self.load(source, None if self.classes else class_names)
            if self.classes:
                table = choose_classes(
                    table, self.classes, os.path.relpath(source or self.root, self.root.parent)
                )
            tables.append(table)
            class_names = class_names or table.class_names
        table = pool(tables)
        if self.format != "coco":
            table.problems.pop(RENUMBERED, None)  # the numbers were ours
        return table

    def _named(self, name: str) -> Path:
        folder = self.root / "annotations"
        places = {
            "coco": [Path(name), self.root / name, folder / name]
            + [folder / f"{start}{name}.json" for start in ("", "instances_")],
            "voc": [Path(name), self.root / name, self.root / "ImageSets" / "Main" / f"{name}.txt"],
            "yolo": [self.root / name, self.root / "images" / name, Path(name)],
        }
        for path in places[self.format]:
            if path.is_file() or (self.format == "yolo" and path.is_dir()):
                return path
        raise FileNotFoundError(
            f"{name!r} is neither a split of {self.root} nor a file; it has {', '.join(self.files)}"
        )


def open_reader(
    root: Path | None,
    format: str | None = None,
    images: str | None = None,
    *,
    annotations: str | None = None,
    classes: Sequence[str] = (),
    pictures: bool = True,
) -> Reader:
    """Find out what annotations a folder has, if `format` does not say so, or take one COCO json as "all".

    Where COCO and YOLO lie side by side, COCO is read: it holds sizes, ids and crowds too. That is told.

    Args:
        root: the folder; with `annotations`, where its images are, None looks where the json lies.
        images: folder of COCO's images, where it is not found by looking.
        classes: the only ones to be read, () for all.
        pictures: drop bad boxes and, of COCO, images that are not in their folder. False keeps the truth as
            written, as scores need it, and looks at none of COCO's images.

    Raises:
        FileNotFoundError: there is no such folder, or it has no annotations, or none of that format.
        ValueError: it has VOC and another, or `images` or `annotations` are given for another format than COCO.
    """
    if format is not None and format not in FORMATS:
        raise ValueError(f"data.format must be one of {list(FORMATS)}, got {format!r}")
    if root and not root.is_dir():
        way_out = "; name the folder that it lies in" if root.is_file() else ""
        raise FileNotFoundError(f"no folder at data.root={root}{way_out}")
    if annotations:
        return _lone_reader(Path(annotations), root, format, images, classes, pictures)
    if root is None:
        raise ValueError("data.root or data.annotations must name the data")
    coco = coco_files(root) if format in (None, "coco") else {}
    voc = voc_splits(root) if format in (None, "voc") else {}
    yolo = yolo_layout(root) if format == "yolo" or (format is None and not coco) else None
    beside = format is None and bool(coco) and holds_yolo(root)
    there = [name.upper() for name, found in zip(FORMATS, (coco, voc, yolo or beside), strict=True) if found]
    if not there:
        if format:
            raise FileNotFoundError(
                f"no {format} annotations in data.root={root}; looked for {LOOKED_FOR[format]}"
            )
        raise FileNotFoundError(
            f"no annotations in data.root={root}; looked for {', '.join(LOOKED_FOR.values())}"
        )
    if voc and len(there) > 1:
        raise ValueError(
            f"data.root={root} holds both {' and '.join(there)} annotations; choose with "
            f"data.format={' or '.join(there).lower()}"
        )
    if coco:
        notes = (
            {"YOLO labels beside COCO not read; data.format=yolo reads them": [str(root)]} if beside else {}
        )
        return Reader(root, "coco", coco, _coco_load(root, images, pictures, notes), classes)
    if images:
        raise ValueError(
            f"data.images={images} is for COCO only; data.root={root} holds {there[0]} annotations"
        )
    if yolo:
        return Reader(
            root, "yolo", yolo.splits, lambda file, _: read_yolo(yolo, file or root, clean=pictures), classes
        )
    return Reader(
        root, "voc", {name: [file] for name, file in voc.items()}, _voc_load(root, pictures), classes
    )


def _lone_reader(
    path: Path,
    root: Path | None,
    format: str | None,
    images: str | None,
    classes: Sequence[str],
    pictures: bool,
) -> Reader:
    if format not in (None, "coco"):
        raise ValueError(f"data.annotations={path} is a COCO json, but data.format={format}; leave one out")
    if root and not path.is_file() and (root / path).is_file():
        path = root / path
    if not path.is_file():
        raise FileNotFoundError(f"no file at data.annotations={path}")
    if root is None:
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
    elif images is None:
        images = str(image_folder(root, root / path.name))  # as if the json lay in it
    return Reader(root, "coco", {"all": [path]}, _coco_load(root, images, pictures, {}), classes, lone=True)


def _coco_load(root: Path, images: str | None, pictures: bool, notes: Mapping[str, Sequence[str]]) -> Load:
    def load(file: Path | None, _: Sequence[str] | None) -> BoxTable:
        assert file is not None
        folder = Path(images) if images else image_folder(root, file)
        if pictures:
            try:
                table = read_coco(file, folder)
            except FileNotFoundError as error:
                raise FileNotFoundError(f"{error}; name the images' folder with data.images=") from error
        else:
            table = replace(read_coco(file, None, clean=False), folder=folder)
        for reason, places in notes.items():
            tell(table.problems, reason, places)
        return table

    return load


def _voc_load(root: Path, pictures: bool) -> Load:
    def load(file: Path | None, class_names: Sequence[str] | None) -> BoxTable:
        table = read_voc(root, file, class_names, clean=pictures)
        if not len(table.boxes) and UNKNOWN in table.problems:
            theirs = sorted({place.rpartition(": ")[2] for place in table.problems[UNKNOWN]})
            raise ValueError(
                f"the classes of {file or root} are [{', '.join(theirs)}], "
                f"but the model has [{', '.join(class_names or ())}]: none is in both"
            )
        return table

    return load
