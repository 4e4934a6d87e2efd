"""Reads COCO instances files, and finds them in a folder."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import BoxTable
from mbapps.images import IMAGE_SUFFIXES

from .boxes import clean_boxes, gather, list_files, tell

KEYS = ("images", "annotations", "categories")
ROBOFLOW = "_annotations.coco.json"
Items = list[dict[str, Any]]


def read_coco(annotations: Path, images: Path | None = None, *, clean: bool = True) -> BoxTable:
    """Read a COCO instances file as a table of boxes, its classes in the order of their ids.

    Images without boxes stay: they are negatives. `problems` names the annotations whose image or category
    the file does not list, the images that are not in the folder (both are dropped), and the images in the
    folder that the file does not list.

    Args:
        annotations: the json file.
        images: folder of the pictures. None looks at none: enough to score boxes from elsewhere.
        clean: drop and clip bad boxes (`boxes.clean_boxes`). False keeps the truth as written, as the
            official scores need it.

    Raises:
        FileNotFoundError: no such file or folder, or none of the images is in it.
        ValueError: it is no COCO instances file, or two images or categories share an id or a name.
    """
    content = _load(annotations)
    problems: dict[str, list[str]] = {}
    items, truth = content["images"], _with_box(content["annotations"], annotations, problems)
    names = [str(name).replace("\\", "/") for name in _column(items, "file_name", annotations)]
    image_ids = _ids(items, "id", annotations, unique="images")
    category_ids, class_names = _categories(content, annotations)
    image_rows = _find(image_ids, truth, "image_id")
    labels = _find(category_ids, truth, "category_id")
    for reason, key, rows in (("image", "image_id", image_rows), ("category", "category_id", labels)):
        lost = [truth[i] for i in np.flatnonzero(rows < 0)]
        lines = [f"annotation {item.get('id', '?')}: {key} {item.get(key)}" for item in lost]
        tell(problems, f"annotation of unknown {reason}", lines)

    boxes = _boxes(truth, annotations)
    wide = boxes[:, 2] * boxes[:, 3]
    boxes[:, 2:] += boxes[:, :2]
    areas = np.array([_area(item.get("area")) for item in truth], dtype=np.float64)
    crowd = np.array([bool(item.get("iscrowd")) for item in truth], dtype=np.bool_)
    known = np.flatnonzero((image_rows >= 0) & (labels >= 0))
    order, starts = gather(image_rows[known], len(items))
    order = known[order]
    table = BoxTable(
        folder=annotations.parent if images is None else images,
        files=np.array(names, dtype=np.str_),
        image_ids=image_ids,
        sizes=np.array(
            [(_side(item.get("height")), _side(item.get("width"))) for item in items], dtype=np.int32
        ),
        starts=starts,
        boxes=boxes[order],
        labels=labels[order].astype(np.int32),
        areas=np.where(np.isnan(areas), wide, areas)[order],
        crowd=crowd[order],
        class_names=class_names,
        category_ids=tuple(category_ids.tolist()),
        problems=problems,
    )
    if images is not None:
        table = _with_files(table, annotations)
    return clean_boxes(table) if clean else table


def coco_files(root: Path) -> dict[str, list[Path]]:
    """Find the annotations of a folder: split -> every file of that name; {} where there are none.

    Known layouts, the first that is there: `annotations/instances_<split>.json` (or any COCO json in
    `annotations/`), `<split>/_annotations.coco.json`, `*.json`. A split is called train, val or test where
    its name holds that word, and a lone file without such a word is "all".
    """
    found: dict[str, list[Path]] = {}
    for path in _candidates(root):
        found.setdefault(split_name(_raw_name(path)), []).append(path)
    return found


def _raw_name(path: Path) -> str:
    return path.parent.name if path.name == ROBOFLOW else path.stem.removeprefix("instances_")


def split_name(name: str) -> str:
    """Call a split train, val, test or all, by the word its name holds.

    >>> [split_name(name) for name in ("train2017", "valid", "test-dev", "annotations")]
    ['train', 'val', 'test', 'all']
    """
    return next((split for split in ("train", "val", "test") if split in name.lower()), "all")


def _candidates(root: Path) -> list[Path]:
    folder = root / "annotations"
    instances = sorted(folder.glob("instances_*.json"))
    if not instances:
        others = sorted(root.glob(f"*/{ROBOFLOW}")) or sorted(root.glob("*.json"))
        instances = [path for path in sorted(folder.glob("*.json")) or others if _holds_keys(path)]
    splits = {split_name(path.stem) for path in instances if "trainval" not in path.stem}
    if {"train", "val"} <= splits:  # then trainval repeats both
        instances = [path for path in instances if "trainval" not in path.stem]
    return instances


def _holds_keys(path: Path) -> bool:
    """Tell a COCO file from other json without parsing what may be half a gigabyte."""
    if path.stat().st_size == 0:
        return False
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return all(content.find(f'"{key}"'.encode()) >= 0 for key in KEYS)


def image_folder(root: Path, path: Path) -> Path:
    """Folder of the images of an annotations file: beside the file's own layout if that has one, else of `root`."""
    if path.name == ROBOFLOW:
        return path.parent
    home = path.parent.parent if path.parent.name == "annotations" else path.parent
    bases = (root,) if home.resolve() == root.resolve() else (home, root)
    places = [place for base in bases for place in _image_places(base, _raw_name(path))]
    return next((place for place in places if place.is_dir()), root)


def _image_places(base: Path, raw: str) -> list[Path]:
    """Where images of a split may lie; those of minival2014 in val2014."""
    split = split_name(raw)
    bases = (base, base / "images")
    folders = sorted(
        place for inner in bases if inner.is_dir() for place in inner.iterdir() if place.is_dir()
    )
    within = [place for place in folders if split in place.name and raw.endswith(place.name)]
    names = (split, "valid" if split == "val" else split)
    return [
        *(inner / raw for inner in bases), *within,
        *(inner / name for name in names for inner in bases), base / "images",
    ]  # fmt: skip


def _load(path: Path) -> dict[str, Items]:
    def drop_outlines(item: dict[str, Any]) -> dict[str, Any]:  # most of the file, and of the memory
        item.pop("segmentation", None)
        return item

    try:
        content = json.loads(path.read_bytes(), object_hook=drop_outlines)
    except FileNotFoundError:
        raise FileNotFoundError(f"no annotations at {path}") from None
    except ValueError as error:
        raise ValueError(f"{path} is no json file: {error}") from error
    missing = next((key for key in KEYS if not isinstance(content, dict) or key not in content), None)
    if missing:
        raise ValueError(f"{path} is no COCO instances file: it has no key {missing!r}")
    for key in KEYS:
        if not isinstance(content[key], list) or not all(type(item) is dict for item in content[key]):
            raise ValueError(f"{path} is no COCO instances file: {key!r} must be a list of objects")
    if not content["images"]:
        raise ValueError(f"{path} lists no images")
    return content


def _column(items: Items, key: str, path: Path) -> list[Any]:
    try:
        return [item[key] for item in items]
    except (KeyError, TypeError):
        raise ValueError(f"{path} is no COCO instances file: an entry has no key {key!r}") from None


def _ids(items: Items, key: str, path: Path, unique: str = "") -> NDArray[np.int64]:
    values = _column(items, key, path)
    for value in values:
        if type(value) is not int or abs(value) >= 2**63:
            raise ValueError(f"{path}: {key} must be a whole number of 64 bits, got {value!r}")
    if unique and (twice := _first_twice(values)) is not None:
        raise ValueError(f"{path}: two {unique} have the id {twice}")
    return np.array(values, dtype=np.int64)


def _first_twice(values: Iterable[int | str]) -> int | str | None:
    seen: set[int | str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _categories(content: dict[str, Items], path: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Ids in rising order, and names; without the unused group that Roboflow lists as if it were a class."""
    used = {str(item.get("category_id")) for item in content["annotations"]}
    groups = {str(item.get("supercategory")) for item in content["categories"]} - {"none"}
    items = [
        item
        for item in content["categories"]
        if item.get("supercategory") != "none"
        or str(item.get("name")) not in groups
        or str(item.get("id")) in used
    ]
    if not items:
        raise ValueError(f"{path} lists no categories")
    ids = _ids(items, "id", path, unique="categories")
    names = [str(name) for name in _column(items, "name", path)]
    if (twice := _first_twice(names)) is not None:
        raise ValueError(f"{path}: two categories are called {twice!r}; give each its own name")
    order = np.argsort(ids)
    return ids[order], tuple(names[i] for i in order)


def _with_box(truth: Items, path: Path, problems: dict[str, list[str]]) -> Items:
    has_box = [isinstance(item.get("bbox"), list) and len(item["bbox"]) == 4 for item in truth]
    if truth and not any(has_box):
        raise ValueError(f"{path} is no COCO instances file: no annotation has a 'bbox' of four numbers")
    lost = [f"annotation {item.get('id', '?')}" for item, has in zip(truth, has_box, strict=True) if not has]
    tell(problems, "annotation without a box", lost)
    return [item for item, has in zip(truth, has_box, strict=True) if has]


def _boxes(truth: Items, path: Path) -> NDArray[np.float64]:
    """[M, 4] x y width height, as written."""
    try:
        return np.array([item["bbox"] for item in truth], dtype=np.float64).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: a bbox must hold four numbers: {error}") from error


def _find(ids: NDArray[np.int64], truth: Items, key: str) -> NDArray[np.int64]:
    """Row of `ids`, all different, that each annotation means; -1 where it means none."""
    rows = {number: row for row, number in enumerate(ids.tolist())}
    values = (item.get(key) for item in truth)
    found = [rows.get(value, -1) if type(value) is int else -1 for value in values]
    return np.array(found, dtype=np.int64)


def _side(value: Any) -> int:
    """A side in px; 0 where it is no number that an image's side can be."""
    return int(value) if isinstance(value, (int, float)) and 0 < value < 2**31 else 0  # NaN is not


def _area(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")


def _with_files(table: BoxTable, path: Path) -> BoxTable:
    """Drop the images that are not in the folder; a name with a folder that is not there is tried without."""
    parents = {file.rpartition("/")[0] for file in table.files.tolist()} | {""}
    if not table.folder.is_dir():
        raise FileNotFoundError(f"no image folder at {table.folder}, which {path} needs")
    there = {
        f"{parent}/{name}".removeprefix("/")
        for parent in parents
        if (table.folder / parent).is_dir()
        for name in list_files(table.folder / parent)
    }
    short = [file if file in there else file.rpartition("/")[2] for file in table.files.tolist()]
    here = np.array([file in there for file in short], dtype=np.bool_)
    if not here.any():
        raise FileNotFoundError(
            f"none of the {len(here)} images of {path} is in {table.folder}, e.g. {table.files[0]}"
        )
    problems = dict(table.problems)
    tell(problems, "image file missing", table.files[~here].tolist())
    extra = sorted(name for name in there - set(short) if Path(name).suffix.lower() in IMAGE_SUFFIXES)
    tell(problems, "image without annotation", extra)
    table = replace(table, files=np.array(short, dtype=np.str_), problems=problems)
    return table.take(np.flatnonzero(here))
