"""`mbapps search`: the rows of a gallery that are most like some images."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.image_ids import find_images
from mbapps.verbs.index import SHOWN_BROKEN, check_whole, open_embedder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from omegaconf import DictConfig

    from mbapps.embedding import Embedder
    from mbapps.geo_verbs import Seeker
    from mbapps.search.gallery import Gallery

SHOWN_PROBES = 10  # in the printed table; search.json has all
SAME = "="  # beside a similarity from which on the model takes two faces for one person's


def run(cfg: DictConfig) -> None:
    """Print a table, write search.json and contact_sheet.jpg."""
    from mbapps import app
    from mbapps.files import write_text
    from mbapps.geo_verbs import Seeker
    from mbapps.images import write_image
    from mbapps.report import print_columns, print_table, run_context, write_results
    from mbapps.search.gallery import Gallery
    from mbapps.sheet import draw_sheet

    started = time.perf_counter()
    check_whole(cfg, "top_k", "batch_size")
    folder = app.run_folder(cfg)
    gallery = Gallery.open(cfg.gallery)
    if not len(gallery):
        raise ValueError(f"the gallery at {cfg.gallery} is empty; mbapps index adds images to it")
    files, unnamed = find_images(cfg.source)
    embedder = open_embedder(cfg, gallery)
    gallery.expect(embedder.model)
    seeker = Seeker.of(embedder, gallery, folder / "maps", files)
    threshold, about = (None, "") if seeker else own_threshold(embedder)
    probes, broken = ask(
        gallery, embedder, list(files.values()), cfg.top_k, cfg.batch_size, threshold, seeker
    )
    broken = unnamed | broken
    if not probes:
        raise ValueError(
            f"none of the {len(broken)} files of source={cfg.source} can be read: {next(iter(broken.values()))}"
        )
    content = {
        "gallery": str(cfg.gallery), "model": embedder.model.name, "count": len(gallery), "top_k": cfg.top_k,
        "similarity": threshold, "probes": probes, "broken": broken,
    }  # fmt: skip
    if seeker:
        content["places"] = seeker.told
    written = write_text(folder / "search.json", json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    sheet = write_image(folder / "contact_sheet.jpg", draw_sheet(probes))
    shown = {str(file): name for name, file in files.items()}
    own = ["lat, lon", "place"] if seeker else ["person"]
    rows = [
        [shown[file] if hit["rank"] == 1 else "", str(hit["rank"]), hit["id"],
         f"{SAME if hit.get('same') else ''} {hit['similarity']:.3f}", *(_told(hit, name) for name in own)]
        for file, hits in list(probes.items())[:SHOWN_PROBES]
        for hit in hits
    ]  # fmt: skip
    print_columns("search", ["probe", "rank", "id", "similarity", *own], rows, wrap=("id", "place"))
    for reason in list(broken.values())[:SHOWN_BROKEN]:
        print(reason)
    for note in seeker.teller.notes[:SHOWN_BROKEN] if seeker else ():
        print(note)
    if cfg.top_k > len(gallery):
        print(f"top_k={cfg.top_k}, but the gallery has {len(gallery)} rows: all are shown")
    if about:
        print(about)
    seconds = time.perf_counter() - started
    hits = [hit for found in probes.values() for hit in found]
    numbers: dict[str, Any] = {
        "probes": len(probes), "broken": len(broken), "hits": len(hits), "count": len(gallery),
        "kind": gallery.kind, "seconds": seconds,
    }  # fmt: skip
    numbers |= seeker.teller.numbers() if seeker else {"same": sum(bool(hit["same"]) for hit in hits)}
    results = write_results(folder, numbers, {**run_context(), "gallery": str(cfg.gallery)})
    maps = [seeker.folder] if seeker else []
    print_table("search", numbers, paths=[written, sheet, *maps, results])


def _told(hit: Mapping[str, Any], name: str) -> str:
    return f"{hit['lat']:.2f}, {hit['lon']:.2f}" if name == "lat, lon" else str(hit.get(name, ""))


def own_threshold(embedder: Embedder) -> tuple[float | None, str]:
    """The similarity from which on two faces are one person's, or None, and what there is to say about it."""
    threshold = (embedder.facts.get("verification") or {}).get("similarity")
    if threshold is None:
        return None, "no threshold is known: mbapps calibrate chooses the similarity of one person's faces"
    learned = {"face_crop": float(embedder.facts.get("face_crop", 1.0)), "flip": False}
    view = {key: value for key, value in embedder.model.view.items() if key != "head"}
    if learned != view:
        seen = ", ".join(f"{key}={value}" for key, value in view.items())
        return (
            None,
            f"the model's threshold is not for the view of this gallery ({seen}): nothing is marked by it",
        )
    return threshold, f"{SAME} marks similarities of {threshold:.3f} or more: the model's own threshold"


def ask(
    gallery: Gallery,
    embedder: Embedder,
    files: list[Path],
    top_k: int,
    batch_size: int,
    threshold: float | None,
    seeker: Seeker | None = None,
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, str]]:
    """For each file its hits, best first, and for each that can't be read the reason.

    A hit has rank, id, similarity, the gallery's columns and, of faces, same (None without a threshold).
    """
    from mbapps.images import BrokenImageError
    from mbapps.sources import batched, read_images

    probes: dict[str, list[dict[str, Any]]] = {}
    broken: dict[str, str] = {}
    for batch in batched(read_images(files, batch_size), batch_size):
        broken |= {str(file): str(image) for file, image in batch if isinstance(image, BrokenImageError)}
        readable = [(file, image) for file, image in batch if not isinstance(image, BrokenImageError)]
        if not readable:
            continue
        vectors = (
            seeker.place(readable) if seeker else embedder.embed_images([image for _, image in readable])
        )
        found = gallery.search(vectors, top_k, model=embedder.model)
        for (file, _), scores, rows in zip(readable, found.scores.tolist(), found.rows.tolist(), strict=True):
            probes[str(file)] = [
                {
                    "rank": rank, "id": gallery.ids[row], "similarity": round(score, 5),
                    **({} if seeker else {"same": None if threshold is None else score >= threshold}),
                    **gallery.facts(row),
                }
                for rank, (score, row) in enumerate(zip(scores, rows, strict=True), 1) if row >= 0
            ]  # fmt: skip
    return probes, broken
