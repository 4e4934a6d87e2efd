"""What a data set is and what a batch is, per task: the contract between data/ and tasks/."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor  # scoring a file of answers needs the tables alone, and starts without torch

from .columns import Columns, lend_columns
from .label_tables import UNKNOWN, AttributeTable, GeoLabel, GeoTable, IdentityTable, LabelTable, Pairs

__all__ = [
    "COLUMNS", "PADDING", "UNKNOWN", "AttributeBatch", "AttributeTable", "BoxTable", "ClassificationBatch",
    "DetectionBatch", "GeoBatch", "GeoLabel", "GeoTable", "IdentityTable", "LabelTable", "Pairs",
]  # fmt: skip

PADDING = -1  # label of the rows that pad an image's truth to the longest of its batch
COLUMNS = ("files", "image_ids", "sizes", "starts", "boxes", "labels", "areas", "crowd")
WORTH_LENDING = 4_000_000  # bytes of columns in memory from which a started process maps them from a file


@dataclass(frozen=True)
class BoxTable:
    """Images and their boxes as numpy columns: N images, M boxes, K classes.

    `starts` cuts the box columns by image: those of image row i are `starts[i]:starts[i + 1]`. Columns may be
    mapped from a file, and read-only: a pickle then names the file, and a forked, spawned or fork-served
    process reads the same memory.
    """

    folder: Path  # `files` are relative to it
    files: NDArray[np.str_]  # [N]
    image_ids: NDArray[np.int64]  # [N] as the annotations number them
    sizes: NDArray[np.int32]  # [N, 2] height and width in px; 0 where the annotations do not tell
    starts: NDArray[np.int64]  # [N + 1]
    boxes: NDArray[np.float64]  # [M, 4] xyxy px
    labels: NDArray[np.int32]  # [M] rows of class_names
    areas: NDArray[np.float64]  # [M] px^2, the mask's where one is given: decides small, medium, large
    crowd: NDArray[np.bool_]  # [M] not learned; a detection on one counts neither way
    class_names: tuple[str, ...]
    category_ids: tuple[int, ...]  # the annotations' number of each class; may have gaps
    problems: dict[str, list[str]] = field(default_factory=dict)  # what was dropped or mended, and where
    columns: Columns | None = field(default=None, repr=False)  # file that some or all of the above lie in

    def __len__(self) -> int:
        return len(self.files)

    def rows(self, image: int) -> slice:
        """Rows of the box columns that belong to one image row."""
        return slice(int(self.starts[image]), int(self.starts[image + 1]))

    def box_images(self) -> NDArray[np.int64]:
        """[M] image row of each box."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def presence(self) -> NDArray[np.bool_]:
        """[N, K], which classes have a box to be learned on which image; crowds have none."""
        present = np.zeros((len(self), len(self.class_names)), dtype=np.bool_)
        learned = ~self.crowd
        present[self.box_images()[learned], self.labels[learned]] = True
        return present

    def take(self, images: NDArray[np.int64]) -> BoxTable:
        """Give the table of some image rows, in that order."""
        counts = np.diff(self.starts)[images]
        starts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.repeat(self.starts[images] - starts[:-1], counts) + np.arange(starts[-1])
        return replace(
            self,
            files=self.files[images], image_ids=self.image_ids[images], sizes=self.sizes[images], starts=starts,
            boxes=self.boxes[rows], labels=self.labels[rows], areas=self.areas[rows], crowd=self.crowd[rows],
        )  # fmt: skip

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what lies in a file; a large rest is put into one where a process is being started."""
        mapped = self._mapped()
        rest = sum(getattr(self, name).nbytes for name in COLUMNS if name not in mapped)
        if rest > WORTH_LENDING and get_spawning_popen() is not None:
            try:
                lent = lend_columns({name: getattr(self, name) for name in COLUMNS})
            except OSError:  # no room: then each process gets its own copy
                pass
            else:
                self.__dict__.update(lent.arrays, columns=lent)
                mapped = set(COLUMNS)
        left_out = dict.fromkeys(mapped)
        return {**self.__dict__, **left_out, "columns": self.columns if mapped else None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.columns:
            arrays = self.columns.arrays
            self.__dict__.update({name: arrays[name] for name in COLUMNS if state[name] is None})

    def _mapped(self) -> set[str]:
        """Names of the columns that `columns` holds and that another process would find there."""
        if not self.columns:
            return set()
        names = {name for name in COLUMNS if self.columns.arrays.get(name) is getattr(self, name)}
        return names if names and self.columns.in_place() else set()


class DetectionBatch(NamedTuple):
    """One step of detection: B images, padded to the G boxes of the fullest.

    The Task reads only `images`, `rows` and `sizes`, which every batch type has; the rest is its head's.
    """

    images: Tensor  # uint8 [B, 3, S, S], channels-last in memory
    rows: Tensor  # int64 [B] rows of the data set's table
    sizes: Tensor  # int64 [B, 2] height and width of the original image, px
    boxes: Tensor  # float32 [B, G, 4] xyxy px of `images`
    labels: Tensor  # int64 [B, G], PADDING where an image has fewer boxes than G
    broken: tuple[str, ...] = ()  # images that could not be read, each with its reason


class ClassificationBatch(NamedTuple):
    """One step of classification: B images and the class of each."""

    images: Tensor  # uint8 [B, 3, S, S], channels-last in memory
    rows: Tensor  # int64 [B] rows of the data set's table
    sizes: Tensor  # int64 [B, 2] height and width of the original image, px
    labels: Tensor  # int64 [B], UNKNOWN where only a teacher tells
    broken: tuple[str, ...] = ()  # images that could not be read, each with its reason
    teacher: Tensor | None = None  # float32 [B, K], what a teacher said of these views of the images
    views: Tensor | None = None  # uint8 [B, 3, T, T], the same views at the size of a teacher to be asked


class AttributeBatch(NamedTuple):
    """One step of attributes: B images and which of A attributes each has."""

    images: Tensor  # uint8 [B, 3, S, S], channels-last in memory
    rows: Tensor  # int64 [B] rows of the data set's table
    sizes: Tensor  # int64 [B, 2] height and width of the original image, px
    labels: Tensor  # int64 [B, A]: 1 present, 0 absent, UNKNOWN
    broken: tuple[str, ...] = ()  # images that could not be read, each with its reason
    teacher: Tensor | None = None  # float32 [B, K], what a teacher said of these views of the images
    views: Tensor | None = None  # uint8 [B, 3, T, T], the same views at the size of a teacher to be asked


class GeoBatch(NamedTuple):
    """One step of geo-localization: B images and where each was taken."""

    images: Tensor  # uint8 [B, 3, S, S], channels-last in memory
    rows: Tensor  # int64 [B] rows of the data set's table
    sizes: Tensor  # int64 [B, 2] height and width of the original image, px
    labels: Tensor  # int64 [B, P] rows in each of P partitions, coarsest first; UNKNOWN in none
    broken: tuple[str, ...] = ()  # images that could not be read, each with its reason
    teacher: Tensor | None = None  # float32 [B, K], what a teacher said of these views of the images
    views: Tensor | None = None  # uint8 [B, 3, T, T], the same views at the size of a teacher to be asked
    places: Tensor | None = None  # float32 [B, 2] latitude and longitude, degrees
