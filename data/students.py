"""What a student sees of the images that its teacher answers for: labelled ones, unlabeled ones, or both."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from mbapps.batches import UNKNOWN, LabelTable
from mbapps.images import IMAGE_SUFFIXES, BrokenImageError, UInt8Image, central_view, read_image, resize

from .base import stack_images
from .image_folder import image_files
from .labelled import Sample, read_near
from .teacher_outputs import TeacherOutputs, content_keys
from .transforms import ClassificationTransform

STILL = {
    "crop_min_area": 1.0,
    "crop_max_aspect": 1.0,
    "vertical_flip": 0.0,
    "rotate": 0.0,
}  # no other geometry


class StudentSample(NamedTuple):
    """A sample with what the teacher says of it, or with what it is shown."""

    sample: Sample
    teacher: NDArray[np.float32] | None  # [K]
    view: UInt8Image | None  # [T, T, 3]


def moving_parts(augment: Mapping[str, Any] | None) -> list[str]:
    """Name the settings of an augmentation that give other views than the centre and its mirror image.

    >>> moving_parts({"crop_min_area": 1.0, "crop_max_aspect": 1.0, "flip": 0.5, "rotate": 10.0})
    ['data.augment.rotate=10.0']
    """
    if augment is None:
        return []
    defaults = {
        name: one.default for name, one in inspect.signature(ClassificationTransform).parameters.items()
    }
    settings = {name: augment.get(name, defaults[name]) for name in STILL}
    if settings["crop_min_area"] == 1:
        del settings["crop_max_aspect"]  # nothing is cropped
    return [f"data.augment.{name}={value}" for name, value in settings.items() if value != STILL[name]]


class StudentDataset(Dataset[StudentSample]):
    """Samples of a table by (epoch, row), each with the teacher's outputs, or with the view that it answers for.

    With outputs, an image is seen as in validation or as its mirror image, by the augmentation's chance of a flip;
    colours and erasing are the student's alone. Without, the augmentation is drawn at the larger of both sizes,
    and student and teacher see the same.

    Args:
        table: the images; labels of unlabeled ones are UNKNOWN.
        image_size: side of what the student sees, px; teacher_size: of what the teacher does.
        central_crop: share of each side that the centre view shows.
        augment: arguments of ClassificationTransform, or None.
        seed: of the augmentation, joined with (epoch, row).
        collate: the task's own, of samples.
        outputs: by row and view, or None for a teacher that is asked in every step.
    """

    def __init__(
        self,
        table: LabelTable,
        *,
        image_size: int,
        teacher_size: int,
        central_crop: float,
        augment: Mapping[str, Any] | None,
        seed: int,
        collate: Callable[[Sequence[Sample]], Any],
        outputs: TeacherOutputs | None = None,
    ):
        self.table = table
        self.total = len(table)  # with those that were found broken and left out before
        self.image_size = image_size
        self.teacher_size = teacher_size
        self.central_crop = central_crop
        self.seed = seed
        self.collate_samples = collate
        self.outputs = outputs
        settings = dict(augment or {"flip": 0.0, **STILL})
        self.flip = 0.0
        if outputs is not None:  # whether it was flipped must be known
            self.flip = float(settings.get("flip", 0.5))
            settings = {**settings, "flip": 0.0}
        self.transform = ClassificationTransform(
            image_size if outputs is not None else max(image_size, teacher_size), **settings
        )

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, key: tuple[int, int]) -> StudentSample:
        image, row, broken = read_near(self.table, key[1], len(self))
        label = self.table.label(row)
        if image is None:
            return StudentSample(Sample(None, row, (0, 0), label, broken), None, None)
        square, teacher, view = self._see(image, key[0], row)
        return StudentSample(
            Sample(square, row, (image.shape[0], image.shape[1]), label, broken), teacher, view
        )

    def _see(
        self, image: UInt8Image, epoch: int, row: int
    ) -> tuple[UInt8Image, NDArray[np.float32] | None, UInt8Image | None]:
        seed = (self.seed, epoch, row)
        if self.outputs is None:
            large = self.transform(image, seed)
            student, teacher = (resize(large, size, size) for size in (self.image_size, self.teacher_size))
            return student, None, teacher
        flipped = np.random.default_rng((*seed, 1)).random() < self.flip
        square = central_view(image, self.image_size, self.central_crop)
        square = np.ascontiguousarray(square[:, ::-1]) if flipped else square
        return self.transform(square, seed), self.outputs[row, int(flipped)], None

    def collate(self, samples: Sequence[StudentSample]) -> Any:
        """Batch as the task does, with the teacher's outputs or its views."""
        batch = self.collate_samples([one.sample for one in samples])
        outputs = [one.teacher for one in samples if one.teacher is not None]
        if self.outputs is not None:
            return batch._replace(teacher=torch.from_numpy(np.stack(outputs)) if outputs else None)
        views = [one.view for one in samples if one.view is not None]
        return batch._replace(views=stack_images(views, self.teacher_size))

    def names(self, rows: Sequence[int]) -> list[str]:
        return [str(self.table.files[row]) for row in rows]


def add_unlabeled(
    table: LabelTable, folder: Path, *, keep: bool, known: Sequence[LabelTable]
) -> tuple[Any, int]:
    """Join a table with the images of a folder, searched below, whose labels are UNKNOWN.

    Args:
        table: of the labelled images.
        folder: of the others.
        keep: also the labelled images; False gives the unlabeled alone.
        known: tables whose images are left out of the folder's, told by content: those that will be measured on.

    Returns:
        The table, its files with their whole paths, and the number of images that were left out.

    Raises:
        FileNotFoundError: there is no such folder, or no image in it.
        ValueError: none of its images can be read, or all of them are known.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder at distill.images={folder}")
    files = sorted((folder / name).absolute() for name in image_files(folder, folder))
    if not files:
        raise FileNotFoundError(
            f"no images in distill.images={folder}; they end in {', '.join(sorted(IMAGE_SUFFIXES))}"
        )
    if not any(_readable(path) for path in files):
        raise ValueError(
            f"none of the {len(files)} images in distill.images={folder} can be read: {files[0]} …"
        )
    labels = np.full((len(files), *table.labels.shape[1:]), UNKNOWN, dtype=table.labels.dtype)
    whole = replace(
        table.whole(),
        folder=Path(),
        files=np.array([str(path) for path in files]),
        labels=labels,
        problems={},
    )
    seen = np.concatenate([content_keys(one.whole(), 1)[0][:, 0] for one in known])
    fresh = np.flatnonzero(~np.isin(content_keys(whole, 1)[0][:, 0], seen[seen != 0]))
    if not len(fresh):
        raise ValueError(f"all images in distill.images={folder} are among the set's own")
    unlabeled = whole.take(fresh)
    left_out = len(files) - len(fresh)
    if not keep:
        return unlabeled, left_out
    moved = replace(table, folder=Path(), files=whole_paths(table))
    return moved.extended(unlabeled.files, unlabeled.labels), left_out


def whole_paths(table: LabelTable) -> NDArray[np.str_]:
    """[N] paths that need no folder."""
    return np.array([str((table.folder / str(file)).absolute()) for file in table.files], dtype=np.str_)


def _readable(path: Path) -> bool:
    try:
        read_image(path)
    except (BrokenImageError, FileNotFoundError):
        return False
    return True
