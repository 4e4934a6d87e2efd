"""Renders the embedded default of face attributes: drawn faces in CelebA's layout."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from .synthetic import RENDERING, SPLITS, Floats, Image, background, develop, noise, write_jpeg, write_once

VERSION = 1  # raise it when the pictures change: old caches are then left alone and not read
HEIGHT, WIDTH = 218, 178  # px, as CelebA's aligned pictures
RATES = {  # share of faces that have each attribute
    "Bangs": 0.3, "Beard": 0.25, "Blond_Hair": 0.2, "Eyeglasses": 0.2, "Long_Hair": 0.45, "Smiling": 0.5,
    "Wearing_Earrings": 0.2, "Wearing_Hat": 0.12,
}  # fmt: skip
SKIN = np.array([[255, 224, 196], [241, 194, 150], [205, 150, 104], [150, 98, 62], [86, 54, 38]], np.float32)
HAIR = np.array([[28, 24, 24], [70, 45, 30], [115, 75, 48], [140, 66, 38], [150, 148, 146]], np.float32)
BLOND = np.array([[232, 200, 130], [206, 168, 100], [240, 222, 170]], np.float32)
OCCLUDED = 0.2  # share of faces with something laid over a part
Points = NDArray[np.float64]


class Face(NamedTuple):
    """A picture and its exact truth."""

    image: Image  # RGB [HEIGHT, WIDTH, 3]
    present: NDArray[np.bool_]  # [A] in the order of RATES


class Pen:
    """Paints shapes given in a face's own measure: its width is -1..1, its chin at y = 1.3, before it is posed.

    Args:
        rng: of the pose.
        canvas: [H, W, 3], painted on.
        unit: px of half a face's width.
    """

    def __init__(self, rng: np.random.Generator, canvas: Floats, unit: float = 54):
        self.rng, self.canvas = rng, canvas
        self.height, self.width = canvas.shape[:2]
        angle, scale = rng.normal(0, 0.13), unit * rng.uniform(0.85, 1.12)
        cos, sin = scale * np.cos(angle), scale * np.sin(angle)
        self.turn = np.array([[cos, sin], [-sin, cos]]) * [[1], [rng.uniform(0.93, 1.07)]]
        self.centre = np.array([self.width / 2, self.height * 0.52]) + rng.normal(0, 6, 2)
        self.yaw = rng.normal(0, 0.1)  # how far what lies in front of the head moves sideways
        grain = noise(rng, (60, 25), self.height, self.width)
        self.grain = cv2.merge([grain] * 3)

    def shape(self, points: Points, colour: Floats, *, front: float = 0.0, soft: float = 0.6, cover: float = 1.0,
              grain: float = 0.0) -> None:  # fmt: skip
        """Fill an outline [N, 2]; `front` says how far before the head's middle it lies, 1 being the nose."""
        posed = (points + [self.yaw * front, 0]) @ self.turn + self.centre
        room = 4 * soft + 1
        left, top = np.clip(posed.min(axis=0) - room, 0, [self.width, self.height]).astype(int)
        right, bottom = np.clip(posed.max(axis=0) + room, 0, [self.width, self.height]).astype(int)
        if right <= left or bottom <= top:
            return
        mask = np.zeros((bottom - top, right - left), dtype=np.uint8)
        cv2.fillPoly(mask, [np.round((posed - [left, top]) * 16).astype(np.int32)], 255, cv2.LINE_AA, 4)
        blend = cv2.merge([cv2.GaussianBlur(mask.astype(np.float32) / 255 * cover, (0, 0), soft)] * 3)
        part = self.canvas[top:bottom, left:right]
        part += (colour + self.grain[top:bottom, left:right] * grain - part) * blend

    def disc(self, x: float, y: float, width: float, height: float, colour: Floats, **style: float) -> None:
        """Fill an ellipse given by its middle and its half axes."""
        self.shape(arc(x, y, width, height, 0, 2 * np.pi), colour, **style)

    def line(self, points: Points, width: float, colour: Floats, **style: float) -> None:
        """Draw a line [N, 2] as wide as said."""
        along = np.gradient(points, axis=0)
        side = np.stack([-along[:, 1], along[:, 0]], axis=1) / np.linalg.norm(along, axis=1, keepdims=True)
        self.shape(
            np.concatenate([points + side * width / 2, (points - side * width / 2)[::-1]]), colour, **style
        )


def arc(x: float, y: float, width: float, height: float, start: float, end: float) -> Points:
    angle = np.linspace(start, end, 40)
    return np.stack([x + width * np.cos(angle), y + height * np.sin(angle)], axis=1)


def mix(rng: np.random.Generator, palette: Floats) -> Floats:
    """A colour between two neighbours of a palette, a little off."""
    first = rng.integers(len(palette) - 1)
    share = np.float32(rng.random())
    colour = palette[first] * (1 - share) + palette[first + 1] * share
    return np.asarray(colour + rng.normal(0, 6, 3), dtype=np.float32)


def rgb(values: list[float]) -> Floats:
    return np.array(values, dtype=np.float32)


def any_colour(rng: np.random.Generator) -> Floats:
    return rng.uniform(15, 235, 3).astype(np.float32)


def render_face(seed: int, split: str, index: int) -> Face:
    """Render one picture; the same for the same seed, split and index."""
    rng = np.random.default_rng([seed, SPLITS.index(split), index, VERSION])
    has = {name: bool(rng.random() < rate) for name, rate in RATES.items()}
    pen = Pen(rng, np.asarray(background(rng, HEIGHT, WIDTH), dtype=np.float32))
    skin, hair = mix(rng, SKIN), mix(rng, BLOND if has["Blond_Hair"] else HAIR)
    _behind(pen, has, skin, hair)
    pen.shape(arc(0, 0, 1, 1.3 * rng.uniform(0.92, 1.06), 0, 2 * np.pi), skin)
    side = float(rng.choice([-1, 1]))
    pen.disc(
        0.55 * side, 0.1, 0.45, 1.0, skin * 0.72, soft=9, cover=rng.uniform(0.1, 0.6)
    )  # away from the light
    if has["Beard"] or rng.random() < 0.25:  # else a shadow below the chin
        jaw = np.concatenate([arc(0, 0.1, 0.98, 1.2, 0.15, np.pi - 0.15), arc(0, 0.35, 0.75, 0.35, np.pi, 0)])
        style = (hair * 0.75, rng.uniform(0.6, 0.95), 24.0) if has["Beard"] else (skin * 0.8, 0.5, 0.0)
        pen.shape(jaw, style[0], front=0.5, soft=2, cover=style[1], grain=style[2])
    _features(pen, has, skin, hair)
    if has["Eyeglasses"]:
        _glasses(pen)
    top = arc(0, -0.62, 1.06, 0.8, np.pi, 2 * np.pi)
    fringe = -0.35 if has["Bangs"] else rng.uniform(-0.95, -0.72)
    edge = np.linspace(1.02, -1.02, 14)
    tips = fringe - 0.25 * edge**2 * (not has["Bangs"]) + rng.normal(0, 0.04, 14)
    cap = np.concatenate([top, np.stack([edge, tips], axis=1)])
    pen.shape(cap, hair, front=0.3, soft=0.9, grain=14)
    if has["Wearing_Hat"]:
        cloth = any_colour(rng)
        pen.shape(arc(0, -0.72, 1.1, rng.uniform(0.75, 1.05), np.pi, 2 * np.pi), cloth, front=0.2, grain=6)
        pen.disc(0, -0.72, rng.uniform(1.12, 1.6), rng.uniform(0.12, 0.2), cloth * 0.8, front=0.4)
    if rng.random() < OCCLUDED:
        angle = rng.uniform(0, 2 * np.pi)
        middle = np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(0.7, 1.2)
        pen.disc(
            middle[0],
            middle[1],
            rng.uniform(0.2, 0.45),
            rng.uniform(0.2, 0.7),
            any_colour(rng),
            soft=1.5,
            grain=8,
        )
    return Face(develop(rng, pen.canvas), np.array(list(has.values())))


def _behind(pen: Pen, has: dict[str, bool], skin: Floats, hair: Floats) -> None:
    """Hair at the back, shoulders, neck, ears and what hangs from them."""
    rng = pen.rng
    length = rng.uniform(1.3, 2.2) if has["Long_Hair"] else rng.uniform(-0.3, 0.25)
    spread = rng.uniform(1.15, 1.4) if has["Long_Hair"] else rng.uniform(1.02, 1.12)
    back = np.concatenate(
        [arc(0, -0.35, spread, 1.1, np.pi, 2 * np.pi), [[spread, length], [-spread, length]]]
    )
    pen.shape(back, hair * 0.85, front=-0.4, soft=1.2, grain=18)
    pen.disc(0, 2.9, rng.uniform(1.7, 2.3), 1.25, any_colour(rng), grain=8)
    pen.shape(np.array([[-0.5, 0.7], [0.5, 0.7], [0.6, 2.0], [-0.6, 2.0]]), skin * 0.82)
    metal = np.array([225, 190, 90] if rng.random() < 0.5 else [200, 205, 215], dtype=np.float32)
    size, drop = rng.uniform(0.1, 0.18), rng.uniform(0.35, 0.6)
    for side in (-1.0, 1.0):
        pen.disc(side * 1.0, 0.1, 0.16, 0.27, skin * 0.9, front=-0.3)
        if has["Wearing_Earrings"]:
            pen.disc(side * 1.05, drop, size, size * rng.uniform(1, 1.8), metal, front=-0.3)


def _features(pen: Pen, has: dict[str, bool], skin: Floats, hair: Floats) -> None:
    """Eyes, brows, nose and mouth."""
    rng = pen.rng
    eye, open_, brow = rng.uniform(0.36, 0.44), rng.uniform(0.05, 0.12), rng.uniform(0.05, 0.13)
    iris = mix(rng, HAIR)
    for side in (-1.0, 1.0):
        pen.disc(side * eye, -0.12, 0.21, open_ + 0.06, skin * 0.85, front=0.6, soft=2)
        pen.disc(side * eye, -0.12, 0.17, open_, rgb([238, 236, 232]), front=0.6)
        pen.disc(side * eye + rng.normal(0, 0.02), -0.12, 0.085, open_, iris * 0.6, front=0.6)
        pen.line(arc(side * eye, -0.3, 0.24, 0.1, 1.15 * np.pi, 1.85 * np.pi), brow, hair * 0.7, front=0.6)
    pen.line(np.array([[0.02, -0.1], [0.1, 0.25], [0.0, 0.38]]), 0.07, skin * 0.72, front=1, soft=1.5)
    curve = (
        rng.uniform(0.13, 0.26) if has["Smiling"] else rng.uniform(-0.12, 0.05)
    )  # corners above the middle
    half = rng.uniform(0.28, 0.4) + 0.5 * max(0.0, curve - 0.1)
    across = np.linspace(-1, 1, 24)
    lip = np.stack([across * half, 0.72 - curve * (across**2 - 0.5)], axis=1)
    red = skin * rgb([0.8, 0.52, 0.52]) if rng.random() < 0.7 else rgb([170, 40, 60])
    pen.line(lip, rng.uniform(0.12, 0.2), red, front=0.7)
    if rng.random() < (0.6 if has["Smiling"] else 0.2):
        pen.line(lip * [0.8, 1], 0.07, rgb([240, 238, 230]), front=0.7)


def _glasses(pen: Pen) -> None:
    rng = pen.rng
    frame, thick = any_colour(rng) * np.float32(0.6), rng.uniform(0.05, 0.11)
    width, height = rng.uniform(0.26, 0.34), rng.uniform(0.18, 0.3)
    for side in (-1.0, 1.0):
        if rng.random() < 0.3:
            pen.disc(side * 0.41, -0.1, width, height, rgb([30, 30, 36]), front=0.8, cover=0.6)
        pen.line(arc(side * 0.41, -0.1, width, height, 0, 2 * np.pi), thick, frame, front=0.8)
        pen.line(np.array([[side * (0.41 + width), -0.12], [side * 1.0, -0.08]]), thick, frame, front=0.5)
    pen.line(np.array([[-0.41 + width, -0.13], [0.41 - width, -0.13]]), thick, frame, front=0.8)


def write_faces(folder: Path, *, seed: int = 0, train: int = 1400, val: int = 200, test: int = 200) -> Path:
    """Render faces into `folder`, as JPEG files and CelebA's two lists; a complete one is left as is.

    Raises:
        FileExistsError: `folder` holds something else.
    """
    wanted = {"version": VERSION, "seed": seed, "train": train, "val": val, "test": test}

    def render(temporary: Path) -> None:
        jobs = [(split, index) for split in SPLITS for index in range(wanted[split])]
        attributes, partition = [f"{len(jobs)}", " ".join(RATES)], []
        for number, (split, index) in enumerate(track(jobs, RENDERING.format(len(jobs)), transient=True), 1):
            face = render_face(seed, split, index)
            name = f"{number:06d}.jpg"
            write_jpeg(temporary / "img_align_celeba" / name, face.image, quality=75 + index % 20)
            attributes.append(f"{name} " + " ".join("1" if has else "-1" for has in face.present))
            partition.append(f"{name} {SPLITS.index(split)}")
        (temporary / "list_attr_celeba.txt").write_text("\n".join(attributes) + "\n")
        (temporary / "list_eval_partition.txt").write_text("\n".join(partition) + "\n")

    return write_once(folder, wanted, render)
