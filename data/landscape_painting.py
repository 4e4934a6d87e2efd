"""Paints a photo of a place in the synthetic world: sky, hills, road, houses and trees, in one season and weather."""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np

from .landscape_traits import Traits
from .synthetic import Floats, Image, develop, noise

SIDE = 112  # px of a picture
SHIFT = 4  # binary digits of a pixel's fraction that OpenCV draws with
SNOW = np.array([236, 240, 248], dtype=np.float32)
LEAVES = np.array([[52, 92, 44], [96, 126, 50], [40, 70, 52]], dtype=np.float32)  # broad, palm, needles
TRUNK, GLASS, WIRE = (
    np.array(colour, dtype=np.float32) for colour in ([92, 72, 54], [54, 66, 82], [60, 54, 50])
)
WHITE, YELLOW = (np.array(colour, dtype=np.float32) for colour in ([232, 232, 228], [232, 186, 50]))
HOUSES = 0.68  # share of what stands along the road; the others are trees


class Moment(NamedTuple):
    """What is a photo's own: season, hour and weather."""

    sun: float  # degrees over the horizon
    side: float  # where the sun stands, -1 left to 1 right
    snow: float  # share of the ground that is white
    clouds: float  # 0 to 1
    haze: float
    light: Floats  # RGB factor


class Easel(NamedTuple):
    """A picture that is being painted, and what is painted."""

    rng: np.random.Generator
    canvas: Floats  # RGB [SIDE, SIDE, 3], 0 to 255
    look: Traits
    moment: Moment
    horizon: int  # px from the top
    far: Floats  # RGB of the sky at the horizon, to which what is far away fades

    def fill(self, points: Any, colour: Floats) -> None:
        """Fill a polygon of [P, 2] x, y px."""
        cv2.fillPoly(self.canvas, [_fixed(points)], colour.tolist(), shift=SHIFT)

    def upright(self, x: float, half: float, top: float, foot: float, colour: Floats) -> None:
        """Fill a rectangle round x."""
        self.fill([[x - half, top], [x + half, top], [x + half, foot], [x - half, foot]], colour)

    def disc(self, x: float, y: float, radius: float, colour: Floats) -> None:
        cv2.circle(self.canvas, _fixed([x, y]).tolist(), int(radius * 16), colour.tolist(), -1, shift=SHIFT)

    def faded(self, colour: Floats, near: float) -> Floats:
        """A colour as it looks from afar; `near` is 1 at our feet and 0 at the horizon."""
        return _blend(colour, self.far, (1 - near) * 0.45 * self.moment.haze)


def paint(rng: np.random.Generator, look: Traits) -> Image:
    """Paint one photo, RGB uint8 [SIDE, SIDE, 3]."""
    moment = _moment(rng, look)
    horizon = int(SIDE * rng.uniform(0.4, 0.58))
    canvas = np.empty((SIDE, SIDE, 3), dtype=np.float32)
    easel = Easel(rng, canvas, look, moment, horizon, _sky(rng, canvas, moment, horizon))
    ground = _blend(look.grass, look.soil, look.dryness * rng.uniform(0.8, 1.2))
    ground = _blend(ground, SNOW, moment.snow)
    _hills(easel, ground)
    centre = SIDE * rng.uniform(0.3, 0.7)
    _ground(easel, ground, centre)
    for near in np.sort(rng.uniform(0.2, 1.0, rng.integers(5, 9))).tolist():
        side = -1 if rng.random() < 0.5 else 1
        x = centre + side * (SIDE * near * rng.uniform(0.3, 0.75) + 6)
        y = horizon + (SIDE - horizon) * near * 0.55
        stand = _house if rng.random() < HOUSES else _tree
        stand(easel, x, y, near)
    if rng.random() < look.poles:
        _wires(easel, centre)
    canvas *= moment.light
    return develop(rng, canvas)


def _moment(rng: np.random.Generator, look: Traits) -> Moment:
    season = np.cos(2 * np.pi * rng.random())  # 1 in June
    hour = rng.uniform(-1, 1)
    noon = look.noon + 23.4 * season * np.sign(look.swing)
    noon = noon if noon < 90 else 180 - noon
    sun = max(4.0, noon * (1 - 0.55 * hour**2))
    cold = look.warmth + look.swing * season + rng.normal(0, 3)
    clouds = rng.random() ** (1.0 + 2 * look.dryness)
    warm = 0.3 * np.exp(-sun / 14)  # low suns are red
    bright = 0.62 + 0.42 * np.sin(np.radians(sun)) ** 0.6 - 0.14 * clouds
    light = bright * np.array([1 + warm, 1, 1 - warm]) * rng.normal(1, 0.06)
    snow = 1 / (1 + np.exp(1.2 * (cold + 1)))
    return Moment(sun, rng.uniform(-0.9, 0.9), snow, clouds, rng.uniform(0.1, 0.7), light.astype(np.float32))


def _sky(rng: np.random.Generator, canvas: Floats, moment: Moment, horizon: int) -> Floats:
    """Paint the sky down to the horizon, and give its colour there."""
    warm = np.float32(np.exp(-moment.sun / 12))
    top = np.array([70, 124, 196], np.float32) + np.float32(30 * moment.haze)
    low = np.array([176, 204, 228], np.float32) + np.array([60, -14, -80], np.float32) * warm
    grey = np.full(3, 206 - 40 * moment.clouds, dtype=np.float32)
    top, low = (_blend(colour, grey, 0.75 * moment.clouds) for colour in (top, low))
    down = np.linspace(0, 1, horizon, dtype=np.float32)[:, None, None]
    sky = canvas[:horizon]
    sky[:] = top + (low - top) * down**1.5
    if moment.clouds > 0.12:
        billows = noise(rng, (6, 5), horizon, SIDE) + 0.6 * noise(rng, (14, 11), horizon, SIDE)
        cover = np.clip(0.5 * billows + 1.4 * (moment.clouds - 0.5), 0, 1)[:, :, None]
        sky += (np.float32(244 - 50 * moment.clouds) - sky) * cover
    height = horizon * (1 - np.sin(np.radians(moment.sun)) * 1.05)
    if moment.clouds < 0.7:
        disc = np.zeros((horizon, SIDE), dtype=np.float32)
        cv2.circle(disc, _fixed([SIDE / 2 * (1 + moment.side), height]).tolist(), 72, 1.0, -1, shift=SHIFT)
        glow = np.minimum(1, cv2.GaussianBlur(disc, (0, 0), 7) * 3 + disc)[:, :, None]
        sky += (np.array([255, 250, 224], np.float32) - sky) * glow
    return np.asarray(low)


def _hills(easel: Easel, ground: Floats) -> None:
    """Two ranges, one behind the other; high heads of the farther one are white, lower ones where it is cold."""
    horizon, look = easel.horizon, easel.look
    for layer, share in enumerate((1.0, 0.55)):
        steps = noise(easel.rng, (1, 7 + 5 * layer), 1, SIDE)[0]
        tops = horizon - np.clip(0.6 + 0.5 * steps, 0.02, None) * look.relief * SIDE * share
        outline = np.stack([np.arange(SIDE), tops], axis=1)
        tint = _blend(ground * np.float32(0.8), easel.far, 0.7 * easel.moment.haze * share + 0.1)
        easel.fill(np.concatenate([outline, [[SIDE, horizon + 1], [0, horizon + 1]]]), tint)
        if layer == 0:
            line = horizon - SIDE * max(0.02, 0.06 + 0.011 * look.warmth)
            rows = np.arange(horizon)[:, None]
            easel.canvas[:horizon][(rows >= tops) & (rows < line)] = SNOW * np.float32(0.92)


def _ground(easel: Easel, ground: Floats, centre: float) -> None:
    """The ground, and a road with its line, which runs from the middle of the horizon to our feet."""
    rng, horizon, look = easel.rng, easel.horizon, easel.look
    rows = SIDE - horizon
    patches = noise(rng, (8, 6), rows, SIDE) + noise(rng, (40, 30), rows, SIDE)
    easel.canvas[horizon:] = ground * (1 + np.float32(0.07) * patches[:, :, None])
    width, away = rng.uniform(0.3, 0.5) * SIDE, rng.uniform(-0.15, 0.15) * SIDE
    asphalt = np.float32(rng.uniform(84, 120)) + (look.soil - 120) * np.float32(0.25)
    foot = centre + away
    edges = [[centre - 1, horizon], [centre + 1, horizon], [foot + width, SIDE], [foot - width, SIDE]]
    easel.fill(edges, _blend(asphalt, SNOW, 0.6 * easel.moment.snow))
    ends = np.linspace(0, 1, 2 * max(2, round(look.dashes)) + 1) ** 1.8 + rng.uniform(0, 0.02)
    for start, stop in zip(ends[:-1:2], ends[1::2], strict=True):
        along = np.array([start, start, stop, stop])
        across = np.array([-1, 1, 1, -1]) * (0.4 + 2.2 * along)
        dash = np.stack([centre + away * along + across, horizon + rows * along], axis=1)
        easel.fill(dash, _blend(WHITE, YELLOW, look.paint))


def _house(easel: Easel, x: float, y: float, near: float) -> None:
    rng, look, moment = easel.rng, easel.look, easel.moment
    storeys = max(1, round(look.storeys * rng.uniform(0.7, 1.3)))
    high = SIDE * near * 0.15 * storeys + 3
    wide = (SIDE * near * 0.36 + 3) * look.slender * rng.uniform(0.8, 1.2) * (1 + 0.15 * storeys)
    wide = max(5.0, wide)
    wall = look.other_wall if rng.random() < 0.33 else look.wall
    left, right, top = x - wide / 2, x + wide / 2, y - high
    reach = wide * min(2.0, 0.5 / np.tan(np.radians(max(moment.sun, 12)))) * (1 - moment.clouds)
    cast, below = -np.copysign(reach, moment.side), y + 0.2 * high
    shadow = np.zeros((SIDE, SIDE), dtype=np.uint8)
    corners = [[left, y], [right, y], [right + cast, below], [left + cast, below]]
    cv2.fillPoly(shadow, [_fixed(corners)], 255, shift=SHIFT)
    easel.canvas[shadow > 0] *= np.float32(0.7)
    easel.upright(x, wide / 2, top, y, easel.faded(wall * np.float32(rng.uniform(0.85, 1.08)), near))
    columns = max(1, round(look.windows[0] * (0.6 + 0.7 * look.slender)))
    cell, floor = wide / columns, high / storeys
    pane = min(cell * 0.55, floor * 0.6 / look.windows[1], 9)
    if pane >= 1:
        half = pane * look.windows[1] / 2
        for place in range(storeys * columns):
            middle, base = left + (place % columns + 0.5) * cell, top + (place // columns + 0.55) * floor
            easel.upright(middle, pane / 2, base - half, base + half, easel.faded(GLASS, near))
    rise, eaves = max(1.5, look.pitch * wide * 0.5), wide * 0.06
    slope = wide * 0.3 if rise > 1.5 else 0.0
    roof = [
        [left - eaves, top],
        [right + eaves, top],
        [right - slope, top - rise],
        [left + slope, top - rise],
    ]
    easel.fill(roof, _blend(easel.faded(look.roof, near), SNOW, 0.85 * moment.snow))


def _tree(easel: Easel, x: float, y: float, near: float) -> None:
    """A fir where it is cold, a palm where it is hot, and a broad tree anywhere."""
    rng, look = easel.rng, easel.look
    high = SIDE * near * rng.uniform(0.3, 0.55) * (1.15 - 0.5 * look.dryness) + 3
    palm, fir = (1 / (1 + np.exp(-value / 1.5)) for value in (look.warmth - 23, 9 - look.warmth))
    draw = rng.random()
    kind = 1 if draw < palm * 0.8 else 2 if draw > 1 - fir else 0
    leaf = _blend(LEAVES[kind], look.grass, 0.3) * np.float32(rng.uniform(0.85, 1.15))
    leaf = easel.faded(_blend(leaf, SNOW, 0.4 * easel.moment.snow), near)
    half = max(0.6, high * 0.04)
    easel.upright(x, half, y - high * (0.85 if kind == 1 else 0.6), y, TRUNK)
    if kind == 2:
        for level in (0.0, 0.28, 0.52):
            wide, base = high * (0.3 - 0.3 * level), y - high * (0.15 + level)
            easel.fill([[x - wide, base], [x + wide, base], [x, base - high * 0.45]], leaf)
    elif kind == 1:
        for angle in np.linspace(-2.9, -0.2, 7) + rng.normal(0, 0.12, 7):
            end = np.array([np.cos(angle) * high * 0.36, np.sin(angle) * high * 0.18 + high * 0.1])
            bend = np.array([np.cos(angle) * high * 0.2, np.sin(angle) * high * 0.26])
            frond = np.array([[0, 0], bend, end, bend + [0, high * 0.05]])
            easel.fill(frond + [x, y - high * 0.85], leaf)
    else:
        for _ in range(5):
            right, up = rng.normal(0, high * 0.12), high * rng.uniform(0.5, 0.85)
            shade = leaf * np.float32(rng.uniform(0.85, 1.12))
            easel.disc(x + right, y - up, high * rng.uniform(0.14, 0.24), shade)


def _wires(easel: Easel, centre: float) -> None:
    """A pole beside the road, and wires that run to the horizon."""
    rng = easel.rng
    foot, top = centre + rng.choice([-1, 1]) * SIDE * rng.uniform(0.25, 0.4), rng.uniform(0.02, 0.2) * SIDE
    easel.upright(foot, 1.1, top, SIDE * 0.82, WIRE)
    end = easel.horizon - 3.0
    for drop in (0.0, 4.0):
        wire = [[foot, top + drop], [centre, end], [centre, end + 0.7], [foot, top + drop + 0.8]]
        easel.fill(wire, WIRE)


def _blend(colour: Floats, other: Floats, share: float) -> Floats:
    """A colour with a share of another in it."""
    return np.asarray(colour + (other - colour) * np.float32(share), dtype=np.float32)


def _fixed(points: Any) -> Any:
    return np.round(np.asarray(points, dtype=np.float64) * (1 << SHIFT)).astype(np.int32)
