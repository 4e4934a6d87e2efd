"""Places for tests, and what it means that two partitions are one."""

from __future__ import annotations

import numpy as np

from mbapps.geo.cells import Floats
from mbapps.geo.partition import Partition


def towns(count: int, seed: int = 0) -> tuple[Floats, Floats]:
    """Places by kilometres round 300 towns of very different size; some at sea, some at the same spot."""
    rng = np.random.default_rng(seed)
    middle = np.degrees(np.arcsin(rng.uniform(-1, 1, 300))), rng.uniform(-180, 180, 300)
    share = rng.pareto(1, 300)
    town = rng.choice(300, count, p=share / share.sum())
    lat = np.clip(middle[0][town] + rng.normal(0, 0.2, count), -90, 90)
    lng = (middle[1][town] + rng.normal(0, 0.3, count) + 180) % 360 - 180
    lat[: count // 50], lng[: count // 50] = middle[0][0], middle[1][0]
    return lat, lng


def same(a: Partition, b: Partition) -> None:
    """Assert that two partitions are equal bit by bit."""
    for column in ("cells", "photos", "centres", "users"):
        ours, theirs = getattr(a, column), getattr(b, column)
        assert (ours is None and theirs is None) or np.array_equal(ours, theirs), column
    assert (a.total, a.rules) == (b.total, b.rules)
