from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mbapps import images
from mbapps.images import (
    FACE_TEMPLATE,
    GREY,
    IMAGE_SUFFIXES,
    BrokenImageError,
    align_face,
    find_files,
    read_image,
    read_size,
    resize,
    write_image,
)


@pytest.fixture
def photo() -> np.ndarray:
    """Smooth RGB [48, 64, 3], so that JPEG changes little."""
    rows, columns = np.mgrid[:48, :64]
    return np.stack([rows * 5, columns * 4, 255 - rows * 2 - columns * 2], axis=2).astype(np.uint8)


def close(left: np.ndarray, right: np.ndarray, tolerance: float = 3) -> bool:
    return left.shape == right.shape and np.abs(left.astype(int) - right).mean() < tolerance


def test_rgb(tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert image.dtype == np.uint8
    assert np.array_equal(image, photo)
    assert np.array_equal(read_image(str(tmp_path / "a.png")), photo)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".pgm"])
def test_grey(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    Image.fromarray(photo[..., 0]).save(tmp_path / f"a{suffix}")
    assert close(read_image(tmp_path / f"a{suffix}"), np.repeat(photo[..., :1], 3, axis=2))


def test_one_bit(tmp_path: Path) -> None:
    Image.fromarray(np.eye(8, dtype=np.uint8) * 255).convert("1").save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png")[..., 1], np.eye(8) * 255)


def test_cmyk(tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert close(read_image(tmp_path / "a.jpg"), photo)


def test_palette(tmp_path: Path, photo: np.ndarray) -> None:
    palette = Image.fromarray(photo).quantize(64)
    palette.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.asarray(palette.convert("RGB")))


def test_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    palette = Image.new("P", (4, 2))
    palette.putpalette([200, 10, 20, 30, 40, 50])
    palette.putpixel((0, 0), 1)
    palette.save(tmp_path / "a.png", transparency=0)
    image = read_image(tmp_path / "a.png")
    assert image[0, 0].tolist() == [30, 40, 50]
    assert image[1, 3].tolist() == [GREY] * 3


@pytest.mark.parametrize(
    ("alpha", "expected"), [(0, [GREY] * 3), (255, [201, 101, 1]), (128, [164, 114, 64])]
)
def test_transparent_pixels_lie_over_grey(tmp_path: Path, alpha: int, expected: list[int]) -> None:
    Image.new("RGBA", (4, 4), (201, 101, 1, alpha)).save(tmp_path / "a.png")
    assert np.abs(read_image(tmp_path / "a.png")[2, 2].astype(int) - expected).max() <= 1


def test_grey_with_alpha(tmp_path: Path) -> None:
    Image.new("LA", (4, 4), (200, 0)).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), np.full((4, 4, 3), GREY))


def test_16_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    values = np.array([[0, 257, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png")[0, :, 0].tolist() == [0, 1, 128, 255]


def test_float_grey_is_scaled_to_its_maximum(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0.0, 0.5, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif")[0, :, 2].tolist() == [0, 128, 255]


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, 3), (8, 1)])
def test_exif_turns_the_image_upright(
    tmp_path: Path, photo: np.ndarray, orientation: int, turns: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(photo).save(tmp_path / "a.jpg", exif=exif, quality=95)
    assert close(read_image(tmp_path / "a.jpg"), np.rot90(photo, turns))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_the_size_is_that_of_the_upright_image(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (30, 20)).save(tmp_path / f"a{suffix}", exif=exif)
    assert read_size(tmp_path / f"a{suffix}") == read_image(tmp_path / f"a{suffix}").shape[:2]


def test_the_size_of_what_can_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    assert read_size(tmp_path / "a.jpg") == read_size(tmp_path / "nowhere.jpg") == (0, 0)


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert read_image(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_the_content_decides_not_the_name(tmp_path: Path, photo: np.ndarray) -> None:
    Image.fromarray(photo).save(tmp_path / "a.jpg", format="png")
    assert np.array_equal(read_image(tmp_path / "a.jpg"), photo)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_file_cut_short_is_broken(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 255, photo.shape, dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BrokenImageError, match=rf"a\{suffix}: "):
        read_image(path)


@pytest.mark.parametrize("content", [b"a text", b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_broken(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BrokenImageError, match=r"a\.jpg: "):
        read_image(tmp_path / "a.jpg")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no image at .*a\.jpg"):
        read_image(tmp_path / "a.jpg")


def test_too_many_pixels_are_refused(
    tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(photo).save(tmp_path / "a.png")
    monkeypatch.setattr(images, "MAX_PIXELS", 48 * 64)
    assert read_image(tmp_path / "a.png").shape == (48, 64, 3)
    monkeypatch.setattr(images, "MAX_PIXELS", 3000)
    with pytest.raises(BrokenImageError, match=r"a\.png: 64x48 px are more than 3,000 pixels"):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize(("height", "width"), [(16, 16), (13, 29), (16, 90), (90, 16)])
def test_shrinking_averages_what_it_leaves_out(height: int, width: int) -> None:
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    small = resize(np.repeat(checks[..., None], 3, axis=2).astype(np.uint8), height, width)
    assert small.shape == (height, width, 3)
    assert np.abs(small.astype(int) - 127).max() < 26  # picking pixels would give 0 or 255


def test_shrinking_to_a_whole_fraction_is_the_mean(photo: np.ndarray) -> None:
    means = photo.reshape(12, 4, 16, 4, 3).mean(axis=(1, 3))
    assert np.abs(resize(photo, 12, 16) - means).max() <= 0.5


def test_growing_stays_within_range_and_keeps_the_same_size(photo: np.ndarray) -> None:
    large = resize(photo, 96, 128)
    assert large.shape == (96, 128, 3)
    assert large.min() >= photo.min()
    assert large.max() <= photo.max()
    assert np.array_equal(resize(photo, 48, 64), photo)


def test_write_makes_folders_and_leaves_one_readable_file(tmp_path: Path, photo: np.ndarray) -> None:
    path = write_image(tmp_path / "new" / "a.png", photo)
    assert np.array_equal(read_image(path), photo)
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]
    assert os.stat(path).st_mode & 0o777 == 0o644


def test_a_failed_write_leaves_nothing(tmp_path: Path, photo: np.ndarray) -> None:
    with pytest.raises(ValueError, match="unknown file extension"):
        write_image(tmp_path / "a.unknown", photo)
    assert list(tmp_path.iterdir()) == []


def find_images(source: str | Path) -> list[Path]:
    return find_files(source, IMAGE_SUFFIXES, "images")


def test_find_images(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("b.JPG", "a (1).png", "notes.txt", "sub/c.webp"):
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == ["a (1).png", "b.JPG", "sub/c.webp"]
    assert find_images(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    assert find_images(str(tmp_path / "*.JPG")) == [tmp_path / "b.JPG"]
    assert find_images(tmp_path / "**" / "*.webp") == [tmp_path / "sub" / "c.webp"]


def test_find_images_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.jpg").touch()
    monkeypatch.chdir(tmp_path)
    assert find_images("*.jpg") == [Path("a.jpg")]
    assert find_images(".") == [Path("a.jpg")]


def test_a_glob_finds_images_only(tmp_path: Path) -> None:
    for name in ("a.jpg", "a.json"):
        (tmp_path / name).touch()
    assert find_images(tmp_path / "*") == [tmp_path / "a.jpg"]


@pytest.mark.parametrize("source", ["nothing", "*.jpg", "a.jpg"])
def test_no_images_at_all(tmp_path: Path, source: str) -> None:
    with pytest.raises(
        FileNotFoundError,
        match=r"no images at source=.*; give a file, or a folder or glob with files that end in \.bmp, \.gif",
    ):
        find_images(tmp_path / source)


def test_large_jpegs_are_decoded_at_a_part_of_their_size(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 1601).astype(np.uint8)
    image = np.stack(np.broadcast_arrays(ramp[None, :], ramp[:1202, None], np.uint8(90)), axis=2)
    path = write_image(tmp_path / "large.jpg", np.ascontiguousarray(image))
    whole = read_image(path)
    assert whole.shape == (1202, 1601, 3)
    for least, shape in (
        (1202, (1202, 1601)),
        (602, (1202, 1601)),
        (601, (601, 801)),
        (300, (301, 401)),
        (20, (151, 201)),
    ):
        assert read_image(path, least_side=least).shape[:2] == shape
    small = read_image(path, least_side=600)
    difference = np.abs(resize(small, 300, 400).astype(int) - resize(whole, 300, 400))
    assert difference.mean() < 1
    assert difference.max() <= 4
    png = write_image(tmp_path / "large.png", np.ascontiguousarray(image))
    assert read_image(png, least_side=20).shape == image.shape  # only JPEG can


def dots(points: np.ndarray, height: int = 300, width: int = 300) -> np.ndarray:
    """A grey picture with a bright dot at each point, each in a colour of its own."""
    image = np.full((height, width, 3), 60, dtype=np.uint8)
    for number, (x, y) in enumerate(points.tolist()):
        cv2.circle(image, (round(x), round(y)), 4, (255, 40 * number, 0), -1)
    return image


@pytest.mark.parametrize(
    ("degrees", "scale"), [(0, 1.0), (30, 1.3), (-75, 0.8), (180, 1.0), (20, 3.7), (50, 6.0)]
)
def test_a_turned_face_is_turned_back(degrees: float, scale: float) -> None:
    turn = scale * np.exp(1j * np.radians(degrees))
    rotate = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    points = (FACE_TEMPLATE - 56) @ rotate.T + 180 * max(1.0, scale / 2)
    side = round(360 * max(1.0, scale / 2))
    aligned = align_face(dots(points, side, side), points.astype(np.float32), side=112)
    assert aligned.shape == (112, 112, 3)
    red = aligned[..., 0].astype(float)
    for x, y in FACE_TEMPLATE:
        ys, xs = np.mgrid[round(y) - 8 : round(y) + 9, round(x) - 8 : round(x) + 9]
        light = red[ys, xs].clip(70) - 70
        assert (light * xs).sum() / light.sum() == pytest.approx(x, abs=0.7)
        assert (light * ys).sum() / light.sum() == pytest.approx(y, abs=0.7)


def test_beyond_the_picture_a_face_is_mid_grey() -> None:
    aligned = align_face(np.zeros((60, 60, 3), dtype=np.uint8), FACE_TEMPLATE + [40.0, 0.0])
    assert aligned.shape == (224, 224, 3)
    assert (aligned[:, 100:] == 127).all()
    assert (aligned[:60, :30] == 0).all()


@pytest.mark.parametrize(
    "points",
    [np.ones((5, 2)), np.full((5, 2), np.nan), np.arange(8.0).reshape(4, 2)],
    ids=["one", "nan", "four"],
)
def test_a_face_needs_five_points(points: np.ndarray) -> None:
    with pytest.raises(ValueError, match="a face is aligned by five different points, got"):
        align_face(np.zeros((60, 60, 3), dtype=np.uint8), points)
