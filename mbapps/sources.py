"""What `source=` means, and its images and frames read ahead of the network."""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice, repeat
from pathlib import Path
from typing import TypeVar

from mbapps.images import IMAGE_SUFFIXES, BrokenImageError, UInt8Image, find_files, read_image
from mbapps.video import VIDEO_SUFFIXES, Frame, Video

READERS = 2  # threads that decode images: each is several times as fast as the network on the same core

T = TypeVar("T")


def find_sources(source: str | Path) -> tuple[list[Path], list[Path]]:
    """List the images and the videos that `source` means: a file, a folder (searched below) or a glob, sorted.

    A file named by itself is a video if its ending says so, and an image otherwise.

    Raises:
        FileNotFoundError: it means neither.
    """
    files = find_files(source, IMAGE_SUFFIXES | VIDEO_SUFFIXES, "images or videos")
    videos = [file for file in files if file.suffix.lower() in VIDEO_SUFFIXES]
    return [file for file in files if file.suffix.lower() not in VIDEO_SUFFIXES], videos


def read_images(files: Iterable[Path], ahead: int) -> Iterator[tuple[Path, UInt8Image | BrokenImageError]]:
    """Read images in order, at most `ahead` before they are asked for; in place of a broken one its error."""
    return read_ahead((partial(_read, file) for file in files), READERS, ahead)


def _read(file: Path) -> tuple[Path, UInt8Image | BrokenImageError]:
    try:
        return file, read_image(file)
    except BrokenImageError as error:
        return file, error
    except FileNotFoundError as error:  # it was there when the folder was listed
        return file, BrokenImageError(str(error))


def read_frames(video: Video, step: int, ahead: int) -> Iterator[Frame]:
    """Read every `step`-th frame of a video, at most `ahead` before they are asked for."""
    frames = video.frames(step)
    for frame in read_ahead(repeat(partial(next, frames, None)), 1, ahead):
        if frame is None:
            return
        yield frame


def read_ahead(calls: Iterable[Callable[[], T]], threads: int, ahead: int) -> Iterator[T]:
    """Give each call's result in order while threads make the next `ahead` calls.

    >>> list(read_ahead([lambda: 1, lambda: 2, lambda: 3], threads=2, ahead=1))
    [1, 2, 3]
    """
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for call in calls:
                waiting.append(pool.submit(call))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut into lists of `size`, the last as long as it comes.

    >>> list(batched("abcde", 2))
    [['a', 'b'], ['c', 'd'], ['e']]
    """
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch


@contextmanager
def stop_at_interrupt() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C into a set event, so that what is being written can be ended well; a second interrupts."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # signals reach the main thread only
        return
    before = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: object) -> None:
        stop.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, ask)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)
