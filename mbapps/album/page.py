"""The page of an album: static files that a browser opens from the disk, with the data in scripts."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.files import replacing, write_text

from .filing import describe_people, file_photos
from .folder import ASSETS, PAGE
from .records import KEY, Record

CHUNK = 500  # photos in a file of data
LEAST = 0.005  # of a label that is told: less would be shown as 0 %
PHOTO_DIM, FACE_DIM = 64, 256  # numbers of a vector in the page, at most
SAME = 1e-3  # of the largest number: vectors that differ by less are of one photo
RANK = 1e-5  # of the largest axis: smaller ones are rounding

Vectors = NDArray[np.float32]


@dataclass
class Album:
    """What a page shows.

    records: of the photos that could be read, by id.
    people: of each record the number of each face's person; empty lists where no vectors tell.
    broken: reasons of the others, by id.
    title: above the page.
    base: address of the folder that ids start from, as seen from the album.
    page: photos on a page of the grid.
    px: of the small copies.
    key: of the settings that the records were made with.
    notes: what there is to know.
    """

    records: Sequence[Record]
    people: Sequence[Sequence[int]]
    broken: Mapping[str, str]
    title: str
    base: str
    page: int
    px: int
    key: str
    notes: Sequence[str] = ()


def write_page(folder: Path, album: Album) -> Path:
    """Write the page and its data anew; a page that is open meanwhile keeps what it has read.

    Returns:
        The path of index.html.
    """
    tags, described = file_photos(album.records, album.people)
    shown = describe_people(album.records, album.people)
    photos = [
        [record.id, record.hash, *record.size, tags[row], place_row(record)]
        for row, record in enumerate(album.records)
    ]
    vectors = small([record.vector for record in album.records], PHOTO_DIM, spread=True)
    owners = [row for row, record in enumerate(album.records) for _ in record.faces]
    faces = small([face.vector for record in album.records for face in record.faces], FACE_DIM, spread=False)
    data: dict[str, str] = {}
    for number, start in enumerate(range(0, len(photos), CHUNK)):
        end = start + CHUNK
        data[f"photos-{number}.js"] = call("photos", photos[start:end])
        told = [
            details(*pair) for pair in zip(album.records[start:end], album.people[start:end], strict=True)
        ]
        data[f"details-{number}.js"] = call("details", number, told)
        data[f"vectors-{number}.js"] = call("vectors", number, packed(vectors[start:end]))
        ours = [row for row, owner in enumerate(owners) if start <= owner < end]
        data[f"faces-{number}.js"] = call("faces", number, packed(faces[ours]), [owners[row] for row in ours])
    mapped = any(row[5] for row in photos)
    if mapped:
        from mbapps.geo.worldmap import land

        data["land.js"] = call("land", [np.round(ring * 10).astype(int).ravel().tolist() for ring in land()])
    data["meta.js"] = call("meta", {
        "title": album.title, "base": album.base, "page": album.page, "px": album.px, "key": album.key[:KEY],
        "chunk": CHUNK,
        "groups": described, "people": shown, "broken": list(album.broken.items()), "notes": list(album.notes),
        "map": mapped, "photoDim": vectors.shape[1], "faceDim": faces.shape[1],
    })  # fmt: skip
    digest = key_of_texts(data)
    name = f"data-{digest}"
    there = {path.name: path.stat().st_size for path in folder.glob(f"{name}/*")}
    if there != {file: len(text) for file, text in data.items()}:
        shutil.rmtree(folder / name, ignore_errors=True)
        with replacing(folder / name) as temporary:
            temporary.mkdir()
            for file, text in data.items():
                (temporary / file).write_text(text, encoding="utf-8")
    for asset in ("album.css", "album.js"):
        write_text(folder / asset, (ASSETS / asset).read_text(encoding="utf-8"))
    scripts = [
        "album.js",
        f"{name}/meta.js",
        *(f"{name}/{file}" for file in data if file.startswith("photos-")),
    ]
    if mapped:
        scripts.append(f"{name}/land.js")
    frame = Template((ASSETS / "album.html").read_text(encoding="utf-8"))
    lines = "\n".join(f'<script defer src="{script}"></script>' for script in scripts)
    path = write_text(folder / PAGE, frame.substitute(title=escape(album.title), data=name, scripts=lines))
    for old in folder.glob("data-*"):
        if old.name != name:
            shutil.rmtree(old)
    return path


def call(name: str, *values: Any) -> str:
    """A script that hands values over."""
    words = ",".join(json.dumps(value, ensure_ascii=True, separators=(",", ":")) for value in values)
    return f"album.{name}({words})\n"


def key_of_texts(texts: Mapping[str, str]) -> str:
    """A short hash of all data: a page finds its own data or none."""
    import hashlib

    digest = hashlib.blake2b(digest_size=6)
    for name, text in texts.items():
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


def place_row(record: Record) -> Any:
    """Latitude, longitude, and 1 where the photo tells it and 0 where it is guessed; 0 where there is none."""
    place = record.truth or record.place
    return [round(place["lat"], 4), round(place["lon"], 4), int(bool(record.truth))] if place else 0


def details(record: Record, numbers: Sequence[int]) -> dict[str, Any]:
    """What the page tells of one photo that is looked at."""
    found = {
        "objects": [[name, round(score, 3), [round(side) for side in box]] for name, score, box in record.objects],
        "labels": {
            head: [[name, round(score, 3)] for name, score in rows if score >= LEAST]
            for head, rows in record.labels.items()
        },
        "place": record.place, "truth": record.truth,
        "faces": [
            [[round(side) for side in face.box], face.origin, numbers[row] if row < len(numbers) else 0,
             [[name, round(score, 3)] for name, score, there in face.attributes if there]]
            for row, face in enumerate(record.faces)
        ],
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


def small(kept: Sequence[bytes], most: int, *, spread: bool) -> NDArray[np.int8]:
    """Vectors as the page compares them, [N, D] of D <= `most`, where all have one; else [N, 0].

    They are turned to their principal axes, of which the first are kept, and each is scaled to fill its eight bits:
    only the angles between them count.

    Args:
        kept: float16 numbers of each.
        most: numbers of each that are given.
        spread: take away the mean, which all share, and halve the axes' differences in size: the finer ones tell
            kinds of things apart. On flowers among other photos the five nearest are of the same kind in 0.36 of
            the cases instead of 0.30.
    """
    if not kept or not all(kept):
        return np.empty((len(kept), 0), dtype=np.int8)
    vectors = np.stack([np.frombuffer(one, dtype=np.float16) for one in kept]).astype(np.float32)
    if spread and len(vectors) > 2:
        apart = vectors - vectors.mean(axis=0)
        vectors = apart if np.abs(apart).max() > SAME * np.abs(vectors).max() else vectors
    if spread or vectors.shape[1] > most:
        sizes, axes = np.linalg.eigh(vectors.T @ vectors)
        found = slice(-min(most, max(1, int((sizes > RANK * sizes[-1]).sum()))), None)
        vectors = vectors @ axes[:, found] / (np.maximum(sizes[found], 1e-12) ** 0.25 if spread else 1)
    largest = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), 1e-12)
    return np.round(vectors * (127 / largest)).astype(np.int8)


def packed(vectors: NDArray[np.int8]) -> str:
    """Numbers in base64, row by row."""
    return base64.b64encode(np.ascontiguousarray(vectors).tobytes()).decode()
