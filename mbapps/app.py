"""From a composed configuration to objects: the only caller of Hydra's `instantiate`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from omegaconf import DictConfig, OmegaConf

from .files import write_text

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from .data.base import DataModule
    from .deploy.bundle import Bundle
    from .models.network import Network
    from .tasks.base import Task
    from .tasks.multi import Part

FITTING = (
    "monitor",
    "optimizer",
    "lr",
    "weight_decay",
    "warmup_epochs",
    "final_lr",
    "ema_decay",
    "body_lr",
    "freeze_epochs",
    "freeze_blocks",
    "freeze_body",
    "freeze_bn",
    "test_flip",
)
MULTI = ("heads", "mode", "norm", "draw", "steps_per_epoch")  # keys of several heads, which one does not have


def build(config: DictConfig | Mapping[str, Any], **arguments: Any) -> Any:
    """Instantiate what `_target_` names; an error inside it comes out as it was raised."""
    try:
        return instantiate(config, **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


def seed(cfg: DictConfig) -> None:
    """Seed every generator: first of all, since the initial weights are drawn from them."""
    from pytorch_lightning import seed_everything

    seed_everything(cfg.seed, verbose=False)


def task_name(cfg: DictConfig) -> str:
    """Which conf/task was chosen, the name of the head; of one of several heads its own."""
    return str(cfg.get("head") or HydraConfig.get().runtime.choices["task"])


def chosen(cfg: DictConfig) -> list[str]:
    """Names that heads= has; an experiment may have settings for others too."""
    return [name for name, head in cfg.heads.items() if "_target_" in head.get("data", {})]


def heads(cfg: DictConfig) -> dict[str, DictConfig]:
    """Give each head's name and configuration, as if it had been chosen alone; of one head this is `cfg`."""
    if "heads" not in cfg:
        return {task_name(cfg): cfg}
    whole: Any = OmegaConf.to_container(cfg)
    for key in MULTI:
        whole.pop(key, None)
    own: dict[str, Any] = {
        name: OmegaConf.to_container(cfg.heads[name], resolve=True) for name in chosen(cfg)
    }
    return {
        name: OmegaConf.create(
            {**whole, **{key: one[key] for key in ("task", "data", "distill")}, "head": name}
        )
        for name, one in own.items()
    }


@contextmanager
def of_head(cfg: DictConfig, name: str) -> Iterator[None]:
    """Put the head's name before errors that are one of several heads' own."""
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError, FloatingPointError) as error:
        if "heads" not in cfg:
            raise
        raise type(error)(f"heads.{name}: {error}") from error


def is_first_process() -> bool:
    """Tell whether this is the first process of the first node, before there is a trainer to ask."""
    ranks = ("LOCAL_RANK", "NODE_RANK", "RANK", "SLURM_PROCID")
    return not any(int(os.environ.get(name, 0)) for name in ranks)


def output_folder(cfg: DictConfig) -> Path:
    """Folder of this run, whatever it holds.

    Raises:
        ValueError: a key that the verb needs is missing.
    """
    missing = sorted(f"{key}=" for key in OmegaConf.missing_keys(cfg))
    if missing:
        raise ValueError(f"{cfg.verb} needs {' and '.join(missing)}")
    return Path(HydraConfig.get().runtime.output_dir)


def run_folder(cfg: DictConfig) -> Path:
    """Folder of this run, checked to be empty unless it is resumed.

    Raises:
        FileExistsError: it holds files already.
        ValueError: a key that the verb needs is missing.
    """
    folder = output_folder(cfg)
    if not is_first_process():
        return folder  # the first process of the first node has looked, or will
    log = f"{HydraConfig.get().job.name}.log"  # Hydra has opened it by now
    present = sorted(path.name for path in folder.iterdir() if path.name != log)
    if present and not cfg.get("resume"):
        raise FileExistsError(
            f"out={folder} is not empty ({', '.join(present[:4])}); name another folder, or go on with resume={folder}"
        )
    save_config(cfg, folder)
    return folder


def save_config(cfg: DictConfig, folder: Path) -> None:
    """Write config.yaml and overrides.txt."""
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    words = HydraConfig.get().overrides.task  # what a resume adds is kept for the next one
    kept = [word for word in words if not word.startswith(("resume=", "out="))]
    write_text(folder / "overrides.txt", "".join(f"{word}\n" for word in dict.fromkeys(kept)))


def image_size(cfg: DictConfig) -> int:
    """Side of the square input, px: data.image_size, or the task's scaled by backbone.rho."""
    size, rho = int(cfg.data.image_size), float(cfg.backbone.rho)
    if rho <= 0:
        raise ValueError(f"backbone.rho must be > 0, got {rho}")
    if rho == 1:
        return size
    if size != cfg.task.image_size:
        raise ValueError(
            f"data.image_size={size} and backbone.rho={rho} both set the image size; give one of them"
        )
    return round(size * rho)


def build_data(cfg: DictConfig, bundle: Bundle | None = None, split: str | None = None) -> DataModule:
    """Build the data module; with a bundle, one split at its image size, checked against its classes."""
    if bundle is None:
        return build(cfg.data, image_size=image_size(cfg))
    head = bundle.head_facts
    view = {key: head["settings"][key] for key in ("central_crop",) if key in cfg.data}
    if "face_crop" in cfg.data and cfg.data.face_crop is None:
        view["face_crop"] = head.get("face_crop")
    return build(
        cfg.data, image_size=head["image_size"], class_names=head["class_names"], split=split, **view
    )


def build_task(cfg: DictConfig, network: Network) -> Task:
    """Wrap a network of the configured heads, one or several, for training or measuring."""
    import torch

    from .tasks.base import Task

    network.to(memory_format=torch.channels_last)
    if cfg.trainer.compile:
        network.compile()
    settings = {key: cfg.task[key] for key in FITTING if key in cfg.task}
    if "heads" not in cfg:
        return Task(network, build(cfg.task.metric), **settings)
    return Task(network, build_parts(cfg), **settings)


def build_parts(cfg: DictConfig) -> dict[str, Part]:
    """What each of several heads is learned and measured by."""
    from .tasks.multi import Part

    return {
        name: Part(
            build(one.task.metric), one.task.monitor, one.task.test_flip, one.weight, one.floor, one.alone
        ).check(name)
        for name, one in ((name, cfg.heads[name]) for name in chosen(cfg))
    }  # type: ignore[misc]


def head_class(cfg: DictConfig) -> type:
    """Find the class of the task's head."""
    return get_class(cfg.task.head._target_)


def build_trainer(cfg: DictConfig, folder: Path, *, fitting: bool) -> pl.Trainer:
    """Build Lightning's Trainer with our callbacks; without loggers and checkpoints unless it fits."""
    from pytorch_lightning.callbacks import EarlyStopping, LearningRateMonitor, RichProgressBar

    from .memory import keep_freed_memory
    from .tasks.checkpoints import AtomicCheckpoints, Checkpoints

    _quiet()
    keep_freed_memory()
    settings = {
        key: value
        for key, value in cfg.trainer.items()
        if key not in ("compile", "early_stopping", "progress")
    }
    callbacks: list[Any] = [RichProgressBar(leave=False)] if cfg.trainer.progress else []
    loggers: Any = False
    if fitting:
        monitor = f"val_{cfg.task.monitor.removeprefix('-')}"
        mode = "min" if cfg.task.monitor.startswith("-") else "max"
        common: dict[str, Any] = {"enable_version_counter": False, "save_on_train_epoch_end": True}
        place = folder / "checkpoints"
        callbacks.append(Checkpoints(place, "best", monitor, mode=mode, **common))
        callbacks.append(
            Checkpoints(place, "last", every_n_epochs=1, **common)
        )  # after best: it holds its score
        if cfg.trainer.early_stopping:
            callbacks.append(
                EarlyStopping(monitor, mode=mode, patience=cfg.trainer.early_stopping, check_finite=False)
            )
        callbacks.append(LearningRateMonitor())
        loggers = [_build_logger(name, logger, folder) for name, logger in cfg.logger.items()]
    else:
        settings |= {"max_epochs": None, "max_time": None}
    many = settings["devices"] not in ("auto", 1, "1")
    if "heads" in cfg and (settings["strategy"] == "ddp" or (settings["strategy"] == "auto" and many)):
        settings["strategy"] = "ddp_find_unused_parameters_true"  # the heads that a step has no images of
    return build(
        settings,
        default_root_dir=str(folder), callbacks=callbacks, logger=loggers, plugins=[AtomicCheckpoints()],
        enable_checkpointing=fitting, enable_model_summary=False, enable_progress_bar=cfg.trainer.progress,
        num_sanity_val_steps=0, use_distributed_sampler=False,
    )  # fmt: skip


def _quiet() -> None:
    """Keep Lightning from advertising and from saying what the closing table says better."""
    import logging
    import warnings

    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def _build_logger(name: Any, logger: DictConfig, folder: Path) -> Any:
    try:
        return build(logger, save_dir=str(folder))
    except ImportError as error:
        raise ImportError(
            f"logger={name} needs a package that is missing: pip install 'mbapps[{name}]'"
        ) from error


def wanted_heads(cfg: DictConfig) -> list[str] | None:
    """Names of the heads that heads= or task= chose; None where neither was given: all that a model folder has."""
    if "heads" in cfg:
        return chosen(cfg)
    words = HydraConfig.get().overrides.task
    return [task_name(cfg)] if "head" in cfg or any(word.startswith("task=") for word in words) else None


def open_bundle(
    cfg: DictConfig, model: str | Path | None = None, head: str | None = None, runtime: str | None = None
) -> Bundle:
    """Open the model folder that the user named, or `model`, in the runtime and on the device that the verb has.

    Of several heads in it those are opened that heads= names, or the one of task=, or `head`, or else all.
    """
    from .deploy.bundle import Bundle, pick_device
    from .models.folder import read_facts

    folder = Path(model or cfg.model)
    wanted = None
    if len(read_facts(folder)["heads"]) > 1:
        wanted = [head] if head else wanted_heads(cfg)
    precision = cfg.get("precision", "float32") if runtime is None else "float32"
    runtime, file = runtime or cfg.get("runtime", "torch"), cfg.get("runtime_file")
    device = "cpu"
    if "device" in cfg and (runtime == "torch" or cfg.device != "auto"):  # the other runtimes are on the CPU
        device = pick_device(cfg.device)
    return Bundle.open(
        folder,
        device=device,
        trust=cfg.trust,
        heads=wanted,
        runtime=runtime,
        runtime_file=file,
        precision=precision,
    )


def open_answering(cfg: DictConfig) -> Bundle:
    """Open the model folder that the user named, so that its heads of faces answer for the faces in photos.

    These are found by the model at `cfg.faces`, or else by a head of the same folder, be it asked for or not.
    """
    from .deploy.bundle import Bundle, pick_device
    from .deploy.face_pass import finding_head, heads_of_faces, with_faces

    wanted = open_bundle(cfg)
    if cfg.faces:
        finder = Bundle.open(cfg.faces, device=pick_device(cfg.device), trust=cfg.trust)
        return with_faces(wanted, finder, cfg.min_face)
    if heads_of_faces(wanted.network) and not finding_head(wanted.network):
        whole = Bundle.open(cfg.model, device=wanted.device, trust=cfg.trust)
        if own := finding_head(whole.network):
            return with_faces(wanted, _in_runtime(cfg, wanted, whole.only([own])), cfg.min_face)
    return with_faces(wanted, None, cfg.min_face)


def _in_runtime(cfg: DictConfig, wanted: Bundle, finder: Bundle) -> Bundle:
    """A head of the same folder in the runtime of `wanted`, if a file of it is there; else as it is, in torch."""
    if wanted.runtime == "torch":
        return finder
    from .deploy.bundle import Bundle
    from .deploy.runtimes import RuntimeNetwork

    assert isinstance(wanted.network, RuntimeNetwork)
    name, files = finder.head_name, wanted.network.files
    if any(name in file.heads for file in files):
        return replace(finder, network=RuntimeNetwork(finder.network, files).eval(), runtime=wanted.runtime)
    if cfg.get("runtime_file"):
        return finder
    try:
        return Bundle.open(
            cfg.model, trust=cfg.trust, heads=[name], runtime=wanted.runtime, precision=cfg.precision
        )
    except FileNotFoundError:  # this head was not exported
        return finder
