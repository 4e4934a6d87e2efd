"""`mbapps export`: a model folder as files for other runtimes, each compared with the original."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.deploy.sessions import RUNTIMES, need

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.deploy.bundle import Bundle
    from mbapps.deploy.export import Exported, Metric
    from mbapps.images import UInt8Image
    from mbapps.models.network import Network


def run(cfg: DictConfig) -> None:
    """Write each runtime's file into the model folder, and what was compared into its model.json and CARD.md.

    A file that differs from the original is kept under a name that says so, and the command fails.
    """
    from mbapps import app
    from mbapps.deploy.bundle import save_facts
    from mbapps.deploy.export import export
    from mbapps.deploy.runtimes import INT8, export_folder
    from mbapps.report import print_columns, print_table, run_context, write_results

    started = time.perf_counter()
    runtimes = check(cfg)
    folder = app.run_folder(cfg)
    bundle = app.open_bundle(cfg, runtime="torch")
    task = next(iter(bundle.facts["heads"]))
    images, source = images_of(cfg, task, "source", cfg.images)
    calibration = None
    if cfg.precision == INT8:
        key = "source" if cfg.calibration is None else "calibration"
        calibration, _ = images_of(cfg, task, key, cfg.calibration_images)
    metric = metric_of(cfg, folder, bundle)
    made: dict[str, Exported] = {}
    for runtime in runtimes:
        made[runtime] = export(
            Path(cfg.model), bundle, runtime, images,
            batch=cfg.batch, nms=cfg.nms, tolerance=float(cfg.tolerance), metric=metric,
            calibration=calibration,
        )  # fmt: skip
        name = export_folder(cfg.model, runtime, cfg.precision).name
        bundle.facts.setdefault("exports", {})[name] = summary(made[runtime], Path(cfg.model))
        model = save_facts(cfg.model, bundle.facts)
    rows = [
        [runtime, f"{size_of(found.path) / 1e6:.2f}", *described(found)] for runtime, found in made.items()
    ]
    titles = ["runtime", "MB", "error", "alike", metric.name if metric else "metric", "passed"]
    print_columns("export", titles, rows)
    numbers: dict[str, Any] = {"images": len(images), "seconds": time.perf_counter() - started}
    for runtime, found in made.items():
        numbers[f"{runtime}_megabytes"] = size_of(found.path) / 1e6
        if found.parity:
            numbers[f"{runtime}_relative_error"] = found.parity.relative
            numbers[f"{runtime}_agreement"] = found.parity.agreement
        if found.parity and found.parity.metric:
            numbers[found.parity.metric] = found.parity.original_metric
            numbers[f"{runtime}_{found.parity.metric}"] = found.parity.file_metric
    context = {**run_context(), "model": str(cfg.model), "source": source}
    results = write_results(folder, numbers, context)
    kept = {name: numbers[name] for name in ("images", "seconds")}
    print_table("export", kept, paths=[*(found.path for found in made.values()), model, results])
    if failed := [tell_failed(runtime, found) for runtime, found in made.items() if not found.passed]:
        raise ValueError("; ".join(failed))


def check(cfg: DictConfig) -> list[str]:
    """Look at what was asked for before anything is opened; give the runtimes.

    Raises:
        ValueError: a setting is out of its range, or there is no such runtime.
        ImportError: a runtime is not installed.
    """
    from mbapps.deploy.quantize import import_nncf
    from mbapps.deploy.runtimes import INT8, check_precision
    from mbapps.deploy.writers import MODULES

    wanted = [cfg.runtime] if isinstance(cfg.runtime, str) else list(cfg.runtime or ())
    unknown = [str(name) for name in wanted if name not in RUNTIMES]
    if unknown or not wanted:
        got = ", ".join(unknown) or cfg.runtime
        raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, or a list of them, got {got}")
    check_precision(cfg.precision)
    for key in ("batch", "images", "calibration_images"):
        if not (key == "batch" and cfg.batch is None) and (type(cfg[key]) is not int or cfg[key] < 1):
            raise ValueError(f"{key} must be a whole number >= 1, got {cfg[key]}")
    if type(cfg.tolerance) not in (int, float) or not 0 <= cfg.tolerance < math.inf:
        raise ValueError(f"tolerance must be a number >= 0, got {cfg.tolerance}")
    if not isinstance(cfg.nms, bool):
        raise ValueError(f"nms must be true or false, got {cfg.nms}")
    if cfg.split not in (None, "val", "test"):
        raise ValueError(f"split must be val or test, or null, got {cfg.split!r}")
    for runtime in wanted:
        need(runtime, *MODULES[runtime])
    if cfg.precision == INT8:
        import_nncf()
    return wanted


def images_of(cfg: DictConfig, task: str, key: str, count: int) -> tuple[list[UInt8Image], str]:
    """At most `count` images of those that `key` names, evenly chosen, and where they are from.

    Raises:
        FileNotFoundError: there are none.
        ValueError: none can be read.
    """
    from mbapps.data.synthetic import synthetic_root
    from mbapps.images import BrokenImageError
    from mbapps.sources import find_sources, read_images

    source = cfg[key] or cfg.data.get("root") or synthetic_root(task)
    try:
        files, _ = find_sources(source)
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error).replace("source=", f"{key}=", 1)) from None
    chosen = files[:: max(1, len(files) // count)][:count]
    read = [image for _, image in read_images(chosen, len(chosen)) if not isinstance(image, BrokenImageError)]
    if not read:
        raise ValueError(f"none of {len(chosen)} images of {source} can be read; name others by {key}=")
    return read, str(source)


def metric_of(cfg: DictConfig, folder: Path, bundle: Bundle) -> Metric | None:
    """What measures the number that picks a task's best epoch on cfg.split; None where no split was named."""
    from mbapps import app
    from mbapps.deploy.export import Metric
    from mbapps.measuring import collect, print_problems

    if cfg.split is None:
        return None
    data = app.build_data(cfg, bundle, cfg.split)
    print_problems(data.problems())
    name = cfg.task.monitor.removeprefix("-")
    known: dict[Network, float] = {}  # the original is measured once

    def measure(network: Network) -> float:
        if network not in known:
            task = app.build_task(cfg, network)
            collect(cfg, folder, task, data, cfg.split)
            network.eval()
            known[network] = float(task.numbers[cfg.split][name])
        return known[network]

    return Metric(name, measure)


def summary(found: Exported, model: Path) -> dict[str, Any]:
    """What model.json and the card say of a file."""
    from datetime import datetime, timezone

    facts: dict[str, Any] = {
        "file": found.path.relative_to(model).as_posix(),
        "bytes": size_of(found.path),
        "passed": found.passed if found.parity else None,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    if found.parity:
        whole = found.parity.to_json()
        keys = ("images", "tolerance", "relative_error", "agreement", "first_layer")
        facts |= {
            key: whole[key] for key in (*keys, "metric", "original_metric", "file_metric") if key in whole
        }
    return facts


def size_of(path: Path) -> int:
    """Bytes of an exported file and what belongs to it."""
    files = path.rglob("*") if path.is_dir() else path.parent.glob(f"{path.stem}.*")
    return sum(file.stat().st_size for file in files if file.is_file())


def described(found: Exported) -> list[str]:
    """The last columns of the printed table."""
    if found.parity is None:
        return ["", "", "", "not run"]
    parity = found.parity
    metric = f"{parity.original_metric:.4f} -> {parity.file_metric:.4f}" if parity.metric else ""
    return [f"{parity.relative:.1e}", f"{parity.agreement:.2%}", metric, "yes" if parity.passed else "NO"]


def tell_failed(runtime: str, found: Exported) -> str:
    """What to say of a file that differs from the original."""
    assert found.parity is not None
    parity = found.parity
    metric = (
        f", {parity.metric} is {parity.file_metric:.4f} and not {parity.original_metric:.4f}"
        if parity.metric
        else ""
    )
    where, limit = "", ""
    if math.isfinite(parity.tolerance):
        limit = f", tolerance={parity.tolerance:g}"
        where = "; with the outputs of its layers visible none differs: the runtime joins layers otherwise"
    if parity.layer:
        where = f"; the first layer that differs is {parity.layer}"
    return (
        f"runtime={runtime} does not give the model's answers: on {parity.images} images its outputs differ by up to "
        f"{parity.relative:.2g} of their range{limit}, and {parity.agreement:.2%} of what is told is alike, "
        f"{parity.least_agreement:.0%} must be{metric}{where}. The file is kept as {found.path}"
    )
