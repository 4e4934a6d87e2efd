"""Images with labels as numpy columns: of classes, attributes, people or places."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Self

UNKNOWN = -1  # label of an attribute that nobody judged in this image, and of a place in no cell


@dataclass(frozen=True)
class LabelTable:
    """Images and the class of each as numpy columns: N images, K classes."""

    folder: Path  # `files` are relative to it
    files: NDArray[np.str_]  # [N]
    labels: NDArray[np.integer[Any]]  # int32 [N] rows of class_names
    class_names: tuple[str, ...]
    crops: NDArray[np.int32] | None = (
        None  # [N, 4] xyxy px: the part of each picture that counts; None: all of it
    )
    problems: dict[str, list[str]] = field(default_factory=dict)  # what was left out, and where
    columns: NDArray[np.int64] | None = (
        None  # [K] of the answers, by which they are measured; None: as they are
    )

    def __len__(self) -> int:
        return len(self.files)

    def take(self, images: NDArray[np.int64]) -> Self:
        """Give the table of some image rows, in that order."""
        crops = None if self.crops is None else self.crops[images]
        return replace(self, files=self.files[images], labels=self.labels[images], crops=crops)

    def label(self, row: int) -> Any:
        """What is to be learned of one row."""
        return self.labels[row]

    def part(self, row: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut out of a row's picture [H, W, 3] the part that counts."""
        if self.crops is None:
            return image
        x1, y1, x2, y2 = self.crops[row].clip(0)
        part = image[y1:y2, x1:x2]
        return part if part.size else image

    def part_key(self, row: int) -> bytes:
        """What tells this part of a picture from others; nothing where all of it counts."""
        return b"" if self.crops is None else self.crops[row].tobytes()

    def whole(self) -> Self:
        """Give the same table, of whole pictures."""
        return replace(self, crops=None)

    def extended(self, files: NDArray[np.str_], labels: NDArray[np.integer[Any]]) -> Self:
        """Give the table with more rows, whose pictures are taken whole."""
        crops = None
        if self.crops is not None:
            everything = np.array([0, 0, 2**31 - 1, 2**31 - 1], dtype=np.int32)
            crops = np.concatenate([self.crops, np.tile(everything, (len(files), 1))])
        return replace(
            self, files=np.concatenate([self.files, files]), labels=np.concatenate([self.labels, labels]),
            crops=crops,
        )  # fmt: skip


@dataclass(frozen=True)
class AttributeTable(LabelTable):
    """Images and which attributes each has: `labels` are int8 [N, A], 1 present, 0 absent or UNKNOWN.

    `class_names` are those of the A attributes.
    """


class Pairs(NamedTuple):
    """P pairs of images to be judged, as a protocol lists them; columns of P each."""

    first: NDArray[np.int64]  # rows of the table
    second: NDArray[np.int64]
    same: NDArray[np.bool_]  # whether both show one person
    folds: NDArray[np.int64]  # of the protocol's cross-validation, from 0, in the order of its list


@dataclass(frozen=True)
class IdentityTable(LabelTable):
    """Images of people: `labels` are rows of `class_names`, the people's names.

    `face_crop` is the share of each picture's sides, round its middle, that shows the face; where there are
    `landmarks` the face is turned upright and cut out by them instead.
    """

    face_crop: NDArray[np.float32] | None = None  # [N] in (0, 1]; None: the whole of each picture
    landmarks: NDArray[np.float32] | None = (
        None  # [N, 5, 2] as `align_face` wants them; NaN where there are none
    )
    pairs: Pairs | None = None

    def take(self, images: NDArray[np.int64]) -> Self:
        """Give the table of some image rows, in that order, without pairs."""
        face_crop, landmarks = (
            None if column is None else column[images] for column in (self.face_crop, self.landmarks)
        )
        return replace(super().take(images), face_crop=face_crop, landmarks=landmarks, pairs=None)

    def part(self, row: int, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cut out of a row's picture [H, W, 3] the face: [S, S, 3] by landmarks, or else its middle."""
        from .images import align_face, central_part  # OpenCV, which the tables do without

        image = super().part(row, image)
        if self.landmarks is not None and np.isfinite(self.landmarks[row]).all():
            return align_face(image, self.landmarks[row])
        return image if self.face_crop is None else central_part(image, float(self.face_crop[row]))

    def part_key(self, row: int) -> bytes:
        """What tells this part of a picture from others; nothing where all of it counts."""
        key = super().part_key(row)
        if self.landmarks is not None and np.isfinite(self.landmarks[row]).all():
            return key + self.landmarks[row].tobytes()
        return (
            key if self.face_crop is None or self.face_crop[row] == 1 else key + self.face_crop[row].tobytes()
        )

    def whole(self) -> Self:
        """Give the same table, of whole pictures."""
        return replace(super().whole(), face_crop=None, landmarks=None)

    def extended(self, files: NDArray[np.str_], labels: NDArray[np.integer[Any]]) -> Self:
        """Give the table with more rows, whose pictures are taken whole."""
        face_crop, landmarks = self.face_crop, self.landmarks
        if face_crop is not None:
            face_crop = np.concatenate([face_crop, np.ones(len(files), dtype=np.float32)])
        if landmarks is not None:
            landmarks = np.concatenate([landmarks, np.full((len(files), 5, 2), np.nan, dtype=np.float32)])
        return replace(super().extended(files, labels), face_crop=face_crop, landmarks=landmarks)


class GeoLabel(NamedTuple):
    """What is to be learned of one photo."""

    cells: NDArray[np.int32]  # [P] rows in each of P nested partitions, coarsest first; UNKNOWN in none
    lat: float  # degrees
    lon: float


@dataclass(frozen=True)
class GeoTable(LabelTable):
    """Images and where each was taken: `labels` are cells once partitions give them, [N, P] of P nested ones.

    They are rows within each partition, UNKNOWN for a place in none of its cells; without partitions all are, [N].
    A row without a place, as of images that only a teacher sees, has NaN.
    """

    lat: NDArray[np.float64] = field(kw_only=True)  # [N] degrees, north is positive
    lon: NDArray[np.float64] = field(kw_only=True)  # [N] degrees, east is positive
    users: NDArray[np.str_] | None = field(kw_only=True, default=None)  # [N] who took it; "" where unknown

    def label(self, row: int) -> GeoLabel:
        """What is to be learned of one row."""
        return GeoLabel(np.atleast_1d(self.labels[row]), float(self.lat[row]), float(self.lon[row]))

    def take(self, images: NDArray[np.int64]) -> Self:
        """Give the table of some image rows, in that order."""
        users = None if self.users is None else self.users[images]
        return replace(super().take(images), lat=self.lat[images], lon=self.lon[images], users=users)

    def extended(self, files: NDArray[np.str_], labels: NDArray[np.integer[Any]]) -> Self:
        """Give the table with more rows, whose pictures are taken whole and whose places are unknown."""
        nowhere = np.full(len(files), np.nan)
        users = self.users
        if users is not None:
            users = np.concatenate([users, np.full(len(files), "", dtype=np.str_)])
        return replace(
            super().extended(files, labels), lat=np.concatenate([self.lat, nowhere]),
            lon=np.concatenate([self.lon, nowhere]), users=users,
        )  # fmt: skip
