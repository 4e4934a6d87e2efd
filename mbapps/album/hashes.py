"""What tells that a file, a model folder or a setting is another than it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MODEL_FILES = ("model.json", "model.safetensors")
HISTORY = ("exports", "lineage", "command", "version")  # in model.json, and no part of the answers

Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp:
    """Size and times of a file."""
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def read_model(folder: Path) -> dict[str, Any]:
    """What model.json says; nothing but its being JSON is checked.

    Raises:
        FileNotFoundError: it is no model folder.
        ValueError: model.json is damaged.
    """
    if missing := [name for name in MODEL_FILES if not (folder / name).is_file()]:
        raise FileNotFoundError(f"no model folder at {folder}: it has no {missing[0]}")
    path = folder / MODEL_FILES[0]
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return {**facts, "heads": {name: dict(head) for name, head in facts["heads"].items()}}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no model description: {error!r}") from error


def model_hash(folder: Path, known: dict[str, list[Any]]) -> str:
    """A hash of what a model folder answers by: weights and description, but for its history and its metrics.

    The weights are read only if they have changed since they were noted in `known`.

    Raises:
        FileNotFoundError, ValueError: as `read_model`.
    """
    facts = read_model(folder)
    for key in HISTORY:
        facts.pop(key, None)
    for head in facts["heads"].values():
        head.pop("metrics", None)
    weights = folder / MODEL_FILES[1]
    return key_of({**facts, "weights": files_hash(weights, [weights], known)})


def files_hash(path: Path, files: list[Path], known: dict[str, list[Any]]) -> str:
    """A hash of files that belong together, noted in `known` under a path until one of them changes."""
    stamps = [list(stamp(file)) for file in files]
    name = str(path.absolute())
    if known.get(name, [None])[0] == stamps:
        return str(known[name][1])
    known[name] = [stamps, content_hash(files)]
    return str(known[name][1])


def content_hash(files: list[Path]) -> str:
    """A hash of what is in files, 24 hexadecimal digits.

    Raises:
        OSError: one can't be read.
    """
    digest = hashlib.blake2b(digest_size=12)
    for file in files:
        digest.update(f"{file.stat().st_size} ".encode())
        with file.open("rb") as opened:
            while block := opened.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def key_of(settings: Mapping[str, Any]) -> str:
    """A hash of settings."""
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=16).hexdigest()
