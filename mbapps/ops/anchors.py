"""Anchors of SSD: reference boxes on every cell of every feature map."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)  # width / height; 0.3333 as the original configuration writes it
LOWEST_LAYER = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))  # (scale, ratio): the finest map has three, for speed


class AnchorGenerator:
    """Scale and ratio of each anchor, as shares of the image side, and their boxes for given map sizes.

    The first map has three anchors a cell, each later one six: five ratios at its own scale and a square
    at the geometric mean with the next map's scale.

    Args:
        num_maps: feature maps, finest first, >= 2.
        min_scale, max_scale: of the first and of the last map, in (0, 1]; the others lie evenly between.

    Source: Liu et al., SSD (2016), section 2.2; numbers from TF Object Detection's ssd_anchor_generator.
    """

    def __init__(self, num_maps: int = 6, min_scale: float = 0.2, max_scale: float = 0.95):
        if num_maps < 2:
            raise ValueError(f"num_maps must be >= 2, got {num_maps}")
        if not 0 < min_scale < max_scale <= 1:
            raise ValueError(
                "anchors need 0 < task.head.min_scale < task.head.max_scale <= 1, "
                f"got {min_scale} and {max_scale}"
            )
        step = (max_scale - min_scale) / (num_maps - 1)
        scales = [min_scale + step * index for index in range(num_maps)] + [1.0]
        self.shapes: list[tuple[tuple[float, float], ...]] = []
        for index in range(num_maps):
            between = (scales[index] * scales[index + 1]) ** 0.5
            later = (*((scales[index], ratio) for ratio in RATIOS), (between, 1.0))
            lowest = tuple((scale * min_scale / 0.2, ratio) for scale, ratio in LOWEST_LAYER)
            self.shapes.append(later if index else lowest)

    def num_anchors_per_location(self) -> list[int]:
        """Anchors on one cell of each map."""
        return [len(shapes) for shapes in self.shapes]

    def boxes(self, map_sizes: Sequence[int], image_size: int) -> Tensor:
        """Give all anchors: [A, 4] xyxy px of a square image, map by map, row by row, cell by cell.

        They are not clipped to the image: a box half outside still learns from its visible half.

        >>> AnchorGenerator().boxes([19, 10, 5, 3, 2, 1], 300).shape
        torch.Size([1917, 4])
        """
        if len(map_sizes) != len(self.shapes):
            raise ValueError(f"{len(self.shapes)} maps have anchors, got sizes of {len(map_sizes)}")
        parts = []
        for size, shapes in zip(map_sizes, self.shapes, strict=True):
            centres = (torch.arange(size, dtype=torch.float64) + 0.5) / size
            y, x = torch.meshgrid(centres, centres, indexing="ij")
            centre = torch.stack([x, y], dim=-1).view(-1, 1, 2)  # [size * size, 1, 2]
            table = torch.tensor(shapes, dtype=torch.float64)
            root = table[:, 1].sqrt()
            half = torch.stack([table[:, 0] * root, table[:, 0] / root], dim=-1) / 2  # [anchors, 2]
            parts.append(torch.cat([centre - half, centre + half], dim=-1).view(-1, 4))
        return (torch.cat(parts) * image_size).float()


def map_sizes(image_size: int, stride: int, num_maps: int) -> list[int]:
    """Sides of the feature maps: the first at `stride`, then each half of the last, rounded up.

    >>> map_sizes(300, 16, 6)
    [19, 10, 5, 3, 2, 1]
    >>> map_sizes(512, 8, 7)
    [64, 32, 16, 8, 4, 2, 1]
    """
    return [-(-image_size // (stride << halving)) for halving in range(num_maps)]


def mirrored_anchors(sides: Sequence[int], per_location: Sequence[int]) -> Tensor:
    """Row of each anchor's mirror image, left to right, in the order that `AnchorGenerator.boxes` has: int64 [A].

    >>> mirrored_anchors([2, 1], [1, 2]).tolist()
    [1, 0, 3, 2, 4, 5]
    """
    parts, start = [], 0
    for side, count in zip(sides, per_location, strict=True):
        rows = torch.arange(side * side * count).view(side, side, count)
        parts.append(rows.flip(1).flatten() + start)
        start += side * side * count
    return torch.cat(parts)
