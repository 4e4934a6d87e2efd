"""`mbapps album`: what a model says of many photos, as a page that opens offline."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.album.folder import LOCK, PAGE, State, Wanted, find_photos, open_state, view_of
from mbapps.album.hashes import files_hash, model_hash, read_model
from mbapps.report import print_table

if TYPE_CHECKING:
    from omegaconf import DictConfig


MOST_PX = 4096  # of the longer side of a small copy


def run(cfg: DictConfig) -> None:
    """Bring an album up to date with its photos: look at what is new or has changed, and write the page.

    Where nothing has changed only the files' sizes and times are looked at.
    """
    from mbapps import app
    from mbapps.files import locked

    check(cfg)
    folder = app.output_folder(cfg)
    with locked(folder / LOCK, f"out={folder}"):
        bring(cfg, folder)


def check(cfg: DictConfig) -> None:
    """Look at what was asked for before anything is opened.

    Raises:
        ValueError: a setting is out of its range.
    """
    for key, least in (("batch_size", 1), ("page", 1), ("thumbnail", 32)):
        if type(cfg[key]) is not int or cfg[key] < least:
            raise ValueError(f"{key} must be a whole number >= {least}, got {cfg[key]}")
    if cfg.thumbnail > MOST_PX:
        raise ValueError(f"thumbnail must be <= {MOST_PX}, got {cfg.thumbnail}")
    if not cfg.source.strip():
        raise ValueError("source= is empty; name a folder of photos")
    if not os.fsencode(cfg.source).decode("utf-8", "ignore") == cfg.source:
        raise ValueError(f"source={cfg.source!r}: its name is not UTF-8; give it another")
    if cfg.similarity is not None and not (
        type(cfg.similarity) in (int, float) and -1 <= cfg.similarity <= 1
    ):
        raise ValueError(f"similarity must lie in [-1, 1], got {cfg.similarity}")


def bring(cfg: DictConfig, folder: Path) -> None:
    """Do what `run` says; nobody else changes the folder meanwhile."""
    from hydra.core.hydra_config import HydraConfig

    started = time.perf_counter()
    state = open_state(folder, f"{HydraConfig.get().job.name}.log")
    photos, unnamed = find_photos(cfg.source, folder)
    view = view_of(cfg.source, folder, page=cfg.page, similarity=cfg.similarity)
    wanted = Wanted(photos, unnamed, settings_of(cfg, state), view)
    stopped = False
    if state.holds(wanted, folder):
        state.numbers |= {"new": 0, "removed": 0}
    else:
        from mbapps.album.making import bring_up_to_date

        stopped = bring_up_to_date(cfg, folder, state, wanted)
    seconds = time.perf_counter() - started
    numbers = {**state.numbers, "seconds": seconds}
    if state.numbers["new"]:
        numbers["photos_per_second"] = state.numbers["new"] / seconds
    print_table("album", numbers, paths=[folder / PAGE])
    if stopped:
        print("stopped: the page shows what was done; the same command goes on from there", file=sys.stderr)
        sys.exit(130)


def exports_hash(cfg: DictConfig, known: dict[str, list[Any]]) -> str | None:
    """A hash of the files that the runtime will run, if they lie in the model folder.

    Those of heads that are not asked count too: one of them may find faces.
    """
    from mbapps.deploy.passes import file_folder, parts

    if cfg.runtime == "torch" or cfg.runtime_file is not None:
        return None
    place = Path(cfg.model) / "exports"
    folders = [
        place / file_folder(cfg.runtime, cfg.precision, part) for part in parts(read_model(Path(cfg.model)))
    ]
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    run = [path for path in files if path.name != "parity.json"]
    return files_hash(place / file_folder(cfg.runtime, cfg.precision), run, known)


def settings_of(cfg: DictConfig, state: State) -> dict[str, Any]:
    """All that decides what the album keeps of a photo.

    Raises:
        FileNotFoundError: a folder or file that is named is not there.
    """
    from omegaconf import OmegaConf

    from mbapps import app

    thresholds, file, gallery = cfg.score_thresh, cfg.runtime_file, cfg.gallery
    if gallery is not None and not (Path(gallery) / "meta.json").is_file():
        raise FileNotFoundError(
            f"no gallery at gallery={gallery}: it has no meta.json; mbapps index makes one"
        )
    if file is not None and not Path(file).is_file():
        raise FileNotFoundError(f"no file at runtime_file={file}")
    known = state.hashes
    return {
        "model": model_hash(Path(cfg.model), known),
        "heads": app.wanted_heads(cfg),
        "faces": cfg.faces and model_hash(Path(cfg.faces), known),
        "min_face": cfg.min_face,
        "gallery": gallery and files_hash(Path(gallery), [Path(gallery) / "meta.json"], known),
        "runtime": cfg.runtime, "precision": cfg.precision,
        "exports": exports_hash(cfg, known),
        "runtime_file": file and files_hash(Path(file), [Path(file)], known),
        "score_thresh": OmegaConf.to_container(thresholds) if OmegaConf.is_config(thresholds) else thresholds,
        "thumbnail": cfg.thumbnail,
    }  # fmt: skip
