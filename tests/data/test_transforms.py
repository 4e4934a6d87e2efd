from __future__ import annotations

import numpy as np
import pytest

from mbapps.data.transforms import ClassificationTransform, DetectionTransform, RandomIoUCrop, ZoomOut
from mbapps.images import GREY, resize

RED = (200, 30, 40)
OFF = {"crop": 0, "zoom_out": 0, "flip": 0, "photometric": 0}


def scene(box: tuple[int, int, int, int], height: int = 240, width: int = 320) -> np.ndarray:
    image = np.full((height, width, 3), 90, dtype=np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = RED
    return image


def red_box(image: np.ndarray) -> np.ndarray:
    """Edges of what is red, as drawn: the independent answer to where the box must be."""
    mask = (image[..., 0].astype(int) - image[..., 1] > 60) & (image[..., 0] > 120)
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@pytest.mark.parametrize("switch", ["crop", "zoom_out", "flip", "vertical_flip"])
def test_boxes_move_with_the_pixels(switch: str) -> None:
    image, box = scene((100, 80, 180, 150)), np.array([[100.0, 80, 180, 150]])
    transform = DetectionTransform(200, **{**OFF, switch: 1.0})
    checked = 0
    for seed in range(25):
        square, boxes, labels = transform(image, box, np.array([3]), (0, 0, seed))
        assert square.shape == (200, 200, 3)
        assert square.dtype == np.uint8
        if len(boxes):
            assert labels.tolist() == [3]
            assert np.abs(red_box(square) - boxes[0]).max() <= 1.5
            checked += 1
    assert checked >= 20


def test_everything_off_is_a_plain_resize() -> None:
    square, boxes, _ = DetectionTransform(160, **OFF)(
        scene((0, 0, 320, 120)), np.array([[0.0, 0, 320, 120]]), np.array([0]), (1,)
    )
    np.testing.assert_allclose(boxes, [[0, 0, 160, 80]], atol=1e-4)
    assert (square[:79] == RED).all()


def test_a_sample_depends_on_its_seed_alone() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
    box, label = np.array([[20.0, 20, 90, 90]]), np.array([1])
    first, second = DetectionTransform(96), DetectionTransform(96)
    np.random.default_rng(5).random(100)
    second(image, box, label, (9, 9, 9))  # another history
    for seed in ((0, 0, 1), (0, 1, 1), (7, 3, 2)):
        one, two = first(image, box, label, seed), second(image, box, label, seed)
        np.testing.assert_array_equal(one[0], two[0])
        np.testing.assert_array_equal(one[1], two[1])
    assert not np.array_equal(first(image, box, label, (0, 0, 1))[0], first(image, box, label, (0, 1, 1))[0])


def test_zoom_out_fills_with_mid_grey_and_shrinks() -> None:
    transform = DetectionTransform(100, **{**OFF, "zoom_out": 1.0, "zoom_out_max": 4.0})
    box = np.array([[0.0, 0, 320, 240]])
    areas = []
    for seed in range(40):
        square, boxes, _ = transform(scene((0, 0, 320, 240)), box, np.array([0]), (seed,))
        x1, y1, x2, y2 = boxes[0].round().astype(int)
        outside = np.ones((100, 100), dtype=bool)
        outside[y1:y2, x1:x2] = False
        assert (square[outside] == GREY).all()
        areas.append((x2 - x1) * (y2 - y1) / 100**2)
    assert min(areas) < 0.15
    assert min(areas) >= 1 / 17
    assert max(areas) > 0.6


def test_crop_keeps_boxes_by_their_centre() -> None:
    transform = DetectionTransform(100, **{**OFF, "crop": 1.0})
    image = scene((40, 40, 120, 120))
    boxes = np.array([[40.0, 40, 120, 120], [200.0, 150, 300, 230]])
    kept = [len(transform(image, boxes, np.array([0, 1]), (seed,))[1]) for seed in range(60)]
    assert min(kept) >= 1  # a patch holds the centre of one box at least
    assert 1 in kept
    assert 2 in kept


def test_crop_of_an_image_without_boxes() -> None:
    transform = DetectionTransform(64)
    for seed in range(10):
        square, boxes, labels = transform(
            scene((1, 1, 2, 2)), np.empty((0, 4)), np.empty(0, dtype=np.int32), (seed,)
        )
        assert square.shape == (64, 64, 3)
        assert boxes.shape == (0, 4)
        assert labels.shape == (0,)


def test_photometric_changes_colours_only() -> None:
    image, box = scene((100, 80, 180, 150)), np.array([[100.0, 80, 180, 150]])
    transform = DetectionTransform(240, **{**OFF, "photometric": 0.4})
    plain = DetectionTransform(240, **OFF)(image, box, np.array([0]), (0,))
    results = [transform(image, box, np.array([0]), (seed,)) for seed in range(10)]
    assert all(np.allclose(result[1], plain[1]) for result in results)
    assert sum(not np.array_equal(result[0], plain[0]) for result in results) >= 5


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": 1.5}, r"data.augment.flip is a probability in \[0, 1\], got 1.5"),
        ({"photometric": 1.0}, r"data.augment.photometric must be in \[0, 1\), got 1.0"),
        ({"crop_min_scale": 0.0}, "data.augment.crop_min_scale must be in"),
        ({"zoom_out_max": 0.5}, "data.augment.zoom_out_max must be >= 1, got 0.5"),
    ],
)
def test_bad_settings(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectionTransform(100, **settings)


def test_bad_transforms() -> None:
    with pytest.raises(ValueError, match="max_aspect >= 1, got 0.5"):
        RandomIoUCrop(max_aspect=0.5)
    with pytest.raises(ValueError, match="zoom_out_max must be >= 1"):
        ZoomOut(10, 0.0)


PLAIN = {"crop_min_area": 1.0, "flip": 0.0}


def gradient(height: int = 40, width: int = 80) -> np.ndarray:
    """Red grows to the right and green downwards, so that a pixel tells where it comes from."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns * 255 // (width - 1), rows * 255 // (height - 1), rows * 0], axis=2).astype(
        np.uint8
    )


def test_classification_without_augmentation_only_resizes() -> None:
    image = gradient()
    assert np.array_equal(ClassificationTransform(32, **PLAIN)(image, (0,)), resize(image, 32, 32))


def test_random_crops_keep_their_limits() -> None:
    transform = ClassificationTransform(64, crop_min_area=0.4, crop_max_aspect=1.5, flip=0.0)
    image = gradient(300, 600)
    areas, aspects, lefts = [], [], []
    for seed in range(300):
        part = transform._crop(image, np.random.default_rng(seed))
        height, width = part.shape[0] / 300, part.shape[1] / 600
        areas.append(height * width)
        aspects.append(width / height)
        lefts.append(part[0, 0, 0] / 255)
    assert 0.33 < min(areas) < 0.45  # a side that would be too long is cut, and the area with it
    assert max(areas) > 0.95
    assert 1 / 1.52 < min(aspects) < 0.72
    assert 1.38 < max(aspects) < 1.52
    assert min(lefts) == 0
    assert max(lefts) > 0.25


def test_a_small_image_is_cropped_to_something() -> None:
    for shape in ((1, 1, 3), (2, 1, 3), (1, 9, 3)):
        image = np.full(shape, 9, np.uint8)
        for seed in range(20):
            assert (ClassificationTransform(16, crop_min_area=0.01)(image, (seed,)) == 9).all()


def test_flips_are_as_frequent_as_asked() -> None:
    image = gradient(64, 64)
    sides = ClassificationTransform(64, crop_min_area=1.0, flip=0.3)
    turned = sum(np.array_equal(sides(image, (seed,)), image[:, ::-1]) for seed in range(300))
    assert 60 < turned < 120
    upside_down = ClassificationTransform(64, **PLAIN, vertical_flip=1.0)
    assert np.array_equal(upside_down(image, (0,)), image[::-1])


def test_each_switch_changes_the_image() -> None:
    image = gradient(64, 64)
    turned = [ClassificationTransform(64, **PLAIN, rotate=30.0)(image, (seed,)) for seed in range(4)]
    assert not np.array_equal(turned[0], turned[1])
    assert all(abs(int(picture[32, 32, 0]) - 129) < 8 for picture in turned)  # about the middle
    coloured = [ClassificationTransform(64, **PLAIN, photometric=0.4)(image, (seed,)) for seed in range(10)]
    assert sum(not np.array_equal(picture, image) for picture in coloured) >= 5
    erased = ClassificationTransform(64, **PLAIN, erase=1.0)(image, (1,))
    grey = (erased == GREY).all(axis=2)
    assert 0.01 < grey.mean() < 0.17
    assert np.array_equal(erased[~grey], image[~grey])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"flip": -0.1}, r"data\.augment\.flip is a probability in \[0, 1\], got -0\.1"),
        ({"vertical_flip": 2.0}, r"data\.augment\.vertical_flip is a probability"),
        ({"erase": 1.5}, r"data\.augment\.erase is a probability in \[0, 1\], got 1\.5"),
        ({"crop_min_area": 0.0}, r"data\.augment\.crop_min_area must be in \(0, 1\], got 0\.0"),
        ({"crop_max_aspect": 0.9}, r"data\.augment\.crop_max_aspect must be >= 1, got 0\.9"),
        ({"photometric": 1.0}, r"data\.augment\.photometric must be in \[0, 1\), got 1\.0"),
        ({"rotate": 181.0}, r"data\.augment\.rotate must be in \[0, 180\] degrees, got 181\.0"),
    ],
)
def test_bad_settings_of_classification(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClassificationTransform(32, **settings)
