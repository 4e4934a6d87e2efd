"""Reading, resizing and writing images: the one way for train, val, predict, index and teachers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from mbapps.files import replacing
from mbapps.finding import IMAGE_SUFFIXES as IMAGE_SUFFIXES
from mbapps.finding import find_files as find_files

GREY = 127  # what transforms fill in: the value that Normalize turns to zero
TURNED = range(5, 9)  # EXIF orientations that swap height and width
EXIF_KEYS = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "xmp"}  # where a PNG's header has one
MAX_PIXELS = 200_000_000  # larger files are refused: a small file can unpack to fill the memory

Image.MAX_IMAGE_PIXELS = (
    None  # Pillow's own limit warns once and counts otherwise; ours is checked in read_image
)
UInt8Image = NDArray[np.uint8]
FACE_TEMPLATE = np.array(  # x, y px of 112: eyes, nose, corners of the mouth
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


class BrokenImageError(ValueError):
    """A file that is no image, is cut short, or is larger than MAX_PIXELS; the message names it."""


def read_image(path: str | Path, *, least_side: int | None = None) -> UInt8Image:
    """Read any image file as RGB uint8 [H, W, 3], turned upright as its EXIF says.

    The content decides, not the name's ending. Grey and 16-bit files are scaled to 8 bits, CMYK is converted,
    transparent pixels are laid over mid-grey, and of an animation the first frame is taken.

    Args:
        path: the file.
        least_side: px that both sides must have at least. A JPEG of more than twice that is decoded at a half, a
            quarter or an eighth of its size, which takes a fraction of the time. None reads it whole.

    Raises:
        FileNotFoundError: there is no file at `path`.
        BrokenImageError: it can't be decoded whole.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BrokenImageError(
                    f"{path}: {image.width}x{image.height} px are more than {MAX_PIXELS:,} pixels"
                )
            if least_side is not None:
                image.draft(image.mode, (least_side, least_side))
            ImageOps.exif_transpose(
                image, in_place=True
            )  # else it is copied even where nothing is to be turned
            return _to_rgb(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"no image at {path}") from None
    except BrokenImageError:
        raise
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError) as error:
        raise BrokenImageError(f"{path}: {str(error) or type(error).__name__}") from error


def read_size(path: str | Path) -> tuple[int, int]:
    """Height and width of the upright image from its header, not decoded; 0, 0 where that can't be read.

    Of a PNG an orientation that stands behind the pixels is not seen: reaching it means decoding them.
    """
    try:
        with Image.open(path) as image:
            late = image.format == "PNG" and not EXIF_KEYS & image.info.keys()
            turned = not late and image.getexif().get(ExifTags.Base.Orientation) in TURNED
            if (
                turned and image.format == "TIFF"
            ):  # Pillow's versions differ in whether its size is turned yet
                upright = ImageOps.exif_transpose(image)
                return upright.height, upright.width
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, SyntaxError, ValueError, TypeError, IndexError, EOFError):
        return 0, 0


def _to_rgb(image: Image.Image) -> UInt8Image:
    if image.mode == "RGB":
        return np.asarray(image)
    if image.mode.startswith(("I", "F")):  # 16-bit and float grey: Pillow's own conversion clips at 255
        values = np.asarray(image).astype(np.float32)
        top = 65535.0 if image.mode.startswith("I") else max(float(values.max(initial=0)), 1e-12)
        grey = np.clip(values / top * 255, 0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        background = Image.new("RGBA", rgba.size, (GREY, GREY, GREY, 255))
        return np.asarray(Image.alpha_composite(background, rgba).convert("RGB"))
    return np.asarray(image.convert("RGB"))


def resize(image: UInt8Image, height: int, width: int) -> UInt8Image:
    """Resize [H, W, 3] with antialiasing: area averages where a side shrinks, bilinear where it grows."""
    rows, columns = image.shape[:2]
    if (rows, columns) == (height, width):
        return image
    if (height < rows) != (
        width < columns
    ):  # one side shrinks, the other grows: OpenCV would do neither well
        shrunk = cv2.resize(image, (min(width, columns), min(height, rows)), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.resize(shrunk, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    way = cv2.INTER_AREA if height < rows else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (width, height), interpolation=way), dtype=np.uint8)


def central_part(image: UInt8Image, share: float) -> UInt8Image:
    """Cut the middle `share`, in (0, 1], of each side out of [H, W, 3]."""
    height, width = image.shape[:2]
    top, left = round(height * (1 - share) / 2), round(width * (1 - share) / 2)
    return image[top : height - top, left : width - left]


def central_view(image: UInt8Image, size: int, central_crop: float) -> UInt8Image:
    """Cut the middle `central_crop` of each side out of [H, W, 3] and resize it to [size, size, 3].

    Source: TF-Slim's inception_preprocessing, preprocess_for_eval; the shape of the image is not kept.
    """
    return resize(central_part(image, central_crop), size, size)


def align_face(image: UInt8Image, landmarks: NDArray[np.floating[Any]], side: int = 224) -> UInt8Image:
    """Turn, scale and move a face so that its five landmarks lie as near as can be to ArcFace's template.

    Args:
        image: [H, W, 3].
        landmarks: [5, 2] x, y px of `image`: left eye, right eye, nose, left and right corner of the mouth, left
            and right as seen in the image.
        side: px of the square that is given.

    Returns:
        [side, side, 3]; mid-grey where it reaches beyond the image.

    Raises:
        ValueError: the landmarks are not five, not finite, or all one point.

    Source: Umeyama, Least-squares estimation of transformation parameters between two point patterns (1991); in
    the plane it is a complex number's product. Template: Deng et al., ArcFace (2019), of 112 x 112 px.
    """
    points = np.asarray(landmarks, dtype=np.float64)
    if points.shape != (5, 2) or not np.isfinite(points).all() or np.ptp(points, axis=0).max() < 1e-3:
        raise ValueError(f"a face is aligned by five different points, got {points.tolist()}")
    target = FACE_TEMPLATE * (side / 112)
    middle, goal = points.mean(axis=0), target.mean(axis=0)
    ours, theirs = (points - middle) @ (1, 1j), (target - goal) @ (1, 1j)
    turn = np.vdot(ours, theirs) / np.vdot(ours, ours).real  # scale and rotation, as a complex number
    if abs(turn) < 0.5:  # a large picture: shrunk with antialiasing first
        height, width = (max(1, round(length * abs(turn))) for length in image.shape[:2])
        ratio = np.array([width, height]) / np.array(image.shape[1::-1])
        if (height, width) != image.shape[:2]:
            return align_face(resize(image, height, width), (points + 0.5) * ratio - 0.5, side)
    rotate = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    matrix = np.column_stack([rotate, goal - rotate @ middle])
    warped = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderValue=(GREY,) * 3)
    return np.asarray(warped, dtype=np.uint8)


def default_workers() -> int:
    """Processes that read images where nothing is said: half the cores, 8 at most."""
    return max(1, min(8, (os.cpu_count() or 1) // 2))


def side_by_side(*images: UInt8Image) -> UInt8Image:
    """Join images in a row, each scaled to the height of the tallest."""
    height = max(len(image) for image in images)
    scaled = [resize(image, height, max(1, round(image.shape[1] * height / len(image)))) for image in images]
    return np.concatenate(scaled, axis=1)


def write_image(path: str | Path, image: UInt8Image) -> Path:
    """Write RGB uint8 [H, W, 3] in the format that the name's ending asks for, by rename."""
    with replacing(path) as temporary:
        Image.fromarray(image).save(temporary, quality=90)
    return Path(path)
