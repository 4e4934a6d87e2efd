"""`mbapps predict`: answers for images and videos, as JSON and drawn."""

from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.report import print_table, run_context, write_results
from mbapps.together import Together, change

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from threading import Event

    from omegaconf import DictConfig
    from rich.progress import Progress

    from mbapps.answers import CocoResults, JsonWriter
    from mbapps.deploy.bundle import Bundle
    from mbapps.geo_verbs import Teller
    from mbapps.video import Frame, Video

SHOWN_BROKEN = 10  # reasons printed; all stand in predictions.json
OF_FACES = ("face_attr", "face_embed")
WHOLE = "{} answer for whole images, as if each were one cropped face"


@dataclass
class Job:
    """What the steps of one run share: how to answer, and what was answered so far."""

    bundle: Bundle
    thresholds: Any  # as Bundle.predict takes them
    batch_size: int
    frame_step: int
    out: JsonWriter  # predictions.json
    progress: Progress
    stop: Event  # set by Ctrl-C: the batch at hand is the last
    places: Teller | None = None  # says more of answers that are places
    placing: str = ""  # the head that gives them
    images: int = 0
    videos: int = 0
    frames: int = 0
    found: int = 0
    broken: dict[str, str] = field(default_factory=dict)

    def answer(self, pixels: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Give the prediction of each image, and its plain form."""
        made: Any = self.bundle.predict(pixels, score_thresh=self.thresholds, batch_size=self.batch_size)
        if self.places:
            made = change(made, self.placing, self.places.named)
        self.found += sum(len(one) for one in made if isinstance(one, Together))
        answers = [(prediction, prediction.to_json()) for prediction in made]
        self.found += sum(len(plain) for _, plain in answers if isinstance(plain, list))
        return answers

    def complain(self, file: Path, reason: str) -> None:
        """Note what is wrong with a file."""
        before = self.broken.get(str(file))
        self.broken[str(file)] = f"{before}; {reason}" if before else reason


def run(cfg: DictConfig) -> None:
    """Write predictions.json, coco_results.json of a detector, and what is drawn; the unreadable is listed.

    Ctrl-C ends all files with the batch at hand: they are whole, and hold what was answered until then.
    """
    from omegaconf import OmegaConf
    from rich.progress import Progress

    from mbapps import app
    from mbapps.answers import CocoResults, drawn_names, json_file, number_images
    from mbapps.deploy.passes import passes
    from mbapps.geo_verbs import Teller, attach_index, placing
    from mbapps.sources import find_sources, stop_at_interrupt

    folder = app.run_folder(cfg)
    for key in ("batch_size", "frame_step"):
        if not isinstance(cfg[key], int) or cfg[key] < 1:
            raise ValueError(f"{key} must be a whole number >= 1, got {cfg[key]}")
    images, videos = find_sources(cfg.source)
    bundle = app.open_bundle(cfg)
    geo = placing(bundle)
    attach_index(cfg, geo)
    wanted = cfg.score_thresh
    wanted = OmegaConf.to_container(wanted) if OmegaConf.is_config(wanted) else wanted
    bundle.thresholds(wanted)  # type: ignore[arg-type]  # what does not fit is told before anything is written
    image_ids, origin = number_images(images)
    source, started = Path(cfg.source), time.perf_counter()
    pictures: dict[Path, Path] = {}
    drawn: dict[Path, Path] = {}
    maps: dict[Path, Path] = {}
    if cfg.draw:
        kept = (".jpg", ".jpeg", ".png")
        pictures = drawn_names(images, source, folder / "pictures", keep=kept, ending=".jpg")
        maps = drawn_names(images, source, folder / "maps", keep=kept, ending=".jpg")
        drawn = drawn_names(videos, source, folder / "videos", keep=(), ending=".mp4")
    coco = CocoResults(folder / "coco_results.json", image_ids, category_ids(bundle))
    with (
        json_file(folder / "predictions.json", "{}") as out,
        coco,
        stop_at_interrupt() as stop,
        Progress() as progress,
    ):
        heads = list(bundle.network.heads)
        places = None if len(geo.network.heads) > 1 else Teller.of(geo, maps)
        named = geo.head_name if places else ""
        job = Job(bundle, wanted, cfg.batch_size, cfg.frame_step, out, progress, stop, places, named)
        out.item(str(cfg.model), "model")
        out.item(heads[0] if len(heads) == 1 else "multi", "task")
        whole = [name for name in heads if name in OF_FACES] if len(heads) > 1 else []
        if len(heads) > 1:
            out.item(heads, "heads")
            out.item(len(passes(bundle.facts, heads)), "passes")
        if whole:
            out.item(WHOLE.format(" and ".join(whole)), "note")
        with out.nest("{}", "image_ids"):
            for file, number in image_ids.items():
                out.item(number, file)
        with out.nest("{}", "images"):
            predict_images(job, images, coco, pictures)
        with out.nest("{}", "videos"):
            for video in videos:
                predict_video(job, video, drawn.get(video))
        out.item(job.broken, "broken")
        out.item(stop.is_set(), "stopped")
        if not job.images and not job.frames and not stop.is_set():
            raise ValueError(
                f"none of the {len(images) + len(videos)} files of source={cfg.source} can be read: "
                f"{next(iter(job.broken.values()))}"
            )
    notes = list(job.broken.values())[:SHOWN_BROKEN]
    notes += places.notes[:SHOWN_BROKEN] if places else []
    notes += [WHOLE.format(" and ".join(whole))] if whole else []
    if coco.written:
        notes.append(f"image ids of coco_results.json: {origin}")
        notes += ["coco_results.json holds the images; frames of videos have no image id"] * bool(videos)
    _tell(folder, job, notes, time.perf_counter() - started)


def predict_images(job: Job, files: Sequence[Path], coco: CocoResults, drawn: dict[Path, Path]) -> None:
    """Answer for each image; `drawn` tells where to write its picture, if anywhere."""
    from mbapps.images import BrokenImageError, write_image
    from mbapps.sources import batched, read_images

    if not files:
        return
    bar = job.progress.add_task("images", total=len(files))
    for batch in batched(read_images(files, job.batch_size), job.batch_size):
        job.broken |= {str(file): str(image) for file, image in batch if isinstance(image, BrokenImageError)}
        readable = [(file, image) for file, image in batch if not isinstance(image, BrokenImageError)]
        answers = job.answer([image for _, image in readable])
        for (file, image), (prediction, plain) in zip(readable, answers, strict=True):
            parts: Any = prediction.answers if isinstance(prediction, Together) else {job.placing: prediction}
            if job.places:
                told = plain[job.placing] if isinstance(plain, dict) else plain
                told[0] |= job.places.tell(file, image, parts[job.placing])
            job.out.item(plain, str(file))
            for part in parts.values():
                coco.add(str(file), part)
            if file in drawn:
                write_image(drawn[file], prediction.draw(image))
        job.images += len(readable)
        job.progress.advance(bar, len(batch))
        if job.stop.is_set():
            return


def predict_video(job: Job, file: Path, drawn: Path | None) -> None:
    """Answer for the frames of a video in batches; `drawn` tells where to write it with the answers, if anywhere."""
    from mbapps.sources import batched, read_frames
    from mbapps.video import BrokenVideoError, Video

    if job.stop.is_set():
        return
    try:
        video = Video(file)
    except BrokenVideoError as error:
        job.complain(file, str(error))
        return
    batches = batched(read_frames(video, job.frame_step, job.batch_size), job.batch_size)
    first = next(batches, None)
    if first is not None:  # else the file leaves no trace but its problem
        job.videos += 1
        height, width = video.height, video.width
        if drawn and len(job.bundle.network.heads) > 1:  # their picture is larger than the frame
            image = first[0].image
            height, width = job.bundle.predict(image)[0].draw(image).shape[:2]
        _predict_frames(job, video, chain([first], batches), drawn, (height, width))
    if video.problem:
        job.complain(file, video.problem)


def _predict_frames(
    job: Job, video: Video, batches: Iterable[list[Frame]], drawn: Path | None, size: tuple[int, int]
) -> None:
    from mbapps.video import write_video

    total = None if video.count is None else math.ceil(video.count / job.frame_step)
    bar = job.progress.add_task(video.path.name, total=total)
    facts = {"fps": video.fps, "width": video.width, "height": video.height, "frame_step": job.frame_step}
    with ExitStack() as files:
        files.enter_context(job.out.nest("{}", str(video.path)))
        for key, value in facts.items():
            job.out.item(value, key)
        write = None
        if drawn:
            try:
                write = files.enter_context(write_video(drawn, video.fps / job.frame_step, *size))
            except OSError as error:  # the answers are worth having without the picture
                job.complain(video.path, str(error))
        files.enter_context(job.out.nest("[]", "frames"))
        for batch in batches:
            answers = job.answer([frame.image for frame in batch])
            for frame, (prediction, plain) in zip(batch, answers, strict=True):
                job.out.item({"frame": frame.index, "seconds": frame.seconds, "answers": plain})
                if write:
                    write(prediction.draw(frame.image))
            job.frames += len(batch)
            job.progress.advance(bar, len(batch))
            if job.stop.is_set():
                return


def category_ids(bundle: Bundle) -> Sequence[int]:
    """The annotations' number of each class, as the model was trained on them; 1 to K where it does not know.

    Raises:
        ValueError: model.json has another count of them than of classes.
    """
    heads = [bundle.facts["heads"][name] for name in bundle.network.heads]
    head = next((one for one in heads if one.get("category_ids")), heads[0])
    names, known = head["class_names"], head.get("category_ids")
    if known is None:
        return range(1, len(names) + 1)
    if len(known) != len(names):
        raise ValueError(f"model.json has {len(known)} category_ids for {len(names)} classes; it is damaged")
    return known


def _tell(folder: Path, job: Job, notes: Sequence[str], seconds: float) -> None:
    numbers: dict[str, Any] = {
        "images": job.images, "videos": job.videos, "frames": job.frames, "broken": len(job.broken),
        "answers": job.found, "seconds": seconds, "images_per_second": (job.images + job.frames) / seconds,
    }  # fmt: skip
    numbers |= job.places.numbers() if job.places else {}
    results = write_results(folder, numbers, {**run_context(), "runtime": job.bundle.runtime})
    for note in notes:
        print(note)
    names = ("predictions.json", "coco_results.json", "pictures", "maps", "videos")
    paths = [folder / name for name in names if (folder / name).exists()]
    print_table("predict", numbers, paths=[*paths, results])
    if job.stop.is_set():
        print("stopped: the files hold what was answered until then", file=sys.stderr)
        sys.exit(130)
