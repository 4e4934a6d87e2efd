"""The network a run starts from: random, or with the weights that backbone.weights names."""

from __future__ import annotations

from collections.abc import Sequence
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
    if facts.get("bn_eps") == 0 and settings.get("bn_eps") is not None:
        raise ValueError(
            f"backbone.bn_eps={settings['bn_eps']} does not go with {weights.source if weights else ''}: its batch "
            "norms are folded, and are measured anew in training; leave backbone.bn_eps out"
        )
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
    return network, [f"body loaded from {weights.source}", load_head(head, task_name(), weights)]


def load_head(head: Any, name: str, weights: Weights) -> str:
    """Load what fits of the weights' head of that name; say what became of it.

    Layers of classes fit only if the classes have the same names in the same order, and score alike.
    """
    from .models.weights import learned

    theirs = weights.heads.get(name)
    if theirs is None or not theirs.tensors:
        others = f", only {', '.join(weights.heads)}" if weights.heads else ""
        return f"{weights.source} has no {name} head{others}: the new head is random"
    reasons = []
    if theirs.num_classes and theirs.class_names != tuple(head.class_names):
        which = "without names" if not theirs.class_names else "with other names or in another order"
        reasons.append(f"it has {theirs.num_classes} classes, the data {len(head.class_names)}, {which}")
    for key in getattr(head, "CLASS_SETTINGS", ()):
        if theirs.settings.get(key, head.settings[key]) != head.settings[key]:
            reasons.append(f"task.head.{key}={theirs.settings[key]} is what its classes were trained with")
    ours = learned(head.state_dict())
    kept = {
        key: value
        for key, value in theirs.tensors.items()
        if key in ours
        and ours[key].shape == value.shape
        and not (reasons and key.startswith(tuple(head.CLASS_LAYERS)))
    }
    head.load_state_dict(kept, strict=False)
    if not theirs.num_classes and len(kept) == len(learned(theirs.tensors)):
        return f"the {name} head is loaded too"
    if len(kept) == len(ours):
        return f"the {name} head is loaded too, with its {len(head.class_names)} classes"
    dropped = ", those of its classes are dropped" if reasons else ", the others have other shapes"
    return (
        f"the {name} head of {weights.source}: {'; '.join([*reasons, ''])}{len(kept)} of its {len(ours)} tensors "
        f"are loaded{dropped}"
    )
