from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mbapps import video as module
from mbapps.video import BrokenVideoError, Frame, Video, write_video


def picture(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Smooth RGB [H, W, 3], another for each index: codecs change it little."""
    rows, columns = np.mgrid[:height, :width]
    image = np.stack([rows * 4, columns * 3, np.full_like(rows, index * 20 % 256)], axis=2)
    return image.astype(np.uint8)


def make(path: Path, count: int = 12, codec: str = "mp4v", fps: float = 25) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*codec), fps, (64, 48))
    assert writer.isOpened(), path
    for index in range(count):
        writer.write(np.ascontiguousarray(picture(index)[..., ::-1]))
    writer.release()
    return path


def save(path: Path, images: Iterable[np.ndarray]) -> None:
    with write_video(path, 25, 48, 64) as write:
        for image in images:
            write(image)


def cut(path: Path, share: float) -> Path:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def read(path: Path, step: int = 1) -> tuple[list[Frame], str | None]:
    video = Video(path)
    return list(video.frames(step)), video.problem


def close(left: np.ndarray, right: np.ndarray) -> bool:
    return left.shape == right.shape and np.abs(left.astype(int) - right).mean() < 6


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "mp4v"), ("a.MOV", "mp4v"), ("a.avi", "MJPG"), ("a.mkv", "FFV1"), ("a.webm", "VP80")],
)
def test_frames_are_rgb_numbered_and_timed(tmp_path: Path, name: str, codec: str) -> None:
    video = Video(make(tmp_path / name, codec=codec))
    assert (video.height, video.width, video.fps, video.count) == (48, 64, 25.0, 12)
    frames = list(video.frames())
    assert video.problem is None
    assert [frame.index for frame in frames] == list(range(12))
    np.testing.assert_allclose([frame.seconds for frame in frames], np.arange(12) / 25, atol=1e-3)
    assert all(close(frame.image, picture(frame.index)) for frame in frames)


def test_a_step_keeps_numbers_and_times(tmp_path: Path) -> None:
    frames, problem = read(make(tmp_path / "a.mp4"), step=5)
    assert [frame.index for frame in frames] == [0, 5, 10]
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.2, 0.4])
    assert problem is None


@pytest.mark.parametrize(("matrix", "turns"), [((0, 1, -1, 0), 3), ((-1, 0, 0, -1), 2), ((0, -1, 1, 0), 1)])
def test_the_rotation_of_the_file_is_applied(
    tmp_path: Path, matrix: tuple[int, int, int, int], turns: int
) -> None:
    path = make(tmp_path / "a.mp4")
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 44  # the matrix of the track's header: a b u, c d v, x y w
    a, b, c, d = (value << 16 for value in matrix)
    content[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    upright = np.rot90(picture(0), turns)
    assert (Video(path).height, Video(path).width) == upright.shape[:2]
    assert close(read(path)[0][0].image, upright)


@pytest.fixture
def varying(tmp_path: Path) -> Path:
    """63x47 px, frames that last differently long: FFmpeg goes by the content, a GIF here."""
    frames = [Image.fromarray(picture(index, 47, 63)) for index in range(4)]
    path = tmp_path / "odd.mkv"
    frames[0].save(path, format="gif", save_all=True, append_images=frames[1:], duration=[100, 300, 50, 100])
    return path


def test_times_of_a_varying_rate_and_odd_sides(varying: Path) -> None:
    frames, problem = read(varying)
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.1, 0.4, 0.45])
    assert frames[0].image.shape == (47, 63, 3)
    assert problem is None


def test_an_unknown_number_of_frames(tmp_path: Path) -> None:
    for index in range(3):
        Image.fromarray(picture(index)).save(tmp_path / f"{index}.jpg")
    path = tmp_path / "a.mpg"  # JPEGs one after the other: a stream without a header
    path.write_bytes(b"".join((tmp_path / f"{index}.jpg").read_bytes() for index in range(3)))
    assert Video(path).count is None
    frames, problem = read(path)
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [frame.seconds for frame in frames] == pytest.approx([0, 0.04, 0.08])
    assert problem is None


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("a.mkv", "mp4v"), ("a.webm", "VP80")])
def test_a_video_that_breaks_off(tmp_path: Path, name: str, codec: str) -> None:
    frames, problem = read(cut(make(tmp_path / name, 60, codec), 0.5))
    assert 15 < len(frames) < 45
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert problem is not None
    assert f"{name}: it is damaged or cut short: {len(frames)} of the 60 frames" in problem
    assert f"the last of them {(len(frames) - 1) / 25:.2f} s from its start" in problem


def test_frames_lost_in_the_middle_are_told(tmp_path: Path) -> None:
    path = make(tmp_path / "a.avi", 60, "MJPG")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 8] = bytes(len(content) // 8)
    path.write_bytes(content)
    frames, problem = read(path)
    assert 30 < len(frames) < 58
    assert problem is not None
    assert f"{len(frames)} of the 60 frames" in problem


@pytest.mark.parametrize("content", [b"", b"hello\n" * 50, b"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n"])
def test_a_file_that_is_no_video(tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(BrokenVideoError, match=r"a\.mp4: no video that OpenCV can read"):
        Video(tmp_path / "a.mp4")
    assert capfd.readouterr().err == ""


def test_an_mp4_without_its_end_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(BrokenVideoError, match="its beginning or index is missing"):
        Video(cut(make(tmp_path / "a.mp4"), 0.5))


def test_a_video_without_a_frame_that_decodes(tmp_path: Path) -> None:
    path = make(tmp_path / "a.mp4")
    content = bytearray(path.read_bytes())
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    content[start:end] = bytes(end - start)
    path.write_bytes(content)
    frames, problem = read(path)
    assert frames == []
    assert problem is not None
    assert "none of its frames can be decoded" in problem


def test_too_large_frames_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path / "a.mp4")
    monkeypatch.setattr(module, "MAX_PIXELS", 3000)
    with pytest.raises(BrokenVideoError, match=r"a\.mp4: frames of 64x48 px are more than 3,000 pixels"):
        Video(path)


def test_a_name_with_a_colon_is_no_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path / "a.mp4").rename(tmp_path / "http:b.mp4")
    monkeypatch.chdir(tmp_path)
    assert Video("http:b.mp4").count == 12


@pytest.mark.parametrize("fps", [0.5, 12.5, 23.976, 29.8713, 60, 100.1235, 700.4])
def test_what_is_written_is_read_back(tmp_path: Path, fps: float) -> None:
    with write_video(tmp_path / "new" / "a.mp4", fps, 48, 64) as write:
        for index in range(7):
            write(picture(index))
    video = Video(tmp_path / "new" / "a.mp4")
    assert (video.height, video.width, video.count) == (48, 64, 7)
    assert video.fps == pytest.approx(fps, rel=1e-3)
    assert all(close(frame.image, picture(frame.index)) for frame in video.frames())
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["a.mp4"]


def test_odd_sides_lose_their_last_pixel_and_other_sizes_are_fitted(tmp_path: Path) -> None:
    with write_video(tmp_path / "a.mp4", 25, 47, 63) as write:
        write(picture(0, 47, 63))
        write(picture(0, 94, 126))
    frames, _ = read(tmp_path / "a.mp4")
    assert [frame.image.shape for frame in frames] == [(46, 62, 3)] * 2
    assert close(frames[0].image, picture(0, 47, 63)[:46, :62])


def test_an_interrupted_writer_leaves_nothing(tmp_path: Path) -> None:
    def frames() -> Iterator[np.ndarray]:
        yield picture(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save(tmp_path / "a.mp4", frames())
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wanted = r"can't write .*a\.mp4: OpenCV's mp4v encoder did not open for 1x1 px at 25 frames.*draw=false"
    with pytest.raises(OSError, match=wanted), write_video(tmp_path / "a.mp4", 25, 1, 1):
        pass
    monkeypatch.setattr(module, "CODEC", "ZZZZ")
    with (
        pytest.raises(OSError, match="OpenCV's ZZZZ encoder did not open"),
        write_video(tmp_path / "a.mp4", 25, 48, 64),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


def test_frames_that_were_not_written_are_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full:
        """A writer on a disk that takes nothing more."""

        fourcc = cv2.VideoWriter.fourcc

        def __init__(self, *args: object) -> None:
            self.writer = cv2_writer(*args)

        def isOpened(self) -> bool:  # noqa: N802
            return True

        def write(self, image: np.ndarray) -> None:
            if not self.writer.isOpened():
                return
            self.writer.write(image)
            self.writer.release()

        def release(self) -> None:
            pass

    cv2_writer = cv2.VideoWriter
    monkeypatch.setattr(cv2, "VideoWriter", Full)
    with pytest.raises(OSError, match=r"could not save .*a\.mp4: 1 of 3 frames .*; is the disk full\?"):
        save(tmp_path / "a.mp4", [picture(index) for index in range(3)])
    assert list(tmp_path.iterdir()) == []
