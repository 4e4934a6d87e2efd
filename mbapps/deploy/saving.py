"""Writing a model folder: what it says of a network, its weights, its card, and what tells it from every other."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from mbapps.files import locked, replacing
from mbapps.models.folder import CARD, FACTS, FORMAT, WEIGHTS, read_facts, read_tensors
from mbapps.models.network import Network

from .face_pass import finding_head, heads_of_faces
from .head_classes import class_name
from .passes import passes

LOCK = f"{FACTS}.lock"
WAIT_S = 10.0  # for another process to change model.json, which takes milliseconds
FITTED = ("fitted", "temperature")  # settings of heads by which outputs are read, not made


def describe(network: Network, heads: Mapping[str, Mapping[str, Any]], **facts: Any) -> dict[str, Any]:
    """Compose model.json: what rebuilds the network, joined with what is known of each head and of the model."""
    from mbapps import __version__
    from mbapps.models.complexity import count

    names = list(network.heads)
    described = {
        "format": FORMAT,
        "version": __version__,
        "body": network.body.settings,
        "heads": {
            name: {
                "class": class_name(network.head(name)),
                "settings": network.head(name).settings,
                "class_names": list(network.head(name).class_names),
                "image_size": network.head(name).image_size,
                "thresholds": None,
                "metrics": {},
                **heads.get(name, {}),
            }
            for name in names
        },
    }
    if len(names) > 1:
        described["norm"] = network.norm
    later = heads_of_faces(network) if finding_head(network) else []
    groups = passes(described, [name for name in names if name not in later])
    of_faces = passes(described, later, whole=True)
    if len(names) > 1:
        described |= {"passes": len(groups), "face_passes": len(of_faces)}
    return {
        **described,
        "params": sum(parameter.numel() for parameter in network.parameters()),
        "macs": sum(
            count(network.only(group), network.head(group[0]).image_size).macs for group in groups + of_faces
        ),
        **facts,
    }


def save_bundle(folder: str | Path, network: Network, facts: Mapping[str, Any]) -> Path:
    """Write a model folder at once: it is complete or not there."""
    from mbapps.card import write_card

    folder = Path(folder)
    tensors = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    text = json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False)
    try:
        with replacing(folder) as temporary:
            temporary.mkdir()
            save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
            (temporary / FACTS).write_text(text + "\n", encoding="utf-8")
            write_card(temporary / CARD, facts)
    except (OSError, SafetensorError) as error:  # safetensors says a full disk in its own way
        raise OSError(f"could not save {folder}: {error}; what was there before is whole") from error
    return folder


def fingerprint(folder: str | Path, heads: Iterable[str] | None = None) -> str:
    """A hash of what decides the answers of a model folder, or of some of its heads: weights and settings.

    Thresholds, metrics, lineage and what was fitted to read answers by have no part in it, and other heads have none.

    Raises:
        FileNotFoundError, ValueError: there is no model folder, or it is damaged.
    """
    facts = read_facts(Path(folder))
    names = list(facts["heads"] if heads is None else heads)
    described = {
        name: [
            head["class"],
            {key: value for key, value in head["settings"].items() if key not in FITTED},
            head["image_size"],
        ]
        for name, head in facts["heads"].items()
        if name in names
    }
    digest = hashlib.blake2b(json.dumps([facts["body"], described], sort_keys=True).encode(), digest_size=16)
    tensors = read_tensors(Path(folder) / WEIGHTS)
    parts = ("body.", *(f"heads.{name}." for name in names))
    for key in sorted(key for key in tensors if key.startswith(parts)):
        digest.update(f"{key} {tensors[key].dtype} {list(tensors[key].shape)}".encode())
        digest.update(tensors[key].contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_facts(folder: str | Path, facts: Mapping[str, Any]) -> Path:
    """Write model.json and CARD.md of a model folder anew; its weights stay as they are."""
    from mbapps.card import write_card
    from mbapps.files import write_text

    folder = Path(folder)
    write_text(folder / FACTS, json.dumps(facts, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    write_card(folder / CARD, facts)
    return folder


def change_facts(folder: str | Path, change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Change model.json and CARD.md as they are now, while no other process does; its weights stay as they are.

    Args:
        folder: of the model.
        change: changes the facts that it is given, and nothing but what it is about.

    Returns:
        The facts as they were written.

    Raises:
        BlockingIOError: another process has been changing them for long.
        FileNotFoundError, ValueError: there is no model folder any more, or it is damaged.
    """
    folder, until = Path(folder), time.monotonic() + WAIT_S
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(folder / LOCK, str(folder / FACTS)))
                break
            except BlockingIOError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.05)
        facts = read_facts(folder)
        change(facts)
        save_facts(folder, facts)
    return facts
