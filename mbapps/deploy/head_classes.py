"""Which classes of heads a model folder may name: a fixed table of ours, or those of a package the user trusts."""

from __future__ import annotations

import importlib

from torch import nn

# The only classes that a model folder can name without the user's trust, and where they are.
HEAD_CLASSES = {
    "DetectionHead": "mbapps.tasks.detection",
    "FineGrainedHead": "mbapps.tasks.fine_grained",
    "FaceAttrHead": "mbapps.tasks.face_attr",
    "FaceEmbedHead": "mbapps.tasks.face_embed",
    "GeoHead": "mbapps.tasks.geo",
}


def head_class(name: str, trust: str | None) -> type[nn.Module]:
    """Find a head's class: one of ours by its bare name, or one of the package that the user trusts.

    Raises:
        ValueError: the name is neither.
    """
    module, _, bare = name.rpartition(".")
    if name in HEAD_CLASSES:
        module, bare = HEAD_CLASSES[name], name
    elif not trust or module.split(".")[0] != trust:
        raise ValueError(
            f"the model folder asks for the head class {name!r}, which is none of {', '.join(HEAD_CLASSES)}; "
            "if it is your own, name its package with trust="
        )
    found = getattr(importlib.import_module(module), bare, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module):
        raise ValueError(f"{name!r} is no network head defined in {module}")
    return found


def class_name(head: nn.Module) -> str:
    """What model.json calls a head's class: ours by the bare name, others by their whole path."""
    kind = type(head)
    return (
        kind.__name__
        if HEAD_CLASSES.get(kind.__name__) == kind.__module__
        else f"{kind.__module__}.{kind.__name__}"
    )
