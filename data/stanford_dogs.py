"""Reads Stanford Dogs as it is published: `Images/`, `Annotation/`, `train_list.mat` and `test_list.mat`.

Source: Khosla et al., Novel Dataset for Fine-Grained Image Categorization (2011): 120 breeds, 12,000 images to
train on and 8,580 to test.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import LabelTable

from .boxes import tell

LISTS = {"train": "train_list.mat", "test": "test_list.mat"}


def dogs_lists(root: Path) -> dict[str, Path]:
    """Find the lists of a Stanford Dogs folder, in it or in `lists/`: split -> list; {} where it is none."""
    if not (root / "Images").is_dir():
        return {}
    found = {}
    for split, name in LISTS.items():
        path = next((place / name for place in (root, root / "lists") if (place / name).is_file()), None)
        if path:
            found[split] = path
    return found


def read_stanford_dogs(root: Path, file: Path, *, box_crop: bool = False) -> LabelTable:
    """Read one list; a breed is named as its folder without the WordNet number, "n02085620-Chihuahua" -> "Chihuahua".

    Breeds are those of the list, sorted by name, as folders of classes are.

    Args:
        root: holds `Images/` and, for `box_crop`, `Annotation/`.
        file: `train_list.mat` or `test_list.mat`.
        box_crop: let only the dog's box count, the first where a picture has several.

    Raises:
        FileNotFoundError: none of the listed images is there, or box_crop needs a missing `Annotation/`.
        ValueError: the file is no such list.
    """
    names = _listed(file)
    problems: dict[str, list[str]] = {}
    there = [(root / "Images" / name).is_file() for name in names]
    tell(
        problems,
        "listed image not found",
        [name for name, found in zip(names, there, strict=True) if not found],
    )
    names = [name for name, found in zip(names, there, strict=True) if found]
    if not names:
        raise FileNotFoundError(f"none of the images that {file} lists is in {root / 'Images'}")
    folders = sorted({_folder(name) for name in names})
    breeds = tuple(sorted({_breed(folder) for folder in folders}))
    number = {folder: breeds.index(_breed(folder)) for folder in folders}
    return LabelTable(
        folder=root / "Images",
        files=np.array(names, dtype=np.str_),
        labels=np.array([number[_folder(name)] for name in names], dtype=np.int32),
        class_names=breeds,
        crops=_boxes(root, names, problems) if box_crop else None,
        problems=problems,
    )


def _listed(file: Path) -> list[str]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        return [str(cell.item()) for cell in loadmat(file)["file_list"].ravel()]
    except (  # what scipy says of damage depends on where it is
        MatReadError, ValueError, LookupError, TypeError, AttributeError, NotImplementedError, OSError, EOFError,
        zlib.error,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{file} is no list of Stanford Dogs: it has no readable file_list ({error})"
        ) from error


def _folder(name: str) -> str:
    return name.partition("/")[0]


def _breed(folder: str) -> str:
    return folder.partition("-")[2].replace("_", " ") or folder


def _boxes(root: Path, names: Sequence[str], problems: dict[str, list[str]]) -> NDArray[np.int32]:
    """The first box of each image; the whole image, told, where its annotation has none."""
    if not (root / "Annotation").is_dir():
        raise FileNotFoundError(
            f"data.box_crop=true needs the boxes in {root / 'Annotation'}, which is not there"
        )
    boxes = np.zeros((len(names), 4), dtype=np.int32)  # an empty box stands for the whole image
    lost = []
    for row, name in enumerate(names):
        try:
            box = ElementTree.parse(root / "Annotation" / Path(name).with_suffix("")).find("object/bndbox")
            assert box is not None
            boxes[row] = [int(float(box.findtext(edge, ""))) for edge in ("xmin", "ymin", "xmax", "ymax")]
        except (OSError, ElementTree.ParseError, AssertionError, ValueError):
            lost.append(name)
    tell(problems, "image without a box: taken whole", lost)
    return boxes
