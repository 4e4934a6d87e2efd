"""`mbapps train`: fit, measure, and leave a run folder and a model folder."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from mbapps.measuring import print_problems

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.heads_training import Fit, Learner
    from mbapps.models.network import Network

DONE = "done.json"  # beside the checkpoints of a fit that has ended
NORM_IMAGES = 256  # training images of each head that folded batch norms are measured on
MODES = ("joint", "frozen")
OWN = ("monitor", "test_flip")  # of what the Task takes, each head's own in mode=joint too
# words that mode=frozen has no use for, since its heads learn one by one and the body not at all
TOGETHER = re.compile(
    r"(draw|steps_per_epoch|heads\.\w+\.(share|weight)|(heads\.\w+\.)?task\.(freeze_\w+|body_lr))="
)


def run(cfg: DictConfig) -> None:
    """Train as configured; the best epoch on validation is tested once and shipped."""
    from mbapps import app
    from mbapps.starting import build_network
    from mbapps.training_report import before, write_training

    started = time.perf_counter()
    check(cfg)
    folder = app.run_folder(cfg)
    app.seed(cfg)
    learners = prepare(cfg, folder)
    network, notes = build_network(cfg, {name: one.data.class_names for name, one in learners.items()})
    frozen = cfg.get("mode") == "frozen"
    notes += [] if frozen else _unfold(network, learners)
    for name, learner in learners.items():
        with app.of_head(cfg, name):
            learner.inform(network.head(name))
            # a setting that does not fit the data is told before an epoch is spent
            app.build(learner.cfg.task.metric)(learner.data.truth("val"))
        notes += learner.notes if len(learners) == 1 else [f"{name}: {note}" for note in learner.notes]
    fits: dict[str, Fit] = {}
    try:
        if frozen:
            for name, learner in learners.items():
                with app.of_head(cfg, name):
                    fits[name] = fit_frozen(cfg, learner, network, notes)
        else:
            fits = dict.fromkeys(learners, fit_all(cfg, folder, learners, network, notes))
        network.strip()
        about = before(cfg)[1]  # what is known of each head
        for name in sorted(
            learners, key=lambda name: "gallery_photos" in learners[name].cfg.task
        ):  # they come last
            fitted = fits[name].task
            alone = fitted if "heads" not in cfg else app.build_task(learners[name].cfg, network.only([name]))
            learners[name].conclude(alone, folder, network, about)
            about[name] = learners[name].about()
    except (KeyboardInterrupt, SystemExit):  # Lightning answers Ctrl-C by an exit
        _interrupted(folder, frozen)
    if next(iter(fits.values())).trainer.is_global_zero:
        write_training(cfg, folder, network, learners, fits, started)


def check(cfg: DictConfig) -> None:
    """Look at what is asked of several heads before anything is read.

    Raises:
        FileNotFoundError, ValueError: a setting is none of those that there are, or does not go with another or with
            the model folder; see `check_base`.
    """
    from hydra.core.hydra_config import HydraConfig

    from mbapps.app import FITTING, build_parts, chosen
    from mbapps.data.multi import check_turns
    from mbapps.models.network import NORMS
    from mbapps.starting import check_base

    if "heads" not in cfg:
        return
    words = HydraConfig.get().overrides.task
    if given := [word.partition("=")[0] for word in words if word.startswith("distill.")]:
        raise ValueError(f"{given[0]} is of one head; of several each has its own: heads.<name>.{given[0]}")
    for key, choices in (("mode", MODES), ("norm", NORMS)):
        if cfg[key] not in choices:
            raise ValueError(f"{key} must be one of {list(choices)}, got {cfg[key]!r}")
    if cfg.mode == "frozen" and cfg.norm == "per_task":
        raise ValueError("norm=per_task is for mode=joint: in mode=frozen the body's norms stay as they are")
    if cfg.mode == "frozen" and (given := [word.partition("=")[0] for word in words if TOGETHER.match(word)]):
        raise ValueError(
            f"mode=frozen trains one head after the other on a body that rests: leave {given[0]}= out"
        )
    if cfg.model is not None:
        check_base(cfg)
    build_parts(cfg)
    check_turns(cfg.draw, {name: cfg.heads[name].share for name in chosen(cfg)}, cfg.steps_per_epoch)
    known = ("relative", *(f"{name}_{cfg.heads[name].task.monitor.lstrip('-')}" for name in chosen(cfg)))
    if cfg.task.monitor.removeprefix("-") not in known:
        raise ValueError(
            f"task.monitor of several heads is one of {', '.join(known)}, got {cfg.task.monitor}"
        )
    shared = {key: cfg.task.get(key, False) for key in (*FITTING, "max_epochs") if key not in OWN}
    for name in chosen(cfg) if cfg.mode == "joint" else ():
        for key, value in shared.items():
            own = cfg.heads[name].task[key]
            if own != value:
                raise ValueError(
                    f"heads.{name}.task.{key}={own}, but mode=joint trains all heads with one "
                    f"task.{key}={value}; mode=frozen trains each by itself"
                )


def prepare(cfg: DictConfig, folder: Path) -> dict[str, Learner]:
    """Open the data of each head, and find or train its teacher."""
    from mbapps import app
    from mbapps.geo_index import check_settings
    from mbapps.heads_training import Learner

    learners: dict[str, Learner] = {}
    for name, view in app.heads(cfg).items():
        with app.of_head(cfg, name):
            if "gallery_photos" in view.task:
                check_settings(view)
            place = folder / "heads" / name if "heads" in cfg else folder
            learners[name] = Learner(name, view, place, app.build_data(view))
            learners[name].data.check_measurable()
    for name, learner in learners.items():
        with app.of_head(cfg, name):
            try:
                learner.learn_from_teacher()
            except (KeyboardInterrupt, SystemExit):
                _interrupted(folder)
    app.seed(cfg)  # the student is the same whether its teacher was trained now or before
    return learners


def fit_all(
    cfg: DictConfig, folder: Path, learners: Mapping[str, Learner], network: Network, notes: Sequence[str]
) -> Fit:
    """Fit one head, or several jointly."""
    from mbapps import app
    from mbapps.data.multi import MultiData

    task = app.build_task(cfg, network)
    for name, learner in learners.items():
        task.parts[name].lessons = learner.lessons
    data: Any = next(iter(learners.values())).data
    if "heads" in cfg:
        shares = {name: cfg.heads[name].share for name in learners}
        parts = {name: learner.data for name, learner in learners.items()}
        data = MultiData(parts, draw=cfg.draw, shares=shares, steps=cfg.steps_per_epoch, seed=cfg.seed)
    return _fit(cfg, folder, task, data, learners, notes)


def fit_frozen(cfg: DictConfig, learner: Learner, network: Network, notes: list[str]) -> Fit:
    """Fit one of several heads by itself on a body that stays as it is; `notes` are said once."""
    from mbapps import app

    one, head = learner.cfg, network.head(learner.name)
    learner.folder.mkdir(parents=True, exist_ok=True)
    taught = one.distill.teacher is not None  # of images that need not be those of the labels
    one.task.freeze_body = bool(getattr(head, "POOLED", False)) and not taught
    one.task.update(freeze_bn=True, freeze_blocks=len(network.body.stages()), freeze_epochs=0)
    task = app.build_task(one, network.only([learner.name]))
    task.parts[learner.name].lessons = learner.lessons
    said = [*notes]
    notes.clear()
    return _fit(one, learner.folder, task, learner.data, {learner.name: learner}, [*said, f"{learner.name}:"])


def _fit(
    cfg: DictConfig, folder: Path, task: Any, data: Any, learners: Mapping[str, Learner], notes: Sequence[str]
) -> Fit:
    from mbapps import app, frozen
    from mbapps.files import write_text
    from mbapps.heads_training import Fit

    trainer = app.build_trainer(cfg, folder, fitting=True)
    if trainer.is_global_zero:
        print("\n".join([*notes, frozen.note(cfg)] if task.freeze_body else notes))
        for learner in learners.values():
            print_problems(learner.data.problems())
            learner.folder.mkdir(parents=True, exist_ok=True)
            learner.data.write(learner.folder)
    checkpoint, mark = _resume_from(cfg, folder), folder / "checkpoints" / DONE
    if checkpoint and (
        done := _read_done(mark, trainer.max_epochs)
    ):  # interrupted after it, by another head's fit or by measuring
        load_best(task, folder)
        return Fit(task, trainer, folder, **done)
    started = time.perf_counter()
    with frozen.fitting_data(cfg, folder, task, data) as seen:
        trainer.fit(task, datamodule=seen, ckpt_path=checkpoint, weights_only=True)
        seconds = time.perf_counter() - started
        load_best(task, folder)
    done = {"epochs": trainer.current_epoch, "images": task.images_seen, "seconds": seconds}
    if trainer.is_global_zero:
        write_text(mark, json.dumps({"max_epochs": trainer.max_epochs, **done}))
    return Fit(task, trainer, folder, **done)


def _read_done(mark: Path, max_epochs: int | None) -> dict[str, Any] | None:
    """What is known of a fit that ended, by itself or early; None where it did not, or is to go on for longer."""
    if not mark.is_file():
        return None
    known = json.loads(mark.read_text(encoding="utf-8"))
    return known if known.pop("max_epochs") == max_epochs else None


def _unfold(network: Network, learners: Mapping[str, Learner]) -> list[str]:
    """Make folded batch norms learn again; say so."""
    from itertools import islice

    from mbapps.models.norms import is_folded, unfold_norms

    if not is_folded(network):
        return []
    unfold_norms(
        network,
        (
            (batch.images, [name])
            for name, one in learners.items()
            for batch in islice(one.data.train_dataloader(), -(-NORM_IMAGES // one.data.batch_size))
        ),
    )
    return ["the weights have their batch norms folded: their statistics are measured on training images"]


def _resume_from(cfg: DictConfig, folder: Path) -> str | None:
    if not cfg.resume:
        return None
    last = folder / "checkpoints" / "last.ckpt"
    if not last.is_file() and (cfg.get("head") or _has_teacher(folder)):
        return None  # a teacher, or another head, is there already: the student starts
    if not last.is_file():
        raise FileNotFoundError(
            f"resume={cfg.resume} has no checkpoint yet: it was stopped in its first epoch; start anew"
        )
    return str(last)


def _interrupted(folder: Path, anew: bool = False) -> NoReturn:
    """Say how to go on, and exit; `anew`: a fit without a checkpoint starts again, as heads of mode=frozen do."""
    places = (folder, *folder.glob("heads/*"))
    if (
        any((place / "checkpoints" / "last.ckpt").is_file() for place in places)
        or _has_teacher(folder)
        or anew
    ):
        print(
            f"stopped; go on from the last finished epoch with: python -m mbapps resume={folder}",
            file=sys.stderr,
        )
    else:
        print("stopped in the first epoch: there is no checkpoint to go on from", file=sys.stderr)
    sys.exit(130)


def _has_teacher(folder: Path) -> bool:
    from mbapps.teacher import has_teacher

    return any(has_teacher(place) for place in (folder, *folder.glob("heads/*")))


def load_best(task: Any, folder: Path) -> None:
    """Give the task the weights of the best epoch in the folder's checkpoints.

    Raises:
        ValueError: no epoch was validated.
    """
    import torch

    best = folder / "checkpoints" / "best.ckpt"
    if not best.is_file():
        raise ValueError(
            "no epoch was validated, so there is no best one: look at trainer.max_epochs, "
            "trainer.limit_val_batches and trainer.check_val_every_n_epoch"
        )
    state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
    task.load_state_dict(state, strict=not task.freeze_body)  # whose body is that of the start
