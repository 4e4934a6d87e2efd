"""`mbapps export`: a model folder as files for other runtimes, each compared with the original."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.deploy.sessions import RUNTIMES, need

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.deploy.bundle import Bundle
    from mbapps.deploy.eight_bits import Prepared
    from mbapps.deploy.export import Exported, Metric
    from mbapps.images import UInt8Image
    from mbapps.models.network import Network

SHOWN = 12  # layers in the printed table


def run(cfg: DictConfig) -> None:
    """Write each runtime's file into the model folder, and what was compared into its model.json and CARD.md.

    A file that differs from the original is kept under a name that says so, and the command fails.
    """
    from mbapps import app
    from mbapps.deploy.bundle import Bundle
    from mbapps.deploy.export import export
    from mbapps.deploy.layer_names import chosen_layers
    from mbapps.deploy.nms import has_boxes, suppression_of
    from mbapps.deploy.passes import parts
    from mbapps.deploy.runtimes import INT8, export_folder
    from mbapps.deploy.saving import save_facts
    from mbapps.deploy.telling import described, size_of, summary, tell_failed
    from mbapps.report import print_columns, print_table, run_context, write_results

    started = time.perf_counter()
    runtimes = check(cfg)
    folder = app.run_folder(cfg)
    bundle, views = Bundle.open(cfg.model, trust=cfg.trust), app.heads(cfg)
    images, source = images_of(cfg, views, "source", cfg.images)
    calibration: list[UInt8Image] = []
    if cfg.precision == INT8:
        key = "source" if cfg.calibration is None else "calibration"
        calibration, _ = images_of(cfg, views, key, cfg.calibration_images)
    kept = chosen_layers(bundle.network, cfg.quantize.keep)
    if cfg.nms:
        suppression_of(bundle.network)  # what it can't do is told before anything is written
    made: dict[str, Exported] = {}
    failed: list[str] = []
    for part, names in parts(bundle.facts).items():
        if set(names).isdisjoint(views):
            continue
        one = bundle.only(names)
        metrics = [
            metric_of(views[name], folder, one.only([name]), f"{name}_" if len(views) > 1 else "")
            for name in names
            if name in views and measured(views[name], len(views))
        ]
        int8 = make_ready(cfg, one, calibration, images, kept) if calibration else None
        for runtime in runtimes:
            name = export_folder(cfg.model, runtime, cfg.precision, part).name
            try:
                found = export(
                    Path(cfg.model), one, runtime, images,
                    batch=cfg.batch, nms=cfg.nms and has_boxes(one.network), tolerance=float(cfg.tolerance),
                    metrics=metrics, int8=int8, part=part,
                )  # fmt: skip
            except ValueError as error:  # the others may do
                failed.append(f"{name}: {error}")
                continue
            made[name] = found
            bundle.facts.setdefault("exports", {})[name] = summary(found, Path(cfg.model))
            model = save_facts(cfg.model, bundle.facts)
    if not made:
        raise ValueError("; ".join(failed))
    rows = [[name, f"{size_of(found.path) / 1e6:.2f}", *described(found)] for name, found in made.items()]
    print_columns("export", ["file", "MB", "error", "alike", "metric", "passed"], rows)
    for name, found in made.items():
        if found.parity and len(found.parity.metrics) > 1:
            pairs = found.parity.metrics.items()
            print(f"{name}: {', '.join(f'{key} {one:.4f} -> {two:.4f}' for key, (one, two) in pairs)}")
    numbers: dict[str, Any] = {"images": len(images), "seconds": time.perf_counter() - started}
    for name, found in made.items():
        numbers[f"{name}_megabytes"] = size_of(found.path) / 1e6
        if found.parity:
            numbers[f"{name}_relative_error"] = found.parity.relative
            numbers[f"{name}_agreement"] = found.parity.agreement
            for metric, (ours, theirs) in found.parity.metrics.items():
                numbers |= {metric: ours, f"{name}_{metric}": theirs}
    context = {**run_context(), "model": str(cfg.model), "source": source}
    results = write_results(folder, numbers, context)
    shown = {name: numbers[name] for name in ("images", "seconds")}
    print_table("export", shown, paths=[*(found.path for found in made.values()), model, results])
    failed += [tell_failed(runtime, found) for runtime, found in made.items() if not found.passed]
    if failed:
        raise ValueError("; ".join(failed))


def make_ready(
    cfg: DictConfig,
    bundle: Bundle,
    calibration: Sequence[UInt8Image],
    images: Sequence[UInt8Image],
    kept: Sequence[str],
) -> Prepared:
    """Make a network ready for 8 bits; print what each layer makes of them, and what is wrong with the images."""
    from mbapps.deploy.eight_bits import prepare
    from mbapps.deploy.layer_names import weighted_layers
    from mbapps.deploy.triage import rows
    from mbapps.report import print_columns

    there = weighted_layers(bundle.network)
    int8 = prepare(
        bundle, calibration, keep=[name for name in kept if name in there], equalized=cfg.quantize.equalize,
        triaged=cfg.quantize.triage, own=() if cfg.calibration is None else images,
    )  # fmt: skip
    if int8.layers:
        titles = ["layer", "kind", "ratio", "dB", "error", ""]
        print_columns("8 bits, each layer alone; all are in parity.json", titles, rows(int8.layers)[:SHOWN])
    if int8.guilty:
        print(f"guilty of half the error: {', '.join(int8.guilty)}; quantize.keep=[…] leaves layers in float")
    if int8.warning():
        print(f"warning: {int8.warning()}")
    return int8


def check(cfg: DictConfig) -> list[str]:
    """Look at what was asked for before anything is opened; give the runtimes.

    Raises:
        ValueError: a setting is out of its range, or there is no such runtime.
        ImportError: a runtime is not installed.
    """
    from omegaconf import OmegaConf

    from mbapps.deploy.quantize import BY_NNCF, QUANTIZERS, import_nncf
    from mbapps.deploy.runtimes import INT8, check_precision
    from mbapps.deploy.writers import HAVE_NMS, MODULES

    wanted = [cfg.runtime] if isinstance(cfg.runtime, str) else list(dict.fromkeys(cfg.runtime or ()))
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
    if cfg.quantize is None:
        raise ValueError("quantize holds keep, equalize and triage, got null")
    if cfg.nms and (lacking := [name for name in wanted if name not in HAVE_NMS]):
        raise ValueError(
            f"nms=true is for runtime={' and runtime='.join(HAVE_NMS)}: {lacking[0]} has no such operator; leave it to "
            "decoding, as runtime= does"
        )
    for key in ("equalize", "triage"):
        if not isinstance(cfg.quantize[key], bool):
            raise ValueError(f"quantize.{key} must be true or false, got {cfg.quantize[key]}")
    keep = [cfg.quantize.keep] if isinstance(cfg.quantize.keep, str) else cfg.quantize.keep
    if (
        not OmegaConf.is_list(keep)
        and not isinstance(keep, list)
        or not all(isinstance(name, str) and name for name in keep)
    ):
        raise ValueError(f"quantize.keep must be a list of names of layers, got {cfg.quantize.keep}")
    cfg.quantize.keep = list(keep)
    if cfg.precision != INT8 and (keep or cfg.quantize.equalize):
        raise ValueError("quantize.keep and quantize.equalize are for precision=int8")
    if cfg.split not in (None, "val", "test"):
        raise ValueError(f"split must be val or test, or null, got {cfg.split!r}")
    if cfg.precision == INT8 and (lacking := [name for name in wanted if name not in QUANTIZERS]):
        raise ValueError(
            f"precision=int8 is for runtime={' and runtime='.join(QUANTIZERS)}, not runtime={lacking[0]}"
        )
    for runtime in wanted:
        need(runtime, *MODULES[runtime])
    if cfg.precision == INT8 and not set(wanted).isdisjoint(BY_NNCF):
        import_nncf()
    return wanted


def images_of(
    cfg: DictConfig, views: Mapping[str, DictConfig], key: str, count: int
) -> tuple[list[UInt8Image], str]:
    """At most `count` images of those that `key` names, evenly chosen, and where they are from.

    Args:
        cfg: of the verb.
        views: of each head alone; where `key` names nothing, images of its data, or synthetic ones, are taken.
        key: of cfg.
        count: of images.

    Raises:
        FileNotFoundError: there are none.
        ValueError: none can be read.
    """
    from mbapps.data.synthetic import synthetic_root
    from mbapps.deploy.eight_bits import evenly
    from mbapps.images import BrokenImageError
    from mbapps.sources import find_sources, read_images

    named = [view.data.get("root") for view in views.values() if view.data.get("root")]
    sources = [cfg[key]] if cfg[key] else named or [synthetic_root(next(iter(views)))]
    chosen: list[Path] = []
    for place, source in enumerate(sources):
        try:
            files, _ = find_sources(source)
        except FileNotFoundError as error:
            raise FileNotFoundError(str(error).replace("source=", f"{key}=", 1)) from None
        share = len(range(place, count, len(sources)))
        chosen += [files[row] for row in evenly(len(files), share)]
    told = ", ".join(map(str, sources))
    if not chosen:
        raise FileNotFoundError(f"there are videos and no images in {told}; name images by {key}=")
    found = [image for _, image in read_images(chosen, len(chosen))]
    read = [image for image in found if not isinstance(image, BrokenImageError)]
    broken = [str(image) for image in found if isinstance(image, BrokenImageError)]
    if not read:
        raise ValueError(f"none of {len(chosen)} images of {told} can be read; name others by {key}=")
    if broken:
        print(
            f"{key}: {len(broken)} of {len(found)} images can't be read and are left out: {'; '.join(broken[:5])}"
        )
    return read, told


def measured(cfg: DictConfig, heads: int) -> bool:
    """Whether a head's number is measured: its data is named, or the only head's split of the synthetic set is."""
    return cfg.data.get("root") is not None or (heads == 1 and cfg.split is not None)


def metric_of(cfg: DictConfig, folder: Path, bundle: Bundle, prefix: str) -> Metric:
    """What measures the number that picks a task's best epoch on cfg.split, or val, of the bundle's only head."""
    from mbapps import app
    from mbapps.deploy.export import Metric
    from mbapps.measuring import collect, print_problems

    split = cfg.split or "val"
    data = app.build_data(cfg, bundle, split)
    print_problems(data.problems())
    name = cfg.task.monitor.removeprefix("-")
    known: dict[Network, float] = {}  # the original is measured once

    def measure(network: Network) -> float:
        if network not in known:
            task = app.build_task(cfg, network.only([bundle.head_name]))
            collect(cfg, folder, task, data, split)
            network.eval()
            known[network] = float(task.numbers[split][name])
        return known[network]

    return Metric(prefix + name, measure)
