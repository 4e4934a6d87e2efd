"""`mbapps index`: images into a gallery."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.image_ids import root_of
from mbapps.index_rows import check_broken, offer

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.embedding import Embedder
    from mbapps.search.gallery import Gallery
    from mbapps.shard_writer import ShardWriter

SHOWN_BROKEN = 10  # reasons printed; all stand in results.json


def run(cfg: DictConfig) -> None:
    """Embed the images that the gallery does not have yet, add them, and say what it holds.

    Vectors are written in shards to `<gallery>.shards`: a run that was stopped goes on from them. The gallery itself is
    replaced at once, at the end; until then nobody else can change it.
    """
    from mbapps import app
    from mbapps.search.folder import lock

    check(cfg)
    folder, path = app.run_folder(cfg), Path(cfg.gallery)
    check_places(cfg, folder, path)
    with lock(path) if app.is_first_process() else nullcontext():
        fill(cfg, folder, path)


def fill(cfg: DictConfig, folder: Path, path: Path) -> None:
    """Do what `run` says to the gallery at `path`; `folder` is the run's."""
    from mbapps import app
    from mbapps.measuring import print_problems
    from mbapps.report import print_table, run_context, write_results
    from mbapps.search.folder import META, recover
    from mbapps.search.gallery import Gallery
    from mbapps.search.shards import remove_shards

    started = time.perf_counter()
    if app.is_first_process() and recover(path):
        print(f"the last change of {path} was stopped between two steps: what was there before is back")
    gallery = Gallery.open(path) if (path / META).is_file() else None
    embedder = open_embedder(cfg, gallery)
    removed = ids_of(cfg.remove)
    if gallery is not None:
        if gallery.kind == "ivfpq" and cfg.kind not in (None, "ivfpq"):
            raise ValueError(
                f"kind={cfg.kind} can't be made of gallery={path}: it is ivfpq, which keeps codes, and its original "
                "vectors are gone; index the images anew into another gallery"
            )
        gallery.expect(embedder.model)
        gallery.remove(removed)
        gallery.wanted = cfg.kind or gallery.wanted
        gallery.max_mb = cfg.max_mb or gallery.max_mb
    elif removed:
        raise ValueError(f"remove= needs a gallery, and there is none at {path}")
    offered = offer(cfg, gallery, places=embedder.places)
    writer = embed(cfg, folder, embedder, list(offered.fresh.values()), shards_folder(path))
    if writer is not None and not writer.trainer.is_global_zero:
        return
    print_problems(offered.left_out)
    names, vectors, broken = collect(offered.fresh, writer)
    broken = [*offered.broken, *broken]
    for reason in broken[:SHOWN_BROKEN]:
        print(reason)
    check_broken(cfg, offered, broken, len(names))
    if gallery is None:
        gallery = Gallery(vectors.shape[1], embedder.model, cfg.kind, cfg.max_mb)
    if names:
        gallery.add(vectors, names, offered.columns(names), model=embedder.model)
    if names or removed or cfg.max_mb is not None or gallery.settle():
        gallery.save(path)
    remove_shards(shards_folder(path))
    seconds = time.perf_counter() - started
    numbers = {
        "added": len(names), "already_there": offered.known, "broken": len(broken),
        **({} if offered.places is None else {"without_place": offered.without_place}), "removed": len(removed),
        "count": len(gallery), "kind": gallery.kind, "dim": gallery.dim,
        "megabytes": sum(file.stat().st_size for file in path.iterdir()) / 1e6,
        "seconds": seconds, "images_per_second": len(names) / seconds,
    }  # fmt: skip
    context = {
        **run_context(), "model": embedder.model.name, "gallery": str(path), "broken": broken,
        "left_out": {reason: list(lines) for reason, lines in offered.left_out.items()},
    }  # fmt: skip
    print_table("index", numbers, paths=[path, write_results(folder, numbers, context)])


def check(cfg: DictConfig) -> None:
    """Look at what was asked for before anything is opened.

    Raises:
        ValueError: a setting is out of its range, or there is nothing to do.
    """
    from mbapps.search.budget import check_max_mb
    from mbapps.search.indexes import KINDS

    check_whole(cfg, "batch_size", "shard_size")
    if cfg.num_workers is not None:
        check_whole(cfg, "num_workers", least=0)
    if cfg.kind is not None and cfg.kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, or null, got {cfg.kind!r}")
    check_max_mb(cfg.max_mb)
    if cfg.source is None and not cfg.remove:
        raise ValueError("index needs source=, the images to add, or remove=[ids], those to take out")


def check_whole(cfg: DictConfig, *keys: str, least: int = 1) -> None:
    """Check that settings are whole numbers.

    Raises:
        ValueError: one is something else, or less than `least`.
    """
    for key in keys:
        if type(cfg[key]) is not int or cfg[key] < least:
            raise ValueError(f"{key} must be a whole number >= {least}, got {cfg[key]}")


def check_places(cfg: DictConfig, folder: Path, path: Path) -> None:
    """Check that saving the gallery, which replaces its folder, can take away nothing of anybody's.

    Raises:
        FileExistsError: its folder holds something else, or is a file.
        ValueError: `source` or `out` lies inside it.
    """
    from mbapps.search.folder import META, check_alone

    places = {"out": folder} if cfg.source is None else {"out": folder, "source": root_of(cfg.source)}
    for key, place in places.items():
        if place.resolve().is_relative_to(path.resolve()):
            raise ValueError(
                f"{key}={place} lies inside gallery={path}, a folder that is replaced as a whole; name another folder"
            )
    if path.exists() and not (path / META).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise FileExistsError(f"gallery={path} is there and no gallery; name another folder")
    check_alone(path)


def open_embedder(cfg: DictConfig, gallery: Gallery | None) -> Embedder:
    """Open the model that was named, or the one that the gallery was made with, with its view of images.

    Raises:
        FileNotFoundError: that model is no longer where it was.
        ValueError: neither is there, or the model has no embeddings.
    """
    from mbapps import app
    from mbapps.embedding import Embedder

    known: Mapping[str, Any] = {} if gallery is None else gallery.model.view
    model = cfg.model
    if model is None:
        if gallery is None:
            raise ValueError(f"{cfg.verb} needs model=, since there is no gallery at {cfg.gallery} yet")
        model = gallery.model.name
        if not Path(model).is_dir():
            raise FileNotFoundError(
                f"the gallery was made with {gallery.model}, which is no longer there; give model="
            )
    crop, flip = cfg.get("face_crop"), cfg.get("flip")
    return Embedder(
        model,
        app.open_bundle(cfg, model, head=known.get("head")),
        face_crop=known.get("face_crop") if crop is None else crop,
        flip=known.get("flip", False) if flip is None else flip,
    )


def ids_of(remove: Any) -> list[str]:
    """The ids of `remove=`, each once: null, one, or a list.

    >>> ids_of(None), ids_of("a.jpg"), ids_of(["b.jpg", "b.jpg"])
    ([], ['a.jpg'], ['b.jpg'])
    """
    several = () if remove is None else [remove] if isinstance(remove, (str, int, float)) else remove
    return list(dict.fromkeys(map(str, several)))


def shards_folder(gallery: Path) -> Path:
    """Where the vectors are until the gallery is there."""
    return gallery.absolute().with_name(f"{gallery.absolute().name}.shards")


def embed(
    cfg: DictConfig, folder: Path, embedder: Embedder, files: Sequence[Path], shards: Path
) -> ShardWriter | None:
    """Write shards of all files, this process its part of them; None if there are no files."""
    from mbapps import app
    from mbapps.images import default_workers
    from mbapps.shard_writer import ShardWriter

    if not files:
        return None
    writer = ShardWriter(
        embedder, files, shards, shard_size=cfg.shard_size, batch_size=cfg.batch_size,
        num_workers=default_workers() if cfg.num_workers is None else cfg.num_workers,
    )  # fmt: skip
    trainer = app.build_trainer(cfg, folder, fitting=False)
    try:
        trainer.predict(writer, return_predictions=False)
        trainer.strategy.barrier()  # the first process goes on with everybody's shards
    except (KeyboardInterrupt, SystemExit):  # Lightning answers Ctrl-C by an exit
        kept = sum(writer.shard(number) is not None for number in range(len(writer.keys)))
        print(
            f"stopped; {kept} of {len(writer.keys)} shards are done and kept: the same command goes on from them",
            file=sys.stderr,
        )
        sys.exit(130)
    return writer


def collect(fresh: Mapping[str, Path], writer: ShardWriter | None) -> tuple[list[str], Any, list[str]]:
    """Ids and vectors [N, D] of what was read, and the reasons of what was not.

    Raises:
        OSError: a shard that was written is no longer whole.
    """
    import numpy as np

    names: list[str] = []
    vectors: list[Any] = []
    broken: list[str] = []
    every = list(fresh)
    for number in range(len(writer.keys) if writer else 0):
        assert writer is not None
        shard = writer.shard(number)
        if shard is None:
            raise OSError(f"shard {number} in {writer.folder} is gone or damaged; run the same command again")
        first = number * writer.shard_size
        names += [every[first + row] for row in shard.rows.tolist()]
        vectors += [shard.vectors] if len(shard.rows) else []
        broken += shard.broken
    return names, np.concatenate(vectors) if vectors else np.empty((0, 1), np.float32), broken
