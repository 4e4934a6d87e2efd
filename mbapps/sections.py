"""The parts a report is made of: each turns what it holds into HTML."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mbapps.images import UInt8Image

MAX_PICTURE_SIDE = 960  # px; larger ones are shrunk, so that a report of 50 pictures stays below 10 MB
MAX_SVG_BYTES = 400_000  # a drawing with more strokes than this is smaller, and quicker to show, as pixels


def format_value(name: str, value: Any) -> str:
    """A value as people read it: four digits, thousands apart, durations in hours, minutes and seconds.

    >>> format_value("AP", 0.50458), format_value("params", 4231976), format_value("seconds", 83.2)
    ('0.5046', '4,231,976', '1 m 23 s')
    """
    value = scalar(value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, (int, float)) and (name == "seconds" or name.endswith("_seconds")):
        return _duration(float(value))
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 999.95 else f"{value:#.4g}"
    return str(value)


def scalar(value: Any) -> Any:
    """Turn a scalar of numpy or torch into Python's own; anything else stays."""
    return value.item() if getattr(value, "ndim", None) == 0 else value


def _duration(seconds: float) -> str:
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} m" if hours else f"{minutes} m {seconds:02} s"


class Section(Protocol):
    """A part of a report."""

    @property
    def title(self) -> str:
        """Its heading."""

    def html(self) -> str:
        """Its content, without the heading; every text in it escaped."""


@dataclass(frozen=True)
class Numbers:
    """A few numbers to be seen at a glance."""

    title: str
    rows: Mapping[str, Any]

    def html(self) -> str:
        tiles = ""
        for name, value in self.rows.items():
            term = escape(name).replace("_", "_<wbr>")
            tiles += f"<div><dt>{term}</dt><dd>{escape(format_value(name, value))}</dd></div>"
        return f'<dl class="tiles">{tiles}</dl>'


@dataclass(frozen=True)
class Rows:
    """A table: one line per name, whose values stand under their own names; what is missing is a dash."""

    title: str
    rows: Mapping[str, Mapping[str, Any]]
    about: str = ""
    bars: bool = True  # behind what may be a share, a number from 0 to 1

    def html(self) -> str:
        if not self.rows:
            return _about(self.about) + "<p>none</p>"
        columns = list(dict.fromkeys(column for row in self.rows.values() for column in row))
        head = "".join(f'<th scope="col">{escape(column)}</th>' for column in ["", *columns])
        lines = ""
        for name, row in self.rows.items():
            cells = "".join(self._cell(column, row.get(column)) for column in columns)
            lines += f'<tr><th scope="row">{escape(name)}</th>{cells}</tr>'
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"
        return f'{_about(self.about)}<div class="wide">{table}</div>'

    def _cell(self, column: str, value: Any) -> str:
        share = self.bars and isinstance(value, float) and 0 <= value <= 1
        bar = f' class="bar" style="--share:{value:.3f}"' if share else ""
        return f"<td{bar}>{escape(format_value(column, value))}</td>"


@dataclass(frozen=True)
class Plot:
    """A drawing; black strokes take the colour of the page's text."""

    title: str
    figure: Figure
    caption: str = ""

    def html(self) -> str:
        label = escape(f"{self.title}. {self.caption}".strip(), quote=True)
        width = round(self.figure.get_figwidth() * 100)  # px at which its letters are as large as a caption's
        frame = f'<div class="plot" style="--width:{width}px" role="img" aria-label="{label}">'
        return f"<figure>{frame}{self._drawing()}</div>{_caption(self.caption)}</figure>"

    def _drawing(self) -> str:
        import matplotlib

        target = io.StringIO()
        nothing: Any = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            self.figure.savefig(target, format="svg", transparent=True, bbox_inches="tight", metadata=nothing)
        svg = target.getvalue()
        if len(svg) <= MAX_SVG_BYTES:
            return svg[svg.index("<svg") :].replace("#000000", "currentColor")
        pixels = io.BytesIO()
        self.figure.savefig(pixels, format="png", dpi=160, facecolor="white", bbox_inches="tight")
        return f'<img loading="lazy" alt="" src="{_data_uri("image/png", pixels.getvalue())}">'


@dataclass(frozen=True)
class Pictures:
    """A grid of RGB uint8 pictures [H, W, 3] with a caption each; a click shows one large."""

    title: str
    pictures: Sequence[UInt8Image]
    captions: Sequence[str]
    about: str = ""

    def html(self) -> str:
        cells = [self._cell(*cell) for cell in zip(self.pictures, self.captions, strict=True)]
        return f'{_about(self.about)}<div class="grid">{"".join(cells)}</div>'

    def _cell(self, picture: UInt8Image, caption: str) -> str:
        from PIL import Image

        from mbapps.images import resize

        name = escape(caption or self.title, quote=True)
        shrink = MAX_PICTURE_SIDE / max(MAX_PICTURE_SIDE, *picture.shape[:2])
        height, width = (max(1, round(side * shrink)) for side in picture.shape[:2])
        target = io.BytesIO()
        Image.fromarray(resize(picture, height, width)).save(target, "jpeg", quality=85)
        return (
            f'<figure><label><input type="checkbox" aria-label="Enlarge {name}">'
            f'<img loading="lazy" width="{width}" height="{height}" alt="{name}" '
            f'src="{_data_uri("image/jpeg", target.getvalue())}"></label>{_caption(caption)}</figure>'
        )


@dataclass(frozen=True)
class Preformatted:
    """Text as it stands, such as a configuration."""

    title: str
    text: str

    def html(self) -> str:
        return f"<pre>{escape(self.text)}</pre>"


def _about(text: str) -> str:
    return f"<p>{escape(text)}</p>" if text else ""


def _caption(text: str) -> str:
    return f"<figcaption>{escape(text)}</figcaption>" if text else ""


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
