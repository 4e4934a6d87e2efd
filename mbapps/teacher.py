"""Who teaches: a model folder, or a large network by name, trained on the labels first where it must be."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf, open_dict

from . import app
from .files import replacing

if TYPE_CHECKING:
    from torch import Tensor

    from .data.base import DataModule
    from .deploy.bundle import Bundle
    from .models.teachers import TeacherBody

TEACHER = "teacher"  # in the run folder: the model folder
TRAINING = "teacher_training"  # what it takes to resume it
LOGITS = "logits"  # what heads of classes are emulated by


class Teacher:
    """Asks an opened model folder: uint8 views [B, 3, T, T] -> [B, K], logits in the order of the student's classes.

    A head that says by `TAUGHT` that another of its outputs is emulated, such as embeddings, is asked for that one,
    whatever its classes; a detector for logits and deltas side by side, [B, A, K + 1 + 4].

    Raises:
        ValueError: the folder has no head for the task, or its classes are not the student's.
    """

    def __init__(self, bundle: Bundle, source: str, task: str, class_names: tuple[str, ...]):
        heads = bundle.facts["heads"]
        if task not in heads:
            raise ValueError(f"distill.teacher={source} has no {task} head, only {', '.join(heads)}")
        taught = getattr(bundle.network.head(task), "TAUGHT", LOGITS)
        self.outputs = (taught,) if isinstance(taught, str) else tuple(taught)
        theirs = heads[task]["class_names"]
        by_class = LOGITS in self.outputs
        if by_class and sorted(theirs) != sorted(class_names):
            raise ValueError(
                f"distill.teacher={source} answers with other classes than the data has: "
                f"{_listed(theirs)} against {_listed(class_names)}; a teacher named by its architecture is "
                "trained for the data's"
            )
        self.network = bundle.network.requires_grad_(False)
        self.task = task
        self.source = source
        self.order = [theirs.index(name) for name in class_names] if by_class else None
        self.image_size = int(heads[task]["image_size"])
        self.central_crop = float(heads[task]["settings"].get("central_crop", 1.0))
        self.settings = {"body": bundle.facts["body"], "head": heads[task]["settings"], "order": self.order}

    def __call__(self, views: Tensor) -> Tensor:
        import torch

        self.network.to(views.device)
        with torch.no_grad():
            outputs = self.network(views, [self.task])[self.task]
        if len(self.outputs) > 1:  # of a detector, whose first column is the background
            columns = [0, *(row + 1 for row in self.order or ())]
            return torch.cat([outputs[LOGITS][..., columns], outputs["deltas"]], dim=-1)
        answers: Tensor = outputs[self.outputs[0]]
        return answers if self.order is None else answers[:, self.order]

    def digest(self) -> str:
        """Tell this teacher from every other: of its weights, and of how it was built."""
        digest = hashlib.blake2b(json.dumps(self.settings, sort_keys=True).encode(), digest_size=16)
        for name, tensor in sorted(self.network.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def has_teacher(folder: Path) -> bool:
    """Whether a run has a teacher of its own, or has begun to train one: it can go on without a checkpoint."""
    return any((folder / name).exists() for name in (TEACHER, TRAINING))


def find_teacher(cfg: DictConfig, folder: Path, data: DataModule) -> tuple[Teacher, list[str]]:
    """Open the teacher: a model folder, the one this run has made before, or one that is made now."""
    from .deploy.bundle import Bundle
    from .models.teachers import find_architecture

    source, task = str(cfg.distill.teacher), app.task_name(cfg)
    own = folder / TEACHER
    if Path(source).is_dir():
        places = (Path(source) / part for part in ("", TEACHER, "model"))
        path = next((place for place in places if (place / "model.json").is_file()), None)
        if path is None:
            raise FileNotFoundError(f"distill.teacher={source} is no model folder: it has no model.json")
        if cfg.distill.weights:
            raise ValueError(f"distill.teacher={source} brings its weights: leave distill.weights= out")
        bundle = Bundle.open(path, trust=cfg.trust)
        return Teacher(bundle, source, task, data.class_names), [f"teacher: {path}"]
    if Path(source).is_file():
        raise ValueError(
            f"distill.teacher={source} is a file; name its architecture, and it by distill.weights={source}"
        )
    notes = [] if (own / "model.json").is_file() else make_teacher(cfg, folder, data)
    bundle = Bundle.open(own, trust=cfg.trust)
    _keep_to(bundle.facts["body"]["architecture"], find_architecture(source), folder)
    return Teacher(bundle, str(own), task, data.class_names), [*notes, f"teacher: {own}"]


def _keep_to(before: str, architecture: str, folder: Path) -> None:
    if before != architecture:
        raise ValueError(
            f"{folder} has begun with the teacher {before}; for distill.teacher={architecture} start a run of its own"
        )


def make_teacher(cfg: DictConfig, folder: Path, data: DataModule) -> list[str]:
    """Write the model folder of a teacher by name: trained on the labels unless its weights know the classes."""
    from .models.network import Network
    from .models.teachers import TeacherBody, download, find_architecture, load_file, preprocessing

    name = find_architecture(str(cfg.distill.teacher))
    view = preprocessing(name)
    size = int(cfg.distill.image_size or view.image_size)
    body = TeacherBody(name, size, *([255 * value for value in values] for values in (view.mean, view.std)))
    network = Network(body, {app.task_name(cfg): _build_head(cfg, body, data.class_names, size)})  # type: ignore[arg-type]
    head = network.head(app.task_name(cfg))
    data.inform(head)
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
    notes.append(f"teacher {name}: is trained on the labels first, {cfg.distill.max_epochs} epochs")
    _train(cfg, folder, network, size, notes)
    return []


def _build_head(cfg: DictConfig, body: TeacherBody, class_names: tuple[str, ...], size: int) -> Any:
    return app.build(cfg.task.head, body=body, class_names=list(class_names), image_size=size)


def _train(cfg: DictConfig, folder: Path, network: Any, size: int, notes: list[str]) -> None:
    from .measuring import measure
    from .verbs.train import load_best

    cfg = copy.deepcopy(cfg)
    OmegaConf.resolve(cfg)
    with open_dict(cfg):
        cfg.data.update(augment=cfg.distill.augment, batch_size=cfg.distill.batch_size)
        cfg.task.update(lr=cfg.distill.lr, body_lr=1.0, freeze_epochs=0, freeze_blocks=0, freeze_bn=False)
        cfg.task.max_epochs = cfg.trainer.max_epochs = cfg.distill.max_epochs
    place = folder / TRAINING
    note = place / "architecture.txt"  # whose checkpoints these are
    if note.is_file():
        _keep_to(note.read_text().strip(), network.body.architecture, folder)
    place.mkdir(exist_ok=True)
    with replacing(note) as temporary:
        temporary.write_text(f"{network.body.architecture}\n")
    data = app.build(cfg.data, image_size=size)
    task = app.build_task(cfg, network)
    trainer = app.build_trainer(cfg, place, fitting=True)
    if trainer.is_global_zero:
        print("\n".join(notes))
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
    from .deploy.saving import describe, save_bundle
    from .report import run_context

    facts = {"data": [lineage] if lineage else [], "weights": cfg.distill.weights, "teacher": None}
    network.strip()
    command = run_context()["command"]
    head = {app.task_name(cfg): {"metrics": metrics}}
    save_bundle(folder / TEACHER, network, describe(network, head, lineage=facts, command=command))


def _listed(names: Iterable[str], shown: int = 12) -> str:
    names = list(names)
    more = f"; … ({len(names)})" if len(names) > shown else ""
    return "; ".join(names[:shown]) + more
