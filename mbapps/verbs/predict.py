"""`mbapps predict`: answers for images and videos, as JSON and drawn."""

from __future__ import annotations

import math
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.report import print_table, run_context, write_results
from mbapps.together import Together

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from threading import Event

    from omegaconf import DictConfig
    from rich.progress import Progress

    from mbapps.answering import Answerer
    from mbapps.answers import CocoResults, JsonWriter
    from mbapps.deploy.bundle import Bundle
    from mbapps.video import Frame, Video

SHOWN_BROKEN = 10  # reasons printed; all stand in predictions.json


@dataclass
class Job:
    """What the steps of one run share: how to answer, and what was answered so far."""

    answerer: Answerer
    frame_step: int
    out: JsonWriter  # predictions.json
    progress: Progress
    stop: Event  # set by Ctrl-C: the batch at hand is the last
    images: int = 0
    videos: int = 0
    frames: int = 0
    found: int = 0
    broken: dict[str, str] = field(default_factory=dict)

    def answer(self, pixels: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Give the prediction of each image, and its plain form."""
        answers = self.answerer.answer(pixels)
        for prediction, plain in answers:
            if isinstance(prediction, Together):
                self.found += len(prediction)
            elif isinstance(plain, list):
                self.found += len(plain)
        return answers

    def complain(self, file: Path, reason: str) -> None:
        """Note what is wrong with a file."""
        before = self.broken.get(str(file))
        self.broken[str(file)] = f"{before}; {reason}" if before else reason


def run(cfg: DictConfig) -> None:
    """Write predictions.json, coco_results.json of a detector, and what is drawn; the unreadable is listed.

    Ctrl-C ends all files with the batch at hand: they are whole, and hold what was answered until then.
    """
    from rich.progress import Progress

    from mbapps import app
    from mbapps.answering import Answerer
    from mbapps.answers import CocoResults, drawn_names, json_file, number_images
    from mbapps.sources import find_sources, stop_at_interrupt

    folder = app.run_folder(cfg)
    for key in ("batch_size", "frame_step"):
        if not isinstance(cfg[key], int) or cfg[key] < 1:
            raise ValueError(f"{key} must be a whole number >= 1, got {cfg[key]}")
    images, videos = find_sources(cfg.source)
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
    answerer = Answerer.open(cfg, maps)
    opened = time.perf_counter()
    coco = CocoResults(folder / "coco_results.json", image_ids, category_ids(answerer.bundle))
    with (
        json_file(folder / "predictions.json", "{}") as out,
        coco,
        stop_at_interrupt() as stop,
        Progress() as progress,
    ):
        job = Job(answerer, cfg.frame_step, out, progress, stop)
        out.item(str(cfg.model), "model")
        for key, value in answerer.about().items():
            out.item(value, key)
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
    notes += answerer.places.notes[:SHOWN_BROKEN] if answerer.places else []
    notes += answerer.notes
    if coco.written:
        notes.append(f"image ids of coco_results.json: {origin}")
        notes += ["coco_results.json holds the images; frames of videos have no image id"] * bool(videos)
    ended = time.perf_counter()
    _tell(folder, job, notes, ended - started, ended - opened)


def predict_images(job: Job, files: Sequence[Path], coco: CocoResults, drawn: dict[Path, Path]) -> None:
    """Answer for each image; `drawn` tells where to write its picture, if anywhere.

    A thread answers for a batch while the next is read and the one before is written.
    """
    from mbapps.images import BrokenImageError, write_image
    from mbapps.sources import READERS, batched, read_ahead, read_images

    def answer(batch: list[tuple[Path, Any]]) -> tuple[dict[str, str], list[Any], list[Any]] | None:
        if job.stop.is_set():
            return None
        broken = {str(file): str(image) for file, image in batch if isinstance(image, BrokenImageError)}
        readable = [(file, image) for file, image in batch if str(file) not in broken]
        return broken, readable, job.answer([image for _, image in readable])

    if not files:
        return
    bar = job.progress.add_task("images", total=len(files))
    batches = batched(read_images(files, 2 * READERS), job.answerer.batch_size)
    for answered in read_ahead((partial(answer, batch) for batch in batches), 1, 1):
        if answered is None:
            return
        broken, readable, answers = answered
        job.broken |= broken
        for (file, image), (prediction, plain) in zip(readable, answers, strict=True):
            job.answerer.tell(file, image, prediction, plain)
            job.out.item(plain, str(file))
            for part in job.answerer.parts(prediction).values():
                coco.add(str(file), part)
            if file in drawn:
                write_image(drawn[file], prediction.draw(image))
        job.images += len(readable)
        job.progress.advance(bar, len(broken) + len(readable))


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
    size = job.answerer.batch_size
    batches = batched(read_frames(video, job.frame_step, size), size)
    first = next(batches, None)
    if first is not None:  # else the file leaves no trace but its problem
        job.videos += 1
        height, width = video.height, video.width
        if drawn and len(job.answerer.bundle.network.heads) > 1:  # their picture may be larger than the frame
            image = first[0].image
            height, width = job.answerer.bundle.predict(image)[0].draw(image).shape[:2]
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


def _tell(folder: Path, job: Job, notes: Sequence[str], seconds: float, answering: float) -> None:
    numbers: dict[str, Any] = {
        "images": job.images, "videos": job.videos, "frames": job.frames, "broken": len(job.broken),
        "answers": job.found, "seconds": seconds, "images_per_second": (job.images + job.frames) / answering,
    }  # fmt: skip
    numbers |= job.answerer.places.numbers() if job.answerer.places else {}
    results = write_results(folder, numbers, {**run_context(), "runtime": job.answerer.bundle.runtime})
    for note in notes:
        print(note)
    names = ("predictions.json", "coco_results.json", "pictures", "maps", "videos")
    paths = [folder / name for name in names if (folder / name).exists()]
    print_table("predict", numbers, paths=[*paths, results])
    if job.stop.is_set():
        print("stopped: the files hold what was answered until then", file=sys.stderr)
        sys.exit(130)
