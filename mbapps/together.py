"""What several heads say of one image: one JSON, one picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image

from .faces import Face, draw_faces
from .images import UInt8Image, resize
from .predictions import Detections, Prediction

COLUMN = 0.42  # of the photo's width, that the answers beside it take
LEAST, MOST = 200, 480  # px of that
GROUND = (18, 20, 24)


@dataclass(frozen=True, eq=False)
class Together:
    """The answers of several heads for one image, by the heads' names."""

    answers: Mapping[str, Prediction]
    faces: Sequence[Face] | None = None  # and of each face; None where nobody looked for any

    def __len__(self) -> int:
        return sum(len(plain) for plain in self.to_json().values())

    def to_json(self) -> dict[str, list[dict[str, Any]]]:
        """What each head says, by its name, and under "faces" what heads say of each face."""
        plain = {name: answer.to_json() for name, answer in self.answers.items()}
        return plain if self.faces is None else {**plain, "faces": [face.to_json() for face in self.faces]}

    def draw(self, image: UInt8Image) -> UInt8Image:
        """Boxes and faces on the photo; beside it a small copy of it for each other head, with its answer."""
        main = image
        others = []
        for answer in self.answers.values():
            if isinstance(answer, Detections):
                main = answer.draw(main)
            else:
                others.append(answer)
        main = draw_faces(main, self.faces or ())
        if not others:
            return main
        height, width = image.shape[:2]
        side = int(np.clip(width * COLUMN, LEAST, MOST))
        small = resize(image, max(1, round(height * side / width)), side)
        tiles = [answer.draw(small) for answer in others]
        across = max(
            1, round((sum(len(tile) for tile in tiles) / max(1, height)) ** 0.5)
        )  # columns of about one height
        columns = [tiles[start::across] for start in range(across)]
        tall = max([height, *(sum(len(tile) for tile in column) for column in columns)])
        canvas = Image.new("RGB", (width + side * len(columns), tall), GROUND)
        canvas.paste(Image.fromarray(main), (0, 0))
        for number, column in enumerate(columns):
            top = 0
            for tile in column:
                canvas.paste(Image.fromarray(tile), (width + side * number, top))
                top += len(tile)
        return np.asarray(canvas)


def change(made: Sequence[Any], name: str, how: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """Change one head's answers in answers of several heads, or all where there is one head."""
    if not made or not isinstance(made[0], Together):
        return how(list(made))
    new = how([one.answers[name] for one in made])
    return [
        replace(one, answers={**one.answers, name: answer}) for one, answer in zip(made, new, strict=True)
    ]
