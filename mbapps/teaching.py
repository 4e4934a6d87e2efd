"""What a student learns from: images with what the teacher says of them, known beforehand or asked in every step."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from . import app
from .teacher import Teacher, find_teacher

if TYPE_CHECKING:
    from torch import Tensor

    from .data.base import DataModule
    from .tasks.lessons import Lessons


ANSWERS = 1024  # of the teacher, by which a wider one is reduced
ASKED = 32  # images at a time


def teach(cfg: DictConfig, folder: Path, data: DataModule) -> tuple[Lessons, list[str]]:
    """Find or train the teacher, and give `data` its lessons.

    Returns:
        What the Task learns by, and what there is to say about it.

    Raises:
        FileNotFoundError: a folder, a file or images are missing.
        ValueError: the task can't be distilled, the teacher does not fit, or images can't be read.
    """
    from .tasks.lessons import Lessons

    task = app.task_name(cfg)
    if not hasattr(app.head_class(cfg), "distill_loss"):
        raise ValueError(
            f"distill.teacher={cfg.distill.teacher}: task={task} has nothing that a teacher could teach"
        )
    if getattr(app.head_class(cfg), "BOXES", False):
        return teach_boxes(cfg, folder, data)
    if cfg.task.get("freeze_body"):
        raise ValueError(
            "task.freeze_body=true trains a head on features of the labelled images, without a teacher: "
            "leave distill.teacher= out, or set task.freeze_blocks=14"
        )
    if cfg.distill.images is None and not cfg.distill.train_images:
        raise ValueError("distill.train_images=false leaves no images to learn from: give distill.images=")
    lessons = Lessons(float(cfg.distill.labels))
    table, notes = _student_images(cfg, data)  # before hours of training: it may be empty
    teacher, said = find_teacher(cfg, folder, data)
    notes += said
    if teacher.central_crop != data.central_crop:
        notes.append(
            f"the teacher was made to see {teacher.central_crop:.3g} of each side; it sees {data.central_crop:.3g}, as "
            "the student: data.central_crop= sets it"
        )
    notes += _give_lessons(cfg, data, table, teacher, lessons)
    return lessons, notes


SAME = (
    "classification",
    "min_scale",
    "max_scale",
)  # of a detector and its teacher: else their anchors differ


def teach_boxes(cfg: DictConfig, folder: Path, data: DataModule) -> tuple[Lessons, list[str]]:
    """Find the teacher of a detector, which sees in every step what the student sees; see `teach`.

    Raises:
        ValueError: it is no model folder of a detector of the same classes and anchors; or a setting is not for boxes.
    """
    from .tasks.lessons import Lessons

    if not Path(str(cfg.distill.teacher)).is_dir():
        raise ValueError(
            f"distill.teacher={cfg.distill.teacher}: detection is taught by a detector with the same anchors; name its "
            "model folder"
        )
    for key, unused in (("images", None), ("cached", False), ("train_images", True)):
        if cfg.distill[key] != unused:
            raise ValueError(
                f"distill.{key}={cfg.distill[key]} is not for detection, whose teacher sees each augmented image"
            )
    teacher, notes = find_teacher(cfg, folder, data)
    theirs = {**teacher.settings["head"], "image_size": teacher.image_size}
    ours = {**cfg.task.head, "image_size": app.image_size(cfg)}
    for key in ("image_size", *SAME):
        if key in ours and ours[key] != theirs[key]:
            raise ValueError(
                f"distill.teacher={cfg.distill.teacher} was trained with {key}={theirs[key]}, the student has "
                f"{ours[key]}: their anchors or logits do not match"
            )
    return Lessons(float(cfg.distill.labels), teacher), [*notes, "the teacher runs in every step"]


def _student_images(cfg: DictConfig, data: DataModule) -> tuple[Any, list[str]]:
    from .data.students import add_unlabeled

    train = data.tables["train"]
    if cfg.distill.images is None:
        return train, []
    keep = bool(cfg.distill.train_images)
    known = [table for split, table in data.tables.items() if keep or split != "train"]
    table, left_out = add_unlabeled(train, Path(cfg.distill.images), keep=keep, known=known)
    unlabeled = len(table) - (len(train) if keep else 0)
    if hasattr(data, "check_unlabeled"):
        data.check_unlabeled(table.files[-unlabeled:].tolist())
    notes = [f"distill.images: {unlabeled} unlabeled images"]
    if left_out:
        notes[0] += f"; {left_out} more are left out, as the set has them already"
    return table, notes


def _give_lessons(cfg: DictConfig, data: Any, table: Any, teacher: Teacher, lessons: Lessons) -> list[str]:
    """Let training read what the teacher says, computed now or before, or else have it asked in every step."""
    import numpy as np

    from .data.students import STILL, StudentDataset, moving_parts
    from .data.teacher_outputs import OutputCache, teacher_outputs
    from .data.transforms import ClassificationTransform
    from .memory import keep_freed_memory

    augment: Any = None
    if cfg.data.augment is not None:
        augment = OmegaConf.to_container(cfg.data.augment, resolve=True)
    moving = moving_parts(augment)
    left_out = []
    if moving and cfg.distill.cached:
        left_out = [f"distill.cached=true: the student does without {', '.join(moving)}"]
        augment, moving = {**augment, **STILL}, []
        data.augment = ClassificationTransform(data.image_size, **augment)  # the report shows what is seen
    shared: dict[str, Any] = {
        "image_size": data.image_size, "teacher_size": teacher.image_size, "central_crop": data.central_crop,
        "augment": augment, "seed": data.seed, "collate": data.collate,
    }  # fmt: skip
    if moving:
        lessons.teacher = teacher
        data.lessons = StudentDataset(table, **shared)
        return [
            f"the teacher runs in every step: {', '.join(moving)} show views whose outputs can't be kept; "
            "distill.cached=true leaves the centre and its mirror image, for which it runs once"
        ]
    views = 2 if augment and augment.get("flip", 0.5) else 1
    keep_freed_memory()
    asked = {
        "teacher": teacher.digest(), "size": teacher.image_size, "central_crop": data.central_crop,
        "precision": str(cfg.trainer.precision),
    }  # fmt: skip
    cache = OutputCache(asked)
    before = sum(len(columns.arrays["keys"]) for columns in cache.columns)
    outputs, failed = teacher_outputs(
        table, _as_in_training(cfg, teacher), cache,
        size=teacher.image_size, central_crop=data.central_crop, views=views, batch_size=32,
        num_workers=data.num_workers, progress=_progress if cfg.trainer.progress else _silent,
    )  # fmt: skip
    if len(failed) == len(table):
        raise ValueError(
            f"none of the {len(table)} images to learn from can be read: {next(iter(failed.values()))}"
        )
    good = np.setdiff1d(np.arange(len(table)), list(failed))
    outputs = replace(outputs, places=outputs.places[good])
    data.lessons = StudentDataset(table.take(good), outputs=outputs, **shared)
    data.lessons.total = len(table)
    data.count_broken(list(failed.values()))
    after = sum(len(columns.arrays["keys"]) for columns in cache.columns)
    names = " and ".join(("centre", "its mirror image")[:views])
    return [
        *left_out,
        f"the teacher's outputs for {names} are in {cache.folder}: {after - before} new, {before} kept before",
    ]


def first_answers(data: Any, lessons: Lessons) -> Tensor:
    """What the teacher says of some images to learn from, evenly spread: [N, K], before training starts."""
    import numpy as np
    import torch

    student = data.lessons
    rows = np.unique(np.linspace(0, len(student) - 1, ANSWERS).astype(int)).tolist()
    if student.outputs is not None:
        return torch.from_numpy(np.stack([student.outputs[row, 0] for row in rows])).float()
    found = []
    for start in range(0, len(rows), ASKED):
        samples = [student[0, row] for row in rows[start : start + ASKED]]
        views = student.collate(samples).views
        if len(views):
            found.append(lessons.teacher(views).float().cpu())  # type: ignore[misc]
    if not found:
        raise ValueError("none of the images to learn from can be read")
    return torch.cat(found)


def _as_in_training(cfg: DictConfig, teacher: Teacher) -> Callable[[Tensor], Tensor]:
    """Ask on the device and in the precision of training."""
    import torch

    from .deploy.bundle import pick_device

    wanted, precision = str(cfg.trainer.accelerator), str(cfg.trainer.precision)
    device = torch.device(pick_device({"gpu": "cuda"}.get(wanted, wanted)))
    half = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(precision)

    def ask(views: Tensor) -> Tensor:
        with torch.autocast(device.type, half, enabled=half is not None):
            return teacher(views.to(device))

    return ask


def _silent(batches: Iterable[Any], count: int) -> Iterable[Any]:
    return batches


def _progress(batches: Iterable[Any], count: int) -> Iterable[Any]:
    from rich.progress import track

    return track(batches, "asking the teacher", total=count, transient=True) if count else batches
