"""Reads Pascal VOC: the devkit's folders, or one flat folder of xml and image pairs."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from mbapps.batches import BoxTable
from mbapps.images import IMAGE_SUFFIXES, read_size

from .boxes import clean_boxes, gather, list_files, tell
from .coco_files import split_name

EDGES = ("xmin", "ymin", "xmax", "ymax")
XML_FOLDERS = ("Annotations", "annotations")
IMAGE_FOLDERS = ("JPEGImages", "images", "Images")


class _Object(NamedTuple):
    name: str
    box: tuple[float, ...]  # xyxy px, NaN where the file holds no number
    difficult: bool


class _Annotation(NamedTuple):
    filename: str  # as the xml says; the xml's own name decides where an image of that name is there
    size: tuple[int, int]  # height and width, 0 where not told
    objects: list[_Object]


def read_voc(
    root: Path, split_file: Path | None, class_names: Sequence[str] | None = None, *, clean: bool = True
) -> BoxTable:
    """Read VOC annotations as a table of boxes.

    Edges are kept as written. The original devkit counts pixels from 1 and includes xmax and ymax; most tools
    since write plain edges from 0, and nothing in a file tells which it is. Read as edges, a devkit box lies
    half a pixel off and is one pixel small. An object marked difficult becomes `crowd`: not learned, and a
    detection on one counts neither way. An image without objects stays: a negative.

    Args:
        root: folder with Annotations/ and JPEGImages/, or with pairs of xml and image.
        split_file: names to read, one a line; or the split's own folder of pairs. None reads all.
        class_names: None takes the names in all xml files of the root, in alphabetical order, so that splits
            agree. Given, they save reading the other splits' files, and objects of other names are dropped.
        clean: drop and clip bad boxes (`boxes.clean_boxes`).

    Raises:
        FileNotFoundError: there are no annotations for these names, or none of their images.
        ValueError: no annotation can be parsed.
    """
    folders = [root]
    if split_file is not None and split_file.is_dir():
        folders = [split_file, *(other for other in _split_folders(root).values() if other != split_file)]
        split_file = None
    xml_folder, image_folder = _folders(folders[0])
    numbers = {name: number for number, name in enumerate(_stems(xml_folder, {".xml"}), start=1)}
    images = _stems(image_folder, IMAGE_SUFFIXES)
    wanted = (
        sorted({**numbers, **images})
        if split_file is None
        else _split_names(split_file, {**numbers, **images})
    )
    problems: dict[str, list[str]] = {}
    parsed = _parse_all(xml_folder, list(numbers) if class_names is None else wanted, wanted, problems)
    bare = [images[name] for name in wanted if name in images and name not in numbers]
    tell(problems, "image without annotation", bare)

    kept: dict[str, tuple[int, _Annotation]] = {}  # by image file, with the number of the xml
    for name in wanted:
        if name in parsed:
            file = images.get(name) or images.get(_stem(parsed[name].filename))
            if file is None:
                tell(problems, "image file missing", [parsed[name].filename or name])
            elif file in kept:
                tell(problems, "second annotation of an image", [f"{name}.xml: {file}"])
            else:
                kept[file] = numbers[name], parsed[name]
        elif name not in numbers and name not in images:
            tell(problems, "image file missing", [name])
    if not kept:
        raise FileNotFoundError(f"none of the images of {split_file or xml_folder} is in {image_folder}")
    if class_names is None:
        names = {item.name for annotation in parsed.values() for item in annotation.objects}
        class_names = sorted(names.union(*(_class_names(folder) for folder in folders[1:])))
    table = _table(image_folder, kept, tuple(class_names), problems)
    return clean_boxes(table) if clean else table


def voc_splits(root: Path) -> dict[str, Path | None]:
    """Find the VOC splits of a folder: name -> file of names, or folder of pairs; {} where it is no VOC folder.

    Folders of xml and image pairs are train, val and test by the word their names hold; two of the same word
    keep their own names. A folder without lists of names is one split, "all", without a file. trainval is left
    out beside train and val, whose names it repeats, and serves as train where it stands alone.
    """
    lists = {
        name: root / "ImageSets" / "Main" / f"{name}.txt" for name in ("train", "val", "trainval", "test")
    }
    found: dict[str, Path | None] = {name: path for name, path in lists.items() if path.is_file()}
    if {"train", "val"} <= found.keys():
        found.pop("trainval", None)
    elif "trainval" in found and not {"train", "val"} & found.keys():
        found["train"] = found.pop("trainval")
    try:
        xml_folder, image_folder = _folders(root)
    except FileNotFoundError:
        return dict(_split_folders(root))
    if found or _holds_pairs(xml_folder, image_folder):
        return found or {"all": None}
    return {}


def _split_folders(root: Path) -> dict[str, Path]:
    """Folders of xml and image pairs below `root`, by split."""
    folders = [place for place in sorted(root.iterdir()) if place.is_dir()] if root.is_dir() else []
    folders = [place for place in folders if split_name(place.name) != "all"]
    folders = [place for place in folders if _holds_pairs(place, place)]
    splits = [split_name(place.name) for place in folders]
    return {
        split if splits.count(split) == 1 else place.name: place
        for split, place in zip(splits, folders, strict=True)
    }


def _class_names(folder: Path) -> set[str]:
    names = list(_stems(folder, {".xml"}))
    parsed = _parse_all(folder, names, names, {})
    return {item.name for annotation in parsed.values() for item in annotation.objects}


def _folders(root: Path) -> tuple[Path, Path]:
    if not root.is_dir():
        raise FileNotFoundError(f"no folder at {root}; set data.root to the folder that holds Annotations/")
    xml_folder = next((root / name for name in XML_FOLDERS if (root / name).is_dir()), root)
    image_folder = next((root / name for name in IMAGE_FOLDERS if (root / name).is_dir()), root)
    if not any(xml_folder.glob("*.xml")):
        raise FileNotFoundError(
            f"no xml annotations in {xml_folder}; set data.root to the folder that holds Annotations/"
        )
    return xml_folder, image_folder


def _stems(folder: Path, suffixes: Collection[str]) -> dict[str, str]:
    """Files of these endings in a folder, by name without the ending."""
    endings = tuple(suffixes)
    names = [name for name in list_files(folder) if name.lower().endswith(endings)]  # quick: of 118,000
    parts = (os.path.splitext(name) for name in names)
    return {stem: stem + suffix for stem, suffix in parts if suffix}  # ".jpg" is a name without an ending


def _holds_pairs(xml_folder: Path, image_folder: Path) -> bool:
    names = _stems(xml_folder, {".xml"}).keys()
    return bool(names and names & _stems(image_folder, IMAGE_SUFFIXES).keys())


def _stem(filename: str) -> str:
    name = PurePosixPath(filename.replace("\\", "/")).name
    return name.rpartition(".")[0] if PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES else name


def _split_names(split_file: Path, known: Collection[str]) -> list[str]:
    """Names of a split, each once. A name may hold blanks; a class's own list adds 1, 0 or -1 after it."""
    try:
        lines = split_file.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"no list of names at {split_file}") from None
    names = [_stem(line.strip()) for line in lines if line.strip()]
    return list(dict.fromkeys(name if name in known else _stem(name.split()[0]) for name in names))


def _parse_all(
    folder: Path, names: Sequence[str], wanted: Sequence[str], problems: dict[str, list[str]]
) -> dict[str, _Annotation]:
    """Parse the xml files of `names` that are there; a broken one is told where it is wanted."""
    parsed: dict[str, _Annotation] = {}
    told = set(wanted)
    reason = ""
    for name in names:
        try:
            parsed[name] = _parse(folder / f"{name}.xml", problems if name in told else {})
        except FileNotFoundError:
            continue
        except (ElementTree.ParseError, ValueError) as error:
            reason = f"{name}.xml: {error}"
            tell(problems, "broken annotation", [reason] if name in told else [])
    if not told & parsed.keys():
        if reason:
            raise ValueError(f"no annotation in {folder} can be read, e.g. {reason}")
        raise FileNotFoundError(f"{folder} has no annotation of the names asked for, e.g. {wanted[:3]}")
    return parsed


def _parse(path: Path, problems: dict[str, list[str]]) -> _Annotation:
    top = ElementTree.parse(path).getroot()
    if top.tag != "annotation":
        raise ValueError(f"<annotation> expected, got <{top.tag}>")
    objects = []
    for item in top.iterfind("object"):
        name, box = (item.findtext("name") or "").strip(), item.find("bndbox")
        if not name or box is None:
            tell(problems, "object without a name or a box", [path.name])
            continue
        edges = tuple(_number(box.findtext(edge)) for edge in EDGES)
        objects.append(_Object(name, edges, _number(item.findtext("difficult")) == 1))
    size = tuple(_number(top.findtext(f"size/{side}")) for side in ("height", "width"))
    height, width = (int(side) if np.isfinite(side) else 0 for side in size)
    return _Annotation((top.findtext("filename") or "").strip(), (height, width), objects)


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _table(
    folder: Path,
    kept: dict[str, tuple[int, _Annotation]],
    class_names: tuple[str, ...],
    problems: dict[str, list[str]],
) -> BoxTable:
    label_of = {name: label for label, name in enumerate(class_names)}
    sizes, owners, boxes, labels, crowd = [], [], [], [], []
    for row, (file, (_, annotation)) in enumerate(kept.items()):
        size = annotation.size
        if min(size) <= 0:
            size = read_size(folder / file)
            tell(problems, "size read from the image" if min(size) else "size unknown", [file])
        sizes.append(size)
        for item in annotation.objects:
            if item.name not in label_of:
                tell(problems, "object of unknown class", [f"{file}: {item.name}"])
                continue
            owners.append(row)
            boxes.append(item.box)
            labels.append(label_of[item.name])
            crowd.append(item.difficult)
    corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    _, starts = gather(np.array(owners, dtype=np.int64), len(kept))
    return BoxTable(
        folder=folder,
        files=np.array(list(kept), dtype=np.str_),
        image_ids=np.array([number for number, _ in kept.values()], dtype=np.int64),
        sizes=np.array(sizes, dtype=np.int32).reshape(-1, 2),
        starts=starts,
        boxes=corners,
        labels=np.array(labels, dtype=np.int32),
        areas=(corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]),
        crowd=np.array(crowd, dtype=np.bool_),
        class_names=class_names,
        category_ids=tuple(range(1, len(class_names) + 1)),
        problems=problems,
    )
