"""Geo-localization: photos with places, the cells they are told apart by, and the batches made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbapps.batches import UNKNOWN, GeoBatch, GeoLabel, GeoTable
from mbapps.geo.cells import Cells, cell_ids, levels
from mbapps.geo.counts import Photos, rows_of
from mbapps.geo.partition import Partition, Rules, build_nested, build_partition, cells_of, class_names_of
from mbapps.geo.partition_files import open_partitions, save_partitions
from mbapps.geo.shapes import centres
from mbapps.images import UInt8Image
from mbapps.place_prediction import COARSE_LEVELS, Place

from .boxes import tell
from .geotags import read_geotags, read_place_list
from .labelled import LabelledCollate, LabelledData, Sample
from .place_splits import read_place_splits, without
from .splits import SPLITS

NO_CELL = "photo in no cell, where there are too few of them or of their users: not learned"


class GeoCollate(LabelledCollate):
    """Samples -> a batch with the cells and the place of each photo."""

    def __call__(self, samples: Sequence[Sample]) -> GeoBatch:
        good = [sample.label for sample in samples if sample.image is not None]
        plain = [
            sample if sample.image is None else sample._replace(label=sample.label.cells)
            for sample in samples
        ]
        places = torch.tensor([[one.lat, one.lon] for one in good], dtype=torch.float32).reshape(-1, 2)
        return super().__call__(plain)._replace(places=places)


class GeoData(LabelledData):
    """Photos whose places are known, from lists or from EXIF.

    Args:
        root: folder of the photos, their lists or both; None is the synthetic world, rendered on first use.
        places: the list, if it is not the only one in `root`.
        images: folder of the list's images; None looks everywhere below `root`.
        test: another folder or list, all of which is measured on, such as Im2GPS.
        columns: what the list calls "file", "lat", "lon" and "user", where that is not found by looking.
        drop_zero: leave out what lies at 0, 0.
        val_fraction, test_fraction: of the users, or of the cells of 70 km where nobody is told, in (0, 1).
        cells: arguments of `Rules`, by which the training photos' places are parted; several `max_photos`, falling,
            make nested partitions. None takes PlaNet's.
        partition: folder of partitions made before, by training or by `save_partitions`; then `cells` has no part.
        coarse_only: "country" or "region": no cell is finer than that, and their middles are those of the squares, not
            of the photos. None: as fine as the photos allow.
        image_size: side of the square input, px.
        central_crop: share of each side seen in validation and test.
        augment: arguments of ClassificationTransform, or None for none.
        class_names: of a model to be measured, whose cells these are.
        split: the only one to be read, as measuring needs it; None reads all three.
        num_classes: not used with data; it serves `info` where there are none.
        batch_size, num_workers, seed, max_broken: as in DataModule.

    Raises:
        FileNotFoundError, ImportError, ValueError: as `read_place_splits`, `build_nested` and `open_partitions`; or
            the partition is not the model's.
    """

    BATCH = GeoBatch
    tables: dict[str, GeoTable]

    def __init__(
        self,
        *,
        root: str | None,
        image_size: int,
        places: str | None = None,
        images: str | None = None,
        test: str | None = None,
        columns: Mapping[str, str | None] | None = None,
        drop_zero: bool = True,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        cells: Mapping[str, Any] | None = None,
        partition: str | None = None,
        coarse_only: str | None = None,
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
        if split == "test" and test and not root:
            root = test if Path(test).is_dir() else str(Path(test).parent)
        super().__init__(
            "geo", root=root, fractions={"val": val_fraction, "test": test_fraction}, split=split,
            image_size=image_size, central_crop=central_crop, augment=augment, batch_size=batch_size,
            num_workers=num_workers, seed=seed, max_broken=max_broken,
        )  # fmt: skip
        self.collate = GeoCollate(image_size, GeoBatch)
        named = {role: name for role, name in (columns or {}).items() if name is not None}
        reading: dict[str, Any] = {"columns": named, "drop_zero": drop_zero}
        tables: dict[str, GeoTable] = {}
        if not (split == "test" and test):
            tables = read_place_splits(
                self.root, val_fraction, 0.0 if test else test_fraction, places=Path(places) if places else None,
                images=Path(images) if images else None, **reading,
            )  # fmt: skip
        if test:
            tables["test"] = read_photos(Path(test), **reading)
            for part in set(tables) - {"test"}:
                tables[part] = without(tables[part], tables["test"], "test", part)
        tables = {part: tables[part] for part in ([split] if split else SPLITS)}
        self.partitions: dict[str, Partition] = {}
        if class_names is None or partition:
            self.partitions = self._partitions(tables.get("train"), cells, partition, coarse_only)
        self.class_names = tuple(class_names or class_names_of(self.partitions))
        if partition and class_names and list(class_names) != class_names_of(self.partitions):
            raise ValueError(
                f"the model has {len(class_names):,} cells and data.partition={partition} "
                f"{sum(map(len, self.partitions.values())):,}: they do not belong together; leave data.partition= out"
            )
        if len(self.class_names) < 2:
            raise ValueError(
                f"the {len(tables['train']):,} training photos of {self.root} leave one cell: there is nothing to "
                "tell apart; lower data.cells.max_photos, or raise data.cells.max_level"
            )
        own = cells_of(self.class_names)
        self.tables = {part: with_cells(table, own, self.class_names) for part, table in tables.items()}
        if split is None:
            self.tables["train"] = self._in_cells(self.tables["train"])
        self.check_count(num_classes)

    def _partitions(
        self,
        train: GeoTable | None,
        cells: Mapping[str, Any] | None,
        partition: str | None,
        coarse_only: str | None,
    ) -> dict[str, Partition]:
        """Open the partitions that were named, or build them from the training photos."""
        if coarse_only is not None and coarse_only not in COARSE_LEVELS:
            raise ValueError(
                f"task.coarse_only must be {' or '.join(COARSE_LEVELS)}, or null, got {coarse_only!r}"
            )
        finest = COARSE_LEVELS.get(coarse_only or "", None)
        if partition:
            opened = open_partitions(partition)
            found = max(int(levels(part.cells).max()) for part in opened.values())
            if finest is not None and found > finest:
                raise ValueError(
                    f"data.partition={partition} has cells of level {found}, and task.coarse_only={coarse_only} allows "
                    f"none finer than {finest}"
                )
            if finest is not None:
                return {name: replace(part, centres=centres(part.cells)) for name, part in opened.items()}
            return opened
        assert train is not None
        rules = dict(cells or {})
        most = rules.pop("max_photos", Rules.max_photos)
        several = [int(each) for each in most] if isinstance(most, Sequence) else [int(most)]
        if finest is not None:
            rules["max_level"] = min(rules.get("max_level", Rules.max_level), finest)
        users = train.users if rules.get("min_users") else None
        photos = Photos(train.lat, train.lon, users)
        wanted = {str(each): Rules(max_photos=each, **rules) for each in several}
        built = (
            {name: build_partition(photos, one) for name, one in wanted.items()}
            if len(several) == 1
            else build_nested(photos, wanted)
        )
        if finest is not None:  # the mean of few photos would tell where they were taken
            built = {name: replace(part, centres=centres(part.cells)) for name, part in built.items()}
        return built

    def _in_cells(self, train: GeoTable) -> GeoTable:
        outside = (train.labels == UNKNOWN).all(axis=1)
        if outside.all():
            raise ValueError(
                f"no training photo of {self.root} lies in a cell of data.partition=: it is of others"
            )
        problems = dict(train.problems)
        tell(problems, NO_CELL, train.files[outside].tolist())
        return replace(train.take(np.flatnonzero(~outside)), problems=problems)

    def check_measurable(self) -> None:
        if not len(self.tables["val"]):
            raise ValueError(
                f"the val split of {self.root} is empty: there is nothing to choose the best epoch by"
            )

    def inform(self, head: Any) -> list[str]:
        """Give the head the middles of its cells; say how the photos lie in them."""
        head.place_cells(np.concatenate([part.centres for part in self.partitions.values()]))
        several = len(self.partitions) > 1
        return [
            f"{name}: {part.text()}" if several else part.text() for name, part in self.partitions.items()
        ]

    def write(self, folder: Path) -> Path:
        """Keep the partitions, so that another model can have the same cells."""
        return save_partitions(folder / "partition", self.partitions)

    def titled(self, image: UInt8Image, label: GeoLabel) -> UInt8Image:
        return Place(label.lat, label.lon, 1.0).draw(image)

    def lineage(self) -> dict[str, Any]:
        facts = super().lineage()
        digest = hashlib.sha256(facts["fingerprint"].encode())
        for table in self.tables.values():
            digest.update(table.lat.tobytes() + table.lon.tobytes())
        facts["fingerprint"] = digest.hexdigest()[:16]
        if self.partitions:
            facts["min_users"] = min(part.rules.min_users for part in self.partitions.values())
        return facts


def read_photos(path: Path, **reading: Any) -> GeoTable:
    """Read the photos of a folder, or of a list whose images lie beside it, with their places."""
    return read_geotags(path, **reading) if path.is_dir() else read_place_list(path, path.parent, **reading)


def with_cells(table: GeoTable, cells: Mapping[str, Cells], class_names: Sequence[str]) -> GeoTable:
    """Label photos by their cells in each partition."""
    leaves = cell_ids(table.lat, table.lon)
    labels = np.stack([rows_of(part, leaves) for part in cells.values()], axis=1).astype(np.int32)
    return replace(table, labels=labels, class_names=tuple(class_names))
