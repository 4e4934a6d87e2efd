"""Finds COCO instances files in a folder, and the pictures they are about."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from mbapps.batches import BoxTable
from mbapps.images import IMAGE_SUFFIXES

from .boxes import list_files, tell

KEYS = ("images", "annotations", "categories")
ROBOFLOW = "_annotations.coco.json"
NEAR = 1_000_000  # bytes at either end of a file where its keys mostly are


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
        return all(_holds(content, f'"{key}"'.encode()) for key in KEYS)


def _holds(content: mmap.mmap, word: bytes) -> bool:
    """Look near both ends first: "categories" mostly is the last key."""
    spans = ((0, NEAR), (max(0, len(content) - NEAR), len(content)), (0, len(content)))
    return any(content.find(word, *span) >= 0 for span in spans)


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


def list_below(folder: Path, parents: Iterable[str]) -> set[str]:
    """Names of the files in some folders below `folder`, relative to it."""
    return {
        f"{parent}/{name}".removeprefix("/")
        for parent in parents
        if (folder / parent).is_dir()
        for name in list_files(folder / parent)
    }


def listing_digest(names: Collection[str]) -> str:
    """Tell one listing from another, in any order."""
    return hashlib.blake2b(
        "\n".join(sorted(names)).encode(errors="surrogatepass"), digest_size=16
    ).hexdigest()


def with_files(table: BoxTable, path: Path, there: Collection[str]) -> BoxTable:
    """Drop the images that are not in the folder; a name with a folder that is not there is tried without.

    Args:
        table: with the folder.
        path: of the annotations, for messages.
        there: `list_below` of the folder.

    Raises:
        FileNotFoundError: there is no such folder, or none of the images is in it.
    """
    if not table.folder.is_dir():
        raise FileNotFoundError(f"no image folder at {table.folder}, which {path} needs")
    short = [file if file in there else file.rpartition("/")[2] for file in table.files.tolist()]
    here = np.array([file in there for file in short], dtype=np.bool_)
    if not here.any():
        raise FileNotFoundError(
            f"none of the {len(here)} images of {path} is in {table.folder}, e.g. {table.files[0]}"
        )
    problems = dict(table.problems)
    tell(problems, "image file missing", table.files[~here].tolist())
    extra = sorted(name for name in set(there) - set(short) if Path(name).suffix.lower() in IMAGE_SUFFIXES)
    tell(problems, "image without annotation", extra)
    table = replace(table, files=np.array(short, dtype=np.str_), problems=problems)
    return table.take(np.flatnonzero(here))
