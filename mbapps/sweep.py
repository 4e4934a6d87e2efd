"""Ends a sweep (`-m`) with one table of all its jobs."""

from __future__ import annotations

import atexit
import json
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

SHOWN = 6  # numbers of each job in the table; results.json has all


class SweepTable(Callback):
    """Hydra's hook: prints the table when the sweep's process ends, also where a job failed or Ctrl-C ended it."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        atexit.register(print_jobs, Path(str(config.hydra.sweep.dir)))


def print_jobs(folder: Path) -> None:
    """Print overrides and first numbers of each job that left results below `folder`."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    rows = []
    for path in sorted(
        folder.glob("*/results.json"), key=lambda path: (len(path.parent.name), path.parent.name)
    ):
        numbers = json.loads(path.read_text(encoding="utf-8"))
        overrides = (path.parent / "overrides.txt").read_text(encoding="utf-8").split()
        rows.append((path.parent.name, " ".join(overrides), numbers))
    if not rows:
        return
    names = [key for key, value in rows[0][2].items() if isinstance(value, (int, float)) and "/" not in key][
        :SHOWN
    ]
    table = Table("job", "overrides", *names, title=f"{len(rows)} jobs in {folder}")
    for job, words, numbers in rows:
        table.add_row(job, Text(words), *(f"{numbers.get(name, float('nan')):.4g}" for name in names))
    Console().print(table)
