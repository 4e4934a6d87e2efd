"""Finds out which annotations a folder holds, and reads those of a split or a file by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from mbapps.batches import BoxTable

from .coco import coco_files, image_folder, read_coco
from .voc import read_voc, voc_splits

FORMATS = ("coco", "voc")
UNKNOWN = "object of unknown class"
Load = Callable[[Path | None, Sequence[str] | None], BoxTable]


class Reader(NamedTuple):
    """Files of the splits that a folder has, and how to read one: `load(file, class names or None)`."""

    root: Path
    format: str
    files: Mapping[str, Sequence[Path | None]]  # several where more than one file is of the same split
    load: Load

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


def open_reader(root: Path, format: str | None, images: str | None, *, pictures: bool = True) -> Reader:
    """Find out what annotations a folder has, if `format` does not say so.

    Args:
        pictures: drop bad boxes and, of COCO, images that are not in their folder. False keeps the truth as
            written, as scores need it, and looks at none of COCO's images.

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
        return Reader(root, "coco", coco, _coco_load(root, images, pictures))
    if images:
        raise ValueError(f"data.images={images} is for COCO only; data.root={root} holds VOC annotations")
    return Reader(root, "voc", {name: [file] for name, file in voc.items()}, _voc_load(root, pictures))


def open_annotations(
    path: Path, root: Path | None, format: str | None, images: str | None, *, pictures: bool = True
) -> Reader:
    """Take one COCO json as the whole set, called "all".

    Args:
        root: where its images are looked for; None looks where the json lies.
        pictures: as in `open_reader`.

    Raises:
        FileNotFoundError: there is no file at `path`.
        ValueError: another format is asked for.
    """
    if format not in (None, "coco"):
        raise ValueError(f"data.annotations={path} is a COCO json, but data.format={format}; leave one out")
    if not path.is_file():
        raise FileNotFoundError(f"no file at data.annotations={path}")
    if root is None:
        root = path.parent.parent if path.parent.name == "annotations" else path.parent
    elif images is None:
        images = str(image_folder(root, root / path.name))  # as if the json lay in it
    return Reader(root, "coco", {"all": [path]}, _coco_load(root, images, pictures))


def _coco_load(root: Path, images: str | None, pictures: bool) -> Load:
    def load(file: Path | None, _: Sequence[str] | None) -> BoxTable:
        assert file is not None
        folder = Path(images) if images else image_folder(root, file)
        if not pictures:
            return replace(read_coco(file, None, clean=False), folder=folder)
        return read_coco(file, folder)

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


def _named_file(name: str, root: Path) -> Path:
    for path in (Path(name), root / name, root / "annotations" / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name!r} is neither a split of {root} nor a file")
