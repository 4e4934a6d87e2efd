from __future__ import annotations

import pytest
import torch

from mbapps.batches import ClassificationBatch
from mbapps.data.pooled import Pooled, PooledDataset, join


def make_batch(first: int, count: int) -> ClassificationBatch:
    rows = torch.arange(first, first + count)
    return ClassificationBatch(
        torch.zeros(count, 0, 8, 8, dtype=torch.uint8),
        rows,
        rows[:, None].repeat(1, 2),
        rows % 3,
        ("one.jpg: cut",),
    )


def make_pooled(count: int = 10, mirrored: bool = True) -> Pooled:
    """Features tell their row, those of mirror images with a minus."""
    features = (torch.arange(count) + 1.0)[:, None].repeat(1, 4)
    views = [[features[:6], -features[:6]], [features[6:], -features[6:]]]
    return join([make_batch(0, 6), make_batch(6, count - 6)], [view[: 1 + mirrored] for view in views])


def test_batches_are_joined() -> None:
    pooled = make_pooled()
    batch = pooled.batch
    assert isinstance(batch, ClassificationBatch)
    assert batch.images.shape == (10, 4, 1, 1)
    assert batch.images[:, 0, 0, 0].tolist() == list(range(1, 11))
    assert batch.rows.tolist() == list(range(10))
    assert batch.labels.tolist() == [row % 3 for row in range(10)]
    assert batch.broken == ()
    assert pooled.mirrored is not None
    assert torch.equal(pooled.mirrored, -batch.images)
    assert make_pooled(mirrored=False).mirrored is None


def test_a_batch_is_fetched_whole() -> None:
    dataset = PooledDataset(make_pooled(mirrored=False), 0.5, 0)
    batch = dataset.__getitems__([(0, 3), (0, 1), (0, 3)])
    assert batch.images[:, 2, 0, 0].tolist() == [4, 2, 4]
    assert batch.rows.tolist() == [3, 1, 3]
    assert batch.sizes.tolist() == [[3, 3], [1, 1], [3, 3]]
    assert len(dataset) == 10


@pytest.mark.parametrize(("flip", "low", "high"), [(0.0, 0, 0), (0.3, 200, 400), (1.0, 1000, 1000)])
def test_mirror_images_come_as_often_as_asked(flip: float, low: int, high: int) -> None:
    dataset = PooledDataset(make_pooled(), flip, 0)
    turned = 0
    for epoch in range(100):
        batch = dataset.__getitems__([(epoch, row) for row in range(10)])
        assert batch.images.abs()[:, 0, 0, 0].tolist() == list(range(1, 11))
        turned += int((batch.images[:, 0] < 0).sum())
    assert low <= turned <= high
    assert dataset.pooled.batch.images.min() > 0  # what is kept is not touched


def test_draws_depend_on_seed_epoch_and_row_alone() -> None:
    first, second = PooledDataset(make_pooled(), 0.5, 0), PooledDataset(make_pooled(), 0.5, 0)
    whole = first.__getitems__([(4, row) for row in range(10)]).images
    parts = [
        second.__getitems__([(4, row) for row in rows]).images for rows in ((5, 6, 7, 8, 9), (0, 1, 2, 3, 4))
    ]
    assert torch.equal(whole, torch.cat([parts[1], parts[0]]))
    assert not torch.equal(whole, first.__getitems__([(5, row) for row in range(10)]).images)
