from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path

import pytest
from conftest import compose
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from mbapps.data.transforms import ClassificationTransform, DetectionTransform

CONF = Path(__file__).parent.parent / "conf"
TRANSFORMS = {
    "detection": DetectionTransform,
    "fine_grained": ClassificationTransform,
    "face_attr": ClassificationTransform,
    "face_embed": ClassificationTransform,
    "geo": ClassificationTransform,
}
OWN = {
    "image_size",
    "seed",
    "augment",
    "root",
    "monitor",
    "positive_iou",
    "metric",
    "cells",
    "columns",
}  # set by another key or by SSD
TASKS_OWN = {
    "fine_grained": {"ema_decay"},  # fewer steps an epoch than detection has
    "face_attr": {"ema_decay", "crop_min_area", "crop_max_aspect"},  # aligned faces lose less
    "face_embed": {"ema_decay", "crop_min_area", "crop_max_aspect"},
    "geo": {"ema_decay", "crop_min_area", "crop_max_aspect", "central_crop"},  # drawn landscapes are small
}


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


ALONE = [task for task in options("task") if task != "multi"]


@pytest.mark.parametrize("task", ALONE)
def test_each_task_composes(task: str) -> None:
    cfg = compose(f"task={task}")
    assert cfg.data.image_size == cfg.task.image_size
    assert cfg.hydra.runtime.choices.data == task


@pytest.mark.parametrize("verb", options("verb"))
def test_each_verb_composes_and_has_its_file(verb: str) -> None:
    cfg = compose(verb, "task=detection")
    assert cfg.verb == verb
    assert (CONF.parent / "mbapps" / "verbs" / f"{verb}.py").is_file()


@pytest.mark.parametrize("experiment", options("experiment"))
def test_each_experiment_composes(experiment: str) -> None:
    cfg = compose(f"experiment={experiment}")
    plain = compose(f"task={cfg.hydra.runtime.choices.task}")
    assert set(cfg.task) == set(plain.task)  # it sets what is there and invents nothing
    assert set(cfg.data) == set(plain.data)
    ours, default = (
        OmegaConf.to_container(OmegaConf.masked_copy(c, ["task", "data", "seed"]), resolve=True)
        for c in (cfg, plain)
    )
    assert ours != default


@pytest.mark.parametrize("logger", options("logger"))
def test_each_logger_composes(logger: str) -> None:
    assert "csv" in compose(f"logger={logger}").logger


def test_the_teachers_settings_follow_the_tasks() -> None:
    cfg = compose("task=fine_grained", "distill.teacher=timm:resnet18", "trainer.max_epochs=7")
    assert (cfg.distill.max_epochs, cfg.distill.batch_size) == (7, cfg.data.batch_size)
    assert set(cfg.distill.augment) <= set(inspect.signature(ClassificationTransform).parameters) - {"size"}


def test_labels_teach_unless_a_teacher_is_named() -> None:
    assert compose().distill.teacher is None


def test_task_owns_image_size_and_epochs() -> None:
    cfg = compose("task.image_size=192", "task.max_epochs=7")
    assert cfg.data.image_size == 192
    assert cfg.trainer.max_epochs == 7
    assert compose("trainer.max_epochs=3").trainer.max_epochs == 3


def test_a_wrong_key_is_named() -> None:
    from hydra.errors import ConfigCompositionException

    with pytest.raises(ConfigCompositionException, match=r"backbone\.alhpa"):
        compose("backbone.alhpa=0.5")


def test_every_file_is_short() -> None:
    for path in CONF.rglob("*.yaml"):
        assert len(path.read_text().splitlines()) <= 30, path


@pytest.mark.parametrize("task", ALONE)
def test_head_settings_are_the_arguments_of_the_head(task: str) -> None:
    """No key of conf/task/*.yaml is dead: each is an argument of its head or of the Task."""
    from mbapps.app import FITTING
    from mbapps.tasks.base import Task

    cfg = compose(f"task={task}").task
    assert set(cfg.head) - {"_target_"} <= set(arguments(cfg.head))
    assert {key for key in cfg.metric if not key.startswith("_")} <= set(arguments(cfg.metric))
    assert set(FITTING) == set(inspect.signature(Task).parameters) - {"network", "metric"}
    own = {"coarse_only", "gallery_photos"} if task == "geo" else set()
    assert set(cfg) == {*FITTING, "head", "metric", "image_size", "max_epochs", *own}


@pytest.mark.parametrize("task", ALONE)
def test_data_settings_are_the_arguments_of_the_data(task: str) -> None:
    cfg = compose(f"task={task}").data
    assert set(cfg) - {"_target_"} == set(arguments(cfg)) - {"class_names", "split"}
    assert set(cfg.augment) == set(inspect.signature(TRANSFORMS[task]).parameters) - {"size"}


@pytest.mark.parametrize("task", ALONE)
def test_python_defaults_are_those_of_the_yaml(task: str) -> None:
    """Two places name each default; they must not part."""
    from mbapps.tasks.base import Task

    cfg = compose(f"task={task}")
    pairs = [
        (cfg.task.head, arguments(cfg.task.head)),
        (cfg.task, inspect.signature(Task).parameters),
        (cfg.data, arguments(cfg.data)),
        (cfg.data.augment, inspect.signature(TRANSFORMS[task]).parameters),
    ]
    own = OWN | TASKS_OWN.get(task, set())
    for values, parameters in pairs:
        for name, parameter in parameters.items():
            if name in values and name not in own:
                assert parameter.default == values[name], f"{task}: {name}"


def test_each_task_may_be_one_of_several_heads() -> None:
    cfg = compose("task=multi")
    assert list(cfg.heads) == ["detection", "fine_grained", "face_attr", "geo", "face_embed"]
    assert set(cfg.heads) == set(ALONE) == set(options("heads"))


@pytest.mark.parametrize("task", ALONE)
def test_a_head_has_the_settings_of_its_task(task: str) -> None:
    """Both its own and those that all heads share come through, and data follow the task they lie beside."""
    from mbapps import app

    alone = compose(f"task={task}")
    cfg = compose("task=multi", f"heads=[{task}]", f"heads.{task}.task.image_size=64", "task.lr=0.5")
    head = cfg.heads[task]
    assert set(head.task) == set(alone.task)
    assert set(head.data) == set(alone.data)
    assert (head.data.image_size, head.task.lr, head.distill.max_epochs) == (64, 0.5, cfg.task.max_epochs)
    assert set(app.FITTING) - {"freeze_body", "test_flip"} == set(cfg.task) - {"max_epochs"}
    (view,) = app.heads(cfg).values()
    assert (view.task.lr, view.data.image_size, view.head) == (0.5, 64, task)
    assert not set(view) & set(app.MULTI)


def test_an_experiment_of_several_heads_trains_some_of_them() -> None:
    from mbapps import app

    cfg = compose("experiment=five", "heads=[geo,face_attr]")
    assert app.chosen(cfg) == list(app.heads(cfg)) == list(app.build_parts(cfg)) == ["geo", "face_attr"]
    assert cfg.heads.face_attr.data.augment.erase == 0.3


def test_keys_of_a_head_are_named_from_its_name_on() -> None:
    cfg = compose(
        "task=multi",
        "heads=[geo,face_embed]",
        "heads.geo.data.root=IMG (1)",
        "heads.face_embed.task.head.dim=8",
    )
    assert list(cfg.heads) == ["geo", "face_embed"]
    assert cfg.heads.geo.data.root == "IMG (1)"
    assert cfg.heads.face_embed.task.head.dim == 8


def test_the_heads_share_the_fitting_of_the_task() -> None:
    """The defaults of task=multi are those of detection, for what both have."""
    cfg, detection = compose("task=multi").task, compose("task=detection").task
    assert {key: detection[key] for key in cfg if key not in ("monitor",)} == {
        key: cfg[key] for key in cfg if key not in ("monitor",)
    }


def arguments(config: DictConfig) -> Mapping[str, inspect.Parameter]:
    """Parameters of what `_target_` names."""
    return inspect.signature(get_class(config["_target_"])).parameters
