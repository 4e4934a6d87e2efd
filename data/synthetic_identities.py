"""Renders the embedded default of face embeddings: drawn people, each in several photographs, in LFW's layout."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from .synthetic import RENDERING, Floats, Image, background, develop, write_jpeg, write_once
from .synthetic_faces import BLOND, HAIR, SKIN, Pen, any_colour, arc, mix, rgb

VERSION = 1  # raise it when the pictures change: old caches are then left alone and not read
SIDE = 250  # px, as LFW's pictures
UNIT = 72  # px of half a face's width: the face fills most of the picture
PHOTOS = (7, 14)  # pictures of a person, from and to
LONE = 12  # each so-many-th of those to be trained on has one picture only, as most people of LFW
FOLDS, PEOPLE_A_FOLD, PAIRS_A_FOLD = 10, 4, 30  # pairs of each kind
FIRST = """
    Ada Bela Cleo Dario Edda Falk Gesa Hiram Ilka Jorin Kaya Levin Mira Nils Oda Pavel Quinn Runa Silas Tova Ulla Veit
    Wanda Yorick Zelda""".split()  # noqa: SIM905
LAST = """
    Alder Birch Clover Dogwood Elder Fennel Gorse Hazel Ivy Juniper Laurel Maple Nettle Oakes Poplar Rowan Sorrel
    Thistle Willow Yarrow""".split()  # noqa: SIM905


class Person(NamedTuple):
    """What stays the same from picture to picture, in a face's own measure."""

    skin: Floats
    hair: Floats
    lips: Floats
    iris: Floats
    length: float  # of the face
    jaw: float  # how much narrower than an ellipse the chin is
    ears: float
    eyes: tuple[float, float, float, float]  # distance from the middle, height, half width, openness
    slant: float  # of the eyes
    brows: tuple[float, float, float]  # height over the eyes, thickness, slope
    nose: tuple[float, float]  # length, half width
    mouth: tuple[float, float, float]  # height, half width, thickness of the lips
    hairline: float
    parting: float  # where the fringe is highest, -1 to 1
    locks: tuple[float, float]  # length and spread of the hair
    beard: float  # how dense; 0 for none
    mole: tuple[float, float] | None
    frame: Floats  # of the glasses
    lenses: tuple[float, float]  # half width and height
    glasses: float  # share of pictures with them


def draw_person(seed: int, number: int) -> Person:
    """Draw a person's traits; the same for the same seed and number."""
    rng = np.random.default_rng([seed, number, VERSION])
    skin = mix(rng, SKIN)
    bearded, freckled, bespectacled = rng.random(3) < (0.25, 0.35, 0.3)
    return Person(
        skin=skin,
        hair=mix(rng, BLOND if rng.random() < 0.2 else HAIR),
        lips=skin * rgb([0.82, 0.55, 0.55]) if rng.random() < 0.75 else rgb([170, 45, 65]),
        iris=mix(rng, HAIR) * np.float32(0.6) if rng.random() < 0.7 else rgb([70, 110, 140]),
        length=rng.uniform(1.12, 1.42),
        jaw=rng.uniform(0.0, 0.3),
        ears=rng.uniform(0.1, 0.24),
        eyes=(rng.uniform(0.33, 0.49), rng.uniform(-0.24, 0.02), rng.uniform(0.13, 0.22), rng.uniform(0.05, 0.12)),
        slant=rng.uniform(-0.35, 0.35),
        brows=(rng.uniform(0.14, 0.26), rng.uniform(0.04, 0.14), rng.uniform(-0.3, 0.35)),
        nose=(rng.uniform(0.38, 0.62), rng.uniform(0.08, 0.2)),
        mouth=(rng.uniform(0.64, 0.84), rng.uniform(0.24, 0.42), rng.uniform(0.08, 0.2)),
        hairline=rng.uniform(-0.98, -0.45),
        parting=rng.uniform(-1, 1),
        locks=(rng.uniform(1.2, 2.2) if rng.random() < 0.45 else rng.uniform(-0.3, 0.3), rng.uniform(1.03, 1.35)),
        beard=rng.uniform(0.35, 0.95) if bearded else 0.0,
        mole=(rng.uniform(-0.6, 0.6), rng.uniform(0.25, 0.9)) if freckled else None,
        frame=any_colour(rng) * np.float32(0.6),
        lenses=(rng.uniform(0.25, 0.34), rng.uniform(0.18, 0.3)),
        glasses=rng.uniform(0.6, 1.0) if bespectacled else 0.08,
    )  # fmt: skip


def render_photo(person: Person, seed: int, number: int, photo: int) -> Image:
    """Render one picture of a person, RGB [SIDE, SIDE, 3], with a pose, light and surroundings of its own."""
    rng = np.random.default_rng([seed, number, photo, VERSION])
    pen = Pen(rng, np.asarray(background(rng, SIDE, SIDE), dtype=np.float32), UNIT)
    pen.yaw *= 1.6
    _head(pen, person)
    _face(pen, person)
    if rng.random() < person.glasses:
        _glasses(pen, person)
    _hair(pen, person)
    if rng.random() < 0.12:  # a hat
        cloth = any_colour(rng)
        pen.shape(arc(0, -0.72, 1.12, rng.uniform(0.75, 1.0), np.pi, 2 * np.pi), cloth, front=0.2, grain=6)
        pen.disc(0, -0.72, rng.uniform(1.12, 1.6), rng.uniform(0.12, 0.2), cloth * 0.8, front=0.4)
    if rng.random() < 0.15:  # something in front of the face
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.75, 1.25)
        size = rng.uniform(0.2, 0.5), rng.uniform(0.2, 0.7)
        pen.disc(away * np.cos(angle), away * np.sin(angle), *size, any_colour(rng), soft=1.5, grain=8)
    _shade(rng, pen.canvas)
    return develop(rng, pen.canvas)


def _head(pen: Pen, person: Person) -> None:
    """Hair at the back, shoulders, neck, ears and the face's outline, lit from one side."""
    rng = pen.rng
    length, spread = person.locks[0] + rng.normal(0, 0.06), person.locks[1] + rng.normal(0, 0.03)
    back = np.concatenate(
        [arc(0, -0.35, spread, 1.1, np.pi, 2 * np.pi), [[spread, length], [-spread, length]]]
    )
    pen.shape(back, person.hair * 0.85, front=-0.4, soft=1.2, grain=18)
    pen.disc(0, 2.9, rng.uniform(1.7, 2.3), 1.25, any_colour(rng), grain=8)
    pen.shape(np.array([[-0.5, 0.7], [0.5, 0.7], [0.6, 2.0], [-0.6, 2.0]]), person.skin * 0.82)
    for side in (-1.0, 1.0):
        pen.disc(side, 0.1, person.ears, 0.27, person.skin * 0.9, front=-0.3)
    outline = arc(0, 0, 1, person.length, 0, 2 * np.pi)
    outline[:, 0] *= 1 - person.jaw * np.clip(outline[:, 1] / person.length, 0, 1) ** 2
    pen.shape(outline, person.skin)
    side = float(rng.choice([-1, 1]))
    pen.disc(0.5 * side, 0.1, 0.45, 1.0, person.skin * 0.7, soft=12, cover=rng.uniform(0.1, 0.7))
    if person.beard:
        line = person.mouth[0] - 0.35
        jaw = np.concatenate([
            arc(0, 0, 0.98 * (1 - 0.6 * person.jaw), person.length * 0.98, 0.25, np.pi - 0.25),
            arc(0, line, 0.72, 0.3, np.pi, 0),
        ])  # fmt: skip
        pen.shape(
            jaw, person.hair * 0.75, front=0.5, soft=2, cover=person.beard * rng.uniform(0.7, 1), grain=20
        )


def _face(pen: Pen, person: Person) -> None:
    """Eyes, brows, nose, mouth and mole, with this picture's expression."""
    rng = pen.rng
    away, height, half, open_ = person.eyes
    open_ *= rng.uniform(0.45, 1.15)
    gaze, raised = rng.normal(0, 0.025), rng.normal(0, 0.02)
    for side in (-1.0, 1.0):
        tilt = np.array([[1, side * person.slant * half], [0, 1]])
        place = np.array([side * away, height])
        pen.disc(place[0], height, half + 0.05, open_ + 0.06, person.skin * 0.84, front=0.6, soft=2)
        pen.shape(arc(0, 0, half, open_, 0, 2 * np.pi) @ tilt + place, rgb([236, 234, 230]), front=0.6)
        pen.disc(place[0] + gaze, height, 0.082, min(open_, 0.085), person.iris, front=0.6)
        pen.disc(place[0] + gaze, height, 0.036, min(open_, 0.036), rgb([15, 12, 12]), front=0.6)
        over, thick, slope = person.brows
        across = np.linspace(-1.25, 1.25, 12)
        bow = height - over - raised - 0.05 * (1 - across**2) + side * slope * 0.1 * across
        pen.line(np.stack([place[0] + across * half, bow], axis=1), thick, person.hair * 0.65, front=0.6)
    length, wide = person.nose
    tip = height + length
    side = float(rng.choice([-1, 1]))
    bridge = np.array([[0.03 * side, height], [wide * 0.6 * side, tip - 0.08], [wide * side, tip]])
    pen.line(bridge, 0.06, person.skin * 0.75, front=1, soft=2)
    pen.line(arc(0, tip - 0.02, wide, 0.07, 0, np.pi), 0.05, person.skin * 0.66, front=1, soft=1.2)
    line, half, thick = person.mouth
    smile = rng.normal(0.07, 0.08)
    half = half + max(0.0, smile) * 0.5
    across = np.linspace(-1, 1, 24)
    lip = np.stack([across * half, line - smile * (across**2 - 0.5)], axis=1)
    pen.line(lip, thick, person.lips, front=0.7)
    if smile > 0.08 and rng.random() < 0.6:
        pen.line(lip * [0.8, 1], thick * 0.5, rgb([240, 238, 230]), front=0.7)
    elif rng.random() < 0.2:  # open
        pen.disc(0, line + 0.04, half * 0.6, rng.uniform(0.05, 0.12), rgb([70, 25, 25]), front=0.7)
    else:
        pen.line(lip * [0.95, 1], 0.025, person.lips * 0.55, front=0.7)
    if person.mole:
        pen.disc(*person.mole, 0.045, 0.045, person.skin * 0.45, front=0.7)


def _glasses(pen: Pen, person: Person) -> None:
    away, height, *_ = person.eyes
    width, tall = person.lenses
    dark = pen.rng.random() < 0.15
    for side in (-1.0, 1.0):
        if dark:
            pen.disc(side * away, height, width, tall, rgb([30, 30, 36]), front=0.8, cover=0.85)
        pen.line(arc(side * away, height, width, tall, 0, 2 * np.pi), 0.06, person.frame, front=0.8)
        temple = np.array([[side * (away + width), height], [side * 1.0, height + 0.04]])
        pen.line(temple, 0.05, person.frame, front=0.5)
    if away > width:
        pen.line(np.array([[width - away, height], [away - width, height]]), 0.06, person.frame, front=0.8)


def _hair(pen: Pen, person: Person) -> None:
    """Hair on top, its fringe parted."""
    rng = pen.rng
    edge = np.linspace(1.02, -1.02, 14)
    fringe = person.hairline + 0.22 * (np.abs(edge - person.parting * 0.6) - 0.5) + rng.normal(0, 0.04, 14)
    cap = np.concatenate([arc(0, -0.6, 1.06, 0.85, np.pi, 2 * np.pi), np.stack([edge, fringe], axis=1)])
    pen.shape(cap, person.hair * np.float32(rng.uniform(0.85, 1.15)), front=0.3, soft=0.9, grain=14)


def _shade(rng: np.random.Generator, canvas: Floats) -> None:
    """Daylight, a lamp or the flash: brightness, contrast and colour of the whole picture."""
    canvas *= np.float32(rng.uniform(0.7, 1.25)) * rng.normal(1, 0.08, 3).astype(np.float32)
    canvas += (np.float32(rng.uniform(80, 150)) - canvas) * np.float32(rng.uniform(0, 0.35))


def person_name(number: int) -> str:
    """The invented name of a person; no two of the first len(FIRST) * len(LAST) have the same.

    >>> person_name(0), person_name(26)
    ('Ada_Alder', 'Bela_Clover')
    """
    return f"{FIRST[number % len(FIRST)]}_{LAST[(number % len(FIRST) + number // len(FIRST)) % len(LAST)]}"


def write_identities(folder: Path, *, seed: int = 0, train: int = 100, test: int = 40) -> Path:
    """Render people into `folder`, as LFW's folders and pairs.txt; a complete one is left as is.

    The pairs are of the `test` last people, four or so a fold; those who go into validation are among the others.

    Args:
        folder: for the set.
        seed: of all that is drawn.
        train: people that are not in the pairs.
        test: those that are, two a fold at least.

    Raises:
        FileExistsError: `folder` holds something else.
        ValueError: there are not so many names, or too few people for pairs.
    """
    if test < 2 or train + test > len(FIRST) * len(LAST):
        raise ValueError(
            f"synthetic people are 2 or more in test and {len(FIRST) * len(LAST)} at most, got train={train}, "
            f"test={test}"
        )
    wanted = {"version": VERSION, "seed": seed, "train": train, "test": test}

    def render(temporary: Path) -> None:
        photos = np.random.default_rng([seed, VERSION]).integers(PHOTOS[0], PHOTOS[1] + 1, train + test)
        photos[LONE - 1 : train : LONE] = 1
        jobs = [(number, photo) for number, count in enumerate(photos) for photo in range(count)]
        for number, photo in track(jobs, RENDERING.format(len(jobs)), transient=True):
            image = render_photo(draw_person(seed, number), seed, number, photo)
            name = person_name(number)
            write_jpeg(temporary / name / f"{name}_{photo + 1:04d}.jpg", image, quality=75 + photo)
        (temporary / "pairs.txt").write_text(_pairs(seed, photos, train))

    return write_once(folder, wanted, render)


def _pairs(seed: int, photos: np.ndarray, first: int) -> str:
    """LFW's list of pairs among the people from `first` on; no person is in two folds."""
    rng = np.random.default_rng([seed, VERSION, 1])
    people = rng.permutation(np.arange(first, len(photos)))
    folds = min(FOLDS, len(people) // 2)
    lines = [f"{folds}\t{PAIRS_A_FOLD}"]
    for fold in np.array_split(people, folds):
        pictures = [(int(person), photo) for person in fold for photo in range(1, photos[person] + 1)]
        every = [(one, other) for place, one in enumerate(pictures) for other in pictures[place + 1 :]]
        genuine = [pair for pair in every if pair[0][0] == pair[1][0]]
        impostor = [pair for pair in every if pair[0][0] != pair[1][0]]
        for row in rng.choice(len(genuine), PAIRS_A_FOLD, replace=False):
            (person, i), (_, j) = genuine[row]
            lines.append(f"{person_name(person)}\t{i}\t{j}")
        for row in rng.choice(len(impostor), PAIRS_A_FOLD, replace=False):
            (person, i), (other, j) = impostor[row]
            lines.append(f"{person_name(person)}\t{i}\t{person_name(other)}\t{j}")
    return "\n".join(lines) + "\n"
