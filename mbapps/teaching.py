"""Who teaches: a model folder or a large network, trained on the labels first where it must be; and its lessons."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from . import app

if TYPE_CHECKING:
    from torch import Tensor

    from .data.base import DataModule
    from .deploy.bundle import Bundle
    from .models.teachers import TeacherBody
    from .tasks.lessons import Lessons

TEACHER, TRAINING = (
    "teacher",
    "teacher_training",
)  # in the run folder: the model folder, and what it takes to resume


class Teacher:
    """Asks an opened model folder: uint8 views [B, 3, T, T] -> logits [B, K], in the order of the student's classes.

    Raises:
        ValueError: the folder has no head for the task, or its classes are not the student's.
    """

    def __init__(self, bundle: Bundle, source: str, task: str, class_names: tuple[str, ...]):
        heads = bundle.facts["heads"]
        if task not in heads:
            raise ValueError(f"distill.teacher={source} has no {task} head, only {', '.join(heads)}")
        theirs = heads[task]["class_names"]
        if sorted(theirs) != sorted(class_names):
            raise ValueError(
                f"distill.teacher={source} answers with other classes than the data has: "
                f"{_listed(theirs)} against {_listed(class_names)}; a teacher named by its architecture is "
                "trained for the data's"
            )
        self.network = bundle.network.requires_grad_(False)
        self.task = task
        self.source = source
        self.order = [theirs.index(name) for name in class_names]
        self.image_size = int(heads[task]["image_size"])
        self.settings = {"body": bundle.facts["body"], "head": heads[task]["settings"], "order": self.order}

    def __call__(self, views: Tensor) -> Tensor:
        import torch

        self.network.to(views.device)
        with torch.no_grad():
            logits: Tensor = self.network(views)[self.task]["logits"]
        return logits[:, self.order]

    def digest(self) -> str:
        """Tell this teacher from every other: of its weights, and of how it was built."""
        digest = hashlib.blake2b(json.dumps(self.settings, sort_keys=True).encode(), digest_size=16)
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def teach(cfg: DictConfig, folder: Path, data: DataModule) -> tuple[Lessons, list[str]]:
    """Find or train the teacher, and give `data` its lessons.

    Returns:
        What the Task learns by, and what there is to say about it.

    Raises:
        FileNotFoundError: a folder, a file or images are missing.
        ValueError: the task can't be distilled, the teacher does not fit, or images can't be read.
    """
    from .tasks.lessons import Lessons

    task = app.task_name()
    if not hasattr(app.head_class(cfg), "distill_loss"):
        raise ValueError(
            f"distill.teacher={cfg.distill.teacher}: task={task} has nothing that a teacher could teach"
        )
    lessons = Lessons(float(cfg.distill.labels))
    table, notes = _student_images(cfg, data)  # before hours of training: it may be empty
    teacher, said = find_teacher(cfg, folder, data)
    notes += said
    if cfg.distill.images is None and not cfg.distill.train_images:
        raise ValueError("distill.train_images=false leaves no images to learn from: give distill.images=")
    notes += _give_lessons(cfg, data, table, teacher, lessons)
    return lessons, notes


def _student_images(cfg: DictConfig, data: DataModule) -> tuple[Any, list[str]]:
    from .data.students import add_unlabeled

    train = data.tables["train"]
    if cfg.distill.images is None:
        return train, []
    keep = bool(cfg.distill.train_images)
    known = [table for split, table in data.tables.items() if keep or split != "train"]
    table, left_out = add_unlabeled(train, Path(cfg.distill.images), keep=keep, known=known)
    unlabeled = len(table) - (len(train) if keep else 0)
    notes = [f"distill.images: {unlabeled} unlabeled images"]
    if left_out:
        notes[0] += f"; {left_out} more are left out, as the set has them already"
    return table, notes


def find_teacher(cfg: DictConfig, folder: Path, data: DataModule) -> tuple[Teacher, list[str]]:
    """Open the teacher: a model folder, the one this run has made before, or one that is made now."""
    from .deploy.bundle import Bundle

    source, task = str(cfg.distill.teacher), app.task_name()
    own = folder / TEACHER
    if Path(source).is_dir():
        path = Path(source) if (Path(source) / "model.json").is_file() else Path(source) / TEACHER
        if not path.is_dir():
            raise FileNotFoundError(f"distill.teacher={source} is no model folder: it has no model.json")
        if cfg.distill.weights:
            raise ValueError(f"distill.teacher={source} brings its weights: leave distill.weights= out")
        return Teacher(Bundle.open(path, trust=cfg.trust), source, task, data.class_names), [
            f"teacher: {path}"
        ]
    if Path(source).is_file():
        raise ValueError(
            f"distill.teacher={source} is a file; name its architecture, and it by distill.weights={source}"
        )
    notes = [] if (own / "model.json").is_file() else make_teacher(cfg, folder, data)
    bundle = Bundle.open(own, trust=cfg.trust)
    return Teacher(bundle, str(own), task, data.class_names), [*notes, f"teacher: {own}"]


def make_teacher(cfg: DictConfig, folder: Path, data: DataModule) -> list[str]:
    """Write the model folder of a teacher by name: trained on the labels unless its weights know the classes."""
    from .models.network import Network
    from .models.teachers import TeacherBody, download, find_architecture, load_file, preprocessing

    name = find_architecture(str(cfg.distill.teacher))
    view = preprocessing(name)
    size = int(cfg.distill.image_size or view.image_size)
    body = TeacherBody(name, size, *([255 * value for value in values] for values in (view.mean, view.std)))
    network = Network(body, {app.task_name(): _build_head(cfg, body, data.class_names, size)})  # type: ignore[arg-type]
    head = network.head(app.task_name())
    if cfg.distill.weights:
        loaded = load_file(body, Path(cfg.distill.weights))
        notes = [f"teacher {name}: body loaded from {cfg.distill.weights}"]
        if loaded.by_order:
            notes[0] += ", by the order of its tensors: they have other names"
        if sorted(loaded.class_names) == sorted(head.class_names):
            order = [loaded.class_names.index(label) for label in head.class_names]
            head.load_state_dict({f"linear.{key}": value[order] for key, value in loaded.classifier.items()})
            _write(cfg, folder, network, {}, None)
            return [*notes, "its classifier knows the classes: it is not trained"]
    else:
        why = download(body) if cfg.distill.pretrained else "distill.pretrained=false"
        notes = [f"teacher {name}: starts from ImageNet weights"]
        if why:
            notes = [
                f"teacher {name}: no ImageNet weights ({why}), so it starts from scratch and knows little of images "
                "but those of the set; distill.weights=<file> gives it a start"
            ]
    print(
        "\n".join(
            [*notes, f"teacher {name}: is trained on the labels first, {cfg.distill.max_epochs} epochs"]
        )
    )
    _train(cfg, folder, network, size)
    return []


def _build_head(cfg: DictConfig, body: TeacherBody, class_names: tuple[str, ...], size: int) -> Any:
    return app.build(cfg.task.head, body=body, class_names=list(class_names), image_size=size)


def _train(cfg: DictConfig, folder: Path, network: Any, size: int) -> None:
    from .verbs.train import load_best, measure

    cfg = copy.deepcopy(cfg)
    OmegaConf.resolve(cfg)
    with open_dict(cfg):
        cfg.data.update(augment=cfg.distill.augment, batch_size=cfg.distill.batch_size)
        cfg.task.update(lr=cfg.distill.lr, body_lr=1.0, freeze_epochs=0, freeze_blocks=0, freeze_bn=False)
        cfg.task.max_epochs = cfg.trainer.max_epochs = cfg.distill.max_epochs
    place = folder / TRAINING
    data = app.build(cfg.data, image_size=size)
    task = app.build_task(cfg, network)
    trainer = app.build_trainer(cfg, place, fitting=True)
    last = place / "checkpoints" / "last.ckpt"
    trainer.fit(task, datamodule=data, ckpt_path=str(last) if last.is_file() else None, weights_only=True)
    load_best(task, place)
    val = measure(cfg, place, task, data, "val")
    if hasattr(task.head, "calibrate"):
        task.head.calibrate(val)
    if trainer.is_global_zero:
        numbers = {f"val_{key}": value for key, value in task.numbers["val"].items() if value == value}
        shown = ", ".join(f"{key} {value:.3f}" for key, value in numbers.items() if "/" not in key)
        print(f"teacher trained: {shown}")
        _write(cfg, folder, task.network, numbers, data.lineage())
    trainer.strategy.barrier()


def _write(cfg: DictConfig, folder: Path, network: Any, metrics: dict[str, float], lineage: Any) -> None:
    from .deploy.bundle import describe, save_bundle
    from .report import run_context

    facts = {"data": [lineage] if lineage else [], "weights": cfg.distill.weights, "teacher": None}
    command = run_context()["command"]
    head = {app.task_name(): {"metrics": metrics}}
    save_bundle(folder / TEACHER, network, describe(network, head, lineage=facts, command=command))


def _give_lessons(cfg: DictConfig, data: Any, table: Any, teacher: Teacher, lessons: Lessons) -> list[str]:
    """Let training read what the teacher says, computed now or before, or else have it asked in every step."""
    from .data.students import StudentDataset, moving_parts
    from .data.teacher_outputs import OutputCache, teacher_outputs

    augment: Any = None
    if cfg.data.augment is not None:
        augment = OmegaConf.to_container(cfg.data.augment, resolve=True)
    shared: dict[str, Any] = {
        "image_size": data.image_size, "teacher_size": teacher.image_size, "central_crop": data.central_crop,
        "augment": augment, "seed": data.seed, "collate": data.collate,
    }  # fmt: skip
    moving = moving_parts(augment)
    if moving:
        lessons.teacher = teacher
        data.lessons = StudentDataset(table, **shared)
        return [
            f"the teacher runs in every step: {', '.join(moving)} show views whose outputs can't be kept; "
            "distill=cached leaves the centre and its mirror image, for which it runs once"
        ]
    views = 2 if augment and augment.get("flip", 0.5) else 1
    asked = {"teacher": teacher.digest(), "size": teacher.image_size, "central_crop": data.central_crop}
    cache = OutputCache(asked)
    before = sum(len(columns.arrays["keys"]) for columns in cache.columns)
    outputs, failed = teacher_outputs(
        table, _on_device(cfg, teacher), cache,
        size=teacher.image_size, central_crop=data.central_crop, views=views, batch_size=32,
        num_workers=data.num_workers, progress=_progress if cfg.trainer.progress else _silent,
    )  # fmt: skip
    if len(failed) == len(table):
        raise ValueError(
            f"none of the {len(table)} images to learn from can be read: {next(iter(failed.values()))}"
        )
    if failed:
        import numpy as np

        good = np.setdiff1d(np.arange(len(table)), list(failed))
        table, outputs = table.take(good), replace(outputs, places=outputs.places[good])
    data.lessons = StudentDataset(table, outputs=outputs, **shared)
    data.count_broken(list(failed.values()))
    after = sum(len(columns.arrays["keys"]) for columns in cache.columns)
    names = " and ".join(("centre", "its mirror image")[:views])
    return [
        f"the teacher's outputs for {names} are in {cache.folder}: {after - before} new, {before} kept before"
    ]


def _on_device(cfg: DictConfig, teacher: Teacher) -> Callable[[Tensor], Tensor]:
    from .deploy.bundle import pick_device

    wanted = str(cfg.trainer.accelerator)
    device = pick_device({"gpu": "cuda"}.get(wanted, wanted))
    return lambda views: teacher(views.to(device))


def _silent(batches: Iterable[Any], count: int) -> Iterable[Any]:
    return batches


def _progress(batches: Iterable[Any], count: int) -> Iterable[Any]:
    from rich.progress import track

    return track(batches, "asking the teacher", total=count, transient=True) if count else batches


def _listed(names: Iterable[str], shown: int = 12) -> str:
    names = list(names)
    more = f", … ({len(names)})" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more
