"""Reads folders of classes: `<root>/<class>/…` or `<root>/<split>/<class>/…`, as torchvision's ImageFolder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mbapps.batches import LabelTable
from mbapps.images import IMAGE_SUFFIXES

from .boxes import tell

SPLIT_FOLDERS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip


def class_folders(root: Path) -> dict[str, Path]:
    """Find the split folders of a set: split -> folder of classes; {"all": root} where there are none.

    Split folders are told by their names. A set may well have a class called "train": where other folders lie
    beside them, they are splits only if there are two, with folders of their own.

    Raises:
        ValueError: two folders are of the same split, or a folder of images lies beside the splits.
    """
    folders = subfolders(root)
    named = [folder for folder in folders if folder.name.lower() in SPLIT_FOLDERS]
    others = [folder for folder in folders if folder not in named]
    if others:
        named = [folder for folder in named if subfolders(folder)]
        if len({SPLIT_FOLDERS[folder.name.lower()] for folder in named}) < 2:
            return {"all": root}
        if images := [folder.name for folder in others if next(image_files(folder, root), None)]:
            raise ValueError(
                f"{root} has split folders and, beside them, images in {', '.join(images)}: move these elsewhere"
            )
    found: dict[str, Path] = {}
    for folder in named:
        split = SPLIT_FOLDERS[folder.name.lower()]
        if split in found:
            raise ValueError(
                f"{found[split]} and {folder} are both of the split {split!r}; name one with data.{split}="
            )
        found[split] = folder
    return found


def read_image_folder(folder: Path) -> LabelTable:
    """Read a folder of class folders; a class's images may lie deeper, and other files are passed over.

    Classes are the folders that hold images, sorted by name.

    Raises:
        FileNotFoundError: there is no such folder, or no image in any class.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder of classes at {folder}")
    found = {path.name: sorted(image_files(path, folder)) for path in subfolders(folder)}
    problems: dict[str, list[str]] = {}
    empty = [str(folder / name) for name, files in found.items() if not files]
    tell(problems, "class folder without images: left out", empty)
    names = [name for name, files in found.items() if files]
    if not names:
        raise FileNotFoundError(
            f"no images in {folder}/<class>/: a class is a folder, named after it, with its images"
        )
    rows = [(file, label) for label, name in enumerate(names) for file in found[name]]
    return LabelTable(
        folder=folder,
        files=np.array([file for file, _ in rows], dtype=np.str_),
        labels=np.array([label for _, label in rows], dtype=np.int32),
        class_names=tuple(names),
        problems=problems,
    )


def subfolders(root: Path) -> list[Path]:
    with os.scandir(root) as entries:
        return sorted(
            Path(entry.path) for entry in entries if entry.is_dir() and not entry.name.startswith(".")
        )


def image_files(folder: Path, root: Path) -> Iterator[str]:
    """Give the pictures in a folder and below it, hidden ones passed over, by their paths from `root`."""
    for place, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for file in files:
            if os.path.splitext(file)[1].lower() in IMAGE_SUFFIXES and not file.startswith("."):
                yield os.path.relpath(os.path.join(place, file), root)
