"""What CARD.md says of a head that answers with places: cells, radii, how finely it may tell, and its geo-index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mbapps.geo.cells import levels
from mbapps.geo.partition import cells_of
from mbapps.sections import format_value

from .place_prediction import COARSE_LEVELS

FACE_KM = 9220  # mean side of a face of the cube, a cell of level 0; half of it at each level more


def places_section(head: Mapping[str, Any], lineage: Mapping[str, Any], mark: str) -> str:
    """Write the section of the card from a head's facts and the model's lineage, as model.json has them."""
    settings: Mapping[str, Any] = head.get("settings") or {}
    names = head.get("class_names") or ()
    parts = [_cells(names), _radius(head, settings), _fineness(settings, lineage), _index(settings)]
    return f"## Cells{mark}: {len(names):,}\n\n" + "\n\n".join(part for part in parts if part)


def _cells(names: Any) -> str:
    try:
        *coarser, finest = cells_of(names).values()
    except ValueError:
        return "Its classes are no cells of the Earth: it was never trained on places."
    found, counts = np.unique(levels(finest), return_counts=True)
    rows = [
        f"| {level} | {count:,} | {format_value('', FACE_KM / 2**level)} |"
        for level, count in zip(found.tolist(), counts.tolist(), strict=True)
    ]
    nested = (
        f" They are the finest of {len(coarser) + 1} nested partitions, of "
        f"{', '.join(f'{len(part):,}' for part in coarser)} and {len(finest):,} cells."
        if coarser
        else ""
    )
    table = "\n".join(["| S2 level | cells | km across, about |", "| ---: | ---: | ---: |", *rows])
    return (
        "A photo is classified into cells of the Earth: small ones where many training photos were taken, large ones "
        f"elsewhere, none where there were too few. An answer by cells is the middle of a cell's photos.{nested}\n\n"
        f"{table}"
    )


def _radius(head: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    factors: Mapping[str, float] = (settings.get("fitted") or {}).get("radius") or {}
    if not factors:
        return (
            "**Radius.** None is told: there were too few photos to fit it to. `mbapps calibrate` fits one."
        )
    about = head.get("calibration") or {}
    source = "the validation photos"
    if about:
        source = f"{about['images']:,} photos of {about['data']}"
    share = settings.get("coverage", 0.9)
    each = ", ".join(f"{method} {format_value('', factor)}" for method, factor in factors.items())
    return (
        f"**Radius.** It is meant to hold the true place of {share:.0%} of the photos. It is a multiple of the "
        f"distance that the answer's own probabilities expect ({each}): the least that held as many of {source}. Of "
        "photos of another kind it may hold far fewer; `mbapps calibrate` fits it to your own."
    )


def _fineness(settings: Mapping[str, Any], lineage: Mapping[str, Any]) -> str:
    coarse = settings.get("coarse_only")
    if coarse is None:
        told = (
            "This model tells places as finely as its cells go, and its embeddings let a geo-index tell finer ones; "
            "`task.coarse_only=country` or `region` trains one that can tell no more than that."
        )
    else:
        level = COARSE_LEVELS[coarse]
        told = (
            f"This model is coarse-only (`task.coarse_only={coarse}`): no cell is finer than level {level}, about "
            f"{format_value('', FACE_KM / 2**level)} km across, whose middles are the squares' own, and no program "
            "here makes a geo-index with it. Who has the file still has a body that describes photos: with photos of "
            "known places they can train a finer head, as with any body."
        )
    users = [data.get("min_users") for data in lineage.get("data") or ()]
    least = min((int(each or 0) for each in users), default=0)
    anonymous = (
        f"Its cells are k-anonymous: each holds photos of at least {least} people (`data.cells.min_users`), so that "
        "none stands for one person's places."
        if least > 1
        else "Its cells are not k-anonymous: some may hold one person's photos (`data.cells.min_users` prevents it)."
    )
    return f"**How finely it tells.** {told} {anonymous}"


def _index(settings: Mapping[str, Any]) -> str:
    if settings.get("coarse_only") is not None:
        return ""
    fitted = settings.get("fitted") or {}
    weight = ""
    if "hybrid" in (fitted.get("radius") or {}):
        weight = f" Its photos weigh {format_value('', float(fitted['weight']))} in the answer, the cells the rest."
    return (
        "**Geo-index.** Training leaves one beside the model, in `geo_index`, and `mbapps index` makes others; with "
        f"`gallery=` the photos in it that are most like a photo are asked too.{weight} It holds the places and the "
        "file names of its photos, each one, however anonymous the cells are: pass it on only where these may be known."
    )
