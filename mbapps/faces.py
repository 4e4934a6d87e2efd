"""Faces in photos: the squares that are cut out round them, and what heads of faces say of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .images import UInt8Image
from .predictions import Attributes, Detections, Prediction, write_label

FACE, PERSON = "face", "person"  # names of a detector's classes, as they stand in class_names in any case
LEAST = 32  # px of a square's side: of a smaller one nobody can tell much
MARGIN = 1.3  # side of the square over the longer side of a face's box: heads learn from faces with some hair
ALIKE = 0.4  # overlap of two squares from which on they show one face
UPPER, HAIR = 0.6, 0.15  # of a person's box; see `upper_squares`
FRAME, DIMMER = (255, 255, 255), (200, 200, 170)  # of a face, and of one that a person's box gave


@dataclass(frozen=True, eq=False)
class Face:
    """A square of a photo that shows a face, and what each head of faces says of it."""

    box: tuple[float, float, float, float]  # xyxy px of the photo
    score: float  # of the box that it was found by
    found_by: str  # FACE, or PERSON: the upper part of a person's box
    answers: Mapping[str, Prediction]  # by the heads' names

    def to_json(self) -> dict[str, Any]:
        """One dict: box (xyxy px), score, found_by, and what each head says, by its name."""
        return {
            "box": list(self.box),
            "score": round(self.score, 5),
            "found_by": self.found_by,
            **{name: answer.to_json() for name, answer in self.answers.items()},
        }


def kind_of(class_names: Sequence[str]) -> str | None:
    """Give what a detector of these classes finds faces by: FACE before PERSON, or None.

    >>> kind_of(["Person", "dog"]), kind_of(["person", "face"]), kind_of(["dog"])
    ('person', 'face', None)
    """
    names = {name.lower() for name in class_names}
    return next((kind for kind in (FACE, PERSON) if kind in names), None)


def squares(
    found: Detections, size: tuple[int, int], least: float = LEAST
) -> tuple[NDArray[np.float64], NDArray[np.floating[Any]]]:
    """Cut squares round the faces of one image, best first: [F, 4] xyxy px inside it, and their scores [F].

    Of squares that overlap by more than ALIKE the best is kept.

    Args:
        found: with the class "face", whose boxes are widened by MARGIN, or "person", whose upper part is taken.
        size: height and width of the image, px.
        least: side of the smallest square that is given, px.
    """
    import torch

    from .ops.boxes import suppress

    (height, width), kind = size, kind_of(found.class_names)
    rows = np.flatnonzero([found.class_names[label].lower() == kind for label in found.labels.tolist()])
    boxes = found.boxes[rows].astype(float).clip(0, [width, height, width, height])
    made = upper_squares(boxes) if kind == PERSON else round_squares(boxes)
    side = np.minimum(made[:, 2] - made[:, 0], min(height, width))
    corner = np.stack([(made[:, 0] + made[:, 2] - side) / 2, (made[:, 1] + made[:, 3] - side) / 2], axis=1)
    corner = corner.clip(0, np.maximum(0, np.array([width, height]) - side[:, None]))  # moved, not filled up
    inside = np.concatenate([corner, corner + side[:, None]], axis=1).round(2)
    scores = found.scores[rows]
    large = side >= least
    kept = suppress(
        torch.from_numpy(inside[large])[None], torch.zeros(1, int(large.sum())),
        torch.from_numpy(scores[large])[None], nms_thresh=ALIKE,
    )[0].numpy()  # fmt: skip
    return inside[large][kept], scores[large][kept]


def round_squares(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squares [F, 4] about the middles of boxes [F, 4] of faces, MARGIN times as long as their longer sides."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, initial=0)[:, None] * MARGIN / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def upper_squares(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squares [F, 4] where the faces are likely to be in boxes [F, 4] of persons: near the top, in the middle.

    The side is UPPER times the width, and where the box is higher than wide times the root of the width over the
    height: a standing person is wider in heads than one whose portrait was taken. The top HAIR of a side is left out.
    Chosen on portraits, where they share 0.7 of their union with the faces on average.
    """
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    side = UPPER * width * np.sqrt(np.minimum(1, width / np.maximum(height, 1)))
    middle, top = (boxes[:, 0] + boxes[:, 2]) / 2, boxes[:, 1] + HAIR * side
    return np.stack([middle - side / 2, top, middle + side / 2, top + side], axis=1)


def cut(image: UInt8Image, box: Sequence[float]) -> UInt8Image:
    """The part of [H, W, 3] inside a box, xyxy px, at least one pixel."""
    height, width = image.shape[:2]
    left, top = min(width - 1, round(box[0])), min(height - 1, round(box[1]))
    return image[top : max(top + 1, round(box[3])), left : max(left + 1, round(box[2]))]


def draw_faces(image: UInt8Image, faces: Sequence[Face]) -> UInt8Image:
    """A frame round each face, with the attributes that it has written below."""
    canvas = Image.fromarray(image)
    pen = ImageDraw.Draw(canvas)
    size = max(10, round(min(image.shape[:2]) / 40))
    for face in reversed(faces):  # the best one lies on top
        fill = FRAME if face.found_by == FACE else DIMMER
        pen.rectangle(face.box, outline=fill, width=max(2, size // 8))
        names = [name for answer in face.answers.values() for name in present_names(answer)]
        if names:
            write_label(pen, face.box[0], face.box[3], ", ".join(names), fill, size)
    return np.asarray(canvas)


def present_names(answer: Prediction) -> list[str]:
    """Names of the attributes that a face has, if the answer is of attributes."""
    if not isinstance(answer, Attributes):
        return []
    return [answer.class_names[row] for row in np.flatnonzero(answer.present).tolist()]
