"""How fast a model folder's network is in each runtime, and how much memory that takes, on this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbapps.models.folder import WEIGHTS, read_tensors

from .measurable import find_files
from .passes import parts
from .runtimes import TORCH, check_origin, export_folder, read_export
from .saving import fingerprint
from .sessions import RUNTIMES


@dataclass
class Case:
    """One way to run a network, and what was measured of it.

    peak: the most memory in MB, of 1e6 bytes, that its process had: Python and what the runtime imports are in it.

    threads: None leaves them to the runtime.
    batch: images at a time.
    megabytes: of the file; of torch's without what only other parts' heads use.
    part: which of several files, each for some of the heads.
    took: milliseconds of each run, of all rounds.
    failed: why it could not be measured, or not in all rounds.
    """

    runtime: str
    precision: str
    threads: int | None
    batch: int
    megabytes: float
    asked: dict[str, Any]
    part: str = ""
    took: list[float] = field(default_factory=list)
    peak: float | None = None
    failed: str = ""

    @property
    def name(self) -> str:
        """What results.json calls it, before what was measured."""
        threads = "" if self.threads is None else f"threads{self.threads}"
        words = [self.runtime, self.precision, self.part, f"batch{self.batch}", threads]
        return "_".join(filter(None, words))

    @property
    def title(self) -> str:
        """The same, for people."""
        return self.name.replace("_", " ")

    def numbers(self) -> dict[str, Any]:
        """What was measured, by name."""
        middle, slow = np.percentile(self.took, [50, 95]).tolist()
        return {
            "p50_ms": middle, "p95_ms": slow, "images_per_second": 1e3 * self.batch / middle,
            "megabytes": self.megabytes, "peak_megabytes": self.peak,
        }  # fmt: skip


def find_cases(
    model: Path,
    facts: dict[str, Any],
    *,
    runtimes: Sequence[str] | None,
    precisions: Sequence[str] | None,
    threads: Sequence[int | None],
    batches: Sequence[int],
    trust: str | None = None,
) -> tuple[list[Case], list[str]]:
    """List what can be measured, and what of that asked for can not, with the reason.

    Args:
        model: the model folder.
        facts: of its model.json.
        runtimes: None takes torch and every exported file that is there.
        precisions: None takes those that are there.
        threads: numbers of them; None leaves it to the runtime.
        batches: images at a time; each is measured with each number of threads.
        trust: a package of the user's own head classes.

    Raises:
        FileNotFoundError: a runtime that was named has no file.
        ImportError: a runtime that was named is not installed.
        ValueError: there is no such runtime, or it has no such precision; or a file was altered or comes from another
            model folder.
    """
    origin = fingerprint(model)
    cases: list[Case] = []
    several = parts(facts)
    files, left_out = find_files(model, runtimes, precisions, list(several))
    for runtime, precision, part in files:
        heads = several[part]
        asked: dict[str, Any] = {"runtime": runtime, "seconds": None}
        least, most = 1, None
        if runtime == TORCH:
            size = _bytes_used(model, set(facts["heads"]) - set(heads))
            asked |= {"model": str(model), "trust": trust, "heads": heads}
            asked["image_size"] = facts["heads"][heads[0]]["image_size"]
        else:
            path = export_folder(model, runtime, precision, part) / RUNTIMES[runtime].file
            export = read_export(path)
            check_origin(path, export, origin)
            if not RUNTIMES[runtime].installed:
                reason = f"runtime={runtime} needs a package that is missing: pip install 'mbapps[{runtime}]'"
                if runtimes:
                    raise ImportError(reason)
                left_out.append(reason)
                continue
            size = sum((path.parent / name).stat().st_size for name in export["files"])
            least, most = export["batch"]
            outputs = [output["name"] for output in export["outputs"]]
            asked |= {"file": str(path), "outputs": outputs, "image_size": export["image_size"]}
        for batch in batches:
            if not least <= batch <= (most or batch):
                which = " ".join(filter(None, [runtime, precision, part]))
                left_out.append(f"{which} with batch={batch}: its file takes {least} at a time")
                continue
            for count in threads:
                if count is not None and runtime != TORCH and not RUNTIMES[runtime].threads:
                    left_out.append(f"{runtime} with threads={count}: it takes as many as it likes")
                    continue
                settings = {**asked, "threads": count, "batch": batch}
                cases.append(Case(runtime, precision, count, batch, size / 1e6, settings, part))
    return cases, left_out


def _bytes_used(model: Path, others: Collection[str]) -> int:
    """Bytes of the weights without those that are of other heads alone."""
    tensors = read_tensors(model / WEIGHTS) if others else {}
    return (model / WEIGHTS).stat().st_size - sum(
        tensor.nbytes
        for name in others
        for key, tensor in tensors.items()
        if key.startswith(f"heads.{name}.") or f".norms.{name}." in key
    )


def measure_by_turns(cases: Iterable[Case], seconds: float) -> None:
    """Measure cases as they come; one that failed is not tried again, and says why."""
    for case in cases:
        if not case.failed:
            try:
                measure(case, seconds)
            except ChildProcessError as error:
                case.failed = str(error)


def failures(cases: Iterable[tuple[str, Case]]) -> list[str]:
    """What could not be measured, of cases by title, and why."""
    return [
        f"{title} could not be measured{' in all rounds' if case.took else ''}: {case.failed}"
        for title, case in cases
        if case.failed
    ]


def measure(case: Case, seconds: float) -> None:
    """Run a case in a process of its own, which shares neither threads nor memory with another; Ctrl-C leaves it be.

    Raises:
        ChildProcessError: that process failed; the message is its last line, or the signal that ended it.
    """
    asked = json.dumps({**case.asked, "seconds": seconds})
    words = [sys.executable, "-m", "mbapps.deploy.stopwatch", asked]
    run = subprocess.run(
        words,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": _path()},
        start_new_session=True,
    )
    if run.returncode:
        raise ChildProcessError(_reason(run.returncode, run.stderr.strip().splitlines()))
    found = json.loads(run.stdout.strip().splitlines()[-1])
    case.took += found["milliseconds"]
    peaks = [peak for peak in (case.peak, found["peak_megabytes"]) if peak is not None]
    case.peak = max(peaks, default=None)


def _reason(code: int, lines: Sequence[str]) -> str:
    """Why a process failed: its exit code, below 0 that of a signal, and the last of what it said."""
    names = {one.value: one.name for one in signal.Signals}
    if code >= 0:
        return lines[-1] if lines else f"its process said nothing and ended with code {code}"
    name = names.get(-code, f"signal {-code}")
    if name == "SIGKILL":  # it leaves no time for a last word
        return "its process was killed (SIGKILL), perhaps for want of memory"
    return f"its process was ended by {name}" + (f": {lines[-1]}" if lines else "")


def _path() -> str:
    """Where this very package is, before what else is looked through."""
    here = str(Path(__file__).parents[2])
    return os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
