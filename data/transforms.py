"""From a decoded image to the network's square input, boxes moved with it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mbapps.images import GREY, UInt8Image, resize

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it asks the network for its newest version on import

import albumentations as A  # noqa: E402
from albumentations.core.transforms_interface import DualTransform  # noqa: E402

MIN_OVERLAPS = (0.1, 0.3, 0.5, 0.7, 0.9, 0.0)  # of a patch with at least one object; 0.0 takes any patch
CROP_TRIES = 30
BoxArray = NDArray[np.float64]


class RandomIoUCrop(DualTransform):
    """Crop a patch that overlaps at least one box by a random minimum, keeping boxes whose centre it holds.

    Args:
        min_scale: least share of each image side that a patch has, in (0, 1].
        max_aspect: greatest width / height of a patch, and its inverse the least; >= 1.
        p: probability that an image is cropped at all. The paper's seven equal choices, one of which is
            the whole image, are p = 6/7.

    Source: Liu et al., SSD (2016), section 2.2, "Data augmentation".
    """

    def __init__(self, min_scale: float = 0.3, max_aspect: float = 2.0, p: float = 6 / 7):
        super().__init__(p=p)
        if not 0 < min_scale <= 1 or max_aspect < 1:
            raise ValueError(
                f"data.augment.crop_min_scale must be in (0, 1], got {min_scale}; max_aspect >= 1, got {max_aspect}"
            )
        self.min_scale = min_scale
        self.max_aspect = max_aspect

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        boxes: BoxArray = np.asarray(data.get("bboxes", np.empty((0, 4))), dtype=np.float64)[:, :4]
        patches = self._candidates()  # [tries, 4] as shares of the sides, as `boxes` are here
        minimum = self.random_generator.choice(MIN_OVERLAPS)
        if len(boxes):
            good = _best_overlap(patches, boxes) >= minimum
            centres = (boxes[:, :2] + boxes[:, 2:]) / 2
            inside = (centres[None] > patches[:, None, :2]) & (centres[None] < patches[:, None, 2:])
            patches = patches[good & np.any(np.all(inside, axis=2), axis=1)]
        patch = patches[0] if len(patches) else np.array([0.0, 0.0, 1.0, 1.0])
        x1, y1, x2, y2 = (patch * [width, height, width, height]).round().astype(int)
        return {"window": (x1, y1, max(x2, x1 + 1), max(y2, y1 + 1))}

    def _candidates(self) -> BoxArray:
        sides = self.random_generator.uniform(self.min_scale, 1.0, (CROP_TRIES, 2))
        aspect = sides[:, 0] / sides[:, 1]
        sides = sides[(aspect >= 1 / self.max_aspect) & (aspect <= self.max_aspect)]
        corner = self.random_generator.uniform(0, 1, sides.shape) * (1 - sides)
        return np.concatenate([corner, corner + sides], axis=1)

    def apply(self, img: UInt8Image, window: tuple[int, int, int, int], **params: Any) -> UInt8Image:
        x1, y1, x2, y2 = window
        return img[y1:y2, x1:x2]

    def apply_to_bboxes(self, bboxes: BoxArray, window: tuple[int, int, int, int], **params: Any) -> BoxArray:
        height, width = params["shape"][:2]
        size = np.array([width, height, width, height])
        patch = np.array(window) / size
        centres = (bboxes[:, :2] + bboxes[:, 2:4]) / 2
        bboxes = bboxes[((centres > patch[:2]) & (centres < patch[2:])).all(axis=1)].copy()
        corner, span = np.tile(patch[:2], 2), np.tile(patch[2:] - patch[:2], 2)
        bboxes[:, :4] = ((bboxes[:, :4] - corner) / span).clip(0, 1)
        return bboxes


class ZoomOut(DualTransform):
    """Fit the image to the square input, at times small on a mid-grey ground, which makes small objects.

    Args:
        size: side of the square, px.
        max_ratio: greatest ratio of the ground's side to the image's, >= 1; 4 as the paper's 16 times area.
        chance: probability of zooming out; else the image fills the square.

    Source: Liu et al., SSD (2016), section 3.6.
    """

    def __init__(self, size: int, max_ratio: float = 4.0, chance: float = 0.5):
        super().__init__(p=1.0)
        if max_ratio < 1:
            raise ValueError(f"data.augment.zoom_out_max must be >= 1, got {max_ratio}")
        self.size = size
        self.max_ratio = max_ratio
        self.chance = chance

    def get_params(self) -> dict[str, Any]:
        side, left, top = self.size, 0, 0
        if self.random_generator.random() < self.chance:
            side = max(1, round(self.size / self.random_generator.uniform(1.0, self.max_ratio)))
            left, top = self.random_generator.integers(0, self.size - side + 1, 2)
        return {"place": (int(left), int(top), side)}

    def apply(self, img: UInt8Image, place: tuple[int, int, int], **params: Any) -> UInt8Image:
        left, top, side = place
        image = resize(img, side, side)
        if side == self.size:
            return image
        canvas = np.full((self.size, self.size, 3), GREY, dtype=np.uint8)
        canvas[top : top + side, left : left + side] = image
        return canvas

    def apply_to_bboxes(self, bboxes: BoxArray, place: tuple[int, int, int], **params: Any) -> BoxArray:
        left, top, side = place
        bboxes = bboxes.copy()
        bboxes[:, :4] = (bboxes[:, :4] * side + [left, top, left, top]) / self.size
        return bboxes


def _best_overlap(patches: BoxArray, boxes: BoxArray) -> BoxArray:
    """[P, 4] patches and [G, 4] boxes -> [P] IoU with the box each overlaps most."""
    low = np.maximum(patches[:, None, :2], boxes[None, :, :2])
    high = np.minimum(patches[:, None, 2:], boxes[None, :, 2:])
    common = np.prod((high - low).clip(0), axis=2)
    area = np.prod(patches[:, 2:] - patches[:, :2], axis=1)[:, None] + np.prod(
        boxes[:, 2:] - boxes[:, :2], axis=1
    )
    return (common / (area - common).clip(1e-12)).max(axis=1)


class DetectionTransform:
    """RGB uint8 [H, W, 3] and its boxes -> uint8 [S, S, 3] and theirs, augmented by a seed of its own.

    Every sample is seeded by (seed, epoch, row): the stream depends neither on the number of workers nor
    on global generators. The crop comes before colours, which then touch fewer pixels.

    Args:
        size: side of the square, px.
        crop: probability of the IoU crop; crop_min_scale: least share of a side it keeps.
        zoom_out: probability; zoom_out_max: greatest ratio.
        flip: probability of a left-right flip; vertical_flip: of an up-down flip.
        photometric: strength of brightness, contrast and saturation changes in [0, 1); hue moves a tenth of it.
    """

    def __init__(
        self,
        size: int,
        *,
        crop: float = 0.5,
        crop_min_scale: float = 0.3,
        zoom_out: float = 0.15,
        zoom_out_max: float = 2.0,
        flip: float = 0.5,
        vertical_flip: float = 0.0,
        photometric: float = 0.4,
    ):
        for name, value in {
            "crop": crop,
            "zoom_out": zoom_out,
            "flip": flip,
            "vertical_flip": vertical_flip,
        }.items():
            if not 0 <= value <= 1:
                raise ValueError(f"data.augment.{name} is a probability in [0, 1], got {value}")
        if not 0 <= photometric < 1:
            raise ValueError(f"data.augment.photometric must be in [0, 1), got {photometric}")
        steps: list[Any] = []
        if crop:
            steps.append(RandomIoUCrop(crop_min_scale, p=crop))
        steps.append(ZoomOut(size, zoom_out_max, zoom_out))
        if flip:
            steps.append(A.HorizontalFlip(p=flip))
        if vertical_flip:
            steps.append(A.VerticalFlip(p=vertical_flip))
        if photometric:
            change = (1 - photometric, 1 + photometric)
            steps.append(A.ColorJitter(change, change, change, (-photometric / 10, photometric / 10), p=0.8))
        boxes = A.BboxParams("pascal_voc", label_fields=["labels"], min_area=1.0, clip=True)
        self.steps = A.Compose(steps, bbox_params=boxes)

    def __call__(
        self, image: UInt8Image, boxes: BoxArray, labels: NDArray[np.int32], seed: Sequence[int]
    ) -> tuple[UInt8Image, BoxArray, NDArray[np.int64]]:
        self.steps.set_random_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        result = self.steps(image=image, bboxes=boxes, labels=labels)
        moved = np.asarray(result["bboxes"], dtype=np.float64).reshape(-1, 4)
        return result["image"], moved, np.asarray(result["labels"], dtype=np.int64)


class ClassificationTransform:
    """RGB uint8 [H, W, 3] -> uint8 [S, S, 3], augmented by a seed of its own, as in `DetectionTransform`.

    Args:
        size: side of the square, px.
        crop_min_area: least share of the image's area that the random crop keeps, in (0, 1]; 1 crops nothing.
        crop_max_aspect: greatest width / height of the crop against the image's, and its inverse the least, >= 1.
        flip: probability of a left-right flip; vertical_flip: of an up-down flip.
        rotate: greatest turn to either side, degrees.
        photometric: strength of brightness, contrast and saturation changes in [0, 1); hue moves a tenth of it.
        erase: probability of painting a part of the image mid-grey.

    Source: MobileNets (2017), section 3.2: small models need less augmentation, and crops limited in size.
    """

    def __init__(
        self,
        size: int,
        *,
        crop_min_area: float = 0.6,
        crop_max_aspect: float = 1.33,
        flip: float = 0.5,
        vertical_flip: float = 0.0,
        rotate: float = 0.0,
        photometric: float = 0.0,
        erase: float = 0.0,
    ):
        for name, value in {"flip": flip, "vertical_flip": vertical_flip, "erase": erase}.items():
            if not 0 <= value <= 1:
                raise ValueError(f"data.augment.{name} is a probability in [0, 1], got {value}")
        if not 0 < crop_min_area <= 1:
            raise ValueError(f"data.augment.crop_min_area must be in (0, 1], got {crop_min_area}")
        if crop_max_aspect < 1:
            raise ValueError(f"data.augment.crop_max_aspect must be >= 1, got {crop_max_aspect}")
        if not 0 <= photometric < 1:
            raise ValueError(f"data.augment.photometric must be in [0, 1), got {photometric}")
        if not 0 <= rotate <= 180:
            raise ValueError(f"data.augment.rotate must be in [0, 180] degrees, got {rotate}")
        self.size = size
        self.min_area = crop_min_area
        self.max_log_aspect = float(np.log(crop_max_aspect))
        steps: list[Any] = []
        if rotate:
            steps.append(A.Rotate(rotate, border_mode=cv2.BORDER_REFLECT_101, p=1.0))
        if flip:
            steps.append(A.HorizontalFlip(p=flip))
        if vertical_flip:
            steps.append(A.VerticalFlip(p=vertical_flip))
        if photometric:
            change = (1 - photometric, 1 + photometric)
            steps.append(A.ColorJitter(change, change, change, (-photometric / 10, photometric / 10), p=0.8))
        if erase:
            part = (0.1, 0.4)
            steps.append(A.CoarseDropout((1, 1), part, part, fill=GREY, p=erase))
        self.steps = A.Compose(steps)

    def __call__(self, image: UInt8Image, seed: Sequence[int]) -> UInt8Image:
        random = np.random.default_rng(seed)
        self.steps.set_random_seed(int(random.integers(2**32)))
        square = resize(self._crop(image, random), self.size, self.size)
        return np.asarray(self.steps(image=square)["image"])

    def _crop(self, image: UInt8Image, random: np.random.Generator) -> UInt8Image:
        """A window of random area, shape and place; where the shape does not fit, its longer side does."""
        if self.min_area == 1:
            return image
        height, width = image.shape[:2]
        area = random.uniform(self.min_area, 1.0)
        stretch = np.exp(random.uniform(-self.max_log_aspect, self.max_log_aspect) / 2)
        sides = np.minimum(np.sqrt(area) * np.array([stretch, 1 / stretch]), 1.0)
        rows, columns = np.maximum(1, (sides * [height, width]).round().astype(int))
        top, left = random.integers(0, height - rows + 1), random.integers(0, width - columns + 1)
        return image[top : top + rows, left : left + columns]


def limit_threads() -> None:
    """Keep OpenCV to one thread in this process: each worker already has a core of its own."""
    cv2.setNumThreads(0)
