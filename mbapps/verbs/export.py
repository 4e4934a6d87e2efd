"""`mbapps export`: a model folder as files for other runtimes, each compared with the original."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.deploy.sessions import RUNTIMES, need

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.deploy.bundle import Bundle
    from mbapps.deploy.eight_bits import Prepared
    from mbapps.deploy.export import Exported
    from mbapps.images import UInt8Image

SHOWN = 12  # layers in the printed table


def run(cfg: DictConfig) -> None:
    """Write each runtime's file into the model folder, and what was compared into its model.json and CARD.md.

    A file that differs from the original is kept under a name that says so, and the command fails. It also fails where
    one of several files can't be written; the others are.
    """
    from mbapps import app
    from mbapps.deploy.bundle import Bundle
    from mbapps.deploy.export import export
    from mbapps.deploy.layer_names import chosen_layers
    from mbapps.deploy.nms import has_boxes, suppression_of
    from mbapps.deploy.passes import parts
    from mbapps.deploy.runtimes import INT8, export_folder
    from mbapps.deploy.saving import change_facts
    from mbapps.deploy.telling import summary, tell_failed
    from mbapps.export_data import check_images, images_of, metric_of, open_data

    started = time.perf_counter()
    runtimes = check(cfg)
    folder = app.run_folder(cfg)
    bundle, views = Bundle.open(cfg.model, trust=cfg.trust), app.heads(cfg)
    opened, task = open_data(cfg, views, bundle), next(iter(views))
    if cfg.precision == INT8:
        check_images(cfg, task, opened, bundle.facts)
    compared, calibration = images_of(cfg, task, opened, calibrated=cfg.precision == INT8)
    images = compared.images
    apart = calibration is not None and calibration.source != compared.source
    own = (
        images if apart and (cfg.source or opened) else ()
    )  # like those of training, as far as anybody knows
    kept = chosen_layers(bundle.network, cfg.quantize.keep)
    if cfg.nms:
        suppression_of(bundle.network)  # what it can't do is told before anything is written
    made: dict[str, Exported] = {}
    failed: dict[str, Exception] = {}
    for part, names in parts(bundle.facts).items():
        if set(names).isdisjoint(views):
            continue
        one = bundle.only(names)
        metrics = [
            metric_of(
                views[name], folder, one.only([name]), opened[name], f"{name}_" if len(views) > 1 else ""
            )
            for name in names
            if name in opened
        ]
        try:
            int8 = make_ready(cfg, one, calibration.images, own, kept) if calibration else None
        except ValueError as error:  # the heads of other files may do
            failed[part or cfg.precision] = error
            continue
        for runtime in runtimes:
            name = export_folder(cfg.model, runtime, cfg.precision, part).name
            try:
                found = export(
                    Path(cfg.model), one, runtime, images,
                    batch=cfg.batch, nms=cfg.nms and has_boxes(one.network), tolerance=float(cfg.tolerance),
                    metrics=metrics, int8=int8, part=part,
                )  # fmt: skip
                change_facts(cfg.model, partial(record, name, summary(found, Path(cfg.model))))
            except Exception as error:  # of whatever kind: the others may do, and are told of
                failed[name] = error
                continue
            made[name] = found
    if made:
        context = {"model": str(cfg.model), "source": compared.source}
        context |= {"calibration": calibration.source} if calibration else {}
        tell(folder, made, {"images": len(images), "seconds": time.perf_counter() - started}, context)
    said = [f"{name}: {reason(error)}" for name, error in failed.items()]
    said += [tell_failed(name, found) for name, found in made.items() if not found.passed]
    if said:
        raise ValueError("; ".join(said)) from next(iter(failed.values()), None)


def record(name: str, row: dict[str, Any], facts: dict[str, Any]) -> None:
    """Put what is known of a file into a model's facts."""
    facts.setdefault("exports", {})[name] = row


def reason(error: Exception) -> str:
    """What an error says, with its kind where that is none that says all by itself."""
    known = isinstance(error, (ValueError, OSError, ImportError))
    return str(error) if known else f"{type(error).__name__}: {error}"


def tell(
    folder: Path, made: Mapping[str, Exported], numbers: Mapping[str, Any], context: Mapping[str, str]
) -> None:
    """Print what was written and how it compares, and write results.json.

    Args:
        folder: of the run.
        made: files by name.
        numbers: of the whole run.
        context: the model, and where images are from.
    """
    from mbapps.deploy.telling import described, size_of
    from mbapps.report import print_columns, print_table, run_context, write_results

    rows = [[name, f"{size_of(found.path) / 1e6:.2f}", *described(found)] for name, found in made.items()]
    print_columns("export", ["file", "MB", "error", "alike", "metric", "passed"], rows)
    flat = dict(numbers)
    for name, found in made.items():
        flat[f"{name}_megabytes"] = size_of(found.path) / 1e6
        if found.parity:
            flat[f"{name}_relative_error"] = found.parity.relative
            flat[f"{name}_signal_db"] = found.parity.signal_db
            if found.parity.num_told:
                flat[f"{name}_agreement"] = found.parity.agreement
            pairs = found.parity.metrics.items()
            for metric, one in pairs:
                flat |= {metric: one.original, f"{name}_{metric}": one.file}
            if len(pairs) > 1:
                print(
                    f"{name}: {', '.join(f'{key} {one.original:.4f} -> {one.file:.4f}' for key, one in pairs)}"
                )
    results = write_results(folder, flat, {**run_context(), **context})
    paths = [*(found.path for found in made.values()), Path(context["model"]), results]
    print_table("export", numbers, paths=paths)


def make_ready(
    cfg: DictConfig,
    bundle: Bundle,
    calibration: Sequence[UInt8Image],
    own: Sequence[UInt8Image],
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
        triaged=cfg.quantize.triage, own=own,
    )  # fmt: skip
    if int8.layers:
        titles = ["layer", "kind", "ratio", "dB", "error", ""]
        print_columns("8 bits, each layer alone; all are in parity.json", titles, rows(int8.layers)[:SHOWN])
    if int8.guilty:
        share = f"{int8.facts()['guilty_share']:.0%}"
        print(
            f"guilty of {share} of the error: {', '.join(int8.guilty)}; quantize.keep=[…] leaves layers in float"
        )
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
    from mbapps.deploy.writers import HAVE_NMS, MODULES, check_batch

    wanted = [cfg.runtime] if isinstance(cfg.runtime, str) else list(dict.fromkeys(cfg.runtime or ()))
    unknown = [str(name) for name in wanted if name not in RUNTIMES]
    if unknown or not wanted:
        got = ", ".join(unknown) or cfg.runtime
        raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}, or a list of them, got {got}")
    check_precision(cfg.precision)
    for key in ("batch", "images", "calibration_images"):
        if not (key == "batch" and cfg.batch is None) and (type(cfg[key]) is not int or cfg[key] < 1):
            raise ValueError(f"{key} must be a whole number >= 1, got {cfg[key]}")
    for runtime in wanted:
        check_batch(runtime, cfg.batch)
    if type(cfg.tolerance) not in (int, float) or not 0 <= cfg.tolerance < math.inf:
        raise ValueError(f"tolerance must be a number >= 0, got {cfg.tolerance}")
    if cfg.precision == INT8 and given("tolerance"):
        raise ValueError(
            "tolerance= is for precision=float32: in 8 bits signal over noise, answers and the task's number decide"
        )
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
    if cfg.precision != INT8 and (cfg.calibration is not None or given("calibration_images")):
        raise ValueError(
            "calibration= and calibration_images= are for precision=int8, whose ranges they give; leave them out, or "
            "compare on other images by source="
        )
    if cfg.split not in (None, "val", "test"):
        raise ValueError(f"split must be val or test, or null, got {cfg.split!r}")
    if cfg.precision == INT8 and (lacking := [name for name in wanted if name not in QUANTIZERS]):
        raise ValueError(
            f"precision=int8 is for runtime={' and runtime='.join(QUANTIZERS)}, not runtime={lacking[0]}"
        )
    for runtime in wanted:
        need(runtime, *MODULES[runtime])
    if cfg.nms and "openvino" in wanted:
        try:
            need("onnx", *MODULES["onnx"][:2])
        except ImportError as error:
            raise ImportError(f"nms=true for runtime=openvino is written by way of ONNX: {error}") from error
    if cfg.precision == INT8 and not set(wanted).isdisjoint(BY_NNCF):
        import_nncf()
    if cfg.precision == INT8 and "litert" in wanted:
        need("litert", "ai_edge_quantizer")
    return wanted


def given(key: str) -> bool:
    """Whether the command line sets a key."""
    from hydra.core.hydra_config import HydraConfig

    return any(word.startswith(f"{key}=") for word in HydraConfig.get().overrides.task)
