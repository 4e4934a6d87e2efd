"""Pretrained weights for the body: from Keras, TF-Slim, timm, or a model folder."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from .folder import FACTS, WEIGHTS, read_facts, read_tensors
from .foreign import FORMATS, Weights
from .graphdef import read_graphdef
from .keras_h5 import read_keras
from .mobilenet import MobileNetV1
from .timm_weights import download_timm, read_timm

__all__ = ["Weights", "load_body", "read_class_names", "read_weights"]

READERS: dict[str, Callable[[Path], Weights]] = {
    ".h5": read_keras, ".hdf5": read_keras, ".pb": read_graphdef,
    ".safetensors": read_timm, ".pth": read_timm, ".pt": read_timm, ".bin": read_timm,
}  # fmt: skip


def read_weights(source: str | Path) -> Weights:
    """Read a MobileNet's weights from a file, a model folder or, over the network, by timm's name.

    A file `<name>.labels.txt` or `labels.txt` beside the weights names their classes, if it has a line for
    each of them.

    Raises:
        FileNotFoundError: nothing lies at `source`, and it is no name of timm's.
        OSError: timm could not download the name.
        ValueError: it is none of the formats read, or of another network than MobileNet V1.
        ImportError: the package that reads this format is missing.
    """
    path = Path(source)
    name = str(source).removeprefix("timm:")
    try:
        if path.is_dir():
            return _read_folder(path)
        if path.is_file():
            return _read_file(path)
        if re.fullmatch(r"mobilenetv1_\w+(\.\w+)?", name) and path.suffix not in READERS:
            return download_timm(name)
    except ImportError as error:
        raise ImportError(
            f"reading {source} needs {error.name or 'a package'}: pip install 'mbapps[weights]'"
        ) from error
    raise FileNotFoundError(f"no weights at {source}; {FORMATS}")


def load_body(body: MobileNetV1, weights: Weights) -> None:
    """Copy the weights into `body`.

    Raises:
        ValueError: they are of another architecture; nothing is copied then.
    """
    counter = "num_batches_tracked"
    ours = {key: tuple(value.shape) for key, value in body.state_dict().items() if not key.endswith(counter)}
    theirs = {key: tuple(value.shape) for key, value in weights.body.items() if not key.endswith(counter)}
    differing = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
    if differing:
        rows = "; ".join(
            f"{key} is {theirs.get(key, 'missing')} in the file, {ours.get(key, 'missing')} in the model"
            for key in differing[:3]
        )
        architecture = {"alpha": 1.0, "shallow": False, "separable": True} | weights.settings
        wrong = [key for key in ("alpha", "shallow", "separable") if architecture[key] != body.settings[key]]
        hint = " ".join(f"backbone.{key}={str(architecture[key]).lower()}" for key in wrong) or "another file"
        raise ValueError(
            f"{weights.source} does not fit, {len(differing)} tensors differ: {rows}; use {hint}"
        )
    body.load_state_dict(weights.body, strict=False)


def read_class_names(path: Path, count: int) -> tuple[str, ...]:
    """Read one class name per line; ValueError unless there are `count`."""
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines())
    if len(names) != count:
        raise ValueError(f"{path} names {len(names)} classes, the weights have {count}")
    return names


def _read_file(path: Path) -> Weights:
    if path.suffix not in READERS:
        raise ValueError(
            f"{path} has the suffix {path.suffix!r}, which is none of the weights read: {FORMATS}"
        )
    weights = READERS[path.suffix](path)
    for labels in (path.with_name(f"{path.stem}.labels.txt"), path.with_name("labels.txt")):
        if weights.classifier and labels.is_file():
            try:
                return replace(weights, class_names=read_class_names(labels, len(weights.classifier["bias"])))
            except ValueError:  # names of other weights in the same folder
                continue
    return weights


def _read_folder(folder: Path) -> Weights:
    if not (folder / FACTS).is_file():
        raise ValueError(f"{folder} is no model folder: it has no {FACTS}; {FORMATS}")
    facts = read_facts(folder)
    settings, heads = facts["body"], facts["heads"]
    tensors = read_tensors(folder / WEIGHTS)
    body = {key.removeprefix("body."): value for key, value in tensors.items() if key.startswith("body.")}
    name, head = next(iter(heads.items())) if len(heads) == 1 else ("", {})
    prefix = f"heads.{name}."
    layer = {
        key.removeprefix(prefix): value for key, value in tensors.items() if name and key.startswith(prefix)
    }
    classifier = {}
    if layer.keys() == {"linear.weight", "linear.bias"}:
        classifier = {key.removeprefix("linear."): value for key, value in layer.items()}
    names = tuple(head.get("class_names") or ())
    source = "/".join(folder.resolve().parts[-2:])  # the folder itself is mostly called "model"
    return Weights(body, settings, classifier, names, source, head.get("image_size"))
