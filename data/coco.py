"""Reads COCO instances files."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET
from numpy.typing import NDArray

from mbapps.batches import BoxTable

from .boxes import clean_boxes, gather, tell
from .cache import Facts, keep_table
from .coco_files import KEYS, list_below, listing_digest, with_files

VERSION = 1  # raise it when other numbers come from the same file: what was cached is then read anew


class _Image(msgspec.Struct, gc=False):
    id: Any = UNSET
    file_name: Any = UNSET
    height: Any = None
    width: Any = None


class _Annotation(msgspec.Struct, gc=False):  # without the outline: most of the file
    id: Any = "?"
    image_id: Any = None
    category_id: Any = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = None


class _Category(msgspec.Struct):
    id: Any = UNSET
    name: Any = UNSET
    supercategory: Any = None


class _Content(msgspec.Struct):
    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def read_coco(annotations: Path, images: Path | None = None, *, clean: bool = True) -> BoxTable:
    """Read a COCO instances file as a table of boxes, its classes in the order of their ids.

    Images without boxes stay: they are negatives. `problems` names the annotations whose image or category
    the file does not list, the images that are not in the folder (both are dropped), and the images in the
    folder that the file does not list. The table of a large file is kept (`cache.keep_table`) and read anew
    when the file or the names in the folder change.

    Args:
        annotations: the json file.
        images: folder of the pictures. None looks at none: enough to score boxes from elsewhere.
        clean: drop and clip bad boxes (`boxes.clean_boxes`). False keeps the truth as written, as the
            official scores need it.

    Raises:
        FileNotFoundError: no such file or folder, or none of the images is in it.
        ValueError: it is no COCO instances file, or two images or categories share an id or a name.
    """
    if not annotations.exists():
        raise FileNotFoundError(f"no annotations at {annotations}")
    folder = annotations.parent if images is None else images

    def read() -> tuple[BoxTable, Facts]:
        table = _table(annotations, folder)
        parents = sorted({file.rpartition("/")[0] for file in table.files.tolist()} | {""})
        facts: dict[str, Any] = {"parents": parents}
        if images is not None:
            there = list_below(images, parents)
            facts["listing"] = listing_digest(there)
            table = with_files(table, annotations, there)
        return (clean_boxes(table) if clean else table), facts

    def fresh(facts: Facts) -> bool:
        return images is None or facts["listing"] == listing_digest(list_below(images, facts["parents"]))

    asked = {"images": images and str(images.resolve()), "clean": clean}
    return keep_table(annotations, asked, folder, version=VERSION, read=read, fresh=fresh)


def _table(path: Path, folder: Path) -> BoxTable:
    """The table as written, of all images."""
    content = _load(path)
    problems: dict[str, list[str]] = {}
    items, truth = content.images, _with_box(content.annotations, path, problems)
    names = [str(name).replace("\\", "/") for name in _column(items, "file_name", path)]
    image_ids = _ids(items, path, unique="images")
    category_ids, class_names = _categories(content, path)
    image_rows = _find(image_ids, (item.image_id for item in truth))
    labels = _find(category_ids, (item.category_id for item in truth))
    for reason, key, rows in (("image", "image_id", image_rows), ("category", "category_id", labels)):
        lost = [truth[i] for i in np.flatnonzero(rows < 0)]
        lines = [f"annotation {item.id}: {key} {getattr(item, key)}" for item in lost]
        tell(problems, f"annotation of unknown {reason}", lines)

    boxes = _boxes(truth, path)
    wide = boxes[:, 2] * boxes[:, 3]
    boxes[:, 2:] += boxes[:, :2]
    areas = np.array([_area(item.area) for item in truth], dtype=np.float64)
    crowd = np.array([bool(item.iscrowd) for item in truth], dtype=np.bool_)
    known = np.flatnonzero((image_rows >= 0) & (labels >= 0))
    order, starts = gather(image_rows[known], len(items))
    order = known[order]
    return BoxTable(
        folder=folder,
        files=np.array(names, dtype=np.str_),
        image_ids=image_ids,
        sizes=np.array([(_side(item.height), _side(item.width)) for item in items], dtype=np.int32),
        starts=starts,
        boxes=boxes[order],
        labels=labels[order].astype(np.int32),
        areas=np.where(np.isnan(areas), wide, areas)[order],
        crowd=crowd[order],
        class_names=class_names,
        category_ids=tuple(category_ids.tolist()),
        problems=problems,
    )


def _load(path: Path) -> _Content:
    """Decode only what is asked for, from the mapped file."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            content = msgspec.json.decode(text, type=_Content)
    except (msgspec.DecodeError, ValueError):  # not strict json, as NaN is not, or no COCO file
        content = msgspec.convert(_load_any(path), _Content)
    if not content.images:
        raise ValueError(f"{path} lists no images")
    return content


def _load_any(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Decode all that Python takes for json, slowly, and say what is wrong."""

    def drop_outlines(item: dict[str, Any]) -> dict[str, Any]:
        item.pop("segmentation", None)
        return item

    try:
        content = json.loads(path.read_bytes(), object_hook=drop_outlines)
    except ValueError as error:
        raise ValueError(f"{path} is no json file: {error}") from error
    missing = next((key for key in KEYS if not isinstance(content, dict) or key not in content), None)
    if missing:
        raise ValueError(f"{path} is no COCO instances file: it has no key {missing!r}")
    for key in KEYS:
        if not isinstance(content[key], list) or not all(type(item) is dict for item in content[key]):
            raise ValueError(f"{path} is no COCO instances file: {key!r} must be a list of objects")
    return {key: content[key] for key in KEYS}


def _column(items: Sequence[_Image | _Category], key: str, path: Path) -> list[Any]:
    values = [getattr(item, key) for item in items]
    if any(value is UNSET for value in values):
        raise ValueError(f"{path} is no COCO instances file: an entry has no key {key!r}")
    return values


def _ids(items: Sequence[_Image | _Category], path: Path, unique: str) -> NDArray[np.int64]:
    values = _column(items, "id", path)
    for value in values:
        if type(value) is not int or abs(value) >= 2**63:
            raise ValueError(f"{path}: id must be a whole number of 64 bits, got {value!r}")
    if (twice := _first_twice(values)) is not None:
        raise ValueError(f"{path}: two {unique} have the id {twice}")
    return np.array(values, dtype=np.int64)


def _first_twice(values: Iterable[int | str]) -> int | str | None:
    seen: set[int | str] = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None


def _categories(content: _Content, path: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Ids in rising order, and names; without the unused group that Roboflow lists as if it were a class."""
    groups = {str(item.supercategory) for item in content.categories} - {"none"}
    idle = [item for item in content.categories if item.supercategory == "none" and str(item.name) in groups]
    used = {str(item.category_id) for item in content.annotations} if idle else set()
    unused = [item for item in idle if str(item.id) not in used]
    items = [item for item in content.categories if item not in unused]
    if not items:
        raise ValueError(f"{path} lists no categories")
    ids = _ids(items, path, unique="categories")
    names = [str(name) for name in _column(items, "name", path)]
    if (twice := _first_twice(names)) is not None:
        raise ValueError(f"{path}: two categories are called {twice!r}; give each its own name")
    order = np.argsort(ids)
    return ids[order], tuple(names[i] for i in order)


def _with_box(truth: list[_Annotation], path: Path, problems: dict[str, list[str]]) -> list[_Annotation]:
    has_box = [isinstance(item.bbox, list) and len(item.bbox) == 4 for item in truth]
    if all(has_box):
        return truth
    if not any(has_box):
        raise ValueError(f"{path} is no COCO instances file: no annotation has a 'bbox' of four numbers")
    lost = [f"annotation {item.id}" for item, has in zip(truth, has_box, strict=True) if not has]
    tell(problems, "annotation without a box", lost)
    return [item for item, has in zip(truth, has_box, strict=True) if has]


def _boxes(truth: list[_Annotation], path: Path) -> NDArray[np.float64]:
    """[M, 4] x y width height, as written."""
    try:
        return np.array([item.bbox for item in truth], dtype=np.float64).reshape(-1, 4)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: a bbox must hold four numbers: {error}") from error


def _find(ids: NDArray[np.int64], values: Iterable[Any]) -> NDArray[np.int64]:
    """Row of `ids`, all different, that each value means; -1 where it means none."""
    rows = {number: row for row, number in enumerate(ids.tolist())}
    return np.array([rows.get(value, -1) if type(value) is int else -1 for value in values], dtype=np.int64)


def _side(value: Any) -> int:
    """A side in px; 0 where it is no number that an image's side can be."""
    return int(value) if isinstance(value, (int, float)) and 0 < value < 2**31 else 0  # NaN is not


def _area(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else float("nan")
