"""What a model says of photos, as an album keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mbapps.place_prediction import Place
from mbapps.predictions import Attributes, Classification, Detections, Embedding
from mbapps.together import Together, change

from .records import Face, Record

if TYPE_CHECKING:
    from torch import Tensor

    from mbapps.deploy.bundle import Bundle
    from mbapps.geo_verbs import Teller
    from mbapps.images import UInt8Image

PLACE_KEYS = ("lat", "lon", "score", "radius_km", "name")


class Pooled:
    """The deepest map of a body, averaged over the image, of the first pass since it was last taken."""

    def __init__(self, body: Any):
        self.kept: Tensor | None = None
        body.register_forward_hook(self._keep)

    def _keep(self, module: Any, inputs: Any, maps: Mapping[str, Tensor]) -> None:
        if self.kept is None:
            self.kept = maps["c5"].float().mean(dim=(2, 3))

    def take(self) -> NDArray[np.float32] | None:
        """[B, C]; None where the body did not run, as in another runtime than torch."""
        kept, self.kept = self.kept, None
        return None if kept is None else np.asarray(kept.cpu().numpy())


@dataclass
class Asker:
    """Asks a model, and says what it was told in an album's form."""

    bundle: Bundle
    thresholds: Any  # as Bundle.predict takes them
    places: Teller  # of names, and of places that photos tell
    placing: str = ""  # the head that answers with places

    def __post_init__(self) -> None:
        self.pooled = Pooled(self.bundle.network.body)

    def ask(self, images: Sequence[UInt8Image]) -> list[Record]:
        """Records of images [H, W, 3], without what only their files tell."""
        self.pooled.take()
        made: Any = self.bundle.predict(images, score_thresh=self.thresholds, batch_size=len(images))
        features = self.pooled.take()
        if self.placing:
            made = change(made, self.placing, self.places.named)
        heads = list(self.bundle.network.heads)
        records = [describe(one, heads[0], image) for one, image in zip(made, images, strict=True)]
        if features is not None:
            for record, vector in zip(records, features, strict=True):
                record.vector = record.vector or unit(vector)
        return records


def describe(prediction: Any, head: str, image: UInt8Image) -> Record:
    """Give the record of one image's prediction; `head` is the name of the only one."""
    height, width = image.shape[:2]
    record = Record("", (0, 0, 0), size=(width, height))
    answers = prediction.answers if isinstance(prediction, Together) else {head: prediction}
    whole: dict[str, Any] = {}
    for name, answer in answers.items():
        if isinstance(answer, Detections):
            record.objects += [(box["name"], box["score"], tuple(box["box"])) for box in answer.to_json()]
        elif isinstance(answer, Classification):
            record.labels[name] = [(one["name"], one["score"]) for one in answer.to_json()]
        elif isinstance(answer, Attributes):
            record.attributes = attributes(answer)
        elif isinstance(answer, Place):
            (told,) = answer.to_json()
            record.place = {key: told[key] for key in PLACE_KEYS if key in told}
        elif isinstance(answer, Embedding):
            whole["vector"] = unit(answer.vector)
    if whole and not record.objects and len(answers) == 1:  # a model of faces: each photo is one
        record.faces = [Face((0, 0, width, height), origin="photo", vector=whole["vector"])]
        record.vector = whole["vector"]
    return record


def attributes(answer: Attributes) -> list[tuple[str, float, bool]]:
    """Attributes that were judged: name, score, whether they are there."""
    return [(one["name"], one["score"], one["present"]) for one in answer.to_json() if one["score"] == one["score"]]


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
