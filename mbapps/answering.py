"""What a model says of photos: opened as the configuration says, with the faces in them and the names of places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .faces import PERSON
from .together import Together, change

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from .deploy.bundle import Bundle
    from .geo_verbs import Teller
    from .images import UInt8Image
    from .predictions import Prediction

WHOLE = "{} answer for whole images, as if each were one cropped face"
UPPER = "faces are the upper parts of boxes of persons"
IN_TORCH = "faces are found in torch: {}"
BETTER = "; faces=, a model folder that detects faces, gives better ones"


@dataclass
class Answerer:
    """Answers for photos, and says what EXIF adds to the answers.

    bundle: whose heads answer.
    thresholds: as Bundle.predict takes them.
    batch_size: images, and faces, that run at a time.
    places: says more of answers that are places, if any are.
    placing: the head that gives these.
    """

    bundle: Bundle
    thresholds: Any
    batch_size: int
    places: Teller | None = None
    placing: str = ""
    notes: list[str] = field(default_factory=list)  # to be said once

    @classmethod
    def open(cls, cfg: DictConfig, maps: Mapping[Path, Path] | None = None) -> Answerer:
        """Open the model at `cfg.model`, with the detector at `cfg.faces` and the geo-index at `cfg.gallery`.

        Args:
            cfg: of a verb with these keys, score_thresh, min_face and batch_size.
            maps: by photo, where its map of the place goes.

        Raises:
            ValueError, FileNotFoundError, ImportError: a key does not fit, or names nothing.
        """
        from omegaconf import OmegaConf

        from . import app
        from .geo_verbs import Teller, attach_index, placing

        bundle = app.open_answering(cfg)
        geo = placing(bundle)
        attach_index(cfg, geo)
        wanted = cfg.score_thresh
        wanted = OmegaConf.to_container(wanted) if OmegaConf.is_config(wanted) else wanted
        bundle.thresholds(wanted)  # type: ignore[arg-type]  # what does not fit is told before anything is written
        places = None if len(geo.network.heads) > 1 else Teller.of(geo, maps or {})
        return cls(
            bundle,
            wanted,
            cfg.batch_size,
            places,
            geo.head_name if places else "",
            _faces_note(bundle, cfg.faces is not None),
        )

    def about(self) -> dict[str, Any]:
        """What is to be said of answers of several heads: their names, passes, and where faces come from."""
        from .deploy.passes import passes

        heads, faces = list(self.bundle.network.heads), self.bundle.faces
        if len(heads) == 1 and faces is None:
            return {"task": heads[0]}
        whole = [name for name in heads if faces is None or name not in faces.heads]
        told: dict[str, Any] = {
            "task": "multi" if len(heads) > 1 else heads[0],
            "heads": heads,
            "passes": len(passes(self.bundle.facts, whole)) + (faces is not None and faces.own is None),
        }
        if faces is not None:
            told |= {
                "face_passes": len(passes(self.bundle.facts, faces.heads, whole=True)),
                "faces_found_by": faces.kind,
            }
        return told | ({"note": "; ".join(self.notes)} if self.notes else {})

    def answer(self, pixels: Sequence[UInt8Image]) -> list[tuple[Prediction, Any]]:
        """Give the prediction of each image, and its plain form."""
        made: Any = self.bundle.predict(pixels, score_thresh=self.thresholds, batch_size=self.batch_size)
        if self.places:
            made = change(made, self.placing, self.places.named)
        return [(prediction, prediction.to_json()) for prediction in made]

    def parts(self, prediction: Any) -> Mapping[str, Any]:
        """Each head's answer for an image, by its name."""
        if isinstance(prediction, Together):
            return prediction.answers
        return {next(iter(self.bundle.network.heads)): prediction}

    def tell(self, file: Path, image: UInt8Image, prediction: Prediction, plain: Any) -> None:
        """Add to an answer's plain form what the photo's EXIF says of its place, and draw its map."""
        if self.places:
            told = plain[self.placing] if isinstance(plain, dict) else plain
            told[0] |= self.places.tell(file, image, self.parts(prediction)[self.placing])


def _faces_note(bundle: Bundle, given: bool) -> list[str]:
    names = list(bundle.network.heads)
    if bundle.faces is not None:
        notes = [UPPER + BETTER * (not given)] if bundle.faces.kind == PERSON else []
        why = f"no file in use for runtime={bundle.runtime} holds the head that finds them"
        other = bundle.faces.finder.runtime != bundle.runtime
        return [
            *notes,
            *[IN_TORCH.format("runtime= is for model=, not for faces=" if given else why)] * other,
        ]
    whole = [name for name in names if getattr(bundle.network.head(name), "OF_FACES", False)]
    return [WHOLE.format(" and ".join(whole))] if whole and len(bundle.facts["heads"]) > 1 else []
