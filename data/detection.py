"""Detection data: reads and augments samples of its splits, and batches them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mbapps.batches import PADDING, BoxTable, DetectionBatch
from mbapps.images import BrokenImageError, UInt8Image, resize
from mbapps.predictions import Detections

from .base import SPLITS, DataModule, stack_images
from .boxes import read_row, scale_boxes
from .readers import open_annotations, open_reader
from .splits import align, licence, merge_problems, read_one, read_splits
from .synthetic import synthetic_root
from .transforms import DetectionTransform


class Sample(NamedTuple):
    """One image ready for a batch; None where it could not be read."""

    image: UInt8Image | None  # [S, S, 3]
    row: int
    size: tuple[int, int]  # height and width of the original as annotated, px
    boxes: NDArray[np.float64]  # [G, 4] xyxy px of `image`
    labels: NDArray[np.int64]  # [G]
    broken: tuple[str, ...]


class DetectionDataset(Dataset[Sample]):
    """Samples of one table by (epoch, row).

    Args:
        table: the split.
        image_size: side of the square, px.
        transform: augmentation, or None for a plain resize. With it, crowds are left out and an unreadable
            image is replaced by the next row.
        seed: of the augmentation, joined with (epoch, row).
    """

    def __init__(self, table: BoxTable, image_size: int, transform: DetectionTransform | None, seed: int):
        self.table = table
        self.image_size = image_size
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, row = key
        broken: list[str] = []
        tries = len(self) if self.transform else 1
        for step in range(tries):
            row = (key[1] + step) % len(self)
            try:
                image, size = read_row(self.table, row)
            except (BrokenImageError, FileNotFoundError) as error:
                broken.append(str(error))
                continue
            return self._sample(image, size, epoch, row, tuple(broken))
        nothing = np.empty((0, 4)), np.empty(0, dtype=np.int64)
        return Sample(None, row, (0, 0), *nothing, tuple(broken))

    def _sample(
        self, image: UInt8Image, size: tuple[int, int], epoch: int, row: int, broken: tuple[str, ...]
    ) -> Sample:
        rows = self.table.rows(row)
        boxes, labels = self.table.boxes[rows], self.table.labels[rows]
        if self.transform is None:
            square = resize(image, self.image_size, self.image_size)
            return Sample(
                square, row, size, scale_boxes(boxes, size, square), labels.astype(np.int64), broken
            )
        boxes = scale_boxes(boxes, size, image)
        learned = ~self.table.crowd[rows]
        square, moved, kept = self.transform(image, boxes[learned], labels[learned], (self.seed, epoch, row))
        return Sample(square, row, size, moved, kept, broken)


class DetectionCollate:
    """Samples -> DetectionBatch, truth padded to the fullest image; unreadable ones are left out."""

    def __init__(self, image_size: int):
        self.image_size = image_size

    def __call__(self, samples: Sequence[Sample]) -> DetectionBatch:
        good = [sample for sample in samples if sample.image is not None]
        most = max((len(sample.labels) for sample in good), default=0)
        boxes = np.zeros((len(good), most, 4), dtype=np.float32)
        labels = np.full((len(good), most), PADDING, dtype=np.int64)
        for index, sample in enumerate(good):
            boxes[index, : len(sample.labels)] = sample.boxes
            labels[index, : len(sample.labels)] = sample.labels
        return DetectionBatch(
            images=stack_images(
                [sample.image for sample in good if sample.image is not None], self.image_size
            ),
            rows=torch.tensor([sample.row for sample in good], dtype=torch.int64),
            sizes=torch.tensor([sample.size for sample in good], dtype=torch.int64).reshape(-1, 2),
            boxes=torch.from_numpy(boxes),
            labels=torch.from_numpy(labels),
            broken=tuple(message for sample in samples for message in sample.broken),
        )


class DetectionData(DataModule):
    """A data set of boxes.

    Args:
        root: folder of the data; None is the synthetic set, rendered on first use.
        format: "coco" or "voc"; None looks for both.
        train, val, test: a COCO json, a VOC list of names, or the name of a split of `root`; None takes the
            split of that name, or else a fraction of the training images.
        annotations: a lone COCO json that is the whole set; `root`, if given, is then where its images are.
        images: folder of the images, where it is not where the format has it (COCO only).
        val_fraction, test_fraction: cut at random from the training images where a split is missing.
        image_size: side of the square input, px.
        augment: arguments of DetectionTransform, or None for none.
        class_names: of a model to be measured; the data's classes must be the same by name. VOC lists no
            classes: there objects of other names are dropped and counted.
        split: the only one to be read, as measuring needs it; a set without that split is read whole. None
            reads all three.
        pictures: False reads the truth of one split as it is written, bad boxes too, to score answers from
            elsewhere: of COCO no image is looked at, and `picture` may find none.
        num_classes: not used with data; it serves `info` where there are none.
        batch_size, num_workers, seed, max_broken: as in DataModule.
    """

    def __init__(
        self,
        *,
        root: str | None,
        image_size: int,
        format: str | None = None,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        annotations: str | None = None,
        images: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        augment: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        split: str | None = None,
        pictures: bool = True,
        num_classes: int | None = None,
        batch_size: int = 8,
        num_workers: int | None = None,
        seed: int = 0,
        max_broken: float = 0.01,
    ):
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed, max_broken=max_broken)
        fractions = {"val": val_fraction, "test": test_fraction}
        for part, fraction in fractions.items():
            if not 0 < fraction < 1:
                raise ValueError(f"data.{part}_fraction must be in (0, 1), got {fraction}")
        if split is not None and split not in SPLITS:
            raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}")
        self.image_size = image_size
        if split is None and not pictures:
            raise ValueError("pictures=False is for measuring one split; name it with split=")
        if root and not Path(root).is_dir():
            raise FileNotFoundError(f"no folder at data.root={root}")
        named = {"train": train, "val": val, "test": test}
        if annotations:
            reader = open_annotations(
                Path(annotations), Path(root) if root else None, format, images, pictures=pictures
            )
            if split:
                named[split] = named[split] or "all"
        else:
            reader = open_reader(
                Path(root) if root else synthetic_root("detection"), format, images, pictures=pictures
            )
        self.root = reader.root
        if split:
            tables = read_one(reader, split, named[split], class_names)
        else:
            tables = read_splits(reader, named, fractions, seed, class_names)
        names = tuple(class_names) if class_names else next(iter(tables.values())).class_names
        self.tables = {part: align(table, names) for part, table in tables.items()}
        self.class_names = names
        self.augment = DetectionTransform(image_size, **augment) if augment is not None else None
        self.collate = DetectionCollate(image_size)
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
            digest.update(table.boxes.tobytes())
            digest.update(table.labels.tobytes())
        return {
            "name": self.root.name,
            "licence": licence(self.root),
            "images": {split: len(table) for split, table in self.tables.items()},
            "boxes": {split: len(table.boxes) for split, table in self.tables.items()},
            "fingerprint": digest.hexdigest()[:16],
        }
