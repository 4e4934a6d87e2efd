from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mbapps.images import BrokenImageError
from mbapps.sources import find_sources, read_ahead, read_images, stop_at_interrupt


def test_images_and_videos_of_a_folder_a_glob_or_alone(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.JPG", "z.MP4", "a.mkv", "notes.txt", "sub/c.webp"):
        (tmp_path / name).touch()
    images, videos = find_sources(tmp_path)
    assert images == [tmp_path / "b.JPG", tmp_path / "sub" / "c.webp"]
    assert videos == [tmp_path / "a.mkv", tmp_path / "z.MP4"]
    assert find_sources(tmp_path / "*.mkv") == ([], [tmp_path / "a.mkv"])
    assert find_sources(tmp_path / "z.MP4") == ([], [tmp_path / "z.MP4"])
    assert find_sources(tmp_path / "notes.txt") == ([tmp_path / "notes.txt"], [])


@pytest.mark.parametrize("source", ["", "nothing", "*.jpg"])
def test_neither_images_nor_videos(tmp_path: Path, source: str) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(
        FileNotFoundError,
        match=r"no images or videos at source=.*; give a file, or a folder or glob with .*\.jpg.*\.mp4",
    ):
        find_sources(tmp_path / source)


def test_images_come_in_order_and_broken_ones_as_errors(tmp_path: Path) -> None:
    files = [tmp_path / f"{index}.png" for index in range(9)]
    for index, file in enumerate(files):
        Image.fromarray(np.full((4, 5, 3), index, np.uint8)).save(file)
    files[4].write_text("no image")
    files[6].unlink()
    found = list(read_images(files, 3))
    assert [file for file, _ in found] == files
    assert [row for row, (_, image) in enumerate(found) if isinstance(image, BrokenImageError)] == [4, 6]
    assert "no image at" in str(found[6][1])
    assert all(image.max() == row for row, (_, image) in enumerate(found) if isinstance(image, np.ndarray))


def test_no_more_is_read_ahead_than_asked() -> None:
    made: list[int] = []
    results = read_ahead((partial(made.append, index) for index in range(100)), threads=2, ahead=5)
    next(results)
    time.sleep(0.1)
    assert len(made) <= 6
    results.close()  # type: ignore[attr-defined]
    assert len(made) <= 6


def test_an_error_comes_where_its_result_would() -> None:
    results = read_ahead([lambda: 1, lambda: 1 // 0, lambda: 3], threads=1, ahead=2)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_the_first_interrupt_asks_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_at_interrupt() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.wait(1)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_interrupts_are_left_alone_in_other_threads() -> None:
    seen: list[bool] = []

    def work() -> None:
        with stop_at_interrupt() as stop:
            seen.append(stop.is_set())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]
