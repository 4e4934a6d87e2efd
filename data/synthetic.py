"""Renders the embedded default: photographic-looking pictures with exact labels, written as real files."""

from __future__ import annotations

import colorsys
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from .cache import data_home

VERSION = 6  # raise it when the pictures change: old caches are then left alone and not read
SPLITS = ("train", "val", "test")
RENDERING = "Rendering {} pictures, once"

# How hard it is. Tuned so that a small detector trained from scratch for minutes is useful but not perfect.
SIDES = ((240, 320), (288, 384), (320, 427), (360, 480), (320, 240), (427, 320))  # height, width: small JPEGs
EMPTY = 0.1  # share of pictures without objects: detectors that always find something must pay
MORE_OBJECTS = (7, 0.55)  # binomial, on top of the first: 1 to 8 objects, about 4
SMALL = 0.25  # share of objects drawn from SMALL_SIDE: COCO's small, where small detectors lose most
SMALL_SIDE = (
    25,
    34,
)  # px of a picture scaled to 300: below 20 a network at 192 px sees 12, too few to tell shapes
LARGE_SIDE = (70, 180)  # log-uniform, so that middle sizes are the most frequent, as in photographs
COVERED = (
    0.1  # share of objects with something neutral laid over a part; objects in front of others add the rest
)
BEHIND = 0.1  # share of objects put where they cover a part of an earlier one
LEAST_VISIBLE = 0.35  # an object that shows less is taken out of the picture: an annotator could not name it
LOW_CONTRAST = 0.06  # share of objects that may have the colour of their surroundings
CONTRAST = 140.0  # least distance in RGB of the others
CLUTTER = 1  # up to so many sharp things of no class, so that not every sharp outline is an object
TURN = 0.25  # radians to either side
TILT = 0.1  # perspective: the nearer side is up to (1 + tilt) / (1 - tilt) larger

Image = NDArray[np.uint8]
Floats = NDArray[np.float32]
Outline = list[
    list[NDArray[np.float64]]
]  # parts, each of contours that cut holes into each other; within -1..1


class Scene(NamedTuple):
    """A picture and its exact truth."""

    image: Image  # RGB [H, W, 3]
    boxes: NDArray[np.int64]  # [G, 4] xyxy px, of the visible pixels
    labels: NDArray[np.int64]  # [G] rows of CLASS_NAMES
    areas: NDArray[np.int64]  # [G] visible pixels
    visible: NDArray[np.float64]  # [G] visible share of the object, in [LEAST_VISIBLE, 1]


class _Item(NamedTuple):
    label: int  # row of CLASS_NAMES, or -1 for a thing of no class
    mask: Image  # coverage of a square patch, 0..255
    top: int  # of the patch, in the picture; may lie outside
    left: int
    side: float  # px of the item across


def _circle(radius: float = 1.0, centre: tuple[float, float] = (0, 0)) -> NDArray[np.float64]:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1) * radius + centre


def _arrow(rng: np.random.Generator) -> Outline:
    shaft, head, neck = rng.uniform(0.14, 0.24), rng.uniform(0.6, 0.8), rng.uniform(0.0, 0.25)
    half = [(1, 0), (neck, head), (neck, shaft), (-1, shaft)]
    return [[np.array(half + [(x, -y) for x, y in half[:0:-1]])]]


def _crescent(rng: np.random.Generator) -> Outline:
    radius, shift = rng.uniform(0.8, 0.9), rng.uniform(0.42, 0.55)
    cut = (1 - radius**2 + shift**2) / (2 * shift)
    outer, inner = np.arccos(cut), np.arccos((cut - shift) / radius)
    out = np.linspace(outer, 2 * np.pi - outer, 40)
    back = np.linspace(2 * np.pi - inner, inner, 40)
    points = [np.cos(out), np.sin(out)], [radius * np.cos(back) + shift, radius * np.sin(back)]
    return [[np.concatenate([np.stack(part, axis=1) for part in points])]]


def _cross(rng: np.random.Generator) -> Outline:
    arm = rng.uniform(0.2, 0.34)
    corner = [(1, -arm), (1, arm), (arm, arm)]
    turns = [[(x, y), (-y, x), (-x, -y), (y, -x)] for x, y in corner]
    return [[np.array([turns[i][turn] for turn in range(4) for i in range(3)], dtype=np.float64)]]


def _mug(rng: np.random.Generator) -> Outline:
    height, foot, grip = rng.uniform(0.7, 0.95), rng.uniform(0.42, 0.58), rng.uniform(0.42, 0.55)
    body = np.array([(-0.85, -height), (0.35, -height), (foot - 0.23, height), (-foot - 0.27, height)])
    handle = [_circle(grip, (0.42, -0.05)), _circle(grip * rng.uniform(0.5, 0.62), (0.42, -0.05))]
    return [handle, [body]]


def _ring(rng: np.random.Generator) -> Outline:
    return [[_circle(), _circle(rng.uniform(0.5, 0.72))]]


OUTLINES: dict[str, Callable[[np.random.Generator], Outline]] = {
    "arrow": _arrow, "crescent": _crescent, "cross": _cross, "mug": _mug, "ring": _ring,
}  # fmt: skip
CLASS_NAMES = tuple(OUTLINES)


def _neutral(rng: np.random.Generator) -> Outline:
    """A pebble or a stick: outlines of no class."""
    if rng.random() < 0.4:
        half = rng.uniform(0.1, 0.25)
        return [[np.array([(-1, -half), (1, -half), (1, half), (-1, half)])]]
    phases = rng.uniform(0, 2 * np.pi, 2)
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    bumps = 0.85 + 0.1 * np.cos(2 * angle + phases[0]) + 0.05 * np.cos(3 * angle + phases[1])
    return [[_circle() * bumps[:, None]]]


def _pose(rng: np.random.Generator, outline: Outline, side: float, y: float, x: float, label: int) -> _Item:
    """Turn and tilt an outline, scale it to `side` px around a point: a mask with room for its shadow."""
    turn, stretch, tilt = rng.uniform(-TURN, TURN), rng.uniform(0.88, 1.14), rng.uniform(-TILT, TILT, 2)
    cos, sin = np.cos(turn), np.sin(turn)
    rotate = np.array([[cos, sin], [-sin, cos]]) * [[stretch], [1 / stretch]] * [[1], [rng.choice([-1, 1])]]
    parts = [[points @ rotate for points in part] for part in outline]
    parts = [[points / (1 + points @ tilt)[:, None] for points in part] for part in parts]
    every = np.concatenate([points for part in parts for points in part])
    low, high = every.min(axis=0), every.max(axis=0)
    reach = int(side * 0.7 + 4)
    top, left = int(y) - reach, int(x) - reach
    mask = np.zeros((2 * reach, 2 * reach), dtype=np.uint8)
    for part in parts:
        placed = [
            (points - (low + high) / 2) * side / (high - low).max() + [x - left, y - top] for points in part
        ]
        cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32) for points in placed], 255, cv2.LINE_AA, 4)
    return _Item(label, mask, top, left, side)


def _lay_out(rng: np.random.Generator, height: int, width: int) -> list[_Item]:
    """Place clutter, objects and what covers them, rearmost first."""
    unit = np.sqrt(height * width) / 300
    items = []
    for _ in range(rng.integers(0, CLUTTER + 1)):
        place = rng.uniform(0, height), rng.uniform(0, width)
        items.append(_pose(rng, _neutral(rng), rng.uniform(20, 90) * unit, *place, -1))
    taken: list[tuple[float, float, float]] = []  # y, x, side
    for _ in range(0 if rng.random() < EMPTY else 1 + rng.binomial(*MORE_OBJECTS)):
        low, high = SMALL_SIDE if rng.random() < SMALL else LARGE_SIDE
        side = np.exp(rng.uniform(np.log(low), np.log(high))) * unit
        spot = _spot(rng, height, width, side, taken)
        if spot is None:
            continue
        label = int(rng.integers(len(CLASS_NAMES)))
        items.append(_pose(rng, OUTLINES[CLASS_NAMES[label]](rng), side, *spot, label))
        taken.append((*spot, side))
        if rng.random() < COVERED:
            angle, cover = rng.uniform(0, 2 * np.pi), side * rng.uniform(0.45, 0.9)
            y, x = spot[0] + 0.4 * side * np.sin(angle), spot[1] + 0.4 * side * np.cos(angle)
            items.append(_pose(rng, _neutral(rng), cover, y, x, -1))
    return items


def _spot(
    rng: np.random.Generator, height: int, width: int, side: float, taken: list[tuple[float, float, float]]
) -> tuple[float, float] | None:
    """Find a place off the others, or now and then one that covers a part of one; None if it is too full."""
    if taken and rng.random() < BEHIND:
        y, x, other = taken[rng.integers(len(taken))]
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.45) * (side + other)
        return float(np.clip(y + away * np.sin(angle), 0, height)), float(
            np.clip(x + away * np.cos(angle), 0, width)
        )
    edge = side * 0.42  # so that some reach a little over the edge
    for _ in range(20):
        y, x = rng.uniform(edge, height - edge), rng.uniform(edge, width - edge)
        if all(np.hypot(y - v, x - u) > 0.52 * (side + other) for v, u, other in taken):
            return y, x
    return None


def _window(item: _Item, height: int, width: int) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Where a patch lies in the picture, and which part of the patch that is."""
    rows, columns = item.mask.shape
    top, left = np.clip([item.top, item.left], 0, [height, width])
    bottom, right = np.clip([item.top + rows, item.left + columns], 0, [height, width])
    inner = slice(top - item.top, bottom - item.top), slice(left - item.left, right - item.left)
    return (slice(top, bottom), slice(left, right)), inner


def _truth(
    items: list[_Item], height: int, width: int
) -> tuple[list[_Item], NDArray[np.int64], NDArray[np.float64]]:
    """Take out the objects that show too little; give what stays, with box, area and visible share.

    Returns:
        items; [N, 5] int64 xyxy and visible pixels; [N] share.
    """
    owner = np.zeros((height, width), dtype=np.uint8)
    for number, item in enumerate(items, start=1):
        outer, inner = _window(item, height, width)
        owner[outer][item.mask[inner] > 127] = number
    counts = np.bincount(owner.ravel(), minlength=len(items) + 1)[1:]
    whole = np.array([max(1, cv2.countNonZero(cv2.threshold(item.mask, 127, 1, 0)[1])) for item in items])
    share = counts / whole if items else np.zeros(0)
    hidden = [
        number for number, item in enumerate(items) if item.label >= 0 and share[number] < LEAST_VISIBLE
    ]
    if hidden:  # the rest may show more without the worst of them
        worst = min(hidden, key=lambda number: share[number])
        return _truth(items[:worst] + items[worst + 1 :], height, width)
    rects = np.zeros((len(items), 5), dtype=np.int64)
    for number, item in enumerate(items):
        (rows, columns), _ = _window(item, height, width)
        x, y, w, h = cv2.boundingRect((owner[rows, columns] == number + 1).astype(np.uint8))
        rects[number] = (
            x + columns.start,
            y + rows.start,
            x + w + columns.start,
            y + h + rows.start,
            counts[number],
        )
    return items, rects, share


def colour(rng: np.random.Generator, saturation: float) -> Floats:
    hue, grey, value = rng.random(), rng.uniform(0, saturation), rng.uniform(0.2, 0.95)
    return np.array(colorsys.hsv_to_rgb(hue, grey, value), dtype=np.float32) * 255


def noise(rng: np.random.Generator, cells: tuple[int, ...], height: int, width: int) -> Floats:
    grid = rng.standard_normal(cells, dtype=np.float32)
    return np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def _texture(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Noise at several scales; drawn out along one side it looks like wood or cloth, else like plaster."""
    grain = int(rng.choice([1, 1, 4, 16]))
    total = np.zeros((height, width), dtype=np.float32)
    for octave in range(5):
        cells = 4 << octave
        shape = (cells, max(2, cells // grain)) if rng.random() < 0.9 else (cells, cells)
        total += noise(rng, shape, height, width) * rng.uniform(0.3, 1.0) / (1 + 0.4 * octave)
    return total


def background(rng: np.random.Generator, height: int, width: int) -> Floats:
    """A surface, or a wall and a table, with things out of focus behind."""
    rows, columns = height // 4, width // 4  # blurred things need no more
    base = colour(rng, 0.4)
    canvas = base + noise(rng, (3, 3, 3), rows, columns) * rng.uniform(5, 22)
    if rng.random() < 0.45:
        horizon = int(rows * rng.uniform(0.2, 0.7))
        canvas[horizon:] = colour(rng, 0.4) + noise(rng, (3, 3, 3), rows - horizon, columns) * 12
    for _ in range(rng.integers(0, 6)):
        centre = int(rng.integers(columns)), int(rng.integers(rows))
        axes = int(rng.integers(2, columns // 3)), int(rng.integers(2, rows // 3))
        tone = 0.5 * colour(rng, 0.7) + 0.5 * canvas[centre[1], centre[0]]
        if rng.random() < 0.6:
            cv2.ellipse(canvas, centre, axes, rng.uniform(0, 180), 0, 360, tone.tolist(), -1)
        else:
            cv2.rectangle(canvas, centre, (centre[0] + axes[0], centre[1] + axes[1]), tone.tolist(), -1)
    canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.8, 5))
    canvas = cv2.resize(canvas, (width, height), interpolation=cv2.INTER_CUBIC)
    tint = 1 + 0.15 * rng.standard_normal(3, dtype=np.float32)
    texture = _texture(rng, height, width) if rng.random() < 0.5 else _texture(rng, width, height).T
    tint *= np.float32(rng.uniform(1, 6))
    return canvas + cv2.merge([texture * part for part in tint])


def _paint(rng: np.random.Generator, side: int, around: Floats) -> Floats:
    """Colour a patch: plain, shaded, striped or blotched in two colours, mostly unlike what is around."""
    first = colour(rng, 1.0)
    least = 0.0 if rng.random() < LOW_CONTRAST else CONTRAST
    while np.linalg.norm(first - around) < least:
        first = colour(rng, 1.0)
    second = first * np.float32(rng.uniform(0.55, 1.35)) + rng.uniform(-25, 25, 3).astype(np.float32)
    line = np.linspace(0, 1, side, dtype=np.float32)
    kind, slope = rng.choice(4, p=(0.3, 0.5, 0.1, 0.1)), rng.uniform(-1, 1)
    ramp = line[None, :] * np.float32(1 - abs(slope)) + line[:, None] * np.float32(slope)
    if kind == 0:
        mix = np.zeros_like(ramp)
    elif kind == 1:
        mix = ramp
    elif kind == 2:
        mix = np.clip(0.5 + 2 * np.sin(ramp * rng.uniform(20, 60)), 0, 1)
    else:
        cells = int(rng.integers(5, 14))
        mix = np.clip(0.5 + noise(rng, (cells, cells), side, side), 0, 1)
    return cv2.merge([mix * (end - start) + start for start, end in zip(first, second, strict=True)])


def _put(rng: np.random.Generator, canvas: Floats, item: _Item, light: NDArray[np.float64]) -> None:
    """Draw an item into the canvas: its soft shadow, then its colours with a lit and a dark edge."""
    outer, inner = _window(item, *canvas.shape[:2])
    under = canvas[outer]
    if under.size == 0:
        return
    cover = item.mask.astype(np.float32) / 255
    soft = np.asarray(cv2.GaussianBlur(cover, (0, 0), 0.6 + item.side * 0.04))
    fall = np.array([[1, 0, -0.09 * item.side * light[0]], [0, 1, -0.09 * item.side * light[1]]])
    shadow = cv2.warpAffine(soft, fall, item.mask.shape[::-1]) * np.float32(rng.uniform(0.25, 0.6))
    under *= cv2.merge([1 - shadow[inner]] * 3)
    edge = cv2.Sobel(soft, cv2.CV_32F, 1, 0, scale=-light[0]) + cv2.Sobel(
        soft, cv2.CV_32F, 0, 1, scale=-light[1]
    )
    edge *= np.float32(rng.uniform(2, 8) * np.sqrt(item.side))
    colours = _paint(rng, len(item.mask), np.array(cv2.mean(under)[:3])) + cv2.merge([edge] * 3)
    under += (colours[inner] - under) * cv2.merge([cover[inner]] * 3)


def develop(rng: np.random.Generator, canvas: Floats) -> Image:
    """Light falling off over the picture, a colour cast, a little blur and sensor noise."""
    height, width = canvas.shape[:2]
    cast = 1 + 0.06 * rng.standard_normal(3, dtype=np.float32)
    light = cast + 0.16 * rng.standard_normal((2, 2, 1), dtype=np.float32)
    canvas = np.asarray(canvas * cv2.resize(light, (width, height)), dtype=np.float32)
    sigma = rng.uniform(0, 1.1)
    if sigma > 0.35:
        canvas = np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma), dtype=np.float32)
    grain = rng.standard_normal((height, width), dtype=np.float32) * np.float32(rng.uniform(1, 6))
    return np.asarray(
        cv2.add(canvas, cv2.merge([grain] * 3), dtype=cv2.CV_8U), dtype=np.uint8
    )  # clips to 0..255


def render_scene(seed: int, split: str, index: int) -> Scene:
    """Render one picture of objects; the same for the same seed, split and index."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    height, width = SIDES[rng.integers(len(SIDES))]
    items, rects, share = _truth(_lay_out(rng, height, width), height, width)
    canvas = background(rng, height, width)
    angle = rng.uniform(0, 2 * np.pi)
    for item in items:
        _put(rng, canvas, item, np.array([np.cos(angle), np.sin(angle)]))
    labels = np.array([item.label for item in items], dtype=np.int64)
    kept = labels >= 0
    return Scene(develop(rng, canvas), rects[kept, :4], labels[kept], rects[kept, 4], share[kept])


def synthetic_root(task: str, **counts: int) -> Path:
    """Give the folder of a task's synthetic set, rendered on first use: below $MBAPPS_DATA, or datasets/.

    Args:
        task: its name.
        counts: seed=, and pictures (or people) by split: train=, val=, test=; the set's own numbers where they are
            not given.

    Raises:
        ValueError: there is none for this task.
    """
    name, write, full = _synthetic(task, counts)
    return write(data_home() / "synthetic" / name, **full)


def synthetic_name(task: str) -> str:
    """Give the name of that folder; nothing is rendered."""
    return _synthetic(task, {})[0]


def _synthetic(task: str, counts: dict[str, int]) -> tuple[str, Callable[..., Path], dict[str, int]]:
    from . import synthetic_faces, synthetic_identities, synthetic_landscapes, synthetic_textures

    writers: dict[str, tuple[Callable[..., Path], int]] = {
        "detection": (write_detection, VERSION),
        "face_attr": (synthetic_faces.write_faces, synthetic_faces.VERSION),
        "face_embed": (synthetic_identities.write_identities, synthetic_identities.VERSION),
        "fine_grained": (synthetic_textures.write_textures, synthetic_textures.VERSION),
        "geo": (synthetic_landscapes.write_landscapes, synthetic_landscapes.VERSION),
    }
    if task not in writers:
        raise ValueError(f"no synthetic set for task={task}, only for {', '.join(writers)}; set data.root")
    write, version = writers[task]
    full = {**(write.__kwdefaults__ or {}), **counts}
    sizes = "-".join(str(full[split]) for split in SPLITS if split in full)
    return f"{task}-v{version}-seed{full['seed']}-{sizes}", write, full


def write_detection(folder: Path, *, seed: int = 0, train: int = 600, val: int = 80, test: int = 80) -> Path:
    """Render pictures with boxes into `folder`, as JPEG files and COCO json; a complete one is left as is.

    Raises:
        FileExistsError: `folder` holds something else.
    """
    wanted = {"version": VERSION, "seed": seed, "train": train, "val": val, "test": test}

    def render(temporary: Path) -> None:
        jobs = [(split, index) for split in SPLITS for index in range(wanted[split])]
        truth: dict[str, list[Scene]] = {split: [] for split in SPLITS}
        for split, index in track(jobs, RENDERING.format(len(jobs)), transient=True):
            scene = render_scene(seed, split, index)
            write_jpeg(temporary / split / f"{index:06d}.jpg", scene.image, quality=70 + index % 25)
            truth[split].append(scene._replace(image=scene.image[:, :, :0]))  # its size is all that is needed
        (temporary / "annotations").mkdir()
        for split, scenes in truth.items():
            content = json.dumps(_coco(scenes, f"mbapps synthetic detection {split}, {wanted}"))
            (temporary / "annotations" / f"instances_{split}.json").write_text(content)

    return write_once(folder, wanted, render)


def write_once(folder: Path, wanted: dict[str, int], render: Callable[[Path], None]) -> Path:
    """Have a set rendered into `folder` unless it is there, complete.

    It is written beside its place and renamed, so that a folder of this name is always whole.

    Args:
        folder: for the set.
        wanted: what tells it from other sets; kept with it.
        render: puts the files into an empty folder.

    Raises:
        FileExistsError: `folder` holds something else.
    """
    if _complete(folder, wanted):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        render(temporary)
        (temporary / "LICENSE").write_text("Apache-2.0\n\nRendered by mbapps, under its licence.\n")
        (temporary / "complete.json").write_text(json.dumps(wanted))
        temporary.chmod(0o755)
        if not _complete(folder, wanted):  # another process may have been faster
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _complete(folder: Path, wanted: dict[str, int]) -> bool:
    if not folder.exists() or not any(folder.iterdir()):
        return False
    marker = folder / "complete.json"
    if not marker.is_file() or json.loads(marker.read_text()) != wanted:
        raise FileExistsError(f"{folder} holds something other than the synthetic set {wanted}; remove it")
    return True


def write_jpeg(path: Path, image: Image, quality: int) -> None:
    """Write RGB [H, W, 3] as JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(path), bgr, [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise OSError(f"can't write {path}")


def _coco(scenes: list[Scene], description: str) -> dict[str, object]:
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for row, scene in enumerate(scenes):
        height, width = scene.image.shape[:2]
        images.append({"id": row + 1, "file_name": f"{row:06d}.jpg", "height": height, "width": width})
        for (x1, y1, x2, y2), label, area in zip(
            scene.boxes.tolist(), scene.labels.tolist(), scene.areas.tolist(), strict=True
        ):
            annotations.append({
                "id": len(annotations) + 1, "image_id": row + 1, "category_id": label + 1,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": area, "iscrowd": 0,
            })  # fmt: skip
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASS_NAMES)]
    info = {"description": description}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}
