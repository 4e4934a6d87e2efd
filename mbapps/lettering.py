"""The font of drawn pictures: it has the letters of the world's place names, as Pillow's own has not."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

FILE = "mpl-data/fonts/ttf/DejaVuSans.ttf"  # comes with matplotlib

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@cache
def font(size: int) -> Font:
    """DejaVu Sans of a size in px; Pillow's own where matplotlib has come without it."""
    spec = find_spec("matplotlib")  # found, not imported: that takes a second
    path = Path(spec.origin).parent / FILE if spec and spec.origin else Path(FILE)
    return ImageFont.truetype(str(path), size) if path.is_file() else ImageFont.load_default(size)
