"""Videos: frames read one at a time, upright and RGB, and drawn ones written."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

# FFmpeg would print a line per damaged block; what is wrong with a file is told once, by us. Read at its first use.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

import cv2
import numpy as np

from mbapps.files import replacing
from mbapps.images import MAX_PIXELS, UInt8Image, resize

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv", ".3gp", ".ogv", ".ts",
     ".mts", ".m2ts"}
)  # fmt: skip
STORES_COUNT = frozenset({".mp4", ".m4v", ".mov", ".avi", ".3gp"})  # others' count is length times mean rate
DEFAULT_FPS = 25.0  # of a file that does not tell, or tells nonsense
MIN_FPS, MAX_FPS = 0.01, 1000.0  # what the mp4v encoder takes
FEW_FRAMES = 2  # an encoder's own slack in counting: fewer than these are not missed
FEW_SECONDS = 0.5  # likewise where the count is an estimate
CODEC = "mp4v"  # the one that the OpenCV wheels write and that players open


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep OpenCV from printing why it can't open a file: isOpened() tells, and the error raised then says it."""
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(before)


class BrokenVideoError(ValueError):
    """A file that is no video, or whose frames are too large; the message names it."""


@dataclass(frozen=True)
class Frame:
    """One frame: RGB uint8 [H, W, 3], its number in the file from 0, and its time in seconds."""

    index: int
    seconds: float
    image: UInt8Image


class Video:
    """A video file, opened.

    height, width: of a frame as it is shown: the file's rotation is applied, px.
    fps: mean frames per second; 25 where the file does not tell.
    count: frames that the file announces, None where it does not tell. An estimate in some containers.
    problem: after `frames()` has ended, why it ended too early; None if it did not.

    Raises:
        BrokenVideoError: the file is no video that OpenCV's FFmpeg can read, or a frame has more than
            `mbapps.images.MAX_PIXELS` pixels.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        # An absolute path, since FFmpeg takes `a:b.mp4` for a protocol. Only FFmpeg: the others guess by the name.
        with _quietly():
            self._capture = cv2.VideoCapture(str(self.path.absolute()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise BrokenVideoError(
                f"{path}: no video that OpenCV can read, or its beginning or index is missing"
            )
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        if self.width * self.height > MAX_PIXELS:
            raise BrokenVideoError(
                f"{path}: frames of {self.width}x{self.height} px are more than {MAX_PIXELS:,} pixels"
            )
        fps, count = self._capture.get(cv2.CAP_PROP_FPS), self._capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.fps = fps if MIN_FPS <= fps <= MAX_FPS else DEFAULT_FPS
        self.count = int(count) if 0 < count < 1e9 else None
        self.problem: str | None = None

    def frames(self, step: int = 1) -> Iterator[Frame]:
        """Give every `step`-th frame, once, the first included; those between are decoded but not converted.

        A frame's time is the file's own, also where the rate varies. Damage never raises: the frames end, and
        `problem` tells.
        """
        read, seconds = 0, -math.inf
        try:
            while self._capture.grab():
                stored = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                seconds = stored if stored > seconds and (stored > 0 or read == 0) else read / self.fps
                read += 1
                if (read - 1) % step:
                    continue
                found, bgr = self._capture.retrieve()
                if not found:
                    break
                image = np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
                yield Frame(read - 1, round(seconds, 6), image)
        except cv2.error as error:
            self.problem = f"{self.path}: frame {read} can't be decoded: {error.err}"
        finally:
            self._capture.release()
        self.problem = self.problem or self._missing(read, seconds)

    def _missing(self, read: int, seconds: float) -> str | None:
        if read == 0:
            return f"{self.path}: none of its frames can be decoded"
        if self.count is None:
            return None
        if self.path.suffix.lower() in STORES_COUNT:
            short = self.count - read > FEW_FRAMES
        else:
            short = self.count / self.fps - seconds > FEW_SECONDS + 1 / self.fps
        if not short:
            return None
        return (
            f"{self.path}: it is damaged or cut short: {read} of the {self.count} frames that it announces can "
            f"be read, the last of them {seconds:.2f} s from its start"
        )


@contextmanager
def write_video(
    path: str | Path, fps: float, height: int, width: int
) -> Iterator[Callable[[UInt8Image], None]]:
    """Give a function that takes RGB uint8 frames [H, W, 3]; the .mp4 they make appears at the end, or nothing.

    An odd height or width loses its last row or column, since the encoder takes even ones only. A frame of
    another size than the first is resized to it.

    Raises:
        OSError: OpenCV can't write there, or what it wrote is not whole.
    """
    with replacing(path) as temporary:
        code = cv2.VideoWriter.fourcc(*CODEC)
        fps = min(max(fps, MIN_FPS), MAX_FPS)
        fps = round(fps, 3 if fps < 65 else 2 if fps < 655 else 0)  # a fraction whose parts are below 65,536
        with _quietly():
            writer = cv2.VideoWriter(str(temporary), cv2.CAP_FFMPEG, code, fps, (width, height))
        if not writer.isOpened():
            raise OSError(
                f"can't write {path}: OpenCV's {CODEC} encoder did not open for {width}x{height} px at "
                f"{fps:g} frames per second; draw=false writes the answers alone"
            )
        written = 0

        def write(image: UInt8Image) -> None:
            nonlocal written
            writer.write(cv2.cvtColor(resize(image, height, width), cv2.COLOR_RGB2BGR))
            written += 1

        try:
            yield write
        finally:
            writer.release()
        with _quietly():
            saved = cv2.VideoCapture(str(temporary.absolute()), cv2.CAP_FFMPEG)
        there = int(saved.get(cv2.CAP_PROP_FRAME_COUNT))
        saved.release()
        if there != written:  # VideoWriter tells of no error, not even of a full disk
            raise OSError(
                f"could not save {path}: {max(there, 0)} of {written} frames were written; is the disk full?"
            )
