"""Small sets of classes as real files: noise round a colour of each class, brighter on the left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("akita", "beagle", "pug")


def write_images(
    folder: Path, count: int, *, seed: int = 0, colour: tuple[int, ...] = (90, 90, 90)
) -> list[Path]:
    """Write PNG files of 48 x 40 px, none like another."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        pixels = np.clip(np.array(colour) + random.normal(0, 25, (40, 48, 3)), 0, 200)
        pixels[:, :24] += 50
        paths.append(folder / f"{seed}_{number:03}.png")
        Image.fromarray(pixels.astype(np.uint8)).save(paths[-1])
    return paths


def write_classes(root: Path, per_class: int = 8, classes: tuple[str, ...] = CLASSES) -> Path:
    """Write `<root>/<class>/<image>`."""
    for row, name in enumerate(classes):
        colour = tuple(150 if channel == row % 3 else 60 for channel in range(3))
        write_images(root / name, per_class, seed=row + 1, colour=colour)
    return root


def break_file(path: Path) -> Path:
    """Make a file that is no image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG but no more")
    return path
