"""What a head says of one image: `to_json()` for programs, `draw(image)` for people."""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from .images import UInt8Image

SHOWN_CLASSES = 20  # of those that an error message lists
SHADE = 0.45  # light that is left where a class was not seen at all, and under a list of attributes
ABSENT = (110, 116, 125)  # the bar of an attribute that the image does not have


class Prediction(Protocol):
    """Any head's answer for one image."""

    def to_json(self) -> Any:
        """Plain lists, numbers and strings."""

    def draw(self, image: UInt8Image) -> UInt8Image:
        """A copy of `image` with the answer drawn on it."""


def colour(index: int) -> tuple[int, int, int]:
    """A colour per class: neighbours differ clearly, and a class keeps its colour in every picture.

    >>> colour(0) != colour(1)
    True
    """
    red, green, blue = colorsys.hsv_to_rgb(
        (index * 0.618034) % 1, 0.75, 0.95
    )  # golden ratio: well-spread hues
    return int(red * 255), int(green * 255), int(blue * 255)


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


Corners = tuple[float, float, float, float]


def write_label(
    pen: ImageDraw.ImageDraw,
    x: float,
    y: float,
    text: str,
    fill: tuple[int, int, int],
    size: int,
    taken: list[Corners] | None = None,
) -> None:
    """Write on a ground of its own above a point, or below the labels in `taken` that lie there already."""
    font = _font(size)
    left, top, right, bottom = pen.textbbox((0, 0), text, font=font)
    width, height = right - left + 4, bottom - top + 4
    x = min(max(0, x), max(0, pen.im.size[0] - width))
    y = y - height if y >= height else y
    for x1, y1, x2, y2 in sorted(taken or (), key=lambda corners: corners[1]):
        if x < x2 and x1 < x + width and y < y2 and y1 < y + height and y2 + height <= pen.im.size[1]:
            y = y2
    if taken is not None:
        taken.append((x, y, x + width, y + height))
    pen.rectangle((x, y, x + width, y + height), fill=fill)
    ink = (0, 0, 0) if sum(fill) > 380 else (255, 255, 255)
    pen.text((x + 2 - left, y + 2 - top), text, fill=ink, font=font)


@dataclass(frozen=True)
class Detections:
    """N boxes found in one image, best first."""

    boxes: NDArray[np.floating[Any]]  # [N, 4] xyxy px of the original image
    scores: NDArray[np.floating[Any]]  # [N] in [0, 1] where they are a head's
    labels: NDArray[np.int64]  # [N] rows of class_names
    class_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, score_thresh: float | Sequence[float]) -> Detections:
        """Those at or above one threshold, or above the threshold of their class ([K])."""
        thresholds = np.asarray(score_thresh, dtype=self.scores.dtype)  # rounded as the scores are
        thresholds = np.broadcast_to(thresholds, (len(self.class_names),))
        keep = self.scores >= thresholds[self.labels]
        return replace(self, boxes=self.boxes[keep], scores=self.scores[keep], labels=self.labels[keep])

    def to_json(self) -> list[dict[str, Any]]:
        """One dict per box: label, name, score, box (xyxy px, two decimals)."""
        return [
            {"label": label, "name": self.class_names[label], "score": round(score, 5), "box": box}
            for box, score, label in zip(
                self.boxes.astype(float).round(2).tolist(),
                self.scores.astype(float).tolist(),
                self.labels.tolist(),
                strict=True,
            )
        ]

    def to_coco(self, image_id: int, category_ids: Sequence[int], file_name: str) -> list[dict[str, Any]]:
        """One dict per box as COCO's results have it: image_id, category_id, bbox (x, y, width, height), score.

        Each says its file_name and category_name too.

        Args:
            image_id: the image's number in the annotations.
            category_ids: the annotations' number of each class, [K].
            file_name: of the image.
        """
        boxes = self.boxes.astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        return [
            {
                "image_id": image_id,
                "category_id": category_ids[label],
                "bbox": box,
                "score": score,
                "file_name": file_name,
                "category_name": self.class_names[label],
            }
            for box, score, label in zip(
                boxes.tolist(), self.scores.astype(float).tolist(), self.labels.tolist(), strict=True
            )
        ]

    def draw(self, image: UInt8Image) -> UInt8Image:
        """Boxes with class name and score; the best one lies on top, and no label on another."""
        canvas = Image.fromarray(image)
        pen = ImageDraw.Draw(canvas)
        size = max(10, round(min(image.shape[:2]) / 36))
        boxes, labels = self.boxes.astype(float).tolist(), self.labels.tolist()
        for (x1, y1, x2, y2), label in zip(reversed(boxes), reversed(labels), strict=True):
            corners = (x1, y1, max(x1, x2), max(y1, y2))
            pen.rectangle(corners, outline=colour(label), width=max(2, size // 6))
        taken: list[Corners] = []
        for (x1, y1, _, _), label, score in zip(boxes, labels, self.scores, strict=True):
            write_label(pen, x1, y1, f"{self.class_names[label]} {score:.2f}", colour(label), size, taken)
        return np.asarray(canvas)


def class_thresholds(
    score_thresh: float | Sequence[float] | Mapping[str, float] | None,
    class_names: Sequence[str],
    own: Sequence[float] | None,
) -> list[float] | None:
    """Give the least score of each class, [K], or None if nobody set any.

    Args:
        score_thresh: one for all classes, one per class, or some by class name. None: all keep their own.
        class_names: K names.
        own: the model's own, [K]. Where it has none, a class that is not named keeps all its boxes.

    Raises:
        ValueError: a threshold lies outside [0, 1], a class is unknown, or there are not K of them.

    >>> class_thresholds({"dog": 0.4}, ["cat", "dog"], [0.2, 0.3])
    [0.2, 0.4]
    """
    if score_thresh is None:
        return None if own is None else list(own)
    wanted: Any = score_thresh
    if isinstance(score_thresh, Mapping):
        given = {str(name): value for name, value in score_thresh.items()}
        if unknown := sorted(set(given) - set(class_names)):
            more = ", …" if len(class_names) > SHOWN_CLASSES else ""
            raise ValueError(
                f"score_thresh names {', '.join(unknown)}, but the model's classes are "
                f"{', '.join(class_names[:SHOWN_CLASSES])}{more}"
            )
        wanted = [given.get(name, own[row] if own else 0.0) for row, name in enumerate(class_names)]
    try:
        values = np.broadcast_to(np.asarray(wanted, dtype=float), (len(class_names),))
    except (ValueError, TypeError):
        raise ValueError(
            f"score_thresh must be one number, {len(class_names)} numbers (one per class), or numbers by class "
            f"name, got {score_thresh!r}"
        ) from None
    if not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"score_thresh must lie in [0, 1], got {score_thresh!r}")
    return list(values.tolist())


@dataclass(frozen=True)
class Classification:
    """What a classifier says of one image, as logits; its `top_k` best classes are what is told."""

    logits: NDArray[np.float32]  # [K], divided by the model's temperature
    class_names: Sequence[str]
    top_k: int = 5
    heat: NDArray[np.float32] | None = None  # [h, w] in [0, 1]: where the best class was seen
    window: tuple[float, float, float, float] = (
        0.0,
        0.0,
        1.0,
        1.0,
    )  # xyxy: the part seen, as shares of the sides

    @property
    def labels(self) -> NDArray[np.int64]:
        """[k] rows of class_names, best first."""
        return np.argsort(-self.logits, kind="stable")[: self.top_k]

    @property
    def scores(self) -> NDArray[np.float32]:
        """[k] probabilities of `labels`."""
        shifted = np.exp(self.logits - self.logits.max())
        return np.asarray((shifted / shifted.sum())[self.labels], dtype=np.float32)

    def to_json(self) -> list[dict[str, Any]]:
        """One dict per class: label, name, score."""
        return [
            {"label": int(label), "name": self.class_names[label], "score": round(float(score), 5)}
            for label, score in zip(self.labels, self.scores, strict=True)
        ]

    def draw(self, image: UInt8Image) -> UInt8Image:
        """Names and probabilities in the upper left corner, over a glow where the best class was seen."""
        canvas = Image.fromarray(self._glow(image))
        pen = ImageDraw.Draw(canvas)
        size = max(10, round(min(image.shape[:2]) / 24))
        for line, (label, score) in enumerate(zip(self.labels, self.scores, strict=True)):
            text = f"{self.class_names[label]} {score:.2f}"
            write_label(pen, 0, (line + 1) * (size + 6), text, colour(int(label)), size)
        return np.asarray(canvas)

    def _glow(self, image: UInt8Image) -> UInt8Image:
        """The image, darker where `heat` is low."""
        height, width = image.shape[:2]
        x1, y1, x2, y2 = (np.array(self.window) * [width, height, width, height]).round().astype(int)
        if self.heat is None or x1 == x2 or y1 == y2:
            return image
        heat = np.asarray(Image.fromarray(self.heat).resize((x2 - x1, y2 - y1), Image.Resampling.BICUBIC))
        light = np.full((height, width, 1), SHADE, dtype=np.float32)
        light[y1:y2, x1:x2, 0] += (1 - SHADE) * heat.clip(0, 1)
        return (image * light).round().astype(np.uint8)


@dataclass(frozen=True)
class Attributes:
    """What an attribute head says of one image: how probable each of A attributes is, and which it has."""

    probs: NDArray[
        np.floating[Any]
    ]  # [A] in [0, 1]; NaN where nobody can tell, as in truth that was not judged
    class_names: Sequence[str]  # the attributes'
    thresholds: float | Sequence[float] = 0.5  # of all or [A]: at or above it the image has the attribute

    @property
    def present(self) -> NDArray[np.bool_]:
        """[A] whether the image has each attribute."""
        return np.asarray(self.probs >= np.asarray(self.thresholds, dtype=self.probs.dtype))

    def above(self, score_thresh: float | Sequence[float]) -> Attributes:
        """The same probabilities judged at other thresholds, one for all or [A]."""
        return replace(self, thresholds=score_thresh)

    def to_json(self) -> list[dict[str, Any]]:
        """One dict per attribute: name, score, present."""
        return [
            {"name": name, "score": round(float(prob), 5), "present": bool(present)}
            for name, prob, present in zip(self.class_names, self.probs, self.present, strict=True)
        ]

    def draw(self, image: UInt8Image) -> UInt8Image:
        """A list of the attributes, each in a bar as long as it is probable: coloured if present, else grey.

        Where there is no room for all of them, those that are present come first, and the last line counts the
        rest.
        """
        rows = np.flatnonzero(np.isfinite(self.probs))
        size = max(10, round(min(image.shape[:2]) / 24))
        line = size + 4
        room, more = max(1, image.shape[0] // line), ""
        if len(rows) > room:
            rows = rows[np.lexsort((-self.probs[rows], ~self.present[rows]))]
            rows, more = rows[: room - 1], f"{len(rows) - room + 1} more"
        texts = [f"{self.class_names[row]} {self.probs[row]:.2f}" for row in rows.tolist()]
        texts += [more] if more else []
        font = _font(size)
        panel = min(image.shape[1], 6 + max((round(font.getlength(text)) for text in texts), default=0))
        canvas = np.array(image)
        canvas[: line * len(texts), :panel] = (canvas[: line * len(texts), :panel] * SHADE).astype(np.uint8)
        picture = Image.fromarray(canvas)
        pen = ImageDraw.Draw(picture)
        for place, row in enumerate(rows.tolist()):
            end = panel * float(self.probs[row]) - 1
            fill = colour(row) if self.present[row] else ABSENT
            if end >= 0:
                pen.rectangle((0, place * line + 1, end, (place + 1) * line - 2), fill=fill)
        for place, text in enumerate(texts):
            pen.text((3, place * line), text, (255, 255, 255), font, stroke_width=1, stroke_fill=(0, 0, 0))
        return np.asarray(picture)


@dataclass(frozen=True)
class Embedding:
    """The vector of one face; the similarity of two is their dot product, in [-1, 1]."""

    vector: NDArray[np.float32]  # [D], of length 1

    def to_json(self) -> list[dict[str, Any]]:
        """One item with the D numbers."""
        return [{"embedding": [round(float(value), 6) for value in self.vector]}]

    def draw(self, image: UInt8Image) -> UInt8Image:
        """A strip below the image: a bar for each number, up for positive ones; like faces have like strips."""
        height, width = image.shape[:2]
        strip = max(16, height // 6)
        drawn = Image.new("RGB", (width, height + strip), (18, 20, 24))
        drawn.paste(Image.fromarray(image), (0, 0))
        pen = ImageDraw.Draw(drawn)
        middle, scale = height + strip / 2, strip / 2 / max(float(np.abs(self.vector).max()), 1e-6)
        edges = np.linspace(0, width, len(self.vector) + 1)
        for row, value in enumerate(self.vector.tolist()):
            ends = sorted((middle, middle - value * scale))
            pen.rectangle(
                (edges[row], ends[0], max(edges[row], edges[row + 1] - 1), ends[1]), colour(value > 0)
            )
        return np.asarray(drawn)
