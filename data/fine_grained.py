"""Classification data: which set lies in a folder, its classes, and its splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbapps.images import UInt8Image
from mbapps.predictions import Classification

from .class_map import map_classes
from .class_splits import ClassReader, as_classes, read_class_split, read_class_splits
from .labelled import LabelledData


class FineGrainedData(LabelledData):
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
        fractions = {"val": val_fraction, "test": test_fraction}
        super().__init__(
            "fine_grained", root=root, fractions=fractions, split=split, image_size=image_size,
            central_crop=central_crop, augment=augment, batch_size=batch_size, num_workers=num_workers, seed=seed,
            max_broken=max_broken,
        )  # fmt: skip
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
        self.check_count(num_classes)

    def check_measurable(self) -> None:
        if not len(self.tables["val"]):
            raise ValueError(
                f"the val split of {self.root} is empty: there is nothing to choose the best epoch by"
            )

    def titled(self, image: UInt8Image, label: Any) -> UInt8Image:
        logits = np.full(len(self.class_names), -np.inf, dtype=np.float32)
        logits[int(label)] = 0.0
        return Classification(logits, self.class_names, top_k=1).draw(image)
