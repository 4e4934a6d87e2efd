"""What a model folder holds on disk, read with suspicion: it may come from a stranger."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

FORMAT = 1  # of model.json; a newer one is refused
WEIGHTS, FACTS, CARD = "model.safetensors", "model.json", "CARD.md"
MAX_IMAGE_SIZE = 4096  # px; a few bytes of json must not be able to ask for all the memory
MAX_ALPHA = 16.0


def read_facts(folder: Path) -> dict[str, Any]:
    """Read model.json, checked to be of a format that this version reads and of the right types.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or newer.
    """
    path = folder / FACTS
    if not path.is_file():
        raise FileNotFoundError(f"no model folder at {folder}: it has no {FACTS}; train or convert makes one")
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        _check(facts)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no model description: {error!r}") from error
    if facts["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {facts['format']}, newer than this mbapps reads ({FORMAT}); update mbapps"
        )
    return facts


def _check(facts: Any) -> None:
    if not isinstance(facts["format"], int) or not isinstance(facts["body"], dict):
        raise TypeError("format must be a number and body an object")
    if facts["format"] > FORMAT:
        return
    if not 0 < float(facts["body"].get("alpha", 1.0)) <= MAX_ALPHA:
        raise ValueError(f"alpha must be in (0, {MAX_ALPHA}]")
    for name, head in facts["heads"].items():
        names, thresholds = head["class_names"], head.get("thresholds")
        if not isinstance(head["class"], str) or not isinstance(head["settings"], dict):
            raise TypeError(f"class of the {name} head must be a name and settings an object")
        if not isinstance(names, list) or not all(isinstance(label, str) for label in names):
            raise TypeError(f"class_names of the {name} head must be a list of names")
        if not isinstance(head["image_size"], int) or not 1 <= head["image_size"] <= MAX_IMAGE_SIZE:
            raise ValueError(f"image_size of the {name} head must be 1 to {MAX_IMAGE_SIZE}")
        if thresholds is not None and [type(value) for value in thresholds] != [float] * len(names):
            raise ValueError(
                f"the {name} head has {len(names)} classes, so it needs as many thresholds or null"
            )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Read a safetensors file; nothing else is accepted, above all no pickle."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(
            f"{path} is no safetensors file ({error}); other formats are never unpickled"
        ) from error
