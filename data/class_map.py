"""Which of a model's classes each class of a data set is, where the two name theirs differently."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mbapps.batches import LabelTable

from .boxes import tell
from .class_splits import only_classes

BY_NAME = "names"
LOWER = "any case: "  # before the keys of names without their case


def map_classes(table: LabelTable, model_names: Sequence[str], class_map: str) -> LabelTable:
    """Tell of each class of a table by which column of the model it is answered.

    Args:
        table: its classes keep their own names.
        model_names: the model's classes. One may have several names with commas between, as ImageNet's have.
        class_map: "names" matches by any name, underscores, hyphens and spaces aside, and case too unless it decides
            ("Cardigan" is ImageNet's dog, "cardigan" its garment). Else a text file with
            a line `data name<TAB>model class` for each class; images of classes without a line are left out.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a class is none of the model's, or may be several, or two classes are the same one; or the file
            has another form, or names a class that the data has not.
    """
    columns = _columns(model_names)
    if class_map == BY_NAME:
        wanted = {name: name for name in table.class_names}
    else:
        wanted = _read_map(Path(class_map), table)
        left_out = [name for name in table.class_names if name not in wanted]
        tell(table.problems, "class without a line in data.class_map: left out", left_out)
        table = only_classes(table, list(wanted))
    chosen = [_one(columns, name, theirs) for name, theirs in wanted.items()]
    if twice := {column for column in chosen if chosen.count(column) > 1}:
        names = [name for name, column in zip(wanted, chosen, strict=True) if column in twice]
        raise ValueError(
            f"data.class_map={class_map} takes several classes for the same one of the model: {', '.join(names)}"
        )
    return replace(table, columns=np.array(chosen, dtype=np.int64))


def _columns(model_names: Sequence[str]) -> Mapping[str, Sequence[int]]:
    """Columns by each bare name, in its own case and in lower case."""
    found: dict[str, dict[int, None]] = {}
    for column, names in enumerate(model_names):
        for name in map(_bare, names.split(",")):
            for key in (name, LOWER + name.casefold()):
                found.setdefault(key, {})[column] = None
    return {name: list(columns) for name, columns in found.items()}


def _bare(name: str) -> str:
    return re.sub(r"[\s_-]+", "", name)


def _one(columns: Mapping[str, Sequence[int]], name: str, theirs: str) -> int:
    bare = _bare(theirs.partition(",")[0])  # a file may give all names of a class
    found = columns.get(bare) or columns.get(LOWER + bare.casefold(), ())
    if len(found) != 1:
        how = "is none of the model's" if not found else f"may be any of {len(found)} of the model's"
        raise ValueError(
            f"the class {theirs!r} {how}, so {name!r} can't be measured; write the pairs that are meant into a text "
            "file, `data name<TAB>model class` a line, for data.class_map=; classes without a line are left out"
        )
    return found[0]


def _read_map(file: Path, table: LabelTable) -> dict[str, str]:
    if not file.is_file():
        raise FileNotFoundError(f'no file at data.class_map={file}; it is a text file, or "{BY_NAME}"')
    pairs: dict[str, str] = {}
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, theirs = (part.strip() for part in line.partition("\t"))
        if not (name and theirs):
            raise ValueError(f"{file}:{number} must be `data name<TAB>model class`, got {line!r}")
        if name in pairs:
            raise ValueError(f"{file}:{number} names {name!r} again")
        pairs[name] = theirs
    unknown = [name for name in pairs if name not in table.class_names]
    if unknown or not pairs:
        raise ValueError(
            f"{file} names {', '.join(unknown[:5]) or 'no class'}, but the data's classes are "
            f"{', '.join(table.class_names[:20])}"
        )
    return pairs
