"""Detection data: the splits of a set of boxes, and what a run asks of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.batches import BoxTable
from mbapps.images import UInt8Image, resize
from mbapps.predictions import Detections

from .base import DataModule
from .boxes import read_row
from .detection_samples import DetectionCollate, DetectionDataset
from .readers import as_classes, as_names, open_reader
from .samplers import repeats_by_class
from .splits import SPLITS, licence, read_one, read_splits
from .synthetic import synthetic_root
from .tables import align, merge_problems
from .transforms import DetectionTransform


class DetectionData(DataModule):
    """A data set of boxes.

    Args:
        root: folder of the data; None is the synthetic set, rendered on first use.
        format: "coco", "voc" or "yolo"; None looks for them.
        train, val, test: a COCO json, a VOC list of names, a YOLO folder or list of images, or the name of a
            split of `root`; several are pooled. None takes the split of that name, or else a fraction of the
            training images.
        test_ids: text file of COCO image ids: those of the training images are test.
        annotations: a lone COCO json that is the whole set; `root`, if given, is then where its images are.
        images: folder of the images, where it is not where the format has it (COCO only).
        classes: the only ones to be read, by name; they become `class_names` in this order. None reads all.
        val_fraction, test_fraction: cut at random from the training images where a split is missing.
        image_size: side of the square input, px.
        augment: arguments of DetectionTransform, or None for none.
        sampling: "repeat_factor" or "class_balanced" draws images of rare classes more often in training
            (`samplers.repeats_by_class`); None reads each image once an epoch.
        repeat_threshold: share of the images below which repeat_factor repeats a class, in (0, 1].
        class_names: of a model to be measured; the data's classes must be the same by name. VOC lists no
            classes: there objects of other names are dropped and counted.
        split: the only one to be read, as measuring needs it; a set without that split is read whole. None
            reads all three.
        num_classes: not used with data; it serves `info` where there are none.
        batch_size, num_workers, seed, max_broken: as in DataModule.
    """

    def __init__(
        self,
        *,
        root: str | None,
        image_size: int,
        format: str | None = None,
        train: str | Sequence[str] | None = None,
        val: str | Sequence[str] | None = None,
        test: str | Sequence[str] | None = None,
        test_ids: str | None = None,
        annotations: str | None = None,
        images: str | None = None,
        classes: str | Sequence[str] | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        augment: Mapping[str, Any] | None = None,
        sampling: str | None = None,
        repeat_threshold: float = 0.001,
        class_names: Sequence[str] | None = None,
        split: str | None = None,
        num_classes: int | None = None,
        batch_size: int = 8,
        num_workers: int | None = None,
        seed: int = 0,
        max_broken: float = 0.01,
    ):
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed, max_broken=max_broken)
        if split is not None and split not in SPLITS:
            raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}")
        self.image_size = image_size
        place = Path(root) if root else None if annotations else synthetic_root("detection")
        reader = open_reader(place, format, images, annotations=annotations, classes=as_classes(classes))
        self.root = reader.root
        named = {part: as_names(files) for part, files in zip(SPLITS, (train, val, test), strict=True)}
        if split:
            tables = read_one(reader, split, named, class_names, test_ids)
        else:
            fractions = {"val": val_fraction, "test": test_fraction}
            tables = read_splits(reader, named, fractions, seed, class_names, test_ids)
        names = tuple(class_names) if class_names else next(iter(tables.values())).class_names
        self.tables = {part: align(table, names) for part, table in tables.items()}
        self.class_names = names
        self.augment = DetectionTransform(image_size, **augment) if augment is not None else None
        self.collate = DetectionCollate(image_size)
        self._repeats = None
        if sampling is not None and "train" in self.tables:
            self._repeats = repeats_by_class(sampling, self.tables["train"].presence(), repeat_threshold)
        if num_classes is not None and num_classes != len(names):
            raise ValueError(
                f"data.num_classes={num_classes}, but the data has {len(names)}: {', '.join(names)}"
            )

    def dataset(self, split: str) -> DetectionDataset:
        transform = None
        if split == "train":
            transform = self.augment or DetectionTransform(
                self.image_size, crop=0, zoom_out=0, flip=0, photometric=0
            )
        return DetectionDataset(self.tables[split], self.image_size, transform, self.seed)

    def truth(self, split: str) -> BoxTable:
        return self.tables[split]

    def names(self, split: str, rows: Sequence[int]) -> list[str]:
        return [str(self.tables[split].files[row]) for row in rows]

    def check_measurable(self) -> None:
        if self.truth("val").crowd.all():  # also where it is empty
            raise ValueError(
                f"the val split of {self.root} has no object to choose the best epoch by; "
                "raise data.val_fraction or name another with data.val="
            )

    def repeats(self) -> NDArray[np.float64] | None:
        return self._repeats

    def preview(self, count: int) -> list[UInt8Image]:
        pictures = []
        dataset = self.dataset("train")
        for row in range(min(count, len(dataset))):
            sample = dataset[0, row]
            if sample.image is not None:
                scores = np.ones(len(sample.labels), dtype=np.float32)
                drawn = Detections(sample.boxes.astype(np.float32), scores, sample.labels, self.class_names)
                pictures.append(drawn.draw(sample.image))
        return pictures

    def picture(self, split: str, row: int) -> tuple[UInt8Image, UInt8Image]:
        table = self.tables[split]
        image, size = read_row(table, row)
        image, rows = resize(image, *size), table.rows(row)
        boxes, labels = table.boxes[rows].astype(np.float32), table.labels[rows].astype(np.int64)
        truth = Detections(boxes, np.ones(len(boxes), dtype=np.float32), labels, self.class_names)
        return image, truth.draw(image)

    def problems(self) -> dict[str, list[str]]:
        return merge_problems(self.tables)

    def lineage(self) -> dict[str, Any]:
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for table in self.tables.values():
            digest.update("\n".join(table.files.tolist()).encode())
            digest.update(np.ascontiguousarray(table.boxes).data)
            digest.update(np.ascontiguousarray(table.labels).data)
        return {
            "name": self.root.name,
            "licence": licence(self.root),
            "images": {split: len(table) for split, table in self.tables.items()},
            "boxes": {split: len(table.boxes) for split, table in self.tables.items()},
            "fingerprint": digest.hexdigest()[:16],
        }
