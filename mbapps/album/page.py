"""The page of an album: static files that a browser opens from the disk, with the data in scripts."""

from __future__ import annotations

import base64
import json
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mbapps.files import replacing, write_text

from .folder import ASSETS, PAGE
from .records import Record

CHUNK = 500  # photos in a file of data
SURE = 0.5  # of a label: below it a photo is not filed under its likeliest class
PHOTO_DIM, FACE_DIM = 128, 256  # numbers of a vector in the page, at most

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Group:
    """Values that photos are filed under.

    any: of several chosen values a photo needs one, since it can't have two; else it needs all.
    """

    name: str
    any: bool
    values: Callable[[Record], Sequence[str]]


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
    notes: what there is to know.
    """

    records: Sequence[Record]
    people: Sequence[Sequence[int]]
    broken: Mapping[str, str]
    title: str
    base: str
    page: int
    px: int
    notes: Sequence[str] = ()


def country(place: Mapping[str, Any]) -> list[str]:
    """The country of a named place.

    >>> country({"name": "120 km from Arezzo, Italy"}), country({"name": "300 km from Singapore"}), country({})
    (['Italy'], ['Singapore'], [])
    """
    name = str(place.get("name", ""))
    return [name.rpartition(", ")[2].rpartition(" km from ")[2]] if name else []


def label_groups(records: Sequence[Record]) -> list[Group]:
    """A group for each head that classifies."""
    heads = list(dict.fromkeys(head for record in records for head in record.labels))

    def sure(head: str) -> Callable[[Record], list[str]]:
        return lambda record: [name for name, score in record.labels.get(head, [])[:1] if score >= SURE]

    name = "Labels" if len(heads) < 2 else "Labels: {}"
    return [Group(name.format(head), True, sure(head)) for head in heads]


def present(record: Record) -> list[str]:
    """Attributes that a face in a photo has."""
    return [name for face in record.faces for name, _, there in face.attributes if there]


def groups(records: Sequence[Record]) -> list[Group]:
    """All that photos can be filed under, but people."""
    return [
        Group("Objects", False, lambda record: [name for name, _, _ in record.objects]),
        *label_groups(records),
        Group("Attributes", False, present),
        Group("Places", True, lambda record: country(record.truth or record.place)),
        Group("Folders", True, lambda record: [record.id.rpartition("/")[0]] if "/" in record.id else []),
    ]


def write_page(folder: Path, album: Album) -> Path:
    """Write the page and its data anew; a page that is open meanwhile keeps what it has read.

    Returns:
        The path of index.html.
    """
    tags, described = file_photos(album)
    shown = describe_people(album)
    photos = [
        [record.id, record.hash, *record.size, tags[row], place_row(record)]
        for row, record in enumerate(album.records)
    ]
    vectors = small([record.vector for record in album.records], PHOTO_DIM, centre=True)
    owners = [row for row, record in enumerate(album.records) for _ in record.faces]
    faces = small([face.vector for record in album.records for face in record.faces], FACE_DIM, centre=False)
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
        "title": album.title, "base": album.base, "page": album.page, "px": album.px, "chunk": CHUNK,
        "groups": described, "people": shown, "broken": list(album.broken.items()), "notes": list(album.notes),
        "map": mapped, "photoDim": vectors.shape[1], "faceDim": faces.shape[1],
    })  # fmt: skip
    digest = key_of_texts(data)
    name = f"data-{digest}"
    if not (folder / name).is_dir():
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


def file_photos(album: Album) -> tuple[list[list[int]], list[dict[str, Any]]]:
    """File photos under the values of all groups.

    Returns:
        The numbers of each photo's values, and the groups: name, any, and each value with its number of photos.
    """
    tags: list[list[int]] = [[] for _ in album.records]
    described = []
    start = 0
    rows = [
        (group.name, group.any, [group.values(record) for record in album.records])
        for group in groups(album.records)
    ]
    rows.append(("People", False, [[f"Person {number}" for number in numbers] for numbers in album.people]))
    for name, one_of, found in rows:
        counts = Counter(value for values in found for value in dict.fromkeys(values))
        order = sorted(counts, key=lambda value: (-counts[value], value))
        if not order or (name == "Folders" and len(order) < 2):
            continue
        place = {value: start + row for row, value in enumerate(order)}
        for own, values in zip(tags, found, strict=True):
            own += [place[value] for value in dict.fromkeys(values)]
        described.append({
            "name": name, "any": one_of, "first": start, "values": [[value, counts[value]] for value in order],
        })  # fmt: skip
        start += len(order)
    return tags, described


def describe_people(album: Album) -> list[list[int]]:
    """Each person: number, count of faces, and the photo and the row of the face that shows them; larger ones first."""
    best: dict[int, tuple[float, int, int]] = {}
    counts: Counter[int] = Counter()
    for row, (record, numbers) in enumerate(zip(album.records, album.people, strict=True)):
        for place, (face, number) in enumerate(zip(record.faces, numbers, strict=False)):
            counts[number] += 1
            area = (face.box[2] - face.box[0]) * (face.box[3] - face.box[1])
            best[number] = max(best.get(number, (0.0, row, place)), (face.score * area**0.5, row, place))
    return [[number, count, *best[number][1:]] for number, count in counts.most_common()]


def place_row(record: Record) -> Any:
    """Latitude, longitude, and 1 where the photo tells it and 0 where it is guessed; 0 where there is none."""
    place = record.truth or record.place
    return [round(place["lat"], 4), round(place["lon"], 4), int(bool(record.truth))] if place else 0


def details(record: Record, numbers: Sequence[int]) -> dict[str, Any]:
    """What the page tells of one photo that is looked at."""
    found = {
        "objects": [[name, round(score, 3), [round(side) for side in box]] for name, score, box in record.objects],
        "labels": {head: [[name, round(score, 3)] for name, score in rows] for head, rows in record.labels.items()},
        "place": record.place, "truth": record.truth,
        "faces": [
            [[round(side) for side in face.box], face.origin, numbers[row] if row < len(numbers) else 0,
             [[name, round(score, 3)] for name, score, there in face.attributes if there]]
            for row, face in enumerate(record.faces)
        ],
    }  # fmt: skip
    return {name: value for name, value in found.items() if value}


def small(kept: Sequence[bytes], most: int, *, centre: bool) -> NDArray[np.int8]:
    """Vectors as the page compares them, [N, D] of D <= `most`, where all have one; else [N, 0].

    They are turned to their principal axes, of which the first are kept, and each is scaled to fill its eight bits:
    only the angles between them count.

    Args:
        kept: float16 numbers of each.
        most: numbers of each that are given.
        centre: take the mean of all away first, which all photos share.
    """
    if not kept or not all(kept):
        return np.empty((len(kept), 0), dtype=np.int8)
    vectors = np.stack([np.frombuffer(one, dtype=np.float16) for one in kept]).astype(np.float32)
    if centre and len(vectors) > 2:
        vectors -= vectors.mean(axis=0)
    if vectors.shape[1] > most:
        _, axes = np.linalg.eigh(vectors.T @ vectors)
        vectors = vectors @ axes[:, -most:]
    return np.round(vectors * (127 / np.maximum(np.abs(vectors).max(axis=1, keepdims=True), 1e-12))).astype(
        np.int8
    )


def packed(vectors: NDArray[np.int8]) -> str:
    """Numbers in base64, row by row."""
    return base64.b64encode(np.ascontiguousarray(vectors).tobytes()).decode()
