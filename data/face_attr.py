"""Face attributes: which set lies in a folder, its splits, and the batches made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mbapps.batches import UNKNOWN, AttributeBatch, AttributeTable
from mbapps.images import UInt8Image
from mbapps.predictions import Attributes

from .boxes import tell
from .celeba import celeba_list, read_celeba, read_partition
from .labelled import LabelledData
from .splits import SPLITS
from .utkface import is_utkface, read_utkface

FORMATS = ("celeba", "utkface")


class FaceAttrData(LabelledData):
    """A data set of faces, each with or without some attributes.

    Args:
        root: folder of the data; None is the synthetic set, rendered on first use.
        format: "celeba" or "utkface"; None looks for both.
        attributes: those wanted, by name; None takes all of a CelebA list, and the usual four of UTKFace's names.
        val_fraction, test_fraction: of the images, where no list says which split each is of. The name of the file
            alone decides, so that an image stays in its split whatever is added to the set or taken from it.
        image_size: side of the square input, px.
        central_crop: share of each side seen in validation and test.
        augment: arguments of ClassificationTransform, or None for none.
        class_names: attributes of a model to be measured, instead of `attributes`; the set must have them.
        split: the only one to be kept, as measuring needs it; None keeps all three.
        num_classes: not used with data; it serves `info` where there are none.
        batch_size, num_workers, seed, max_broken: as in DataModule.
    """

    BATCH = AttributeBatch

    def __init__(
        self,
        *,
        root: str | None,
        image_size: int,
        format: str | None = None,
        attributes: str | Sequence[str] | None = None,
        val_fraction: float = 0.1,
        test_fraction: float = 0.2,
        central_crop: float = 1.0,
        augment: Mapping[str, Any] | None = None,
        class_names: Sequence[str] | None = None,
        split: str | None = None,
        num_classes: int | None = None,
        batch_size: int = 32,
        num_workers: int | None = None,
        seed: int = 0,
        max_broken: float = 0.01,
    ):
        super().__init__(
            "face_attr", root=root, fractions={"val": val_fraction, "test": test_fraction}, split=split,
            image_size=image_size, central_crop=central_crop, augment=augment, batch_size=batch_size,
            num_workers=num_workers, seed=seed, max_broken=max_broken,
        )  # fmt: skip
        if format is not None and format not in FORMATS:
            raise ValueError(f"data.format must be one of {list(FORMATS)}, got {format!r}")
        wanted = [attributes] if isinstance(attributes, str) else list(attributes or ())
        if class_names and wanted and sorted(wanted) != sorted(class_names):
            raise ValueError(
                f"a model is measured on all its attributes, {', '.join(class_names)}: leave data.attributes= out"
            )
        wanted = list(class_names or wanted)
        repeated = sorted({name for name in wanted if wanted.count(name) > 1})
        if repeated:
            raise ValueError(f"data.attributes names {', '.join(repeated)} more than once")
        table, tables = self._read(format, wanted)
        tables = tables or split_by_name(table, val_fraction, test_fraction)
        self.tables = {part: tables[part] for part in ([split] if split else SPLITS)}
        self.class_names = table.class_names
        self.check_count(num_classes)
        self._problems = dict(table.problems)
        for part, one in self.tables.items():
            self._check(part, one)

    def _read(
        self, format: str | None, wanted: Sequence[str]
    ) -> tuple[AttributeTable, dict[str, AttributeTable] | None]:
        """The whole set, and its splits where a list tells them."""
        if format == "celeba" or (format is None and celeba_list(self.root)):
            table = read_celeba(self.root, wanted)
            return table, read_partition(self.root, table)
        if format == "utkface" or is_utkface(self.root):
            return read_utkface(self.root, wanted), None
        raise FileNotFoundError(
            f"no face attributes in data.root={self.root}; looked for CelebA's list_attr_celeba.txt and for "
            "pictures named <age>_<gender>_<race>_<date> as UTKFace's"
        )

    def _check(self, split: str, table: AttributeTable) -> None:
        if not len(table):
            raise ValueError(
                f"the {split} split of {self.root} is empty; raise data.val_fraction and data.test_fraction, or mend "
                "list_eval_partition.txt where there is one"
            )
        none = [
            name
            for name, has in zip(table.class_names, (table.labels == 1).any(axis=0), strict=True)
            if not has
        ]
        told = [f"{name} in {split}" for name in none]
        tell(
            self._problems,
            "attribute that no image has: its AP is undefined, and the mean leaves it out",
            told,
        )
        every = ~(table.labels == 0).any(axis=0) & (table.labels == 1).any(axis=0)
        told = [f"{name} in {split}" for name, has in zip(table.class_names, every, strict=True) if has]
        tell(
            self._problems,
            "attribute that no image lacks: nothing is learned or measured by it, its AP is 1",
            told,
        )

    def check_measurable(self) -> None:
        if not (self.tables["val"].labels == 1).any():
            raise ValueError(
                f"no image in the val split of {self.root} has any attribute: there is nothing to choose the best "
                "epoch by; raise data.val_fraction, or choose other data.attributes"
            )

    def titled(self, image: UInt8Image, label: Any) -> UInt8Image:
        probs = np.where(label == UNKNOWN, np.nan, label)
        return Attributes(probs, self.class_names).draw(image)

    def problems(self) -> dict[str, list[str]]:
        return self._problems


def split_by_name(
    table: AttributeTable, val_fraction: float, test_fraction: float
) -> dict[str, AttributeTable]:
    """Cut a table by a hash of each image's file name, without its folder: each image alone decides its split.

    Args:
        table: the whole.
        val_fraction: of all images, about, in (0, 1).
        test_fraction: likewise.

    Raises:
        ValueError: the fractions leave nothing to train on.
    """
    if val_fraction + test_fraction >= 1:
        raise ValueError(
            f"data.val_fraction={val_fraction} and data.test_fraction={test_fraction} leave nothing to train on"
        )
    names = (name.replace("\\", "/").rpartition("/")[2] for name in table.files.tolist())
    hashes = [int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") for name in names]
    place = np.array(hashes, dtype=np.float64) / 2**64  # uniform in [0, 1)
    test, val = place < test_fraction, place < test_fraction + val_fraction
    rows = {"train": ~val, "val": val & ~test, "test": test}
    return {split: table.take(np.flatnonzero(there)) for split, there in rows.items()}
