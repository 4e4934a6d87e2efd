"""What model.json, the card and the terminal say of a file that was exported."""

from __future__ import annotations

import json
import math
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .export import Exported
from .export_facts import FACTS
from .runtimes import FAILED


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
        keys = ("images", "relative_error", "signal_db", "agreement", "first_layer", "metrics")
        facts |= {key: whole[key] for key in keys}
    int8 = int8_of(found)
    return facts | ({"int8": int8} if int8 else {})


def int8_of(found: Exported) -> dict[str, Any]:
    """What a file in 8 bits says of that; empty for another."""
    return dict(_facts(found).get("int8", {}))


def _facts(found: Exported) -> dict[str, Any]:
    about = found.path.parent / FACTS
    return dict(json.loads(about.read_text(encoding="utf-8"))) if about.exists() else {}


def size_of(path: Path) -> int:
    """Bytes of an exported file and what belongs to it."""
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.stem}.*")
    return sum(file.stat().st_size for file in files if file.is_file())


def described(found: Exported) -> list[str]:
    """The last columns of the printed table."""
    if found.parity is None:
        return ["", "", "", "not run"]
    parity = found.parity
    metrics = [f"{one.original:.4f} -> {one.file:.4f}" for one in parity.metrics.values()]
    metric = metrics[0] if len(metrics) == 1 else "see below" if metrics else ""
    alike = f"{parity.agreement:.2%}" if parity.num_told else "nothing told"
    error = f"{parity.relative:.1e}" if parity.most_noise is None else f"{parity.signal_db:.0f} dB"
    return [error, alike, metric, "yes" if parity.passed else "NO"]


def tell_failed(name: str, found: Exported) -> str:
    """What to say of a file that differs from the original."""
    assert found.parity is not None
    parity = found.parity
    metric = "".join(
        f", {name} is {one.file:.4f} and not {one.original:.4f}, {parity.limit(one):.2g} is the limit"
        for name, one in parity.lost.items()
    )
    answers = ""
    if parity.num_told:
        answers = (
            f", and {parity.agreement:.2%} of what is told is alike, {parity.least_agreement:.0%} must be"
        )
    if parity.most_noise is None:
        differ = f"differ by up to {parity.relative:.2g} of their range, tolerance={parity.tolerance:g}"
    else:
        least = -20 * math.log10(parity.most_noise)
        differ = f"are at {parity.signal_db:.1f} dB of signal over noise, {least:.0f} dB is the least"
    return (
        f"{name} does not give the model's answers: on {parity.images} images its outputs {differ}{answers}{metric}"
        f"{_where(found)}. The file is kept as {found.path}{_others(found)}"
    )


def _where(found: Exported) -> str:
    """What is at fault, as far as it is known."""
    assert found.parity is not None
    parity, facts = found.parity, _facts(found)
    if int8 := facts.get("int8"):
        guilty = int8.get("guilty", [])
        said = (
            f"; {int8['guilty_share']:.0%} of the layers' error comes from {', '.join(guilty)}, which "
            f"quantize.keep=[{','.join(guilty)}] leaves in float"
        )
        warning = int8.get("warning")
        return (said if guilty else "") + (f"; {warning}" if warning else "")
    if parity.layer:
        return f"; the first layer that differs is {parity.layer}"
    nms = bool(facts.get("nms"))
    if parity.relative <= parity.tolerance:
        step = "suppression in the file, or decoding," if nms else "decoding"
        return "" if parity.agreement >= parity.least_agreement else f"; no layer, but {step} is at fault"
    if not parity.looked:
        return "; which layer differs could not be found"
    step = "suppression in the file is at fault, or " if nms else ""
    return f"; with the outputs of its layers visible none differs: {step}the runtime joins layers otherwise"


def _others(found: Exported) -> str:
    """What else is to be said of a file that did not pass."""
    assert found.parity is not None
    said = ""
    if heads := found.parity.silent:
        said += (
            f"; the {' and '.join(heads)} head tells too little of these images for answers to be compared: name "
            "others by source=, or labelled ones by data.root="
        )
    older = found.path.parent.with_name(found.path.parent.name.removesuffix(f"_{FAILED}"))
    if older != found.path.parent and older.exists():
        said += f"; {older} is of an earlier export, and stays in use"
    return said
