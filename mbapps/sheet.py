"""A contact sheet: probes at the left, what a gallery found for each at the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from .images import BrokenImageError, UInt8Image, read_image
from .lettering import Font, font

CELL, GAP, LINE = 160, 8, 17  # px
TEXT_SIZE = 12  # px
MAX_ROWS, MAX_HITS = 40, 20  # of a picture that can still be opened everywhere
GROUND, INK, GREY, SAME = (18, 20, 24), (235, 235, 235), (70, 74, 80), (60, 190, 90)


def draw_sheet(probes: Mapping[str, Sequence[Mapping[str, Any]]]) -> UInt8Image:
    """Draw the first MAX_ROWS probes, a row each, with their first MAX_HITS hits.

    Args:
        probes: by file, hits with similarity, id, and file, person or place, and same where these are known. A hit that
            counts as the same person has a green frame; a picture that is no longer there is grey.
    """
    chosen = list(probes.items())[:MAX_ROWS]
    columns = 1 + min(MAX_HITS, max((len(hits) for _, hits in chosen), default=0))
    step, height = CELL + GAP, CELL + 2 * LINE + GAP
    sheet = Image.new("RGB", (GAP + columns * step + GAP, GAP + height * max(1, len(chosen))), GROUND)
    pen = ImageDraw.Draw(sheet)
    for row, (file, hits) in enumerate(chosen):
        top = GAP + row * height
        _cell(sheet, pen, GAP, top, file, ["probe", file.replace("\\", "/").rpartition("/")[2]], None)
        for column, hit in enumerate(hits[:MAX_HITS], 1):
            whose = hit.get("person") or hit.get("place") or ""
            lines = [f"{hit['similarity']:.3f} {whose}", str(hit["id"]).rpartition("/")[2]]
            frame = SAME if hit.get("same") else None
            _cell(sheet, pen, 2 * GAP + column * step, top, str(hit.get("file", "")), lines, frame)
    return np.asarray(sheet)


def _cell(
    sheet: Image.Image,
    pen: ImageDraw.ImageDraw,
    left: int,
    top: int,
    file: str,
    lines: Sequence[str],
    frame: tuple[int, int, int] | None,
) -> None:
    try:
        picture = ImageOps.contain(Image.fromarray(read_image(file, least_side=CELL)), (CELL, CELL))
    except (BrokenImageError, OSError):
        picture = Image.new("RGB", (CELL, CELL), GREY)
    sheet.paste(picture, (left + (CELL - picture.width) // 2, top + (CELL - picture.height) // 2))
    if frame:
        pen.rectangle((left - 2, top - 2, left + CELL + 1, top + CELL + 1), outline=frame, width=3)
    letters = font(TEXT_SIZE)
    for number, line in enumerate(lines):
        pen.text((left, top + CELL + 2 + number * LINE), _fitted(line, letters), INK, font=letters)


def _fitted(text: str, letters: Font) -> str:
    """As much of a text as a cell has room for."""
    if letters.getlength(text) <= CELL:
        return text
    while text and letters.getlength(text + "…") > CELL:
        text = text[:-1]
    return text + "…"
