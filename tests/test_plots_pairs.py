from __future__ import annotations

import numpy as np

from mbapps.plots_pairs import Rates, histograms, roc


def test_roc_is_dotted_where_pairs_are_too_few() -> None:
    far = np.array([1e-3, 1e-2, 1e-1, 1.0])
    figure = roc({"listed": Rates(far, np.array([0.2, 0.7, 0.9, 1.0]), 0.01)})
    (ax,) = figure.axes
    sure, unsure = ax.get_lines()
    assert sure.get_xdata().tolist() == [1e-2, 1e-1, 1.0]
    assert unsure.get_xdata().tolist() == [1e-3, 1e-2]
    assert unsure.get_linestyle() == ":"
    assert ax.get_xscale() == "log"
    assert 0 <= ax.get_ylim()[0] <= 0.7
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["listed"]


def test_roc_without_a_sure_point() -> None:
    (ax,) = roc({"few": Rates(np.array([0.5, 1.0]), np.array([0.5, 1.0]), 2.0)}).axes
    sure, unsure = ax.get_lines()
    assert sure.get_xdata().tolist() == []
    assert (unsure.get_xdata().tolist(), unsure.get_linestyle()) == ([0.5, 1.0], ":")


def test_histograms_are_shares_of_their_kind() -> None:
    edges = np.array([0.0, 0.5, 1.0])
    figure = histograms(edges, np.array([1.0, 3.0]), np.array([90.0, 10.0]), {"threshold": 0.4})
    (ax,) = figure.axes
    values = [patch.get_data().values.tolist() for patch in ax.patches]
    assert [0.25, 0.75] in values
    assert [0.9, 0.1] in values
    assert "threshold 0.400" in [text.get_text() for text in ax.get_legend().get_texts()]
