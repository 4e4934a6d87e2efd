"""Renders the fine_grained default: things alike in colour and shape whose surfaces differ in fine texture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from rich.progress import track

from .synthetic import (
    RENDERING,
    SPLITS,
    Floats,
    Image,
    background,
    colour,
    develop,
    noise,
    write_jpeg,
    write_once,
)

VERSION = 1  # raise it when the pictures change
SIDE = 128  # px of a picture
PERIOD = (9.0, 13.0)  # px: what repeats does so at this distance, whatever the class
CONTRAST = (0.7, 1.2)  # of the texture, as a share of the thing's own brightness
TURN = 0.5  # radians to either side
RADIUS = (0.38, 0.52)  # of a thing, as a share of the side
WARP = 3.0  # px by which the surface is bent
COVERED = 0.3  # share of pictures in which something plain hides a part

Texture = Callable[
    [np.random.Generator, Floats, Floats], Floats
]  # in periods along two sides -> about -1 to 1


def _barred(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """Even bars."""
    return np.asarray(np.sin(2 * np.pi * u))


def _streaked(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """Bars broken into streaks that do not meet their neighbours."""
    shift = _random(np.floor(u), 0)
    return np.asarray(np.sin(2 * np.pi * u) * np.where((v / 2.6 + shift) % 1 < 0.62, 1, -0.6))


def _waved(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """Bars that run in a zigzag."""
    return np.asarray(np.sin(2 * np.pi * (u + 0.55 * np.abs((v / 1.6) % 2 - 1))))


def _checked(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """Squares, light and dark in turn."""
    return np.asarray(np.tanh(4 * np.sin(np.pi * u) * np.sin(np.pi * v)))


def _dotted(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """Dots in straight rows."""
    return _dots(u % 1 - 0.5, v % 1 - 0.5)


def _speckled(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """As many dots, anywhere."""
    row, column = np.floor(u), np.floor(v)
    across = u - row - 0.2 - 0.6 * _random(row, column)
    along = v - column - 0.2 - 0.6 * _random(column + 57, row)
    return _dots(across, along)


def _scaled(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """Round scales, each row half over the next."""
    row = np.floor(v)
    across = (u + 0.5 * (row % 2)) % 1 - 0.5
    return np.asarray(1 - 2.6 * np.hypot(across, v - row - 0.1).clip(0, 0.9) ** 1.5)


def _netted(rng: np.random.Generator, u: Floats, v: Floats) -> Floats:
    """Crossing threads."""
    return np.asarray(2 * np.maximum(np.abs(np.cos(np.pi * u)), np.abs(np.cos(np.pi * v))) ** 6 - 0.7)


TEXTURES: dict[str, Texture] = {
    "barred": _barred, "checked": _checked, "dotted": _dotted, "netted": _netted,
    "scaled": _scaled, "speckled": _speckled, "streaked": _streaked, "waved": _waved,
}  # fmt: skip
CLASS_NAMES = tuple(TEXTURES)


def _dots(across: Floats, along: Floats) -> Floats:
    return np.asarray(np.tanh(9 * (0.3 - np.hypot(across, along))))


def _random(row: Floats, column: Floats | int) -> Floats:
    """A number in [0, 1) for each cell of a grid, the same wherever it is asked for."""
    return np.asarray(np.abs(np.sin(row * 12.9898 + column * 78.233) * 43758.5453) % 1)


def render_texture(seed: int, split: str, label: int, index: int) -> Image:
    """Render one picture, uint8 [128, 128, 3]; the same for the same arguments."""
    rng = np.random.default_rng([seed, SPLITS.index(split), label, index])
    canvas = background(rng, SIDE, SIDE)
    rows, columns = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    height = noise(rng, (4, 4), SIDE, SIDE)  # the bumps of the surface
    turn, period = rng.uniform(-TURN, TURN), np.exp(rng.uniform(*np.log(PERIOD)))
    tilt = 1 + rng.uniform(-0.2, 0.2) * (rows + columns) / SIDE
    x = columns * tilt + WARP * height + rng.uniform(0, 999)
    y = rows * tilt + WARP * noise(rng, (4, 4), SIDE, SIDE) + rng.uniform(0, 999)
    u = (np.cos(turn) * x + np.sin(turn) * y) / period
    v = (np.cos(turn) * y - np.sin(turn) * x) / period
    texture = TEXTURES[CLASS_NAMES[label]](rng, u, v) * rng.choice(
        [-1, 1]
    )  # light on dark as well as dark on light
    texture = (texture - texture.mean()) / max(float(texture.std()), 1e-3)
    light = 1 + 0.15 * height + rng.uniform(*CONTRAST) * 0.5 * texture
    surface = colour(rng, 0.9) * light[..., None].astype(np.float32)
    cover = cv2.GaussianBlur(_blob(rng, rng.uniform(*RADIUS)), (0, 0), 1.2)[..., None]
    canvas = canvas + (surface.astype(np.float32) - canvas) * cover
    if rng.random() < COVERED:
        plain = cv2.GaussianBlur(_blob(rng, rng.uniform(0.1, 0.2)), (0, 0), 1.0)[..., None]
        canvas = canvas + (colour(rng, 0.7) - canvas) * plain
    return develop(rng, canvas.astype(np.float32))


def _blob(rng: np.random.Generator, radius: float) -> Floats:
    """A rounded outline somewhere about the middle, [128, 128] in [0, 1]; `radius` as a share of the side."""
    angle = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    waves = np.outer(range(1, 5), angle) + rng.uniform(0, 2 * np.pi, (4, 1))
    reach = radius * SIDE * (1 + rng.uniform(-0.12, 0.12, 4) @ np.cos(waves))
    centre = SIDE / 2 + rng.uniform(-0.12, 0.12, 2) * SIDE
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach[:, None] + centre
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    cv2.fillPoly(mask, [np.round(points * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
    return np.divide(mask, 255, dtype=np.float32)


def write_textures(folder: Path, *, seed: int = 0, train: int = 960, val: int = 160, test: int = 160) -> Path:
    """Render pictures into `<folder>/<split>/<class>/`, so many of each split; a complete folder is left as is.

    Raises:
        FileExistsError: `folder` holds something else.
    """
    wanted = {"version": VERSION, "seed": seed, "train": train, "val": val, "test": test}

    def render(temporary: Path) -> None:
        jobs = [(split, index) for split in SPLITS for index in range(wanted[split])]
        for split, index in track(jobs, RENDERING.format(len(jobs)), transient=True):
            number, label = divmod(index, len(CLASS_NAMES))
            place = temporary / split / CLASS_NAMES[label] / f"{number:04d}.jpg"
            write_jpeg(place, render_texture(seed, split, label, number), quality=75 + index % 20)

    return write_once(folder, wanted, render)
