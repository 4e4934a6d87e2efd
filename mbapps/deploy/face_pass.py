"""The second pass of a model: over the faces that a detector, or a head of its own, finds in photos."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from mbapps.faces import LEAST, Face, cut, kind_of, squares
from mbapps.images import UInt8Image

if TYPE_CHECKING:
    from .bundle import Bundle

FOUND = 0.5  # least score of a box where nobody set any

Answer = Callable[[Sequence[str], Sequence[UInt8Image]], Mapping[str, Sequence[Any]]]


@dataclass
class FacePass:
    """Finds faces, and asks heads about them in batches.

    heads: that answer for faces.
    finder: a model with one detection head, by whose class "face", or else "person", faces are found.
    own: that head's name, where it is one of the same model and so has answered already.
    least: side of the smallest square that is looked at, px.
    """

    heads: Sequence[str]
    finder: Bundle
    own: str | None = None
    least: float = LEAST

    @property
    def kind(self) -> str:
        """The class that faces are found by."""
        return str(kind_of(self.finder.head_facts["class_names"]))

    def detections(self, images: Sequence[UInt8Image], batch_size: int) -> tuple[Sequence[Any], bool]:
        """What the other model finds in images, and whether it has thresholds of its own."""
        known = self.finder.head_facts.get("thresholds") is not None
        return self.finder.predict(images, batch_size=batch_size), known

    def see(
        self, images: Sequence[UInt8Image], found: Sequence[Any], known: bool, answer: Answer, batch_size: int
    ) -> list[list[Face]]:
        """Faces of each image, and what the heads say of them.

        Args:
            images: of any sizes.
            found: detections in each image.
            known: whether somebody set their thresholds; else those below FOUND are left out.
            answer: gives what heads say of whole images, by their names.
            batch_size: faces that run at a time.
        """
        places = [
            squares(one if known else one.above(FOUND), image.shape[:2], self.least)
            for one, image in zip(found, images, strict=True)
        ]
        crops = [cut(image, box) for image, (boxes, _) in zip(images, places, strict=True) for box in boxes]
        told: dict[str, list[Any]] = {name: [] for name in self.heads}
        for start in range(0, len(crops), batch_size):
            for name, made in answer(self.heads, crops[start : start + batch_size]).items():
                told[name] += made
        each = iter(zip(*told.values(), strict=True))
        return [
            [
                Face(tuple(box), score, self.kind, dict(zip(told, next(each), strict=True)))
                for box, score in zip(boxes.tolist(), scores.astype(float).tolist(), strict=True)
            ]
            for boxes, scores in places
        ]


def with_faces(bundle: Bundle, finder: Bundle | None = None, least: float = LEAST) -> Bundle:
    """Let a model answer for the faces in photos, where it has heads for them and something finds them.

    Args:
        bundle: any model; without a head of faces, or a detector of faces or persons, it is given as it is.
        finder: a detector of faces or persons, in place of a head of the model's own.
        least: side of the smallest square that is looked at, px.

    Raises:
        ValueError: `finder` is given but detects neither, or the model has no head of faces; or `least` is < 1.
    """
    if not isinstance(least, (int, float)) or not least >= 1:
        raise ValueError(f"min_face must be >= 1 px, got {least}")
    names = list(bundle.network.heads)
    heads = [name for name in names if getattr(bundle.network.head(name), "OF_FACES", False)]
    if finder is None:
        own = next((name for name in names if finds(bundle, name)), None)
        if not heads or own is None:
            return bundle
        return replace(bundle, faces=FacePass(heads, bundle.only([own]), own, least))
    if not heads:
        raise ValueError(
            f"faces= finds faces for face_attr and face_embed heads; the model has only {', '.join(names)}: leave "
            "faces= out"
        )
    if (own := next((name for name in finder.network.heads if finds(finder, name)), None)) is None:
        known = {name: finder.facts["heads"][name]["class_names"][:5] for name in finder.network.heads}
        told = "; ".join(f"{name} of {', '.join(classes)}" for name, classes in known.items())
        raise ValueError(f"faces= needs a detector with a class called face or person; that model has {told}")
    return replace(bundle, faces=FacePass(heads, finder.only([own]), None, least))


def finds(bundle: Bundle, name: str) -> bool:
    """Tell whether a head detects faces or persons."""
    boxes = getattr(bundle.network.head(name), "BOXES", False)
    return bool(boxes) and kind_of(bundle.facts["heads"][name]["class_names"]) is not None
