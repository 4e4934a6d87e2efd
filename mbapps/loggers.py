"""metrics.csv of a run folder, which a resumed run continues."""

from __future__ import annotations

import csv
from pathlib import Path

from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.loggers.csv_logs import ExperimentWriter
from pytorch_lightning.loggers.logger import rank_zero_experiment


class _Continuing(ExperimentWriter):
    """Lightning's writer, but it appends to the file that it finds instead of deleting it."""

    def _check_log_dir_exists(self) -> None:
        path = Path(self.metrics_file_path)
        if path.is_file():
            with path.open(newline="") as file:
                self.metrics_keys = list(next(csv.reader(file), []))


class MetricsCsv(CSVLogger):
    """Writes `save_dir`/metrics.csv: one column per number, one row per step at which some were logged."""

    def __init__(self, save_dir: str, flush_logs_every_n_steps: int = 50):
        super().__init__(save_dir, name="", version="", flush_logs_every_n_steps=flush_logs_every_n_steps)

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        if self._experiment is None:
            self._experiment = _Continuing(log_dir=self.log_dir)
        return self._experiment  # type: ignore[return-value]
