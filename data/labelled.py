"""Images with labels, of classes or of attributes: samples of their splits, and the batches made of them."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from mbapps.batches import AttributeBatch, ClassificationBatch, GeoBatch, LabelTable
from mbapps.images import BrokenImageError, UInt8Image, central_view, read_image

from .base import DataModule, stack_images
from .splits import SPLITS, licence
from .synthetic import synthetic_root
from .transforms import ClassificationTransform

Kind = type[ClassificationBatch] | type[AttributeBatch] | type[GeoBatch]


class Sample(NamedTuple):
    """One image ready for a batch; None where it could not be read."""

    image: UInt8Image | None  # [S, S, 3]
    row: int
    size: tuple[int, int]  # height and width of the original, px
    label: Any  # the table's: a row of class_names, or [A] attributes
    broken: tuple[str, ...]


def read_row(table: LabelTable, row: int) -> UInt8Image:
    """Read a picture, or the part of it that counts.

    Raises:
        FileNotFoundError: there is no such file.
        BrokenImageError: it can't be decoded.
    """
    return table.part(row, read_image(table.folder / str(table.files[row])))


def read_near(table: LabelTable, row: int, tries: int) -> tuple[UInt8Image | None, int, tuple[str, ...]]:
    """Read a picture, or else the next that can be read of `tries` rows: it, its row, and why others were not read."""
    broken: list[str] = []
    for near in range(row, row + tries):
        try:
            return read_row(table, near % len(table)), near % len(table), tuple(broken)
        except (BrokenImageError, FileNotFoundError) as error:
            broken.append(str(error))
    return None, (row + tries - 1) % len(table), tuple(broken)


class LabelledDataset(Dataset[Sample]):
    """Samples of one table by (epoch, row).

    Args:
        table: the split.
        image_size: side of the square, px.
        central_crop: share of each side that is seen without augmentation, in (0, 1].
        transform: augmentation, or None. With it an unreadable image is replaced by the next row.
        seed: of the augmentation, joined with (epoch, row).
    """

    def __init__(
        self,
        table: LabelTable,
        image_size: int,
        central_crop: float,
        transform: ClassificationTransform | None,
        seed: int,
    ):
        self.table = table
        self.image_size = image_size
        self.central_crop = central_crop
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        image, row, broken = read_near(self.table, key[1], len(self) if self.transform else 1)
        if image is None:
            return Sample(None, row, (0, 0), 0, broken)
        if self.transform is None:
            square = central_view(image, self.image_size, self.central_crop)
        else:
            square = self.transform(image, (self.seed, key[0], row))
        return Sample(square, row, (image.shape[0], image.shape[1]), self.table.label(row), broken)


class LabelledCollate:
    """Samples -> a batch of the wanted kind; unreadable ones are left out."""

    def __init__(self, image_size: int, kind: Kind = ClassificationBatch):
        self.image_size = image_size
        self.kind = kind

    def __call__(self, samples: Sequence[Sample]) -> Any:
        good = [sample for sample in samples if sample.image is not None]
        return self.kind(
            images=stack_images(
                [sample.image for sample in good if sample.image is not None], self.image_size
            ),
            rows=torch.tensor([sample.row for sample in good], dtype=torch.int64),
            sizes=torch.tensor([sample.size for sample in good], dtype=torch.int64).reshape(-1, 2),
            labels=torch.from_numpy(np.array([sample.label for sample in good], dtype=np.int64)),
            broken=tuple(message for sample in samples for message in sample.broken),
        )


class LabelledData(DataModule):
    """Loaders of a set of labelled images. A subclass sets `tables` and `class_names`, and draws a label.

    Args:
        task: its name, which its synthetic set has too.
        root: folder of the data; None is the synthetic set, rendered on first use.
        fractions: by split, what is cut off where a split is missing, in (0, 1).
        split: the only one to be read; None reads all three.
        image_size: side of the square input, px.
        central_crop: share of each side seen in validation and test.
        augment: arguments of ClassificationTransform, or None for none.
        settings: batch_size, num_workers, seed and max_broken, as in DataModule.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: a setting is out of its range.
    """

    BATCH: Kind = ClassificationBatch
    tables: dict[str, Any]  # LabelTable, or one of its kind

    def __init__(
        self,
        task: str,
        *,
        root: str | None,
        fractions: Mapping[str, float],
        split: str | None,
        image_size: int,
        central_crop: float,
        augment: Mapping[str, Any] | None,
        **settings: Any,
    ):
        super().__init__(**settings)
        if split is not None and split not in SPLITS:
            raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}")
        for part, fraction in fractions.items():
            if not 0 < fraction < 1:
                raise ValueError(f"data.{part}_fraction must be in (0, 1), got {fraction}")
        self.root = Path(root) if root else synthetic_root(task)
        if not self.root.is_dir():
            raise FileNotFoundError(f"no folder at data.root={root}")
        self.image_size = image_size
        self.central_crop = central_crop
        self.augment = ClassificationTransform(image_size, **augment) if augment is not None else None
        self.collate = LabelledCollate(image_size, self.BATCH)

    def check_count(self, num_classes: int | None) -> None:
        """Raise ValueError where `data.num_classes` was given and is not what the data has."""
        if num_classes is not None and num_classes != len(self.class_names):
            raise ValueError(
                f"data.num_classes={num_classes}, but the data has {len(self.class_names)}: "
                f"{', '.join(self.class_names)}"
            )

    @abstractmethod
    def titled(self, image: UInt8Image, label: Any) -> UInt8Image:
        """Draw a label of the table on an image."""

    def dataset(self, split: str) -> LabelledDataset:
        transform = None
        if split == "train":
            transform = self.augment or ClassificationTransform(self.image_size, crop_min_area=1.0, flip=0.0)
        return LabelledDataset(self.tables[split], self.image_size, self.central_crop, transform, self.seed)

    def views(self, split: str) -> LabelledDataset:
        return LabelledDataset(self.tables[split], self.image_size, self.central_crop, None, self.seed)

    def truth(self, split: str) -> Any:
        return self.tables[split]

    def names(self, split: str, rows: Sequence[int]) -> list[str]:
        return [str(self.tables[split].files[row]) for row in rows]

    def preview(self, count: int) -> list[UInt8Image]:
        dataset = self.dataset("train")
        rows = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(int)  # classes lie in turn
        samples = [dataset[0, int(row)] for row in rows]
        return [self.titled(sample.image, sample.label) for sample in samples if sample.image is not None]

    def picture(self, split: str, row: int) -> tuple[UInt8Image, UInt8Image]:
        image = read_row(self.tables[split], row)
        return image, self.titled(image, self.tables[split].label(row))

    def problems(self) -> dict[str, list[str]]:
        merged: dict[str, dict[str, None]] = {}
        for table in self.tables.values():
            for reason, places in table.problems.items():
                merged.setdefault(reason, {}).update(dict.fromkeys(places))
        return {reason: list(places) for reason, places in merged.items()}

    def lineage(self) -> dict[str, Any]:
        digest = hashlib.sha256("\n".join(self.class_names).encode())
        for table in self.tables.values():
            digest.update("\n".join(table.files.tolist()).encode())
            digest.update(table.labels.tobytes())
            digest.update(b"".join(table.part_key(row) for row in range(len(table))))
        return {
            "name": self.root.name,
            "licence": licence(self.root),
            "images": {split: len(table) for split, table in self.tables.items()},
            "fingerprint": digest.hexdigest()[:16],
        }
