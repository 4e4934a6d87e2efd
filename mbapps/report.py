"""What every verb leaves behind: results.json for programs, a closing table and report.html for people."""

from __future__ import annotations

import json
import math
import os
import platform
import shlex
import sys
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timezone
from html import escape
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mbapps import __version__
from mbapps.files import write_text
from mbapps.page import PAGE
from mbapps.sections import Section, format_value, scalar


def write_results(folder: str | Path, numbers: Mapping[str, Any], context: Mapping[str, Any]) -> Path:
    """Write results.json: the numbers by name, flat and in full precision, and `context` under its name.

    NaN and infinity have no place in JSON: such numbers are left out.

    Raises:
        TypeError: a value is neither a number nor a text.
    """
    flat = {name: _plain(name, value) for name, value in numbers.items()}
    flat = {
        name: value for name, value in flat.items() if not isinstance(value, float) or math.isfinite(value)
    }
    text = json.dumps(
        {**flat, "context": dict(context)}, indent=2, ensure_ascii=False, default=str, allow_nan=False
    )
    return write_text(Path(folder) / "results.json", text + "\n")


def _plain(name: str, value: Any) -> bool | int | float | str:
    value = scalar(value)
    if not isinstance(value, (bool, int, float, str)):
        raise TypeError(f"results must be numbers or texts, got {type(value).__name__} for {name}")
    return value


def run_context() -> dict[str, Any]:
    """How these results came about: command, versions, device, platform, date."""
    versions = {"python": platform.python_version(), "mbapps": __version__}
    for module in ("torch", "pytorch_lightning"):  # what was not imported had no part in it
        if module in sys.modules:
            versions[module] = str(sys.modules[module].__version__)
    return {
        "command": _command(),
        "versions": versions,
        "device": _device(),
        "platform": platform.platform(),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _command() -> str:
    """The command line as it was typed, before mbapps rewrote it for Hydra."""
    words = sys.orig_argv[1:]
    if words[:1] == ["-m"]:
        return shlex.join(["python", *words])
    return shlex.join([Path(words[0]).name, *words[1:]]) if words else "python"


def _device() -> str:
    torch = sys.modules.get("torch")
    if torch and torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    return f"{platform.machine()}, {os.cpu_count()} cores"


def print_table(
    title: str, rows: Mapping[str, Any], paths: Sequence[str | Path] = (), *, console: Console | None = None
) -> None:
    """Print a verb's closing table, and below it where to find what was written."""
    console = console or Console()
    table = Table(title=Text(title, style="bold"), title_justify="left", show_header=False)
    table.add_column(style="cyan")
    table.add_column(justify="right")
    for name, value in rows.items():
        table.add_row(Text(name), Text(format_value(name, value)))
    console.print(table)
    for path in paths:
        console.print(Text.assemble(("wrote ", "dim"), _short(path)), soft_wrap=True)


def print_columns(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], wrap: Collection[str] = ()
) -> None:
    """Print a table of several columns, the first to the left and the others to the right.

    Args:
        title: above it.
        columns: their names.
        rows: a text for each column.
        wrap: columns whose texts take several lines where the terminal is narrow; others are cut.
    """
    table = Table(title=Text(title, style="bold"), title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(
            name, justify="right" if number else "left", style="" if number else "cyan",
            no_wrap=name not in wrap, overflow="fold" if name in wrap else "ellipsis", min_width=len(name),
        )  # fmt: skip
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)


def _short(path: str | Path) -> str:
    """A path as seen from the current folder, where it lies in it."""
    full = Path(path).absolute()
    return str(full.relative_to(Path.cwd()) if full.is_relative_to(Path.cwd()) else full)


def write_report(path: str | Path, title: str, sections: Sequence[Section], *, subtitle: str = "") -> Path:
    """Write report.html: one file that opens offline, in light and dark, on wide and narrow screens."""
    links = "".join(f'<a href="#s{i}">{escape(part.title)}</a>' for i, part in enumerate(sections))
    body = "".join(
        f'<section id="s{i}"><h2>{escape(part.title)}</h2>{part.html()}</section>'
        for i, part in enumerate(sections)
    )
    fields = {"title": escape(title), "subtitle": escape(subtitle), "links": links, "body": body}
    return write_text(path, PAGE.substitute(fields, version=__version__))
