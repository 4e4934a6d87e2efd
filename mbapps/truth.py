"""The truth alone, to score answers from elsewhere: no torch, no picture unless it is at hand."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw

from .batches import BoxTable
from .images import GREY, BrokenImageError, UInt8Image, resize
from .predictions import Detections

if TYPE_CHECKING:
    from omegaconf import DictConfig

MAX_CANVAS_SIDE = 8000  # px; what lies beyond is not drawn
NO_SIZE = (480, 640)  # height and width of a canvas where neither the annotations nor the boxes tell
SAID = "no picture"


class Truth:
    """One table of boxes, as a data module shows it.

    Args:
        table: the boxes, as they are written.
        source: the file or folder they come from.
    """

    def __init__(self, table: BoxTable, source: Path):
        self.table = table
        self.source = source

    def picture(self, split: str, row: int) -> tuple[UInt8Image, UInt8Image]:
        """One image, plain and with its truth drawn on it; a grey canvas that says so where there is none."""
        from .data.boxes import read_row

        try:
            image, size = read_row(self.table, row)
            image = resize(image, *size)
        except (BrokenImageError, OSError):
            image = self._canvas(row)
        rows = self.table.rows(row)
        drawn = np.isfinite(self.table.boxes[rows]).all(axis=1)
        boxes, labels = self.table.boxes[rows][drawn], self.table.labels[rows][drawn].astype(np.int64)
        return image, Detections(boxes, np.ones(len(boxes)), labels, self.table.class_names).draw(image)

    def _canvas(self, row: int) -> UInt8Image:
        height, width = self.table.sizes[row].tolist()
        if min(height, width) <= 0:
            edges = np.nan_to_num(self.table.boxes[self.table.rows(row), 2:], posinf=0)
            width, height = np.max([[*NO_SIZE[::-1]], *edges], axis=0).astype(int).tolist()
        size = (min(width, MAX_CANVAS_SIDE), min(height, MAX_CANVAS_SIDE))
        canvas = Image.new("RGB", size, (GREY, GREY, GREY))
        letters = max(10, min(size) // 20)
        ImageDraw.Draw(canvas).text(
            (size[0] - 8, size[1] - 8), SAID, fill=(200, 200, 200), font_size=letters, anchor="rs"
        )
        return np.array(canvas)

    def lineage(self) -> dict[str, Any]:
        """Name, sizes and fingerprint, for results.json."""
        digest = hashlib.sha256("\n".join([*self.table.class_names, *self.table.files.tolist()]).encode())
        for column in (self.table.image_ids, self.table.boxes, self.table.labels, self.table.crowd):
            digest.update(column.tobytes())
        return {
            "name": self.source.name, "images": len(self.table), "boxes": len(self.table.boxes),
            "fingerprint": digest.hexdigest()[:16],
        }  # fmt: skip


def open_truth(cfg: DictConfig) -> Truth:
    """Read the split that `cfg.data` means as it is written, bad boxes too, as official scores need it.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: two keys name the truth, or it can't be read.
    """
    from .data.readers import as_classes, as_names, open_reader
    from .data.splits import SPLITS, read_one

    data, named = cfg.data, {split: as_names(cfg.data[split]) for split in SPLITS}
    if data.annotations and named[cfg.split]:
        raise ValueError(
            f"data.annotations={data.annotations} and data.{cfg.split}={','.join(named[cfg.split])} both name the "
            "truth; leave one out"
        )
    root = Path(data.root) if data.root else None
    reader = open_reader(
        root, data.format, data.images,
        annotations=data.annotations, classes=as_classes(data.classes), pictures=False,
    )  # fmt: skip
    table = read_one(reader, cfg.split, named, None, data.test_ids)[cfg.split]
    return Truth(table, Path(data.annotations or reader.root))
