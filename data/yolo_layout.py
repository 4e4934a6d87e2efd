"""Finds the parts of a YOLO set: the names of its classes, and where its splits lie."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from mbapps.images import IMAGE_SUFFIXES

from .boxes import list_files, tell
from .coco_files import split_name

SPLIT_KEYS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}  # of data.yaml
NOTHING = (None, "", "null", "~")
YAMLS = ("data.yaml", "data.yml", "dataset.yaml")
NAME_LISTS = ("classes.txt", "obj.names", "labels/classes.txt", "*.names")
LISTS = ("train.txt", "val.txt", "valid.txt", "test.txt")


class YoloLayout(NamedTuple):
    """Where a YOLO set has what."""

    root: Path
    class_names: tuple[str, ...]
    source: Path  # the file that names them
    splits: Mapping[str, Sequence[Path]]  # folders or lists of images, all of which make up the split
    problems: dict[str, list[str]]


def yolo_layout(root: Path) -> YoloLayout | None:
    """Find a YOLO set in a folder; None where there are no classes' names or no text files beside images.

    `data.yaml` (or another yaml with `names`) names the classes and the splits as Ultralytics reads it: `path`
    is the folder from which train, val and test count, each a folder, a text list, or a list of these. Where
    that is not there, as in a set that was moved, the folder of the yaml is taken. Without a yaml the classes
    are the lines of classes.txt or obj.names, and the splits the folders `images/<split>`, `<split>/images`
    or `<split>`, the lists `<split>.txt`, or else all images.

    Raises:
        ValueError: the yaml is broken, or names no classes, or not as many as its `nc`, or the labels are of poses.
    """
    path, content = _read_yaml(root)
    names = None if path else next((file for text in NAME_LISTS for file in sorted(root.glob(text))), None)
    source = path or names
    if source is None:
        return None
    problems: dict[str, list[str]] = {}
    splits = (_yaml_splits(root, path, content, problems) if path else {}) or _folder_splits(root)
    if not _has_labels(root, [place for places in splits.values() for place in places]):
        return None
    if "kpt_shape" in content:
        raise ValueError(f"{path} has kpt_shape: labels of poses are not read, only boxes and polygons")
    class_names = _yaml_names(source, content) if path else _listed_names(source)
    if len(set(class_names)) < len(class_names):
        twice = next(name for name in class_names if class_names.count(name) > 1)
        raise ValueError(f"{source}: two classes are called {twice!r}; give each its own name")
    return YoloLayout(root, class_names, source, splits, problems)


def holds_yolo(root: Path) -> bool:
    """Tell whether a folder looks like a YOLO set, without reading what may be broken."""
    return any(any(root.glob(text)) for text in (*YAMLS, *NAME_LISTS)) and _has_labels(root)


def _has_labels(root: Path, places: Sequence[Path] = ()) -> bool:
    """Tell whether there are text files in folders called labels, or beside images of the same name."""
    folders = _folders(root)
    for folder in (root / "labels", *(place / "labels" for place in (*folders, *places))):
        if any(file.stem != "classes" for file in folder.rglob("*.txt")):
            return True
    for folder in (root, *folders, *(place for place in places if place.is_dir())):
        names = [name.rpartition(".") for name in list_files(folder)]
        texts = {stem for stem, _, ending in names if ending == "txt"}
        if any(stem in texts for stem, _, ending in names if f".{ending.lower()}" in IMAGE_SUFFIXES):
            return True
    return False


def _folders(folder: Path) -> list[Path]:
    return sorted(place for place in folder.iterdir() if place.is_dir()) if folder.is_dir() else []


def _read_yaml(root: Path) -> tuple[Path | None, dict[str, Any]]:
    """Content of the yaml that names classes, every value as it is written: a class may be called `no` or `1`.

    Raises:
        ValueError: it is called as a YOLO set's is, but is no yaml.
    """
    known = [root / name for name in YAMLS if (root / name).is_file()]
    others = [path for path in sorted(root.glob("*.y*ml")) if path not in known]
    for path in (*known, *others):
        try:
            content = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=yaml.BaseLoader)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            if path in known:
                raise ValueError(f"{path} is no yaml file: {error}") from error
            continue
        if isinstance(content, dict) and ("names" in content or "nc" in content):
            return path, content
    return None, {}


def _yaml_names(path: Path, content: Mapping[str, Any]) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, dict):
        numbers = [str(number) for number in range(len(names))]
        if set(names) != set(numbers):
            raise ValueError(
                f"{path}: names must be numbered from 0 to {len(names) - 1}, got {', '.join(names)}"
            )
        names = [names[number] for number in numbers]
    if names is None and str(count).isdigit():
        names = [f"class{number}" for number in range(int(str(count)))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path}: names must be a list of the classes, or a name by each number")
    if count is not None and count != str(len(names)):
        raise ValueError(f"{path}: nc is {count}, but names has {len(names)}: {', '.join(names)}")
    return tuple(names)


def _listed_names(path: Path) -> tuple[str, ...]:
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip().splitlines()]
    if not all(names):
        raise ValueError(f"{path}:{names.index('') + 1}: a class without a name")
    return tuple(names)


def _yaml_splits(
    root: Path, path: Path, content: Mapping[str, Any], problems: dict[str, list[str]]
) -> dict[str, list[Path]]:
    """Splits as a yaml names them; {} where nothing that it names is there."""
    base = root / str(content.get("path") or "")
    bases = [base, root] if base.is_dir() else [root]
    splits: dict[str, list[Path]] = {}
    there = False
    for split, keys in SPLIT_KEYS.items():
        value: Any = next((content[key] for key in keys if content.get(key) not in NOTHING), [])
        entries = value if isinstance(value, list) else [value]
        for entry in map(str, entries):
            found = _locate(entry, bases)
            if found is None:
                tell(problems, f"split that {path.name} names and that is not there", [f"{split}: {entry}"])
            there |= found is not None
            if found or split == "train":  # without train nothing can be done: reading it says so
                splits.setdefault(split, []).append(found or bases[0] / entry)
    if splits.get("val") and splits["val"] == splits.get("train"):
        problems[f"val split that is train in {path.name}: cut from train"] = [str(splits.pop("val")[0])]
    return splits if there else {}


def _locate(entry: str, bases: Sequence[Path]) -> Path | None:
    """Place that a yaml means; Roboflow writes ../train/images for what lies beside the yaml."""
    for base in bases:
        for text in (entry, entry.removeprefix("../")):
            if (base / text).exists():
                return Path(os.path.normpath(base / text))
    return None


def _folder_splits(root: Path) -> dict[str, list[Path]]:
    """Splits by the names of lists or folders; two of the same word keep their own names."""
    places = [root / name for name in LISTS if (root / name).is_file()]
    if not places:
        places = [place for place in _folders(root / "images") if split_name(place.name) != "all"]
    if not places:
        places = [place for place in _folders(root) if split_name(place.name) != "all"]
    if not places:
        return {"all": [root / "images" if (root / "images").is_dir() else root]}
    words = [split_name(place.stem) for place in places]
    return {
        word if words.count(word) == 1 else place.stem: [_within(place)]
        for word, place in zip(words, places, strict=True)
    }


def _within(place: Path) -> Path:
    return place / "images" if (place / "images").is_dir() else place
