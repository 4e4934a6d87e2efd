from __future__ import annotations

import inspect
from pathlib import Path

import pytest
from conftest import compose
from hydra.utils import get_class
from omegaconf import OmegaConf

CONF = Path(__file__).parent.parent / "conf"


def options(group: str) -> list[str]:
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


@pytest.mark.parametrize("task", options("task"))
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


def transform(task: str) -> type:
    from mbapps.data.transforms import ClassificationTransform, DetectionTransform

    return DetectionTransform if task == "detection" else ClassificationTransform


@pytest.mark.parametrize("task", options("task"))
def test_head_settings_are_the_arguments_of_the_head(task: str) -> None:
    """No key of conf/task/*.yaml is dead: each is an argument of its head, its metric or of the Task."""
    from mbapps.app import FITTING
    from mbapps.tasks.base import Task

    cfg = compose(f"task={task}").task
    for part in (cfg.head, cfg.metric):
        keys = {key for key in part if not key.startswith("_")}
        assert keys <= set(inspect.signature(get_class(part._target_)).parameters)
    assert set(FITTING) == set(inspect.signature(Task).parameters) - {"network", "metric"}
    assert set(cfg) == {*FITTING, "head", "metric", "image_size", "max_epochs"}


@pytest.mark.parametrize("task", options("task"))
def test_data_settings_are_the_arguments_of_the_data(task: str) -> None:
    cfg = compose(f"task={task}").data
    given = set(inspect.signature(get_class(cfg._target_)).parameters) - {"class_names", "split"}
    assert set(cfg) - {"_target_"} == given
    assert set(cfg.augment) <= set(inspect.signature(transform(task)).parameters) - {"size"}


@pytest.mark.parametrize("task", options("task"))
def test_heads_and_data_default_to_the_yaml(task: str) -> None:
    """Two places name each default; they must not part."""
    cfg = compose(f"task={task}")
    own = {"image_size", "seed", "augment", "root", "positive_iou"}  # set by another key or by SSD
    for values in (cfg.task.head, cfg.data):
        kind = get_class(values._target_)
        for name, parameter in inspect.signature(kind).parameters.items():
            if name in values and name not in own:
                assert parameter.default == values[name], f"{kind.__name__}.{name}"


def test_task_and_transform_default_to_the_yaml_of_detection() -> None:
    from mbapps.tasks.base import Task

    cfg = compose("task=detection")
    for values, kind in ((cfg.task, Task), (cfg.data.augment, transform("detection"))):
        for name, parameter in inspect.signature(kind).parameters.items():
            if name in values and name not in ("monitor", "metric"):
                assert parameter.default == values[name], f"{kind.__name__}.{name}"
