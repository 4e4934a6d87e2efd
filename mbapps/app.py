"""From a composed configuration to objects: the only caller of Hydra's `instantiate`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from .data.base import DataModule
    from .deploy.bundle import Bundle
    from .models.mobilenet import MobileNetV1
    from .models.network import Network
    from .models.weights import Weights
    from .tasks.base import Task

FITTING = (
    "monitor",
    "optimizer",
    "lr",
    "weight_decay",
    "warmup_epochs",
    "ema_decay",
    "freeze_blocks",
    "freeze_bn",
)


def build(config: DictConfig | Mapping[str, Any], **arguments: Any) -> Any:
    """Instantiate what `_target_` names; an error inside it comes out as it was raised."""
    try:
        return instantiate(config, **arguments)
    except InstantiationException as error:
        if isinstance(error.__cause__, Exception):
            raise error.__cause__ from None
        raise


def task_name() -> str:
    """Which conf/task was chosen: the name of the head."""
    return str(HydraConfig.get().runtime.choices["task"])


def run_folder(cfg: DictConfig) -> Path:
    """Folder of this run, checked to be empty unless it is resumed.

    Raises:
        FileExistsError: it holds files already.
    """
    folder = Path(HydraConfig.get().runtime.output_dir)
    leader = int(os.environ.get("LOCAL_RANK", 0)) == 0
    log = f"{HydraConfig.get().job.name}.log"  # Hydra has opened it by now
    present = sorted(path.name for path in folder.iterdir() if path.name != log)
    if present and leader and not cfg.get("resume"):
        raise FileExistsError(
            f"out={folder} is not empty ({', '.join(present[:4])}); name another folder, or go on with resume={folder}"
        )
    if leader and not cfg.get("resume"):
        OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
        (folder / "overrides.txt").write_text(
            "".join(f"{line}\n" for line in HydraConfig.get().overrides.task)
        )
    return folder


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


def build_data(cfg: DictConfig, bundle: Bundle | None = None) -> DataModule:
    """Build the data module; with a bundle, at its image size and checked against its class names.

    Raises:
        ValueError: the task has no reader of data yet.
    """
    if "_target_" not in cfg.data:
        raise ValueError(
            f"task={task_name()} has no reader of data in this version: info, convert and predict work, "
            "train and eval do not"
        )
    if bundle is None:
        return build(cfg.data, image_size=image_size(cfg))
    head = bundle.head_facts
    return build(cfg.data, image_size=head["image_size"], class_names=head["class_names"])


def build_body(cfg: DictConfig, weights: Weights | None = None) -> MobileNetV1:
    """Build the body, its settings from the configuration or, where that is silent, from the weights."""
    from .models.mobilenet import initialise
    from .models.weights import load_body

    settings = {
        key: value
        for key, value in cfg.backbone.items()
        if key not in ("rho", "weights") and value is not None
    }
    facts = dict(weights.settings) if weights else {}
    for key in ("alpha", "shallow", "separable"):  # these decide the shapes; load_body says where they differ
        facts.pop(key, None)
    body = build({**facts, **settings})
    initialise(body)
    if weights:
        load_body(body, weights)
    return body


def build_network(cfg: DictConfig, class_names: Sequence[str]) -> tuple[Network, list[str]]:
    """Build body and head, started from backbone.weights where that is set.

    Returns:
        The network, and what there is to say about the weights: what was loaded and what was dropped.
    """
    from .models.network import Network
    from .models.weights import read_weights

    source = cfg.backbone.weights
    weights = read_weights(source) if source else None
    body = build_body(cfg, weights)
    head = build(cfg.task.head, body=body, class_names=list(class_names), image_size=image_size(cfg))
    network = Network(body, {task_name(): head})
    if weights is None:
        return network, ["backbone.weights=null: the body starts from random weights"]
    notes = [f"body loaded from {weights.source}"]
    if Path(source).is_dir():
        notes.append(load_head(head, task_name(), source))
    elif weights.classifier:
        notes.append(
            f"the head of {weights.source} ({len(weights.classifier['bias'])} classes) is dropped; "
            f"the new {task_name()} head has {len(class_names)}"
        )
    return network, notes


def load_head(head: Any, name: str, folder: str) -> str:
    """Load what fits of a model folder's head of that name; say what became of it."""
    from .deploy.bundle import Bundle

    bundle = Bundle.open(folder)
    if name not in bundle.network.heads:
        return f"{folder} has no {name} head, only {', '.join(bundle.network.heads)}: the new head is random"
    theirs = bundle.network.head(name)
    same = tuple(theirs.class_names) == tuple(head.class_names)
    ours = head.state_dict()
    kept = {
        key: value
        for key, value in theirs.state_dict().items()
        if ours.get(key) is not None
        and ours[key].shape == value.shape
        and (same or not key.startswith(tuple(head.CLASS_LAYERS)))
    }
    head.load_state_dict(kept, strict=False)
    if len(kept) == len(ours):
        return f"the {name} head is loaded too, with its {len(head.class_names)} classes"
    return (
        f"the {name} head of {folder} has {len(theirs.class_names)} classes, the data {len(head.class_names)}: "
        f"{len(kept)} of its {len(ours)} tensors are loaded, those of its classes are dropped"
    )


def build_task(cfg: DictConfig, network: Network) -> Task:
    """Wrap a network for training or measuring."""
    import torch

    from .tasks.base import Task

    network.to(memory_format=torch.channels_last)
    if cfg.trainer.compile:
        network.compile()
    return Task(network, build(cfg.task.metric), **{key: cfg.task[key] for key in FITTING})


def build_trainer(cfg: DictConfig, folder: Path, *, fitting: bool) -> pl.Trainer:
    """Build Lightning's Trainer with our callbacks; without loggers and checkpoints unless it fits."""
    from pytorch_lightning import seed_everything
    from pytorch_lightning.callbacks import (
        EarlyStopping,
        LearningRateMonitor,
        ModelCheckpoint,
        RichProgressBar,
    )

    from .memory import keep_freed_memory
    from .tasks.base import AtomicCheckpoints

    _quiet()
    seed_everything(cfg.seed, verbose=False)
    keep_freed_memory()
    settings = {
        key: value
        for key, value in cfg.trainer.items()
        if key not in ("compile", "early_stopping", "progress")
    }
    callbacks: list[Any] = [RichProgressBar(leave=False)] if cfg.trainer.progress else []
    loggers: Any = False
    if fitting:
        monitor = f"val_{cfg.task.monitor}"
        callbacks.append(
            ModelCheckpoint(
                folder / "checkpoints", "best", monitor, mode="max", save_last=True,
                enable_version_counter=False, save_on_train_epoch_end=True,
            )
        )  # fmt: skip
        if cfg.trainer.early_stopping:
            callbacks.append(EarlyStopping(monitor, mode="max", patience=cfg.trainer.early_stopping))
        callbacks.append(LearningRateMonitor())
        loggers = [_build_logger(name, logger, folder) for name, logger in cfg.logger.items()]
    else:
        settings |= {"max_epochs": None, "max_time": None}
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


def open_bundle(cfg: DictConfig) -> Bundle:
    """Open the model folder that the user named, on the device that cfg.device asks for, if the verb has one."""
    from .deploy.bundle import Bundle, pick_device

    device = pick_device(cfg.device) if "device" in cfg else "cpu"
    return Bundle.open(cfg.model, device=device, trust=cfg.trust)
