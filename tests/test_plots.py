from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from mbapps.plots import COLOURS, MAX_CELLS, confusion, curves, precision_recall, reliability

RECALL = np.linspace(0, 1, 101)


def legend(figure: Figure, axis: int = 0) -> list[str]:
    found = figure.axes[axis].get_legend()
    assert found is not None
    return [text.get_text().strip() for text in found.get_texts()]


def write_csv(folder: Path, *lines: str) -> Path:
    path = folder / "metrics.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_each_kind_of_number_has_its_own_axis(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path,
        "epoch,step,train_loss,val_AP,val_AP/cat,val_median_error_km,lr-AdamW",
        ",4,,,,,0.1",
        "0,4,2.0,,,,",
        "0,9,,0.25,0.25,900,",
        "1,14,1.0,,,,",
        "1,19,,0.5,0.5,300,",
    )
    figure = curves(path)
    assert [ax.get_title("left") for ax in figure.axes] == [
        "loss",
        "validation",
        "validation, other units",
        "learning rate",
    ]
    loss, validation, other, rate = (ax.get_lines()[0] for ax in figure.axes)
    assert loss.get_xdata() == pytest.approx([0.5, 1.5])  # 10 steps an epoch
    assert loss.get_ydata() == pytest.approx([2, 1])
    assert validation.get_xdata() == pytest.approx([1, 2])
    assert validation.get_ydata() == pytest.approx([0.25, 0.5])
    assert other.get_ydata() == pytest.approx([900, 300])
    assert rate.get_xdata() == pytest.approx([0.5])
    assert len(figure.axes[1].get_lines()) == 1  # none per class
    assert legend(figure, 1) == ["AP"]


def test_a_single_row_shows_as_a_mark(tmp_path: Path) -> None:
    figure = curves(write_csv(tmp_path, "epoch,step,val_AP", "0,9,0.5"))
    (line,) = figure.axes[0].get_lines()
    assert line.get_marker() == "o"


def test_without_epochs_time_is_in_steps(tmp_path: Path) -> None:
    figure = curves(write_csv(tmp_path, "step,train_loss", "5,2.0", "10,1.0"))
    assert figure.axes[0].get_xlabel() == "step"
    assert figure.axes[0].get_lines()[0].get_xdata() == pytest.approx([5, 10])


@pytest.mark.parametrize(
    "lines", [[""], ["epoch,step,train_loss"], ["epoch,step,train_loss", "0,1,"], ["a", "b"]]
)
def test_nothing_logged_is_said(tmp_path: Path, lines: list[str]) -> None:
    assert curves(write_csv(tmp_path, *lines)).axes[0].get_title() == "nothing was logged"


def test_losses_of_wide_range_get_a_logarithmic_axis(tmp_path: Path) -> None:
    figure = curves(write_csv(tmp_path, "step,train_loss", "0,90", "1,1"))
    assert figure.axes[0].get_yscale() == "log"


def some_curves(count: int) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], dict[str, float]]:
    ap = {f"class {i}": i / count for i in range(count)}
    return {name: (RECALL, np.full(101, value)) for name, value in ap.items()}, ap


def test_classes_are_named_from_best_to_worst() -> None:
    figure = precision_recall(*some_curves(3))
    assert legend(figure) == ["0.667  class 2", "0.333  class 1", "0.000  class 0"]


def test_of_many_classes_the_best_and_the_worst_are_named() -> None:
    figure = precision_recall(*some_curves(50))
    texts = [text.split("  ")[-1] for text in legend(figure)]
    best, worst = [f"class {i}" for i in range(49, 39, -1)], [f"class {i}" for i in range(9, -1, -1)]
    assert texts == [*best, "30 more", *worst]
    assert sum(np.size(line.get_xdata()) > 0 for line in figure.axes[0].get_lines()) == 50


def test_names_that_matplotlib_would_read_otherwise(tmp_path: Path) -> None:
    names = ["_hidden", "a$b$c_d", "$", "<&>", "猫"]
    figure = precision_recall(
        {name: (RECALL, RECALL) for name in names}, dict.fromkeys(names[:-1], float("nan"))
    )
    assert len(legend(figure)) == len(names)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # the font at hand may lack one
        figure.savefig(tmp_path / "figure.svg")


def test_no_class_at_all() -> None:
    assert precision_recall({}, {}).axes[0].get_legend() is None


def rgb(colour: str) -> list[float]:
    return [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]


def test_confusion_shows_the_classes_that_occur() -> None:
    counts = np.array([[3, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 5, 0, 0]])
    (ax,) = confusion(counts, ["cat", "a$b$", "cow", "background"]).axes
    for labels in (ax.get_yticklabels(), ax.get_xticklabels()):
        assert [text.get_text() for text in labels] == ["cat", "a$b$", "background"]
    cells = np.asarray(ax.get_images()[0].get_array())
    assert cells[..., 3] == pytest.approx(np.sqrt([[0.75, 0.25, 0], [0, 0, 0], [0, 1, 0]]))
    assert cells[0, 0, :3] == pytest.approx(rgb(COLOURS[0]))  # right
    assert cells[0, 1, :3] == pytest.approx(rgb(COLOURS[3]))  # wrong
    assert sorted(text.get_text() for text in ax.texts) == ["1", "3", "5"]


@pytest.mark.slow
def test_of_very_many_classes_those_with_most_errors_are_shown(tmp_path: Path) -> None:
    count = MAX_CELLS + 30
    counts = np.diag(np.full(count, 5))
    counts[7, 9] = counts[110, 3] = 2
    names = [f"class {index}" for index in range(count)]
    figure = confusion(counts, names)
    (ax,) = figure.axes
    shown = [text.get_text() for text in ax.get_yticklabels()]
    assert len(shown) == MAX_CELLS
    assert {"class 7", "class 110", "class 9", "class 3"} <= set(shown)
    assert shown == sorted(shown, key=names.index)
    assert not ax.texts  # no room for counts
    figure.savefig(tmp_path / "figure.svg", bbox_inches="tight")


def test_confusion_of_nothing(tmp_path: Path) -> None:
    confusion(np.zeros((3, 3), dtype=np.int64), ["a", "b", "background"]).savefig(tmp_path / "figure.svg")
    assert (tmp_path / "figure.svg").read_text().rstrip().endswith("</svg>")


def test_learning_rates_of_parameter_groups_are_drawn_once_each(tmp_path: Path) -> None:
    path = write_csv(
        tmp_path,
        "epoch,step,lr-AdamW/body,lr-AdamW/body_no_decay,lr-AdamW/heads,train_loss",
        ",4,0.1,0.1,1.0,",
        "0,4,,,,2.0",
        ",9,0.2,0.2,0.5,",
        "1,9,,,,1.0",
    )
    figure = curves(path)
    assert [ax.get_title("left") for ax in figure.axes] == ["loss", "learning rate"]
    assert legend(figure, 1) == ["lr-AdamW/body", "lr-AdamW/heads"]
    assert figure.axes[1].get_lines()[1].get_ydata().tolist() == [1.0, 0.5]


def test_reliability_shows_the_share_that_was_right_by_confidence() -> None:
    confidence = np.array([0.35, 0.35, 0.4, 0.95, 1.0, 0.9])
    hits = np.array([True, False, False, True, True, False])
    (ax,) = reliability(confidence, hits, 10).axes
    said, accuracy = ax.get_lines()[1].get_data()
    assert said == pytest.approx([(0.35 + 0.35 + 0.4) / 3, 0.9, 0.975])
    assert accuracy == pytest.approx([1 / 3, 0, 1])
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([1 / 3, 0, 1])
    assert [text.get_text() for text in ax.texts] == ["3", "1", "2"]
