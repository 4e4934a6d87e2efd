"""`mbapps convert`: foreign weights become a model folder."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mbapps.report import print_table, run_context, write_results

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.models.network import Network
    from mbapps.models.weights import Weights

DEFAULT_IMAGE_SIZE = 224  # ImageNet classifiers that do not say otherwise
SCORE_THRESH = 0.5  # of every class of a detector, until one is chosen on images of the user's own


def run(cfg: DictConfig) -> None:
    """Write `model/`: the body with its classifier as a fine_grained head, its detection head or its embedding."""
    from mbapps import app
    from mbapps.deploy.saving import describe, save_bundle
    from mbapps.models.weights import read_weights

    folder = app.run_folder(cfg)
    weights = read_weights(cfg.source, cfg.class_names)
    network = build_network(weights)
    (name,) = network.heads
    head, category_ids = network.head(name), weights.heads[name].category_ids
    about: dict[str, Any] = {}
    if category_ids:
        about["category_ids"] = list(category_ids)
    if name == "detection":
        about["thresholds"] = [SCORE_THRESH] * len(head.class_names)
    context = run_context()
    lineage: dict[str, Any] = {"data": [], "weights": weights.source, "teacher": None}
    facts = describe(network, {name: about}, lineage=lineage, command=context["command"])
    path = save_bundle(folder / "model", network, facts)
    numbers = {
        "task": name,
        "params": facts["params"],
        "macs": facts["macs"],
        "classes": len(head.class_names),
        "image_size": head.image_size,
    }
    results = write_results(folder, numbers, context)
    print_table(f"convert {weights.source}", numbers, paths=[path, results])


def build_network(weights: Weights) -> Network:
    """Build the body and the one head that the weights hold, and load both whole.

    Raises:
        ValueError: there is no such head, or it is of another architecture than ours.
    """
    from mbapps.models.mobilenet import MobileNetV1
    from mbapps.models.network import Network
    from mbapps.models.weights import learned, load_body
    from mbapps.tasks.detection import DetectionHead
    from mbapps.tasks.face_embed import FaceEmbedHead
    from mbapps.tasks.fine_grained import FineGrainedHead

    classes: dict[str, Any] = {
        "detection": DetectionHead, "face_embed": FaceEmbedHead, "fine_grained": FineGrainedHead,
    }  # fmt: skip
    names = [name for name in weights.heads if name in classes]
    if len(names) != 1:
        found = f"the heads {', '.join(weights.heads)}" if weights.heads else "no head"
        raise ValueError(
            f"{weights.source} holds a body with {found}: nothing to predict with, that takes one classifier, "
            "detector or embedding; train a head on the body with backbone.weights="
        )
    (name,) = names
    theirs = weights.heads[name]
    body = MobileNetV1(**weights.settings)  # type: ignore[arg-type]
    load_body(body, weights)
    class_names = theirs.class_names or tuple(f"class {index}" for index in range(theirs.num_classes))
    head = classes[name](body, class_names, theirs.image_size or DEFAULT_IMAGE_SIZE, **theirs.settings)
    ours, given = learned(head.state_dict()), learned(theirs.tensors)
    differing = [key for key in {**ours, **given} if _shape(ours, key) != _shape(given, key)]
    if differing:
        key = differing[0]
        raise ValueError(
            f"the {name} head of {weights.source} is of another architecture, {len(differing)} tensors differ: "
            f"{key} is {_shape(given, key)} in the file, {_shape(ours, key)} here; its body still serves "
            "as backbone.weights="
        )
    head.load_state_dict(given, strict=False)
    return Network(body, {name: head})


def _shape(tensors: dict[str, Any], key: str) -> Any:
    return tuple(tensors[key].shape) if key in tensors else "missing"
