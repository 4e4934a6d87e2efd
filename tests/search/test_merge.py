from __future__ import annotations

import numpy as np
import pytest
from gallery_files import DIM, MODEL, OTHER, filled, names, unit

from mbapps.search.gallery import Gallery
from mbapps.search.merge import merge


@pytest.mark.parametrize("kind", [None, "exact", "hnsw"])
def test_merged_shards_are_the_whole(kind: str | None) -> None:
    whole = filled("exact")
    shards = []
    for start in (0, 200, 400):
        shard = Gallery(DIM, MODEL, "hnsw" if start else None)
        part = slice(start, start + 200)
        columns = {"person": whole.columns["person"].plain()[part], "lat": whole.columns["lat"][part]}  # type: ignore[union-attr,index]
        shard.add(unit(600)[part], names(200, start), columns)
        shards.append(shard)
    shards.insert(1, Gallery(DIM, MODEL))
    merged = merge(shards, kind)
    assert merged.kind == (kind or "exact")
    assert merged.ids.plain() == whole.ids.plain()
    assert merged.columns["person"].plain() == whole.columns["person"].plain()  # type: ignore[union-attr]
    np.testing.assert_array_equal(merged.vectors(), whole.vectors())
    np.testing.assert_array_equal(merged.search(unit(50, 3), 3).rows, whole.search(unit(50, 3), 3).rows)


def test_codes_can_be_merged_too() -> None:
    one, other = filled("ivfpq", 500), Gallery(DIM, MODEL, "ivfpq")
    one.remove(names(1))
    other.add(unit(500, 9), names(500, 500), {"person": ["q"] * 500, "lat": np.zeros(500)})
    merged = merge([one, other])
    assert len(merged) == 999
    vectors = np.concatenate([unit(500)[1:], unit(500, 9)])
    assert np.einsum("nd,nd->n", merged.vectors(), vectors).mean() > 0.9
    assert (merged.search(vectors, 1).rows[:, 0] == np.arange(999)).mean() > 0.9


def test_merge_refuses_what_does_not_go_together() -> None:
    other = Gallery(DIM, OTHER)
    plain = Gallery(DIM, MODEL)
    plain.add(unit(1), ["z"])
    with pytest.raises(ValueError, match="merge needs at least one gallery"):
        merge([])
    with pytest.raises(ValueError, match=r"model runs/a/model \(aaaaaaaaaaaa.*those of runs/b/model \(bbbb"):
        merge([filled(None), other])
    with pytest.raises(ValueError, match="ids must be unique, but 0.jpg, 1.jpg.*and 595 more"):
        merge([filled(None), filled(None)])
    with pytest.raises(ValueError, match="galleries with different columns can't be merged"):
        merge([filled(None), plain])
