"""What a model says of photos, as an album keeps it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mbapps.place_prediction import Place
from mbapps.predictions import Attributes, Classification, Detections, Embedding

from .records import Face, Record

if TYPE_CHECKING:
    from torch import Tensor

    from mbapps.answering import Answerer
    from mbapps.geo_verbs import Teller
    from mbapps.images import UInt8Image

    from .threads import Pool

PLACE_KEYS = ("lat", "lon", "score", "radius_km", "name")


class Pooled:
    """The deepest map of a body, averaged over the image, of a thread's first pass since it last took one."""

    def __init__(self, body: Any):
        self.own = threading.local()
        body.register_forward_hook(self._keep)

    def _keep(self, module: Any, inputs: Any, maps: Mapping[str, Tensor]) -> None:
        if getattr(self.own, "kept", None) is None:
            self.own.kept = maps["c5"].float().mean(dim=(2, 3))

    def take(self) -> NDArray[np.float32] | None:
        """[B, C]; None where the body did not run, as in another runtime than torch."""
        kept = getattr(self.own, "kept", None)
        self.own.kept = None
        return None if kept is None else np.asarray(kept.cpu().numpy())


class Asker:
    """Asks a model, and says what it was told in an album's form.

    Args:
        answerer: of the model.
        pool: threads that ask about parts of the images at the same time; none: one after another.
    """

    def __init__(self, answerer: Answerer, pool: Pool | None = None):
        from mbapps.geo_verbs import Teller

        self.answerer, self.pool = answerer, pool
        self.teller = answerer.places or Teller()  # a photo may tell its place where no head guesses one
        bundle = answerer.bundle
        of_faces = bundle.faces.heads if bundle.faces else ()
        whole = [name for name in bundle.network.heads if name not in of_faces]
        self.pooled = Pooled(bundle.network.body) if whole else None  # else the body sees faces alone

    def ask(self, images: Sequence[UInt8Image]) -> list[Record]:
        """Records of images [H, W, 3], without what only their files tell."""
        if self.pool is None:
            return self._ask(images)
        size = -(-len(images) // self.pool.threads)
        parts = [images[start : start + size] for start in range(0, len(images), size)]
        return [record for records in self.pool.map(self._ask, parts) for record in records]

    def _ask(self, images: Sequence[UInt8Image]) -> list[Record]:
        if self.pooled:
            self.pooled.take()
        answers = self.answerer.answer(images)
        records = [
            self.describe(prediction, image) for (prediction, _), image in zip(answers, images, strict=True)
        ]
        features = self.pooled.take() if self.pooled else None
        if features is not None:
            for record, vector in zip(records, features, strict=True):
                record.vector = record.vector or unit(vector)
        return records

    def describe(self, prediction: Any, image: UInt8Image) -> Record:
        """Give the record of one image's prediction."""
        height, width = image.shape[:2]
        record = Record("", (0, 0, 0), size=(width, height))
        answers = self.answerer.parts(prediction)
        for name, answer in answers.items():
            if isinstance(answer, Detections):
                record.objects += [(box["name"], box["score"], tuple(box["box"])) for box in answer.to_json()]
            elif isinstance(answer, Classification):
                record.labels[name] = [(one["name"], one["score"]) for one in answer.to_json()]
            elif isinstance(answer, Place):
                (told,) = answer.to_json()
                record.place = {key: told[key] for key in PLACE_KEYS if key in told}
        found = getattr(prediction, "faces", None)
        if found is not None:
            record.faces = [
                face_of(face.answers.values(), face.box, face.score, face.found_by) for face in found
            ]
        elif of_face := [
            answer for answer in answers.values() if isinstance(answer, (Embedding, Attributes))
        ]:
            record.faces = [face_of(of_face, (0, 0, width, height), 1.0, "photo")]
            if len(of_face) == len(answers):  # a model of faces alone: they are what photos are compared by
                record.vector = record.faces[0].vector
        return record


def face_of(answers: Iterable[Any], box: Sequence[float], score: float, origin: str) -> Face:
    """Give the record of one face."""
    x1, y1, x2, y2 = map(float, box)
    face = Face((x1, y1, x2, y2), score, origin)
    for answer in answers:
        if isinstance(answer, Attributes):
            face.attributes = attributes(answer)
        elif isinstance(answer, Embedding):
            face.vector = unit(answer.vector)
    return face


def attributes(answer: Attributes) -> list[tuple[str, float, bool]]:
    """Attributes that were judged: name, score, whether they are there."""
    return [
        (one["name"], one["score"], one["present"])
        for one in answer.to_json()
        if one["score"] == one["score"]
    ]


def unit(vector: NDArray[np.floating[Any]]) -> bytes:
    """A vector as it is kept: float16, of length 1."""
    values = np.asarray(vector, dtype=np.float32)
    return (values / max(float(np.linalg.norm(values)), 1e-12)).astype(np.float16).tobytes()


def place_of(teller: Teller, file: Path) -> dict[str, Any]:
    """Where a photo's EXIF says that it was taken, with its name; nothing where it does not."""
    truth = teller.truth(file)
    if truth is None:
        return {}
    (place,) = teller.named([Place(*truth, score=1.0)])
    return {"lat": truth[0], "lon": truth[1], **({"name": place.name} if place.name else {})}
