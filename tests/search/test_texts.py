from __future__ import annotations

import numpy as np
import pytest

from mbapps.search.texts import Texts, as_column, from_arrays, join, to_arrays

NAMES = ["a", "", "ü/b.jpg", "日本", "x" * 1000]


def test_texts_come_back() -> None:
    texts = Texts.pack(NAMES)
    assert texts.plain() == [texts[row] for row in range(len(texts))] == NAMES
    assert texts.take(np.array([3, 1])).plain() == ["日本", ""]
    assert join([texts, Texts.pack([]), texts]).plain() == NAMES + NAMES  # type: ignore[union-attr]


def test_columns_come_back_from_their_arrays() -> None:
    columns = {"file": as_column("file", NAMES, 5), "lat": as_column("lat", [1.5, 2, 3, 4, 5], 5)}
    found = from_arrays(to_arrays(columns), 5)
    assert found["file"].plain() == NAMES  # type: ignore[union-attr]
    assert found["lat"].tolist() == [1.5, 2, 3, 4, 5]  # type: ignore[union-attr]
    with pytest.raises(ValueError, match="its columns do not have 4 rows each"):
        from_arrays(to_arrays(columns), 4)


def test_other_things_are_no_columns() -> None:
    with pytest.raises(ValueError, match="the column person has 1 values for 2 ids"):
        as_column("person", ["a"], 2)
    with pytest.raises(ValueError, match="the column box must hold texts or numbers, got int"):
        as_column("box", [[1, 2], [3, 4]], 2)
    with pytest.raises(ValueError, match="ids and columns of texts take only texts"):
        as_column("person", ["a", 3], 2)
    with pytest.raises(ValueError, match="ids and columns of texts take only texts"):
        Texts.pack(["\ud800"])
