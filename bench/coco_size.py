"""COCO-sized annotations: seconds and memory of reading them, first and again, and of what the workers hold.

python bench/coco_size.py [FOLDER] [--peer]

The set is written to FOLDER, or to a folder for temporary files, and stays there: train2017's numbers of images,
boxes and bytes, with outlines, crowds and every field of the real file, and one small picture under 123,287 names.
Each row is a new process. --peer adds pycocotools, which needs some GB.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

SETS = {"train2017": (118_287, 860_001), "val2017": (5_000, 36_781)}  # images, boxes
CLASSES = [number for number in range(1, 91) if number not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83)]
CROWDS = 0.0117
CHUNK = 10_000
WORKERS = 4


def outlines(rng: np.random.Generator, centres: np.ndarray, sides: np.ndarray) -> list[np.ndarray]:
    """Wavy ellipses [P, 2] with about 24 points, two decimals."""
    counts = np.clip(np.exp(rng.normal(3.05, 0.6, len(sides))), 4, 200).astype(int)
    owner = np.repeat(np.arange(len(sides)), counts)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    angle = 2 * np.pi * step / counts[owner]
    radius = rng.uniform(0.7, 1.0, len(owner))[:, None] * sides[owner] / 2
    points = centres[owner] + radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return np.split(np.round(points, 2), np.cumsum(counts)[:-1])


def write_set(folder: Path, name: str, seed: int) -> Path:
    """Write one split's json and its picture files, unless it is there."""
    path = folder / "annotations" / f"instances_{name}.json"
    if path.exists():
        return path
    num_images, num_boxes = SETS[name]
    rng, encode = np.random.default_rng(seed), msgspec.json.Encoder().encode
    sizes = np.array([(480, 640), (640, 480), (427, 640), (640, 427), (375, 500)])[
        rng.integers(0, 5, num_images)
    ]
    ids = rng.permutation(581_929)[:num_images] if name == "train2017" else np.arange(num_images) + 600_000
    files = [f"{number:012d}.jpg" for number in ids]
    owners = rng.integers(0, int(num_images * 0.99), num_boxes)  # one image in a hundred is empty
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    with temporary.open("wb") as file:
        file.write(b'{"info": ' + encode({"description": "generated", "version": "1.0", "year": 2017}))
        licences = [
            {"url": f"http://creativecommons.org/licenses/{n}", "id": n, "name": "CC"} for n in range(1, 9)
        ]
        file.write(b',"licenses": ' + encode(licences) + b',"images": ')
        file.write(encode([
            {
                "license": int(row % 8 + 1), "file_name": files[row],
                "coco_url": f"http://images.cocodataset.org/{name}/{files[row]}",
                "height": int(sizes[row, 0]), "width": int(sizes[row, 1]), "date_captured": "2013-11-14 16:28:13",
                "flickr_url": f"http://farm4.staticflickr.com/3153/{2_900_000_000 + row}_cbb98d1a12_z.jpg",
                "id": int(ids[row]),
            }
            for row in range(num_images)
        ]))  # fmt: skip
        file.write(b',"annotations": [')
        for start in range(0, num_boxes, CHUNK):
            rows = owners[start : start + CHUNK]
            high = sizes[rows][:, ::-1]
            sides = np.minimum(np.exp(rng.normal(4, 1.1, (len(rows), 2))) + 2, high - 2)
            centres = sides / 2 + rng.random((len(rows), 2)) * (high - sides)
            polygons, crowd = outlines(rng, centres, sides), rng.random(len(rows)) < CROWDS
            entries = [
                annotation(rng, polygon, int(ids[row]), bool(many), start + index + 1, sizes[row])
                for index, (polygon, row, many) in enumerate(zip(polygons, rows, crowd, strict=True))
            ]
            file.write((b"," if start else b"") + encode(entries)[1:-1])
        classes = [{"supercategory": "thing", "id": number, "name": f"class {number}"} for number in CLASSES]
        file.write(b'],"categories": ' + encode(classes) + b"}")
    place_pictures(folder / name, files)
    os.replace(temporary, path)
    return path


def annotation(
    rng: np.random.Generator, polygon: np.ndarray, image_id: int, crowd: bool, number: int, size: np.ndarray
) -> dict[str, Any]:
    """One entry in the order of the real file; a crowd has a run-length mask, one in ten others two parts."""
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    x, y = polygon.T
    area = abs(float(x @ np.roll(y, 1) - y @ np.roll(x, 1))) / 2
    outline: Any = [polygon.ravel().tolist()]
    if crowd:
        outline = {"counts": rng.integers(1, 400, 300).tolist(), "size": size.tolist()}
    elif number % 10 == 0:
        outline.append(polygon[: max(3, len(polygon) // 3)].ravel().tolist())
    box = np.round([*low, *(high - low)], 2).tolist()
    return {
        "segmentation": outline, "area": area, "iscrowd": int(crowd), "image_id": image_id, "bbox": box,
        "category_id": int(CLASSES[int(80 * rng.random() ** 2)]), "id": number,
    }  # fmt: skip


def place_pictures(folder: Path, files: list[str]) -> None:
    """Many names of one picture; a new one before a file system's limit of links is reached."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = cv2.imencode(".jpg", np.full((8, 8, 3), 127, dtype=np.uint8))[1].tobytes()
    for index, name in enumerate(files):
        path = folder / name
        if index % CHUNK == 0:
            path.write_bytes(picture)
            first = path
        elif not path.exists():
            os.link(first, path)
