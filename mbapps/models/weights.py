"""Pretrained weights, of a body and of heads: from Keras, TF-Slim, TFLite, timm, or a model folder."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from .folder import FACTS, WEIGHTS, read_facts, read_tensors
from .foreign import FORMATS, HeadWeights, Weights, learned
from .graphdef import read_graphdef
from .keras_h5 import read_keras
from .mobilenet import MobileNetV1
from .plain import read_safetensors
from .ssd import name_classes
from .tflite import read_labels, read_tflite
from .timm_weights import download_timm, read_timm

__all__ = ["HeadWeights", "Weights", "learned", "load_body", "read_weights"]

READERS: dict[str, Callable[[Path], Weights]] = {
    ".h5": read_keras, ".hdf5": read_keras, ".pb": read_graphdef, ".tflite": read_tflite,
    ".safetensors": read_safetensors, ".pth": read_timm, ".pt": read_timm, ".bin": read_timm,
}  # fmt: skip


def read_weights(source: str | Path, class_names: str | Path | None = None) -> Weights:
    """Read a MobileNet's weights from a file, a model folder or, over the network, by timm's name.

    Classes are named by the first list with a line for each of them: `<name>.labels.txt` or `labels.txt` beside
    the weights, the labels inside a TFLite file. A detector with COCO's ninety columns needs none.

    Args:
        source: path or name.
        class_names: text file that names the classes, one a line; it must fit. A detector's may begin with
            the background, and marks columns without a class by "???": they are dropped.

    Raises:
        FileNotFoundError: nothing lies at `source`, and it is no name of timm's; or no such `class_names`.
        OSError: timm could not download the name.
        ValueError: it is none of the formats read, of another network than MobileNet V1, or the names do not fit.
        ImportError: the package that reads this format is missing.
    """
    weights = _read(source)
    heads = {name: _name(name, head, Path(source), class_names) for name, head in weights.heads.items()}
    return replace(weights, heads=heads)


def _read(source: str | Path) -> Weights:
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
    ours = {key: tuple(value.shape) for key, value in learned(body.state_dict()).items()}
    theirs = {key: tuple(value.shape) for key, value in learned(weights.body).items()}
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


def _read_file(path: Path) -> Weights:
    if path.suffix not in READERS:
        raise ValueError(
            f"{path} has the suffix {path.suffix!r}, which is none of the weights read: {FORMATS}"
        )
    return READERS[path.suffix](path)


def _name(task: str, head: HeadWeights, path: Path, class_names: str | Path | None) -> HeadWeights:
    """Name the classes of a head by the user's list, or else by the first one that fits."""
    if class_names is not None:
        if not Path(class_names).is_file():
            raise FileNotFoundError(f"no class names at {class_names}")
        try:
            return _with_names(task, head, _lines(Path(class_names)))
        except ValueError as error:
            raise ValueError(f"{class_names} {error}") from error
    for names in label_lists(path) if not head.class_names else ():
        try:
            return _with_names(task, head, names)
        except ValueError:  # names of other weights in the same folder
            continue
    return _with_names(task, head, ()) if task == "detection" and not head.class_names else head


def label_lists(path: Path) -> Iterator[Sequence[str]]:
    """Lists of class names beside or inside a file of weights: `<name>.labels.txt`, `labels.txt`, a TFLite file's."""
    for labels in (path.with_name(f"{path.stem}.labels.txt"), path.with_name("labels.txt")):
        if path.is_file() and labels.is_file():
            yield _lines(labels)
    if path.suffix == ".tflite" and (inside := read_labels(path)):
        yield inside


def _lines(path: Path) -> Sequence[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8").rstrip().splitlines()]


def _with_names(task: str, head: HeadWeights, names: Sequence[str]) -> HeadWeights:
    if task == "detection" and not head.class_names:
        return name_classes(head, names)
    if len(names) != head.num_classes:
        raise ValueError(f"names {len(names)} classes, the weights have {head.num_classes}")
    return replace(head, class_names=tuple(names))


def _read_folder(folder: Path) -> Weights:
    if not (folder / FACTS).is_file():
        raise ValueError(f"{folder} is no model folder: it has no {FACTS}; {FORMATS}")
    facts = read_facts(folder)
    if "architecture" in facts["body"]:
        raise ValueError(
            f"{folder} holds {facts['body']['architecture']}, which is no MobileNet V1; it can be distill.teacher="
        )
    if facts.get("norm", "shared") != "shared":
        raise ValueError(
            f"{folder} was trained with norm={facts['norm']}: its body has other norms for each of its heads, and is "
            "the start of no other; train it with norm=shared"
        )
    tensors = read_tensors(folder / WEIGHTS)

    def below(prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

    heads = {
        name: HeadWeights(
            below(f"heads.{name}."), len(head["class_names"]), tuple(head["class_names"]), head["image_size"],
            head["settings"], tuple(head.get("category_ids") or ()),
        )
        for name, head in facts["heads"].items()
    }  # fmt: skip
    source = "/".join(folder.resolve().parts[-2:])  # the folder itself is mostly called "model"
    return Weights(below("body."), facts["body"], heads, source)
