"""Reads YOLO sets: a folder of images, a text file of numbers beside each, and a file that names the classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import BoxTable
from mbapps.images import IMAGE_SUFFIXES, read_size

from .boxes import clean_boxes, list_files, tell
from .yolo_labels import Labels, read_labels
from .yolo_layout import YoloLayout

NO_LABELS = frozenset(
    {"classes", "train", "val", "valid", "test"}
)  # texts that may lie there and are no labels
IMAGE_FOLDERS = ("images", "jpegimages")


class _Images(NamedTuple):
    folder: Path
    files: list[str]  # relative to it
    missing: list[str]


def read_yolo(layout: YoloLayout, source: Path, *, clean: bool = True) -> BoxTable:
    """Read one split of a YOLO set as a table of boxes.

    The labels of `images/a/b.jpg` are `labels/a/b.txt`: the last folder called images counts, as Ultralytics
    has it; where there is no such folder they lie in a folder called labels beside the image, or beside the
    image itself. An image with an empty file or without one is a negative, the latter told. Edges are
    fractions of the image as it stands upright. `image_ids` are the files' names where all of them are numbers,
    as COCO's are, else they count from 1; `category_ids` are the classes' numbers.

    Args:
        source: a folder, searched below, or a text file with an image on each line.
        clean: drop and clip bad boxes (`boxes.clean_boxes`).

    Raises:
        FileNotFoundError: there is no such source, or it has no image, or none of them has a label file.
        ValueError: no line can be read, a class has no name, or no box lies in its image.
    """
    if not source.exists():
        raise FileNotFoundError(f"no images and no list of them at {source}, which {layout.source} names")
    images = list_images(source, layout.root)
    problems = {reason: list(places) for reason, places in layout.problems.items()}
    tell(problems, "image file missing", images.missing)
    paths = [f"{images.folder}/{file}" for file in images.files]
    files = label_files(paths, problems)
    owned = [row for row, file in enumerate(files) if file]
    if not owned:
        raise FileNotFoundError(
            f"none of the {len(paths)} images of {source} has a label file, e.g. {label_folder(paths[0])}"
            f"/{Path(paths[0]).stem}.txt"
        )
    bare = [file for file, label in zip(images.files, files, strict=True) if not label]
    tell(problems, "image without a label file: a negative", bare)
    named = [file for file in files if file]
    labels = read_labels(named, problems)
    _check_classes(labels, named, layout)
    labels = labels._replace(owners=np.array(owned, dtype=np.int64)[labels.owners])
    sizes = np.array([read_size(path) for path in paths], dtype=np.int32).reshape(-1, 2)
    blind = [images.files[row] for row in np.flatnonzero(sizes.min(axis=1) <= 0)]
    tell(problems, "image size can't be read: its boxes are dropped", blind)
    labels = labels.take(sizes[labels.owners].min(axis=1) > 0)
    table = _table(images, sizes, labels, layout.class_names, problems)
    if not clean:
        return table
    cleaned = clean_boxes(table)
    if len(table.boxes) and not len(cleaned.boxes):
        place = f"{files[labels.owners[0]]}:{labels.lines[0]}"
        raise ValueError(
            f"no box of {source} lies in its image, e.g. {place}: edges at "
            f"{' '.join(f'{edge:g}' for edge in labels.boxes[0])}; they must be fractions of the image's sides"
        )
    return cleaned


def _table(
    images: _Images,
    sizes: NDArray[np.int32],
    labels: Labels,
    class_names: tuple[str, ...],
    problems: dict[str, list[str]],
) -> BoxTable:
    height, width = sizes[labels.owners].astype(np.float64).T
    counts = np.bincount(labels.owners, minlength=len(images.files))
    return BoxTable(
        folder=images.folder,
        files=np.array(images.files, dtype=np.str_),
        image_ids=_image_ids(images.files),
        sizes=sizes,
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        boxes=labels.boxes * np.stack([width, height, width, height], axis=1),
        labels=labels.classes.astype(np.int32),
        areas=labels.areas * width * height,
        crowd=np.zeros(len(labels.owners), dtype=np.bool_),
        class_names=class_names,
        category_ids=tuple(range(len(class_names))),
        problems=problems,
    )


def _check_classes(labels: Labels, files: Sequence[str], layout: YoloLayout) -> None:
    beyond = np.flatnonzero(labels.classes >= len(layout.class_names))
    if len(beyond):
        row = beyond[0]
        raise ValueError(
            f"{files[labels.owners[row]]}:{labels.lines[row]}: class {labels.classes[row]:.0f}, but {layout.source} "
            f"names {len(layout.class_names)} classes, counted from 0: {', '.join(layout.class_names)}"
        )


def _image_ids(files: Sequence[str]) -> NDArray[np.int64]:
    stems = [Path(file).stem for file in files]
    if all(stem.isascii() and stem.isdigit() and len(stem) < 19 for stem in stems):
        ids = np.array(stems).astype(np.int64)
        if len(np.unique(ids)) == len(ids):
            return ids
    return np.arange(1, len(files) + 1, dtype=np.int64)


def is_image(name: str) -> bool:
    """Tell an image by its name's ending."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES


def list_images(source: Path, root: Path) -> _Images:
    """Find the images of a folder, searched below, or of a list; paths in a list count from it or from `root`.

    Raises:
        FileNotFoundError: it has no image, or none of those listed is there.
    """
    if source.is_dir():
        below_source: list[str] = []
        seen: set[str] = set()
        for folder, folders, names in os.walk(source, followlinks=True):
            real = os.path.realpath(folder)
            if real in seen:  # a link to a folder above
                folders.clear()
                continue
            seen.add(real)
            below = os.path.relpath(folder, source).replace(os.sep, "/")
            below_source += [name if below == "." else f"{below}/{name}" for name in names if is_image(name)]
        if not below_source:
            raise FileNotFoundError(f"no images in {source}")
        return _Images(source, sorted(below_source), [])
    lines = [
        line.strip().replace("\\", "/") for line in source.read_text("utf-8-sig", "replace").splitlines()
    ]
    if not any(lines):
        raise FileNotFoundError(f"{source} lists no images")
    found, missing = [], []
    for line in dict.fromkeys(filter(None, lines)):
        # CVAT writes data/obj_train_data/a.jpg, where no folder is called data
        places = (source.parent / line, root / line, root / line.partition("/")[2])
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            missing.append(line)
        else:
            found.append(os.path.abspath(path))
    if not found:
        raise FileNotFoundError(f"none of the {len(missing)} images of {source} is there, e.g. {missing[0]}")
    folder = os.path.commonpath([os.path.dirname(path) for path in found])
    files = [os.path.relpath(path, folder).replace(os.sep, "/") for path in found]
    return _Images(Path(folder), files, missing)


def label_folder(image: str) -> Path:
    """Folder of the labels of an image."""
    folder = Path(image).parent
    parts = folder.parts
    last = max((place for place, part in enumerate(parts) if part.lower() in IMAGE_FOLDERS), default=None)
    places = [folder / "labels", folder]
    if last is not None:
        places.insert(0, Path(*parts[:last], "labels", *parts[last + 1 :]))
    return next(place for place in places if place.is_dir())


def label_files(images: Sequence[str], problems: dict[str, list[str]]) -> list[str | None]:
    """Label file of each image, None where there is none; label files without an image are told."""
    folders: dict[str, tuple[Path, set[str]]] = {}  # by the images' folder: where labels lie, and which
    for image in images:
        parent = os.path.dirname(image)
        if parent not in folders:
            place = label_folder(image)
            texts = {name.removesuffix(".txt") for name in list_files(place) if name.endswith(".txt")}
            folders[parent] = place, texts
            used = {name.rpartition(".")[0] for name in list_files(Path(parent)) if is_image(name)}
            lone = sorted(
                name for name in texts - used if name not in NO_LABELS and name[:6].lower() != "readme"
            )
            tell(problems, "label file without an image", [f"{place}/{text}.txt" for text in lone])
    found = []
    for image in images:
        place, texts = folders[os.path.dirname(image)]
        stem = os.path.splitext(os.path.basename(image))[0]
        found.append(f"{place}/{stem}.txt" if stem in texts else None)
    return found
