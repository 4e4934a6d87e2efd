from __future__ import annotations

import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from mbapps.plots import new_figure
from mbapps.report import print_table, run_context, write_report, write_results
from mbapps.sections import MAX_PICTURE_SIDE, Numbers, Pictures, Plot, Preformatted, Rows, format_value


def test_results_are_flat_and_exact(tmp_path: Path) -> None:
    numbers = {
        "AP": 0.1 + 0.2,
        "AP/cat": np.float32(0.5),
        "boxes": np.int64(7),
        "loss": torch.tensor(2.0),
        "ok": True,
    }
    path = write_results(tmp_path / "run", numbers, {"command": "mbapps train", "out": Path("x")})
    assert path == tmp_path / "run/results.json"
    assert json.loads(path.read_text()) == {
        "AP": 0.1 + 0.2, "AP/cat": 0.5, "boxes": 7, "loss": 2.0, "ok": True,
        "context": {"command": "mbapps train", "out": "x"},
    }  # fmt: skip
    assert [file.name for file in path.parent.iterdir()] == ["results.json"]  # no temporary file is left


def test_results_leave_out_what_json_can_not_say(tmp_path: Path) -> None:
    path = write_results(tmp_path, {"APs": float("nan"), "worst": np.float32("inf"), "AP": 0.0}, {})
    assert json.loads(path.read_text()) == {"AP": 0.0, "context": {}}


@pytest.mark.parametrize("value", [[1, 2], None, np.zeros(3)])
def test_results_must_be_plain(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match=r"results must be numbers or texts, got \w+ for AP"):
        write_results(tmp_path, {"AP": value}, {})


def test_context_says_how_to_do_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "orig_argv", ["/usr/bin/python3", "-m", "mbapps", "train", "data.root=my photos"]
    )
    context = run_context()
    assert context["command"] == "python -m mbapps train 'data.root=my photos'"
    assert context["versions"]["torch"] == torch.__version__
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", context["date"])
    assert json.loads(json.dumps(context)) == context
    monkeypatch.setattr(sys, "orig_argv", ["/usr/bin/python3", "/usr/bin/mbapps", "info"])
    monkeypatch.delitem(sys.modules, "torch")
    context = run_context()
    assert context["command"] == "mbapps info"
    assert "torch" not in context["versions"]


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("AP", 0.0, "0.000"),
        ("AP", 1.0, "1.000"),
        ("lr", 0.0000123, "1.230e-05"),
        ("error_km", 999.96, "1,000"),
        ("macs", np.int64(568740352), "568,740,352"),
        ("seconds", 0.4213, "0.421 s"),
        ("seconds", 59.97, "1 m 00 s"),
        ("fit_seconds", 7505, "2 h 05 m"),
        ("images_per_second", 83.214, "83.21"),
        ("AP", float("nan"), "–"),
        ("teacher", None, "–"),
        ("ema", True, "yes"),
        ("device", "cpu", "cpu"),
    ],
)
def test_values_as_people_read_them(name: str, value: object, text: str) -> None:
    assert format_value(name, value) == text


def test_the_closing_table_keeps_brackets_and_whole_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = io.StringIO()
    long = tmp_path / ("folder" * 20) / "report.html"
    print_table(
        "detection [test]",
        {"AP/[red] car": 0.5, "seconds": 83},
        [long, "/elsewhere/x"],
        console=Console(file=out, width=60),
    )
    text = out.getvalue()
    assert "detection [test]" in text
    assert re.search(r"AP/\[red\] car +│ +0\.5000", text)
    assert "1 m 23 s" in text
    assert f"wrote {'folder' * 20}/report.html\n" in text
    assert "wrote /elsewhere/x\n" in text


class Checker(HTMLParser):
    """Notes what a page would fetch, and whether its tags close in order."""

    VOID = ("meta", "img", "input", "wbr")

    def __init__(self, page: str):
        super().__init__()
        self.stack: list[str] = []
        self.fetched: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.stack.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and not (value or "").startswith(("data:", "#")):
                self.fetched.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag


def test_report_is_one_sound_page_that_fetches_nothing(tmp_path: Path) -> None:
    figure, (ax,) = new_figure(4, 3)
    ax.plot([0, 1], [1, 0], label="<b>")
    ax.set_title("<b> & $5")
    picture = np.full((40, 60, 3), 200, dtype=np.uint8)
    path = write_report(
        tmp_path / "report.html",
        "Cats & <dogs>",
        [
            Numbers("Test", {"AP": 0.5, "images_per_second": 12.0}),
            Rows("Classes", {"<cat>": {"AP": 0.25, "boxes": 7}, "dog": {"boxes": 3}}, about="at <0.5>"),
            Rows("Confusions", {}),
            Plot("Curve", figure, "what & why"),
            Pictures("Worst", [picture, picture], ['a "quoted" <name>.jpg', ""], about="by F1"),
            Preformatted("Configuration", "data:\n  root: <here> $title\n"),
        ],
        subtitle="run <1>",
    )
    page = path.read_text(encoding="utf-8")
    checker = Checker(page)
    assert checker.stack == []
    assert checker.fetched == []
    assert "script" not in checker.tags
    assert checker.tags.count("img") == 2
    assert checker.tags.count("svg") == 1
    assert checker.tags.count("section") == 6
    assert "url(http" not in page
    assert "@import" not in page
    assert "<title>Cats &amp; &lt;dogs&gt;</title>" in page
    assert "&lt;cat&gt;" in page
    assert 'alt="a &quot;quoted&quot; &lt;name&gt;.jpg"' in page
    assert "root: &lt;here&gt; $title" in page
    assert re.search(r'<th scope="row">dog</th><td>–</td><td>3</td>', page)
    assert "<p>at &lt;0.5&gt;</p>" in page
    assert "<h2>Confusions</h2><p>none</p>" in page
    assert "currentColor" in page
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def test_large_pictures_are_shrunk_and_thin_ones_survive() -> None:
    wide = np.zeros((2, 3 * MAX_PICTURE_SIDE, 3), dtype=np.uint8)
    html = Pictures("P", [wide], ["x"]).html()
    assert f'width="{MAX_PICTURE_SIDE}" height="1"' in html


def test_pictures_and_captions_must_pair_up() -> None:
    with pytest.raises(ValueError, match="argument 2 is longer"):
        Pictures("P", [], ["a caption"]).html()


def test_a_drawing_of_too_many_strokes_becomes_pixels() -> None:
    rng = np.random.default_rng(0)
    figure, (ax,) = new_figure(3, 2)
    ax.scatter(*rng.random((2, 9000)))
    html = Plot("Cloud", figure).html()
    assert "<svg" not in html
    assert "data:image/png;base64," in html
