"""Detection data: finds the format, cuts the splits, reads and augments samples."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mbapps.batches import PADDING, BoxTable, DetectionBatch
from mbapps.images import BrokenImageError, UInt8Image, read_image, resize
from mbapps.predictions import Detections

from .base import SPLITS, DataModule, split_rows, stack_images
from .coco import coco_splits, read_coco
from .synthetic import synthetic_root
from .transforms import DetectionTransform
from .voc import read_voc, voc_splits

FORMATS = ("coco", "voc")


class Sample(NamedTuple):
    """One image ready for a batch; None where it could not be read."""

    image: UInt8Image | None  # [S, S, 3]
    row: int
    size: tuple[int, int]  # height and width of the original, px
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
                image = read_image(self.table.folder / str(self.table.files[row]))
            except (BrokenImageError, FileNotFoundError) as error:
                broken.append(str(error))
                continue
            return self._sample(image, epoch, row, tuple(broken))
        nothing = np.empty((0, 4)), np.empty(0, dtype=np.int64)
        return Sample(None, row, (0, 0), *nothing, tuple(broken))

    def _sample(self, image: UInt8Image, epoch: int, row: int, broken: tuple[str, ...]) -> Sample:
        rows = self.table.rows(row)
        boxes, labels = self.table.boxes[rows], self.table.labels[rows]
        height, width = image.shape[:2]
        if self.transform is None:
            moved = boxes * (self.image_size / np.array([width, height, width, height]))
            square = resize(image, self.image_size, self.image_size)
            return Sample(square, row, (height, width), moved, labels.astype(np.int64), broken)
        learned = ~self.table.crowd[rows]
        square, moved, kept = self.transform(image, boxes[learned], labels[learned], (self.seed, epoch, row))
        return Sample(square, row, (height, width), moved, kept, broken)


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
        images: folder of the images, where it is not where the format has it (COCO only).
        val_fraction, test_fraction: cut at random from the training images where a split is missing.
        image_size: side of the square input, px.
        augment: arguments of DetectionTransform, or None for none.
        class_names: of a model to be measured; the data's classes must be the same by name.
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
        images: str | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        augment: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        num_classes: int | None = None,
        batch_size: int = 16,
        num_workers: int | None = None,
        seed: int = 0,
        max_broken: float = 0.01,
    ):
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed, max_broken=max_broken)
        if format is not None and format not in FORMATS:
            raise ValueError(f"data.format must be one of {list(FORMATS)}, got {format!r}")
        self.image_size = image_size
        self.root = Path(root) if root else synthetic_root("detection")
        if not self.root.is_dir():
            raise FileNotFoundError(f"no folder at data.root={root}")
        wanted = {"train": train, "val": val, "test": test}
        read = self._coco(images) if self._format(format) == "coco" else self._voc()
        tables = _splits(read, wanted, val_fraction, test_fraction, seed, self.root)
        names = tuple(class_names) if class_names else tables["train"].class_names
        self.tables = {split: align(table, names) for split, table in tables.items()}
        self.class_names = names
        self.augment = DetectionTransform(image_size, **augment) if augment is not None else None
        self.collate = DetectionCollate(image_size)
        if num_classes is not None and num_classes != len(names):
            raise ValueError(
                f"data.num_classes={num_classes}, but the data has {len(names)}: {', '.join(names)}"
            )

    def _format(self, wanted: str | None) -> str:
        found = [name for name, splits in (("coco", coco_splits), ("voc", voc_splits)) if splits(self.root)]
        if wanted and wanted not in found:
            raise FileNotFoundError(f"no {wanted} annotations in data.root={self.root}")
        if not found:
            raise FileNotFoundError(
                f"no annotations in data.root={self.root}; looked for COCO (annotations/*.json, "
                "<split>/_annotations.coco.json) and VOC (Annotations/*.xml, or xml beside images)"
            )
        return wanted or found[0]

    def _coco(self, images: str | None) -> Reader:
        splits = coco_splits(self.root)

        def read(split: str) -> BoxTable:
            if split in splits:
                return read_coco(splits[split][0], Path(images) if images else splits[split][1])
            return read_coco(_named_file(split, self.root), Path(images) if images else None)

        return Reader(list(splits), read)

    def _voc(self) -> Reader:
        splits = voc_splits(self.root)

        def read(split: str) -> BoxTable:
            return read_voc(self.root, splits[split] if split in splits else _named_file(split, self.root))

        return Reader(list(splits), read)

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
        image = read_image(table.folder / str(table.files[row]))
        rows = table.rows(row)
        boxes, labels = table.boxes[rows].astype(np.float32), table.labels[rows].astype(np.int64)
        truth = Detections(boxes, np.ones(len(boxes), dtype=np.float32), labels, self.class_names)
        return image, truth.draw(image)

    def problems(self) -> dict[str, list[str]]:
        merged: dict[str, dict[str, None]] = {}
        for table in self.tables.values():
            for reason, places in table.problems.items():
                merged.setdefault(reason, {}).update(dict.fromkeys(places))
        return {reason: list(places) for reason, places in merged.items()}

    def lineage(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for split in SPLITS:
            digest.update("\n".join(self.tables[split].files.tolist()).encode())
            digest.update(self.tables[split].boxes.tobytes())
        return {
            "name": self.root.name,
            "licence": _licence(self.root),
            "images": {split: len(self.tables[split]) for split in SPLITS},
            "boxes": {split: len(self.tables[split].boxes) for split in SPLITS},
            "fingerprint": digest.hexdigest()[:16],
        }


class Reader(NamedTuple):
    """Names of the splits that a folder has, and how to read one of them or a file."""

    splits: list[str]
    read: Callable[[str], BoxTable]


def _splits(
    reader: Reader,
    wanted: Mapping[str, str | None],
    val_fraction: float,
    test_fraction: float,
    seed: int,
    root: Path,
) -> dict[str, BoxTable]:
    """Tables of train, val and test: as named, as found, or cut from the training images."""
    found = {split: name or (split if split in reader.splits else None) for split, name in wanted.items()}
    if not found["train"]:
        if not reader.splits:
            raise FileNotFoundError(f"no training split in data.root={root}; name one with data.train=")
        found["train"] = "all" if "all" in reader.splits else reader.splits[0]
    tables = {split: reader.read(name) for split, name in found.items() if name}
    missing = {"val": val_fraction, "test": test_fraction}
    missing = {split: fraction for split, fraction in missing.items() if split not in tables}
    if missing:
        whole = tables["train"]
        *parts, rest = split_rows(len(whole), list(missing.values()), seed)
        tables |= {split: whole.take(part) for split, part in zip(missing, parts, strict=True)}
        tables["train"] = whole.take(rest)
    return tables


def _named_file(name: str, root: Path) -> Path:
    for path in (Path(name), root / name):
        if path.is_file():
            return path
    raise FileNotFoundError(f"{name!r} is neither a split of {root} nor a file")


def _licence(root: Path) -> str | None:
    for name in ("LICENSE", "LICENCE", "LICENSE.txt", "LICENSE.md"):
        if (root / name).is_file():
            lines = [line.strip() for line in (root / name).read_text(errors="replace").splitlines()]
            return next((line for line in lines if line), None)
    return None


def align(table: BoxTable, class_names: Sequence[str]) -> BoxTable:
    """Give the table with its labels counted in `class_names`, matched by name, not by number.

    Raises:
        ValueError: the two sets of names differ; both are listed.
    """
    if table.class_names == tuple(class_names):
        return table
    if set(table.class_names) != set(class_names):
        raise ValueError(
            f"the classes of {table.folder} are [{', '.join(table.class_names)}], "
            f"but the model or the training split has [{', '.join(class_names)}]"
        )
    order = np.array([list(class_names).index(name) for name in table.class_names], dtype=np.int32)
    ids = np.argsort(order)
    return replace(
        table,
        labels=order[table.labels],
        class_names=tuple(class_names),
        category_ids=tuple(table.category_ids[index] for index in ids),
    )
