"""The truth alone, to score answers from elsewhere: no torch for COCO's json, no picture unless it is at hand."""

from __future__ import annotations

import hashlib
from dataclasses import replace
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

    A lone COCO json is read at once. Whatever needs more thought, such as which split of a folder is meant, is
    left to the data module, which takes longer to import.

    Raises:
        FileNotFoundError: there is no such file or folder.
        ValueError: two keys name the truth, or it can't be read.
    """
    from . import app
    from .data.coco import read_coco
    from .data.coco_files import image_folder

    data, named = cfg.data, cfg.data[cfg.split]
    if data.annotations and named:
        raise ValueError(
            f"data.annotations={data.annotations} and data.{cfg.split}={named} both name the truth; leave one out"
        )
    if not data.annotations or any(data.get(key) for key in ("format", "classes", "test_ids")):
        module: Any = app.build(data, split=cfg.split, pictures=False)
        return Truth(module.truth(cfg.split), Path(data.annotations or module.root))
    path = Path(data.annotations)
    table = read_coco(path, None, clean=False)
    root = Path(data.root or (path.parent.parent if path.parent.name == "annotations" else path.parent))
    folder = Path(data.images) if data.images else image_folder(root, root / path.name if data.root else path)
    return Truth(replace(table, folder=folder), path)
