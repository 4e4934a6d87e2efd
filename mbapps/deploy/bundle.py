"""The model folder: weights as safetensors, facts as JSON, a card. Opening one runs no code of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mbapps.images import UInt8Image, central_view, read_image
from mbapps.models.folder import FACTS, WEIGHTS, read_facts, read_tensors
from mbapps.models.network import Network
from mbapps.models.teachers import body_of
from mbapps.predictions import Prediction, class_thresholds
from mbapps.together import Together

from .face_pass import FacePass
from .head_classes import head_class
from .passes import parts, passes, view_of
from .saving import fingerprint

DEVICES = ("cpu", "cuda", "mps", "xpu")


@dataclass
class Bundle:
    """An opened model folder.

    network: body and heads, all of them or those that were asked for, in evaluation mode, on `device`.
    facts: the content of model.json.
    faces: of a model of several heads, how it answers for the faces in photos; see `with_faces`.
    """

    network: Network
    facts: dict[str, Any]
    device: str = "cpu"
    runtime: str = "torch"
    faces: FacePass | None = None

    @classmethod
    def open(
        cls,
        folder: str | Path,
        *,
        device: str = "cpu",
        trust: str | None = None,
        heads: Sequence[str] | None = None,
        runtime: str = "torch",
        runtime_file: str | Path | None = None,
        precision: str = "float32",
    ) -> Bundle:
        """Open a model folder; see `mbapps.load`."""
        if runtime == "torch" and precision != "float32":
            raise ValueError(f"precision={precision} is for exported files: name their runtime by runtime=")
        if runtime != "torch" and device != "cpu":
            raise ValueError(f"runtime={runtime} runs on device=cpu, got device={device}")
        folder = Path(folder)
        facts = read_facts(folder)
        tensors = read_tensors(folder / WEIGHTS)
        try:
            body = body_of(facts["body"])
            built = {
                name: head_class(head["class"], trust)(
                    body, head["class_names"], head["image_size"], **head["settings"]
                )
                for name, head in facts["heads"].items()
            }
            network = Network(body, built, facts.get("norm", "shared"))
            network.load_state_dict(tensors)
        except (KeyError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"{folder} is damaged: {FACTS} and {WEIGHTS} do not belong together: {error}"
            ) from error
        network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if runtime != "torch" or runtime_file:
            from .runtimes import RuntimeNetwork, open_runtime

            origin = fingerprint(folder)
            if runtime_file:
                files = [open_runtime(folder, runtime, origin, file=runtime_file)]
                heads = files[0].heads if heads is None else heads
                if missing := [name for name in heads if name not in files[0].heads]:
                    raise ValueError(
                        f"runtime_file={runtime_file} holds {', '.join(files[0].heads)} and not {', '.join(missing)}: "
                        "name what to answer by task= or heads="
                    )
            else:
                files = [
                    open_runtime(folder, runtime, origin, precision=precision, part=part)
                    for part, names in parts(facts).items()
                    if heads is None or not set(names).isdisjoint(heads)
                ]
            network = RuntimeNetwork(network, files)
        return cls(network.eval(), facts, device, runtime).only(built if heads is None else heads)

    def only(self, heads: Iterable[str]) -> Bundle:
        """Give the same model with some of its heads; `facts` stay whole.

        Raises:
            ValueError: it has no head of that name.
        """
        names = list(heads)
        if missing := [name for name in names if name not in self.network.heads]:
            raise ValueError(
                f"the model has no {' and no '.join(missing)} head, only {', '.join(self.network.heads)}"
            )
        if names == list(self.network.heads):
            return self
        faces = self.faces.only(names) if self.faces else None
        return replace(self, network=self.network.only(names), faces=faces)

    @property
    def head_name(self) -> str:
        """The name of the only head.

        Raises:
            ValueError: there are several.
        """
        names = list(self.network.heads)
        if len(names) != 1:
            raise ValueError(
                f"this model has {len(names)} heads, {', '.join(names)}; this needs exactly one: name it by task="
            )
        return names[0]

    @property
    def head_facts(self) -> dict[str, Any]:
        """Facts of the only head: class_names, image_size, thresholds, metrics, settings; of faces face_crop too."""
        return self.facts["heads"][self.head_name]

    def predict(
        self,
        images: str | Path | UInt8Image | Sequence[str | Path | UInt8Image],
        *,
        score_thresh: float | Sequence[float] | Mapping[str, float] | None = None,
        batch_size: int = 16,
    ) -> list[Prediction]:
        """Answer for each image: files, or RGB uint8 arrays [H, W, 3].

        Frames of a video are such arrays, and `mbapps.video` reads them one at a time:

            from mbapps.video import Video

            for frame in Video("clip.mp4").frames(step=5):
                print(frame.seconds, model.predict(frame.image)[0].to_json())

        OpenCV's own frames are BGR: `model.predict(frame[..., ::-1])`.

        Args:
            images: one or several.
            batch_size: images that are resized and run at a time.
            score_thresh: one for all classes, one per class, or some by class name; the rest, or with None all, take
                the folder's own, found on validation.

        Raises:
            FileNotFoundError: a file is missing.
            BrokenImageError: a file can't be decoded.
            ValueError: an array is no RGB uint8 image, or an argument is out of its range.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be >= 1, got {batch_size}")
        thresholds = self.thresholds(score_thresh)
        many = [images] if isinstance(images, (str, Path, np.ndarray)) else list(images)
        results: list[Prediction] = []
        for start in range(0, len(many), batch_size):
            results += self._predict_batch(
                [as_image(image) for image in many[start : start + batch_size]], thresholds, batch_size
            )
        return results

    def thresholds(
        self, score_thresh: float | Sequence[float] | Mapping[str, Any] | None = None
    ) -> dict[str, list[float] | None]:
        """Least scores of each head's classes, or None where nobody set any.

        Args:
            score_thresh: as in `predict`.

        Raises:
            ValueError: as `class_thresholds`, or a head has no scores to be compared.
        """
        heads = list(self.network.heads)
        wanted: dict[str, Any] = dict.fromkeys(heads, score_thresh)
        if len(heads) > 1 and isinstance(score_thresh, Mapping):
            if unknown := sorted(set(score_thresh) - set(heads)):
                raise ValueError(
                    f"score_thresh of several heads goes by head, such as {{{heads[0]}: 0.5}}; there is no head "
                    f"{', '.join(unknown)}, only {', '.join(heads)}"
                )
            wanted = {name: score_thresh.get(name) for name in heads}
        found = {}
        for name in heads:
            facts = self.facts["heads"][name]
            scored = getattr(self.network.head(name), "SCORED", True)
            own = facts.get("thresholds")
            if wanted[name] is not None and not scored:
                if len(heads) == 1 or isinstance(score_thresh, Mapping):
                    raise ValueError(
                        f"score_thresh is for boxes; the {name} head answers with its best classes, so leave it out"
                    )
                wanted[name] = None
            found[name] = class_thresholds(wanted[name], facts["class_names"], own) if scored else None
        return found

    @torch.inference_mode()
    def _predict_batch(
        self, images: Sequence[UInt8Image], thresholds: Mapping[str, Sequence[float] | None], batch_size: int
    ) -> list[Prediction]:
        names = list(self.network.heads)
        if self.faces is None:
            answers = self._answers(names, images, thresholds)
            if len(answers) == 1:
                return next(iter(answers.values()))
            rows = zip(*(answers[name] for name in names), strict=True)
            return [Together(dict(zip(names, row, strict=True))) for row in rows]
        rest = [name for name in names if name not in self.faces.heads]
        answers = self._answers(rest, images, thresholds)
        if self.faces.own is None:
            found, known = self.faces.detections(images, batch_size)
        else:
            found, known = answers[self.faces.own], thresholds[self.faces.own] is not None
        faces = self.faces.see(
            images, found, known, partial(self._answers, thresholds=thresholds, whole=True), batch_size
        )
        return [
            Together({name: answers[name][row] for name in rest}, faces[row]) for row in range(len(images))
        ]

    def _answers(
        self,
        heads: Sequence[str],
        images: Sequence[UInt8Image],
        thresholds: Mapping[str, Sequence[float] | None],
        *,
        whole: bool = False,
    ) -> dict[str, list[Any]]:
        """What some heads say of images, by their names; `whole`: they see all of each, not its middle."""
        sizes = torch.tensor([image.shape[:2] for image in images]).to(self.device)
        answers: dict[str, list[Any]] = {}
        for names in passes(self.facts, heads, whole=whole):
            facts = self.facts["heads"][names[0]]
            pixels = head_views(facts, images, share=1.0 if whole else None)
            outputs = self.network(pixels.to(self.device), names)
            for name in names:
                answers[name] = self.network.head(name).decode(outputs[name], sizes)
                least = thresholds[name]
                if least is not None:
                    answers[name] = [answer.above(least) for answer in answers[name]]
        return answers


def head_views(
    head: Mapping[str, Any], images: Sequence[UInt8Image], share: float | None = None
) -> torch.Tensor:
    """What a head sees of images [H, W, 3] of any sizes, by its facts in model.json: uint8 [B, 3, S, S].

    With `share` it sees that share of each side, round the middle, instead of its own.
    """
    size, own = view_of(head)
    return stack_views([central_view(image, size, own if share is None else share) for image in images])


def stack_views(views: Sequence[UInt8Image]) -> torch.Tensor:
    """[S, S, 3] arrays -> uint8 [B, 3, S, S], channels-last in memory."""
    return torch.from_numpy(np.stack(views)).permute(0, 3, 1, 2)


def as_image(image: str | Path | UInt8Image) -> UInt8Image:
    """Read a file, or check an array to be RGB uint8 [H, W, 3]."""
    if isinstance(image, (str, Path)):
        return read_image(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise ValueError(f"images must be RGB uint8 [H, W, 3], got {image.dtype} {list(image.shape)}")
    return image


def pick_device(device: str) -> str:
    """Turn "auto" into the best device at hand; others are checked to be there."""
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if device.partition(":")[0] not in DEVICES:
        raise ValueError(f"device must be auto, cpu, cuda (or cuda:1 …), mps or xpu, got {device!r}")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device={device} is not usable here: {str(error).splitlines()[0]}") from error
    return device
