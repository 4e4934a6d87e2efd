"""`mbapps convert`: foreign weights become a model folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.report import print_table, run_context, write_results

if TYPE_CHECKING:
    from omegaconf import DictConfig

DEFAULT_IMAGE_SIZE = 224  # ImageNet classifiers that do not say otherwise


def run(cfg: DictConfig) -> None:
    """Write `model/`: the body and, where the file has one, its classifier as a fine_grained head."""
    import torch

    from mbapps import app
    from mbapps.deploy.bundle import describe, save_bundle
    from mbapps.models.mobilenet import MobileNetV1
    from mbapps.models.network import Network
    from mbapps.models.weights import load_body, read_class_names, read_weights
    from mbapps.tasks.fine_grained import FineGrainedHead

    folder = app.run_folder(cfg)
    weights = read_weights(cfg.source)
    if not weights.classifier:
        raise ValueError(
            f"{weights.source} holds a body but no classifier on its pooled features: nothing to predict with; "
            f"train a head on it with backbone.weights={cfg.source}"
        )
    count = len(weights.classifier["bias"])
    if cfg.class_names:
        weights = replace(weights, class_names=read_class_names(Path(cfg.class_names), count))
    names = weights.class_names or tuple(f"class {index}" for index in range(count))
    body = MobileNetV1(**weights.settings)  # type: ignore[arg-type]
    load_body(body, weights)
    head = FineGrainedHead(body, names, weights.image_size or DEFAULT_IMAGE_SIZE)
    with torch.no_grad():
        head.linear.load_state_dict(weights.classifier)
    network = Network(body, {"fine_grained": head})
    context = run_context()
    lineage: dict[str, Any] = {"data": [], "weights": weights.source, "teacher": None}
    facts = describe(network, {}, lineage=lineage, command=context["command"])
    path = save_bundle(folder / "model", network, facts)
    numbers = {
        "params": facts["params"],
        "macs": facts["macs"],
        "classes": count,
        "image_size": head.image_size,
    }
    results = write_results(folder, numbers, context)
    print_table(f"convert {weights.source}", numbers, paths=[path, results])
