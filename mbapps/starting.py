"""The network a run starts from: random, or with the weights that backbone.weights names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from .app import build, image_size, task_name

if TYPE_CHECKING:
    from .models.mobilenet import MobileNetV1
    from .models.network import Network
    from .models.weights import Weights


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
        notes.append(load_head(head, task_name(), source, cfg.get("trust")))
    elif weights.classifier:
        notes.append(
            f"the head of {weights.source} ({len(weights.classifier['bias'])} classes) is dropped; "
            f"the new {task_name()} head has {len(class_names)}"
        )
    return network, notes


def load_head(head: Any, name: str, folder: str, trust: str | None) -> str:
    """Load what fits of a model folder's head of that name; say what became of it."""
    from .deploy.bundle import Bundle

    bundle = Bundle.open(folder, trust=trust)
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
        f"the {name} head of {folder} has {len(theirs.class_names)} classes, the data {len(head.class_names)}, "
        f"with other names or in another order: {len(kept)} of its {len(ours)} tensors are loaded, those of its "
        "classes are dropped"
    )
