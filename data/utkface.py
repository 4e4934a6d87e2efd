"""Reads faces whose file names tell age and gender, as UTKFace: `<age>_<gender>_<race>_<date>.jpg`.

Source: Zhang et al., Age Progression/Regression by Conditional Adversarial Autoencoder (2017). The third field is
left alone: nothing here learns it.
"""

from __future__ import annotations

import operator
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import AttributeTable

from .boxes import tell
from .image_folder import image_files

ATTRIBUTES = ("male", "age>=30", "age>=45", "age>=60")  # those learned unless others are named
NAME = re.compile(r"(\d{1,3})_([01])_\d_\d+\D")  # age, gender (0 male, 1 female), and two fields not read
AGE = re.compile(r"age\s*(>=|<=|>|<)\s*(\d{1,3})")
COMPARE: dict[str, Callable[[NDArray[np.int64], int], NDArray[np.bool_]]] = {
    ">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt,
}  # fmt: skip


def is_utkface(root: Path) -> bool:
    """Whether most pictures of a folder, and of those below it, are named as UTKFace's."""
    names = [os.path.basename(file) for file in image_files(root, root)]
    return bool(names) and sum(bool(NAME.match(name)) for name in names) * 2 > len(names)


def read_utkface(root: Path, attributes: Sequence[str] | None = None) -> AttributeTable:
    """Read all pictures below a folder; those with other names are told and left out.

    Args:
        root: the folder.
        attributes: "male", "female", or an age compared with a number, such as "age>=30" and "age<18"; None
            takes ATTRIBUTES.

    Raises:
        FileNotFoundError: no picture is named so.
        ValueError: an attribute is none of these.
    """
    names = tuple(attributes) if attributes else ATTRIBUTES
    files = sorted(image_files(root, root))
    found = [NAME.match(os.path.basename(file)) for file in files]
    problems: dict[str, list[str]] = {}
    strange = [file for file, match in zip(files, found, strict=True) if not match]
    tell(problems, "file name that is not <age>_<gender>_<race>_<date>", strange)
    good = [(file, match) for file, match in zip(files, found, strict=True) if match]
    if not good:
        raise FileNotFoundError(f"no pictures named <age>_<gender>_<race>_<date> in data.root={root}")
    ages = np.array([int(match[1]) for _, match in good])
    male = np.array([match[2] == "0" for _, match in good])
    labels = np.stack([judge(name, ages, male) for name in names], axis=1).astype(np.int8)
    return AttributeTable(
        root, np.array([file for file, _ in good], dtype=np.str_), labels, names, problems=problems
    )


def judge(attribute: str, ages: NDArray[np.int64], male: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each of N people has an attribute, given as text.

    Args:
        attribute: "male", "female", or "age", one of >=, <=, > and <, and a number of years.
        ages: [N] years.
        male: [N].

    Raises:
        ValueError: it is none of these.
    """
    if attribute in ("male", "female"):
        return male if attribute == "male" else ~male
    found = AGE.fullmatch(attribute.strip())
    if not found:
        raise ValueError(
            f"data.attributes of names as UTKFace's are male, female, and ages such as age>=30, got {attribute!r}"
        )
    return COMPARE[found[1]](ages, int(found[2]))
