"""The page of an album, as a browser shows it from the disk."""

from __future__ import annotations

import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from album_files import TRICKY, made_up, write_photos

from mbapps.album.filing import country
from mbapps.album.page import Album, small, write_page
from mbapps.album.people import group, number
from mbapps.album.records import Record

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    if CHROMIUM is None:
        pytest.skip("there is no chromium: apt install chromium")
    with sync.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.fixture
def look(browser: Any) -> Iterator[Any]:
    """Open an album at a width; it must need nothing but files, and say no error."""
    pages, troubles = [], []

    def opened(album: Path, width: int = 1280) -> Any:
        page = browser.new_page(viewport={"width": width, "height": 800})
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: troubles.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: request.url.startswith("file://") or troubles.append(request.url))
        page.goto((album / "index.html").absolute().as_uri())
        page.wait_for_selector("#bar b")
        pages.append(page)
        return page

    yield opened
    for page in pages:
        page.close()
    assert not troubles


def people_of(records: list[Record]) -> list[list[int]]:
    vectors = np.stack([np.frombuffer(record.faces[0].vector, dtype=np.float16) for record in records])
    names = [record.hash for record in records]
    return [[one] for one in number(group(vectors, 0.7).tolist(), names, {})]


def write(folder: Path, records: list[Record], **settings: Any) -> Path:
    folder.mkdir(exist_ok=True)
    settings = {
        "broken": {},
        "title": "Made up",
        "base": "../photos/",
        "page": 60,
        "px": 320,
        "key": "0" * 8,
        **settings,
    }
    write_page(folder, Album(records, people_of(records), **settings))
    return folder


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "album"
    return write(folder, made_up(600), broken={"<b>bad</b>.jpg": "cut <short>"})


def until(page: Any, told: str) -> None:
    """Wait for an expression; the page forbids Playwright's own way, which evaluates text in it."""
    end = time.monotonic() + 15
    while not page.evaluate(told):
        assert time.monotonic() < end, told
        page.wait_for_timeout(20)


def shown(page: Any) -> int:
    return int(re.sub(r"\D", "", page.inner_text("#bar b")))


def rows(page: Any) -> list[int]:
    return [
        int(row)
        for row in page.eval_on_selector_all(".grid button", "all => all.map(one => one.dataset.row)")
    ]


def test_it_filters_by_object_and_label_with_counts(album: Path, look: Any) -> None:
    page = look(album)
    records = made_up(600)
    assert shown(page) == 600
    assert len(rows(page)) == 60
    cats = [row for row, record in enumerate(records) if record.objects and record.objects[0][0] == "cat"]
    button = page.locator(".value", has_text="cat").first
    assert button.locator("span").last.inner_text() == str(len(cats))
    button.click()
    page.wait_for_selector(".chip")
    assert shown(page) == len(cats)
    assert rows(page) == cats[:60]
    page.locator(".value", has_text="class 3").first.click()
    both = [row for row in cats if row % 11 == 3]
    until(page, f"document.querySelector('#bar b').textContent.startsWith('{len(both)} ')")
    assert rows(page) == both[:60]
    page.locator(".value", has_text="class 4").first.click()  # a photo has one label: either will do
    either = [row for row in cats if row % 11 in (3, 4)]
    until(page, f"document.querySelector('#bar b').textContent.startsWith('{len(either)} ')")
    page.go_back()
    until(page, f"document.querySelector('#bar b').textContent.startsWith('{len(both)} ')")
    page.fill("#text", "nothing is called so")
    until(page, "document.querySelector('#bar b').textContent.startsWith('0 ')")


def test_it_turns_pages(album: Path, look: Any) -> None:
    page = look(album)
    page.locator("#pager button", has_text="Next").click()
    until(page, "document.querySelector('.grid button').dataset.row === '60'")
    page.locator("#pager button", has_text="10").click()
    until(page, "document.querySelector('.grid button').dataset.row === '540'")
    assert rows(page) == list(range(540, 600))


def test_it_finds_a_place_on_the_map(album: Path, look: Any) -> None:
    page = look(album)
    page.locator("#tabs button", has_text="Map").click()
    page.wait_for_selector("#map canvas")
    # of the dots the one of the six photos that tell their place is among those at Florence
    spot = page.evaluate(
        "() => { const canvas = document.querySelector('#map canvas'), box = canvas.getBoundingClientRect();"
        " const {x, y, count} = canvas.dots.find(one => one.told); return {x: box.x + x, y: box.y + y, count}; }"
    )
    page.mouse.click(spot["x"], spot["y"])
    page.wait_for_selector(".grid")
    assert shown(page) == spot["count"] < 100
    assert set(rows(page)) >= set(range(0, 600, 100))
    assert page.locator(".chip", has_text="Part of the map").count() == 1


def test_it_shows_the_photos_of_a_person(album: Path, look: Any) -> None:
    page = look(album)
    page.locator("#tabs button", has_text="People 20").click()
    page.wait_for_selector(".people button")
    assert page.locator(".people button").count() == 20
    page.locator(".people button").first.click()
    page.wait_for_selector(".grid")
    assert len({row % 20 for row in rows(page)}) == 1
    assert shown(page) == 30


def test_it_searches_by_example(album: Path, look: Any) -> None:
    page = look(album)
    page.locator(".grid button").nth(7).click()
    page.wait_for_selector("#photo[open] .told")
    assert "class 7" in page.inner_text(".told")
    page.locator("#like").click()
    page.wait_for_selector(".grid small")
    records = made_up(600)
    vectors = np.stack([np.frombuffer(record.vector, dtype=np.float16) for record in records]).astype(float)
    vectors = spread(vectors, 64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    best = np.argsort(-(vectors @ vectors[7]))[:5].tolist()
    assert rows(page)[0] == 7
    assert set(rows(page)[:8]) >= set(best)
    page.locator(".grid button").first.click()
    page.locator("[data-face='0']").click()
    until(page, "document.querySelector('.chip')?.textContent.includes('like this face')")
    until(page, "document.querySelectorAll('.grid small')[1].textContent > '0.8'")
    assert {row % 20 for row in rows(page)[:30]} == {7}
    assert shown(page) == 600


def test_keys_are_enough(album: Path, look: Any) -> None:
    page = look(album)
    page.locator(".grid button").first.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_selector("#photo[open] h2")
    assert page.inner_text("#photo h2") == "00001.jpg"
    page.keyboard.press("ArrowRight")
    until(page, "document.querySelector('#photo h2').textContent === '00002.jpg'")
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#photo').open")
    page.keyboard.press("/")
    page.keyboard.type("00042")
    until(page, "document.querySelector('#bar b').textContent === '1 photo'")


def test_it_lists_what_was_not_read(album: Path, look: Any) -> None:
    page = look(album)
    page.locator("#tabs button", has_text="Not read 1").click()
    page.wait_for_selector(".broken")
    assert page.inner_text(".broken").split("\t") == ["<b>bad</b>.jpg", "cut <short>"]


def test_it_fits_a_phone(album: Path, look: Any) -> None:
    page = look(album, width=360)
    for view in ("photos", "map", "people", "broken", "photos&open=3"):
        page.goto(f"{page.url.split('#')[0]}#view={view}")
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, view
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#photo').open")
    page.locator("#filters > summary").click()
    page.locator(".value", has_text="dog").first.click()
    page.wait_for_selector(".chip")


def test_strange_names_are_shown_and_open(tmp_path: Path, look: Any) -> None:
    photos = write_photos(tmp_path / "it's #1 <50%>? ü", 4)
    records = made_up(4, 2)
    for row, (record, name) in enumerate(zip(records, TRICKY, strict=True)):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / f"{row:04}.jpg").rename(photos / name)
        record.id, record.size = name, (64, 48)
        record.objects = [("<script>alert(1)</script>", 0.9, (0.0, 0.0, 9.0, 9.0))]
    from mbapps.album.folder import base_address

    folder = write(
        tmp_path / "album", records, base=base_address(photos, tmp_path / "album"), title="<i>a</i> & b"
    )
    page = look(folder)
    assert page.inner_text("h1") == page.title() == "<i>a</i> & b"
    assert page.locator(".value", has_text="<script>alert(1)</script>").count() == 1
    for row, name in enumerate(TRICKY):
        page.goto(f"{page.url.split('#')[0]}#open={row}")
        until(page, f"document.querySelector('#photo h2')?.textContent === {name.split('/')[-1]!r}")
        until(page, "document.querySelector('.frame img').complete")
        assert page.evaluate("document.querySelector('.frame img').naturalWidth") == 64, name
        assert page.get_attribute(".told a", "href") == page.get_attribute(".frame img", "src")


def test_ten_thousand_photos_stay_usable(tmp_path: Path, look: Any) -> None:
    folder = write(tmp_path / "album", made_up(10_000, 300), page=120)
    size = sum(path.stat().st_size for path in folder.rglob("*.*"))
    assert size < 20e6
    started = time.perf_counter()
    page = look(folder)
    assert time.perf_counter() - started < 15
    assert shown(page) == 10_000
    assert page.evaluate("document.querySelectorAll('*').length") < 1500
    started = time.perf_counter()
    page.locator(".value", has_text="dog").first.click()
    page.wait_for_selector(".chip")
    assert time.perf_counter() - started < 5
    assert 2000 < shown(page) < 3000
    page.locator(".grid button").first.click()
    page.locator("#like").click()
    page.wait_for_selector(".grid small")
    page.locator("#tabs button", has_text="Map").click()
    page.wait_for_selector("#map canvas")
    page.locator("#tabs button", has_text="People").click()
    page.wait_for_selector(".people button")
    assert page.evaluate("document.querySelectorAll('*').length") < 3000


def test_a_page_that_was_open_when_the_album_changed_says_so(tmp_path: Path, look: Any) -> None:
    folder = write(tmp_path / "album", made_up(20))
    page = look(folder)
    write(folder, made_up(21))
    page.goto(f"{page.url}#like=p3")
    until(page, "document.querySelector('#bar').textContent.includes('load it again')")
    page.reload()
    until(page, "document.querySelector('#bar b').textContent.startsWith('21 ')")


def test_nothing_is_written_twice(tmp_path: Path) -> None:
    folder = write(tmp_path / "album", made_up(20))
    (data,) = folder.glob("data-*")
    stamp = data.stat().st_mtime_ns
    write(folder, made_up(20))
    assert [(path, path.stat().st_mtime_ns) for path in folder.glob("data-*")] == [(data, stamp)]


def spread(vectors: np.ndarray, most: int) -> np.ndarray:
    """Principal components, each divided by the root of its spread."""
    centred = vectors - vectors.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    return (left * np.sqrt(sizes))[:, :most]


def cosines(rows: np.ndarray) -> np.ndarray:
    rows = rows.astype(float)
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def test_small_vectors_keep_the_angles() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(200, 40)) @ rng.normal(size=(40, 400)) + 5).astype(np.float16)
    kept = [one.tobytes() for one in vectors]
    found = small(kept, 64, spread=True)
    assert (found.dtype, int(np.abs(found.astype(int)).max())) == (np.int8, 127)
    assert found.shape[1] <= 64
    assert np.abs(cosines(found) - cosines(spread(vectors.astype(float), 40))).max() < 0.05
    plain = small(kept, 400, spread=False)
    assert np.abs(cosines(plain) - cosines(vectors)).max() < 0.02
    assert small([b"", kept[0]], 64, spread=True).shape == (2, 0)
    assert small([], 64, spread=True).shape == (0, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_few_vectors_are_compared_too(count: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float16)
    found = small([one.tobytes() for one in vectors], 64, spread=True)
    assert np.isfinite(cosines(found)).all()


def test_countries() -> None:
    assert country({"name": "Reykjavík, Iceland"}) == ["Iceland"]


def test_the_page_is_small() -> None:
    from mbapps.album.folder import ASSETS

    lines = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in ASSETS.iterdir()}
    assert lines["album.js"] <= 400
    assert not re.search(
        r"innerHTML|fetch\(|https?://(?!www\.w3\.org)", (ASSETS / "album.js").read_text(encoding="utf-8")
    )
