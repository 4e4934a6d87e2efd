"""The network a run starts from: random, or with the weights that backbone.weights names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from .app import build, chosen, heads, image_size, of_head

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


def build_network(cfg: DictConfig, class_names: Mapping[str, Sequence[str]]) -> tuple[Network, list[str]]:
    """Build the body and the configured heads, started from backbone.weights where that is set.

    With model= the body is that of a model folder, and the heads join those that it has.

    Args:
        cfg: of the run.
        class_names: of each head.

    Returns:
        The network, and what there is to say about the weights: what was loaded and what was dropped.

    Raises:
        ValueError: what the model folder has does not go with what is asked for.
    """
    from .models.network import Network
    from .models.weights import read_weights

    source = cfg.backbone.weights
    base = _base(cfg) if "heads" in cfg else None
    weights = read_weights(source) if source else None
    body = base.body if base else build_body(cfg, weights)
    built = {}
    for name, view in heads(cfg).items():
        with of_head(cfg, name):
            built[name] = build(
                view.task.head, body=body, class_names=list(class_names[name]), image_size=image_size(view)
            )
    network = Network(body, {**(base.heads if base else {}), **built}, cfg.get("norm") or "shared")
    if base:
        return network, [f"the body of model={cfg.model} stays, and with it {', '.join(base.heads)}"]
    if weights is None:
        return network, ["backbone.weights=null: the body starts from random weights"]
    loaded = [load_head(head, name, weights) for name, head in built.items()]
    return network, [f"body loaded from {weights.source}", *loaded]


def check_base(cfg: DictConfig) -> None:
    """Look at the model folder at model=, which heads are to be added to.

    Raises:
        FileNotFoundError: it is none.
        ValueError: it does not go with what is asked for.
    """
    from .models.folder import read_facts

    facts = read_facts(Path(cfg.model))
    there = list(facts["heads"])
    if cfg.mode != "frozen":
        raise ValueError(
            f"model={cfg.model} is for mode=frozen, which adds heads to it; to train its body further give "
            f"backbone.weights={cfg.model}"
        )
    if twice := [name for name in chosen(cfg) if name in there]:
        raise ValueError(f"model={cfg.model} has a {twice[0]} head already; its heads are {', '.join(there)}")
    if facts.get("norm", "shared") != "shared":
        raise ValueError(
            f"model={cfg.model} was trained with norm={facts['norm']}: each of its heads has norms of its own in the "
            "body, and a new one would have none"
        )
    if "architecture" in facts["body"]:
        raise ValueError(f"model={cfg.model} holds {facts['body']['architecture']}, which is no MobileNet V1")
    words = HydraConfig.get().overrides.task
    if given := [
        word for word in words if word.startswith("backbone.") and not word.startswith("backbone.rho=")
    ]:
        raise ValueError(f"model={cfg.model} brings its body: leave {given[0]} out")


def _base(cfg: DictConfig) -> Network | None:
    """The network of model=, which heads are added to."""
    from .deploy.bundle import Bundle

    if cfg.model is None:
        return None
    check_base(cfg)
    return Bundle.open(cfg.model, trust=cfg.trust).network


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
