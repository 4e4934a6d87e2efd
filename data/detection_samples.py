"""Samples of a table of boxes, read and augmented one by one, and batched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mbapps.batches import PADDING, BoxTable, DetectionBatch
from mbapps.images import BrokenImageError, UInt8Image, resize

from .base import stack_images
from .boxes import read_row, scale_boxes
from .transforms import DetectionTransform

MAX_TRIES = 20  # where so many rows in a row are unreadable, the count of the broken ones must be heard


DETAIL = 4  # px that training decodes for one of its input; measuring decodes all, as `predict` does


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
            image is replaced by the next readable row, MAX_TRIES at most.
        seed: of the augmentation, joined with (epoch, row).
    """

    def __init__(self, table: BoxTable, image_size: int, transform: DetectionTransform | None, seed: int):
        self.table = table
        self.image_size = image_size
        self.transform = transform
        self.seed = seed
        self.least_side = None if transform is None else DETAIL * image_size

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, row = key
        broken: list[str] = []
        tries = min(len(self), MAX_TRIES) if self.transform else 1
        for step in range(tries):
            row = (key[1] + step) % len(self)
            try:
                image, size = read_row(self.table, row, least_side=self.least_side)
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
