"""How often an image runs through the body of a model with several heads, and in how many files it is exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def view_of(head: Mapping[str, Any]) -> tuple[int, float]:
    """What a head sees, of its facts in model.json: the side in px, and the share of each side round the middle."""
    return head["image_size"], float(head["settings"].get("central_crop", head.get("face_crop") or 1.0))


def passes(facts: Mapping[str, Any], names: Sequence[str], *, whole: bool = False) -> list[list[str]]:
    """Heads by the pass of the body that feeds them: one for all that see the same of an image.

    Args:
        facts: of a model; with "norm" of "per_task" each head has a pass of its own.
        names: of its heads.
        whole: they see all of an image, such as a face that was cut out, and not its middle.

    >>> head = {"image_size": 224, "settings": {}}
    >>> passes({"heads": {"a": head, "b": head, "c": {**head, "image_size": 300}}}, ["a", "b", "c"])
    [['a', 'b'], ['c']]
    """
    if facts.get("norm", "shared") == "per_task":
        return [[name] for name in names]
    groups: dict[tuple[int, float], list[str]] = {}
    for name in names:
        size, share = view_of(facts["heads"][name])
        groups.setdefault((size, 1.0 if whole else share), []).append(name)
    return list(groups.values())


def parts(facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """Heads by the exported file that holds them: one for all of an image size, since a file has one input.

    Args:
        facts: of a model; with "norm" of "per_task" each head has a file of its own.

    Returns:
        By what tells a file from the others; "" where there is only one.

    >>> parts({"heads": {"a": {"image_size": 224}, "b": {"image_size": 224}, "c": {"image_size": 300}}})
    {'224px': ['a', 'b'], '300px': ['c']}
    """
    groups: dict[str, list[str]] = {}
    for name, head in facts["heads"].items():
        own = facts.get("norm", "shared") == "per_task"
        groups.setdefault(name if own else f"{head['image_size']}px", []).append(name)
    return groups if len(groups) > 1 else {"": list(facts["heads"])}


def file_folder(runtime: str, precision: str, part: str = "") -> str:
    """The name of the folder in exports/ that a part's file for a runtime lies in.

    >>> file_folder("onnx", "int8", "224px"), file_folder("onnx", "float32")
    ('onnx_int8_224px', 'onnx')
    """
    return "_".join(filter(None, (runtime, "" if precision == "float32" else precision, part)))
