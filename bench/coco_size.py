"""COCO-sized annotations: seconds and memory of reading them, first and again, and of what the workers hold.

python bench/coco_size.py [FOLDER] [peer]

The set is written to FOLDER, or to one for temporary files, and stays there: train2017's numbers of images, boxes
and bytes, with outlines, crowds and every field of the real file, and a few grey pictures under 123,287 names. Each
row is a new process; MB are 2**20 bytes beyond the imports. With "peer" pycocotools reads the same file (4 GB).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
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
    place_pictures(folder / name, files, sizes)
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


def place_pictures(folder: Path, files: list[str], sizes: np.ndarray) -> None:
    """One grey picture of each size under many names, and a new one before a file system's limit of links."""
    folder.mkdir(parents=True, exist_ok=True)
    first: dict[tuple[int, ...], Path] = {}
    for index, (name, size) in enumerate(zip(files, map(tuple, sizes.tolist()), strict=True)):
        if index % CHUNK == 0:
            first.clear()
        if size not in first:
            first[size] = folder / name
            cv2.imwrite(str(folder / name), np.full((*size, 3), 127, dtype=np.uint8))
        else:
            os.link(first[size], folder / name)


def memory(field: str, pid: int | str = "self") -> float:
    """MB of a line of /proc: VmRSS and VmHWM of `status`, Rss and Pss of `smaps_rollup`."""
    name = "status" if field.startswith("Vm") else "smaps_rollup"
    lines = Path(f"/proc/{pid}/{name}").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def timed(read: Callable[[], Any]) -> Any:
    """Run and print seconds, what stays resident, and the peak; give the result."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts here
    before, start = memory("VmRSS"), time.perf_counter()
    result = read()
    seconds, after, peak = time.perf_counter() - start, memory("VmRSS") - before, memory("VmHWM") - before
    print(f"{seconds:7.2f} s  stays {after:6.0f} MB  peak {peak:6.0f} MB", end="")
    return result


class Boxes:
    """All that a worker reads of the truth: the boxes of an image."""

    def __init__(self, table: Any):
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, row: int) -> float:
        rows = self.table.rows(row)
        columns = self.table.boxes[rows], self.table.labels[rows], self.table.areas[rows]
        return float(sum(column.sum() for column in columns)) + len(str(self.table.files[row]))


class PeerBoxes(Boxes):
    def __len__(self) -> int:
        return len(self.table.dataset["images"])

    def __getitem__(self, row: int) -> float:
        truth = self.table.loadAnns(self.table.getAnnIds(imgIds=self.table.dataset["images"][row]["id"]))
        return float(sum(sum(item["bbox"]) for item in truth))


def work(dataset: Boxes, method: str) -> list[float]:
    """RSS and PSS of four workers together, after they have read every image's boxes, MB."""
    from torch.utils.data import DataLoader

    loader = DataLoader(
        dataset, batch_size=1000, num_workers=WORKERS, persistent_workers=True, multiprocessing_context=method
    )  # type: ignore[var-annotated]
    for _ in loader:
        pass
    pids = [worker.pid for worker in loader._iterator._workers]  # type: ignore[union-attr]
    return [sum(memory(field, pid) for pid in pids) for field in ("Rss", "Pss")]


def workers(table: Any, method: str, kind: type[Boxes] = Boxes) -> None:
    """Print what four workers hold beyond four with a table of ten images."""
    few = work(Boxes(small_table()), method)
    many = work(kind(table), method)
    print(f"  4 workers by {method}: RSS {many[0] - few[0]:6.0f} MB  PSS {many[1] - few[1]:6.0f} MB", end="")


def small_table() -> Any:
    from mbapps.batches import BoxTable

    return BoxTable(
        folder=Path(), files=np.array(["a"] * 10), image_ids=np.arange(10), sizes=np.ones((10, 2), dtype=np.int32),
        starts=np.arange(11), boxes=np.ones((10, 4)), labels=np.zeros(10, dtype=np.int32), areas=np.ones(10),
        crowd=np.zeros(10, dtype=np.bool_), class_names=("a",), category_ids=(1,),
    )  # fmt: skip


def run(what: str, folder: Path, method: str) -> None:
    """One row of the table, in its own process."""
    from mbapps.data.coco import read_coco
    from mbapps.data.detection import DetectionData

    train = folder / "annotations" / "instances_train2017.json"
    if what == "read_coco":
        table = timed(lambda: read_coco(train, folder / "train2017"))
        if method:
            workers(table, method)
    elif what == "DetectionData":  # test is cut from train, whose columns are then no longer the file's
        data = timed(lambda: DetectionData(root=str(folder), image_size=300, augment={}))
        if method:
            workers(data.tables["train"], method)
    else:
        peer = timed(lambda: read_peer(train))
        workers(peer, "fork", PeerBoxes)  # to spawn them would send some GB to each
    print(flush=True)


def read_peer(path: Path) -> Any:
    import contextlib
    import io

    from pycocotools.coco import COCO

    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


ROWS = (
    ("read_coco", "", "first"), ("read_coco", "", "again"), ("read_coco", "fork", "again"),
    ("read_coco", "spawn", "again"), ("DetectionData", "", "first"), ("DetectionData", "", "again"),
    ("DetectionData", "fork", "again"), ("DetectionData", "spawn", "again"), ("pycocotools", "fork", "first"),
)  # fmt: skip


def main() -> None:
    if sys.argv[1:2] == ["row"]:
        run(sys.argv[2], Path(sys.argv[3]), sys.argv[4])
        return
    words = [word for word in sys.argv[1:] if word != "peer"]
    folder = Path(words[0]) if words else Path(tempfile.gettempdir()) / "mbapps-coco-size"
    for seed, name in enumerate(SETS):
        path = write_set(folder, name, seed)
        print(f"{path}: {path.stat().st_size / 1e6:.0f} MB, {SETS[name][0]} images, {SETS[name][1]} boxes")
    with tempfile.TemporaryDirectory() as cache:
        for what, method, when in ROWS:
            if what == "pycocotools" and "peer" not in sys.argv:
                continue
            if when == "first":
                shutil.rmtree(cache)
            print(f"{what:13} {when:5}", end=" ", flush=True)
            command = [sys.executable, __file__, "row", what, str(folder), method]
            subprocess.run(command, env=os.environ | {"MBAPPS_DATA": cache}, check=True)
        os.makedirs(cache, exist_ok=True)  # for its own removal


if __name__ == "__main__":
    main()
