from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mbapps.ops.anchors import AnchorGenerator, map_sizes, mirrored_anchors


def test_counts_at_300() -> None:
    generator = AnchorGenerator()
    assert generator.num_anchors_per_location() == [3, 6, 6, 6, 6, 6]
    assert generator.boxes([19, 10, 5, 3, 2, 1], 300).shape == (
        19**2 * 3 + (10**2 + 5**2 + 3**2 + 2**2 + 1) * 6,
        4,
    )


def test_scales_ratios_and_centres_of_the_first_cells() -> None:
    anchors = AnchorGenerator().boxes([19, 10, 5, 3, 2, 1], 300)
    size = anchors[:, 2:] - anchors[:, :2]
    centre = (anchors[:, 2:] + anchors[:, :2]) / 2
    root = 2**0.5
    wanted = torch.tensor([[30.0, 30.0], [60 * root, 60 / root], [60 / root, 60 * root]])
    torch.testing.assert_close(size[:3], wanted, atol=1e-3, rtol=0)
    torch.testing.assert_close(centre[:3], torch.full((3, 2), 300 / 38), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        centre[3], torch.tensor([300 / 38 * 3, 300 / 38]), atol=1e-3, rtol=0
    )  # next to the right
    last_square = size[-1]  # of the 1x1 map: sqrt(0.95 * 1.0)
    torch.testing.assert_close(last_square, torch.full((2,), 300 * 0.95**0.5), atol=1e-3, rtol=0)


def test_anchors_of_the_released_detector(test_data: Path) -> None:
    reference = np.load(test_data / "weights/reference/coco_ssd_mobilenet_v1_0.75_300.npz")["anchors_cycxhw"]
    ours = AnchorGenerator().boxes([19, 10, 5, 3, 2, 1], 300).numpy() / 300
    centre, size = (ours[:, :2] + ours[:, 2:]) / 2, ours[:, 2:] - ours[:, :2]
    assert (
        np.abs(reference - np.concatenate([centre[:, ::-1], size[:, ::-1]], axis=1)).max() < 0.004
    )  # 8-bit steps


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="num_maps must be >= 2, got 1"):
        AnchorGenerator(1)
    with pytest.raises(ValueError, match="min_scale < task.head.max_scale <= 1, got 0.9 and 0.5"):
        AnchorGenerator(6, 0.9, 0.5)
    with pytest.raises(ValueError, match="6 maps have anchors, got sizes of 2"):
        AnchorGenerator().boxes([3, 2], 300)


def test_map_sizes() -> None:
    assert map_sizes(300, 16, 6) == [19, 10, 5, 3, 2, 1]
    assert map_sizes(512, 16, 6) == [32, 16, 8, 4, 2, 1]
    assert map_sizes(512, 8, 7) == [64, 32, 16, 8, 4, 2, 1]
    assert map_sizes(32, 16, 6) == [2, 1, 1, 1, 1, 1]


def test_mirrored_anchors_are_each_others_mirror_images() -> None:
    generator = AnchorGenerator(3)
    sides = [5, 3, 2]
    anchors = generator.boxes(sides, 80)
    mirrored = anchors[mirrored_anchors(sides, generator.num_anchors_per_location())]
    torch.testing.assert_close(
        mirrored[:, [2, 1, 0, 3]] * torch.tensor([-1.0, 1, -1, 1]) + torch.tensor([80.0, 0, 80, 0]), anchors
    )
