"""The files that `predict` leaves, written answer by answer: predictions.json, coco_results.json, pictures, videos."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TextIO

from mbapps.files import replacing
from mbapps.predictions import Detections, Prediction

MAX_ID = 2**63 - 1  # readers keep image ids as int64


class JsonWriter:
    """JSON written piece by piece, one item a line, so that the answers to a long video fill no memory."""

    def __init__(self, file: TextIO):
        self._file = file
        self._before = ""

    def item(self, value: Any, key: str | None = None) -> None:
        """Write a whole value: into an object under its key, into a list without one."""
        self._put(json.dumps(value, ensure_ascii=False, allow_nan=False), key)

    @contextmanager
    def nest(self, brackets: str, key: str | None = None) -> Iterator[None]:
        """What is written inside goes into an object, `{}`, or a list, `[]`."""
        self._put(brackets[0], key)
        self._before = "\n"
        try:
            yield
        finally:
            self._file.write(f"\n{brackets[1]}")
            self._before = ",\n"

    def _put(self, text: str, key: str | None) -> None:
        name = "" if key is None else f"{json.dumps(key, ensure_ascii=False)}: "
        self._file.write(f"{self._before}{name}{text}")
        self._before = ",\n"


@contextmanager
def json_file(path: Path, brackets: str) -> Iterator[JsonWriter]:
    """Write a JSON object or list piece by piece; the file appears at the end, whole, or not at all."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        writer = JsonWriter(file)
        with writer.nest(brackets):
            yield writer
        file.write("\n")


class CocoResults:
    """coco_results.json, COCO's results form: it appears with the first detections, empty ones too.

    Beside COCO's keys each row has "file_name" and "category_name", by which `eval` finds image and class where
    the numbers were made up, or are those of another data set.

    Args:
        path: of the file.
        image_ids: the number of each image, by its path.
        category_ids: the annotations' number of each class, [K].
    """

    def __init__(self, path: Path, image_ids: Mapping[str, int], category_ids: Sequence[int]):
        self.path, self.image_ids, self.category_ids = path, image_ids, category_ids
        self._files = ExitStack()
        self._writer: JsonWriter | None = None

    def __enter__(self) -> CocoResults:
        return self

    def __exit__(self, *error: Any) -> None:
        self._files.__exit__(*error)

    @property
    def written(self) -> bool:
        return self._writer is not None

    def add(self, file: str, prediction: Prediction) -> None:
        """Add the boxes of one image; answers of another kind have no place in COCO's form."""
        if not isinstance(prediction, Detections):
            return
        if self._writer is None:
            self._writer = self._files.enter_context(json_file(self.path, "[]"))
        name = Path(file).as_posix()
        for row in prediction.to_coco(self.image_ids[file], self.category_ids, name):
            self._writer.item(row)


def number_images(files: Sequence[Path]) -> tuple[dict[str, int], str]:
    """Give each image its COCO image id, and say where it comes from.

    It is the number that ends the file's name, as in COCO's own `000000000139.jpg` and
    `COCO_val2014_000000000139.jpg`, if all files have one and no two the same; else their place in order, from 1.

    >>> number_images([Path("000000000139.jpg"), Path("a/COCO_val2014_000000000285.jpg")])
    ({'000000000139.jpg': 139, 'a/COCO_val2014_000000000285.jpg': 285}, 'the numbers that end the file names')
    >>> number_images([Path("cat.jpg"), Path("dog2.jpg")])
    ({'cat.jpg': 1, 'dog2.jpg': 2}, 'counted from 1, since not every file name ends with a number of its own')
    """
    found = [re.search(r"[0-9]+$", file.stem) for file in files]
    numbers = {int(match[0]) for match in found if match}
    if len(numbers) == len(files) and max(numbers, default=0) <= MAX_ID:
        named = [int(match[0]) for match in found if match]
        return dict(zip(map(str, files), named, strict=True)), "the numbers that end the file names"
    return (
        {str(file): row for row, file in enumerate(files, 1)},
        "counted from 1, since not every file name ends with a number of its own",
    )


def drawn_names(
    files: Sequence[Path], source: Path, folder: Path, *, keep: Sequence[str], ending: str
) -> dict[Path, Path]:
    """Name each drawn file after its source, in `folder` and the same subfolders, no two the same.

    Args:
        files: sources, all below `source` if that is a folder.
        source: as the user gave it.
        folder: where the drawn ones go.
        keep: endings in lower case that stay.
        ending: what the others get.
    """
    root = source if source.is_dir() else None
    names: dict[Path, Path] = {}
    taken: set[Path] = set()
    for file in files:
        relative = file.relative_to(root) if root else Path(file.name)
        suffix = file.suffix if file.suffix.lower() in keep else ending
        name = relative.with_suffix(suffix)
        number = 2
        while name in taken:
            name = relative.with_name(f"{relative.stem}_{number}{suffix}")
            number += 1
        taken.add(name)
        names[file] = folder / name
    return names
