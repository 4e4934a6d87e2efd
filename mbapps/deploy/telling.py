"""What model.json, the card and the terminal say of a file that was exported."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .export import Exported
from .runtimes import FACTS, FAILED


def summary(found: Exported, model: Path) -> dict[str, Any]:
    """What model.json and the card say of a file."""
    facts: dict[str, Any] = {
        "file": found.path.relative_to(model).as_posix(),
        "bytes": size_of(found.path),
        "passed": found.passed if found.parity else None,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    if found.parity:
        whole = found.parity.to_json()
        keys = ("images", "tolerance", "relative_error", "agreement", "first_layer", "metrics")
        facts |= {key: whole[key] for key in keys}
    int8 = int8_of(found)
    return facts | ({"int8": int8} if int8 else {})


def int8_of(found: Exported) -> dict[str, Any]:
    """What a file in 8 bits says of that; empty for another."""
    about = found.path.parent / FACTS
    return dict(json.loads(about.read_text(encoding="utf-8")).get("int8", {})) if about.exists() else {}


def size_of(path: Path) -> int:
    """Bytes of an exported file and what belongs to it."""
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.stem}.*")
    return sum(file.stat().st_size for file in files if file.is_file())


def described(found: Exported) -> list[str]:
    """The last columns of the printed table."""
    if found.parity is None:
        return ["", "", "", "not run"]
    parity = found.parity
    metrics = [f"{ours:.4f} -> {theirs:.4f}" for ours, theirs in parity.metrics.values()]
    metric = metrics[0] if len(metrics) == 1 else "see below" if metrics else ""
    return [f"{parity.relative:.1e}", f"{parity.agreement:.2%}", metric, "yes" if parity.passed else "NO"]


def tell_failed(name: str, found: Exported) -> str:
    """What to say of a file that differs from the original."""
    assert found.parity is not None
    parity = found.parity
    metric = "".join(
        f", {name} is {theirs:.4f} and not {ours:.4f}" for name, (ours, theirs) in parity.metrics.items()
    )
    where, limit = "", ""
    if not int8_of(found):
        limit = f", tolerance={parity.tolerance:g}"
        where = "; with the outputs of its layers visible none differs: the runtime joins layers otherwise"
    if parity.layer:
        where = f"; the first layer that differs is {parity.layer}"
    if guilty := int8_of(found).get("guilty"):
        where = (
            f"; half of the error comes from {', '.join(guilty)}, which quantize.keep=[{','.join(guilty)}] leaves in "
            "float"
        )
    return (
        f"{name} does not give the model's answers: on {parity.images} images its outputs differ by up to "
        f"{parity.relative:.2g} of their range{limit}, and {parity.agreement:.2%} of what is told is alike, "
        f"{parity.least_agreement:.0%} must be{metric}{where}. The file is kept as {found.path}{_others(found)}"
    )


def _others(found: Exported) -> str:
    """What else is to be said of a file that did not pass."""
    assert found.parity is not None
    said = ""
    if not sum(found.parity.told.values()):
        said += (
            "; nothing is told of these images, so that no answers can be compared: name others by source="
        )
    older = found.path.parent.with_name(found.path.parent.name.removesuffix(f"_{FAILED}"))
    if older != found.path.parent and older.exists():
        said += f"; {older} is of an earlier export, and stays in use"
    return said
