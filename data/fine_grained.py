"""Classification data: reads and augments samples of its splits, and batches them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from mbapps.batches import AttributeBatch, ClassificationBatch, LabelTable
from mbapps.images import BrokenImageError, UInt8Image, central_view, read_image
from mbapps.predictions import Classification

from .base import DataModule, stack_images
from .class_map import map_classes
from .class_splits import ClassReader, as_classes, read_class_split, read_class_splits
from .splits import SPLITS, licence
from .synthetic import synthetic_root
from .transforms import ClassificationTransform


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
    image = read_image(table.folder / str(table.files[row]))
    if table.crops is None:
        return image
    x1, y1, x2, y2 = table.crops[row].clip(0)
    part = image[y1:y2, x1:x2]
    return part if part.size else image


class ClassificationDataset(Dataset[Sample]):
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
        epoch, row = key
        broken: list[str] = []
        for step in range(len(self) if self.transform else 1):
            row = (key[1] + step) % len(self)
            try:
                image = read_row(self.table, row)
            except (BrokenImageError, FileNotFoundError) as error:
                broken.append(str(error))
                continue
            size = (image.shape[0], image.shape[1])
            if self.transform is None:
                square = central_view(image, self.image_size, self.central_crop)
            else:
                square = self.transform(image, (self.seed, epoch, row))
            return Sample(square, row, size, self.table.labels[row], tuple(broken))
        return Sample(None, row, (0, 0), 0, tuple(broken))


class ClassificationCollate:
    """Samples -> a batch of the wanted kind; unreadable ones are left out."""

    def __init__(
        self, image_size: int, kind: type[ClassificationBatch] | type[AttributeBatch] = ClassificationBatch
    ):
        self.image_size = image_size
        self.kind = kind

    def __call__(self, samples: Sequence[Sample]) -> ClassificationBatch | AttributeBatch:
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


class FineGrainedData(DataModule):
    """A data set of images with one class each.

    Args:
        root: folder of the data; None is the synthetic set, rendered on first use.
        format: "image_folder" or "stanford_dogs"; None looks for both.
        train, val, test: a folder of classes, a list of Stanford Dogs, or the name of a split of `root`; None
            takes the split of that name, or else a fraction of each class's training images.
        val_fraction, test_fraction: of each class, cut at random where a split is missing.
        image_size: side of the square input, px.
        central_crop: share of each side seen in validation and test.
        box_crop: let only the object's box count (Stanford Dogs).
        classes: the only ones to be read, by name, in this order; None reads all.
        class_map: measures a model on a set that names its classes differently: "names" or a file, as in `map_classes`.
            Only the model's classes that are mapped then compete.
        augment: arguments of ClassificationTransform, or None for none.
        class_names: of a model to be measured; the set's classes must be among them by name, and all of them compete.
        split: the only one to be read, as measuring needs it; None reads all three.
        num_classes: not used with data; it serves `info` where there are none.
        batch_size, num_workers, seed, max_broken: as in DataModule.
    """

    tables: dict[str, LabelTable]

    def __init__(
        self,
        *,
        root: str | None,
        image_size: int,
        format: str | None = None,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        central_crop: float = 0.875,
        box_crop: bool = False,
        classes: str | Sequence[str] | None = None,
        class_map: str | None = None,
        augment: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        split: str | None = None,
        num_classes: int | None = None,
        batch_size: int = 16,
        num_workers: int | None = None,
        seed: int = 0,
        max_broken: float = 0.01,
    ):
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed, max_broken=max_broken)
        if split is not None and split not in SPLITS:
            raise ValueError(f"split must be one of {list(SPLITS)}, got {split!r}")
        self.image_size = image_size
        self.central_crop = central_crop
        self.root = Path(root) if root else synthetic_root("fine_grained")
        if not self.root.is_dir():
            raise FileNotFoundError(f"no folder at data.root={root}")
        fractions = {"val": val_fraction, "test": test_fraction}
        for part, fraction in fractions.items():
            if not 0 < fraction < 1:
                raise ValueError(f"data.{part}_fraction must be in (0, 1), got {fraction}")
        if class_map and not class_names:
            raise ValueError(
                "data.class_map is for measuring a model: mbapps eval model=<folder> data.class_map="
            )
        reader = ClassReader(self.root, format, box_crop, [classes] if isinstance(classes, str) else classes)
        named = {"train": train, "val": val, "test": test}
        if split:
            table = read_class_split(reader, split, named[split])
            if class_names and class_map:
                table = map_classes(table, class_names, class_map)
            elif class_names:
                table = as_classes(
                    table, class_names, "the model, unless data.class_map= says which is which,"
                )
            self.tables = {split: table}
        else:
            self.tables = read_class_splits(reader, named, fractions, seed)
        self.class_names = next(iter(self.tables.values())).class_names
        if len(self.class_names) < 2:
            raise ValueError(
                f"{self.root} has one class only, {self.class_names[0]!r}: there is nothing to tell apart"
            )
        if num_classes is not None and num_classes != len(self.class_names):
            raise ValueError(
                f"data.num_classes={num_classes}, but the data has {len(self.class_names)}: "
                f"{', '.join(self.class_names)}"
            )
        self.augment = ClassificationTransform(image_size, **augment) if augment is not None else None
        self.collate = ClassificationCollate(image_size)

    def dataset(self, split: str) -> ClassificationDataset:
        transform = None
        if split == "train":
            transform = self.augment or ClassificationTransform(self.image_size, crop_min_area=1.0, flip=0.0)
        return ClassificationDataset(
            self.tables[split], self.image_size, self.central_crop, transform, self.seed
        )

    def views(self, split: str) -> ClassificationDataset:
        return ClassificationDataset(self.tables[split], self.image_size, self.central_crop, None, self.seed)

    def truth(self, split: str) -> LabelTable:
        return self.tables[split]

    def names(self, split: str, rows: Sequence[int]) -> list[str]:
        return [str(self.tables[split].files[row]) for row in rows]

    def check_measurable(self) -> None:
        if not len(self.tables["val"]):
            raise ValueError(
                f"the val split of {self.root} is empty: there is nothing to choose the best epoch by"
            )

    def preview(self, count: int) -> list[UInt8Image]:
        dataset = self.dataset("train")
        rows = np.linspace(0, len(dataset) - 1, min(count, len(dataset))).astype(
            int
        )  # classes lie one after another
        samples = [dataset[0, int(row)] for row in rows]
        return [
            self._titled(sample.image, int(sample.label)) for sample in samples if sample.image is not None
        ]

    def picture(self, split: str, row: int) -> tuple[UInt8Image, UInt8Image]:
        image = read_row(self.tables[split], row)
        return image, self._titled(image, int(self.tables[split].labels[row]))

    def _titled(self, image: UInt8Image, label: int) -> UInt8Image:
        logits = np.full(len(self.class_names), -np.inf, dtype=np.float32)
        logits[label] = 0.0
        return Classification(logits, self.class_names, top_k=1).draw(image)

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
            digest.update(b"" if table.crops is None else table.crops.tobytes())
        return {
            "name": self.root.name,
            "licence": licence(self.root),
            "images": {split: len(table) for split, table in self.tables.items()},
            "fingerprint": digest.hexdigest()[:16],
        }
