from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from gallery_files import MODEL, names, unit

from mbapps.search import indexes
from mbapps.search.budget import Form, choose_form, index_bytes
from mbapps.search.gallery import Gallery
from mbapps.search.indexes import build_index, least_code, load_faiss, most_code
from mbapps.search.merge import merge

DIM = 64


def places(count: int, kind: str | None = None, max_mb: float | None = None, start: int = 0) -> Gallery:
    gallery = Gallery(DIM, MODEL, kind, max_mb)
    add(gallery, count, start)
    return gallery


def add(gallery: Gallery, count: int, start: int = 0) -> None:
    """Rows in clusters of twenty, of which the rest of a cluster are the nearest."""
    middles = unit(1000, 1, DIM).repeat(20, axis=0)[start : start + count]
    vectors = middles + unit(20_000, 2, DIM)[start : start + count] * 0.7
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    columns = {
        "lat": np.arange(count) / 3, "lon": np.arange(count) / 2,
        "place": [f"Städtchen {row % 99}, Österreich" for row in range(count)],
    }  # fmt: skip
    gallery.add(vectors, names(count, start), columns)


def megabytes(folder: Path) -> float:
    return sum(file.stat().st_size for file in folder.iterdir()) / 1e6


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs from 2,000 rows on."""
    monkeypatch.setattr(indexes, "EXACT_BELOW", 2000)


@pytest.mark.parametrize(("count", "dim"), [(1, 8), (300, 16), (700, 1), (3000, 33), (5000, 64)])
def test_an_index_takes_no_more_than_foretold(count: int, dim: int) -> None:
    faiss, vectors = load_faiss(), unit(count, dim=dim)
    forms = [Form("exact"), Form("hnsw")]
    if count >= 256:
        forms += [Form("ivfpq", size) for size in {most_code(dim), least_code(dim), max(1, dim // 5)}]
    for form in forms:
        real = len(faiss.serialize_index(build_index(form.kind, vectors, form.code_bytes)))
        told = index_bytes(form, count, dim)
        assert real <= told <= 1.02 * real + 5000


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("count", "max_mb", "kind"),
    [
        (100, 0.1, "exact"), (1500, 10, "exact"), (1500, 0.45, "ivfpq"), (6000, 10, "hnsw"), (6000, 2.5, "ivfpq"),
        (6000, 0.7, "ivfpq"),
    ],
)  # fmt: skip
def test_the_folder_fits_and_the_kind_is_the_best_that_does(
    count: int, max_mb: float, kind: str, tmp_path: Path
) -> None:
    gallery = places(count, max_mb=max_mb)
    folder = gallery.save(tmp_path / "g")
    assert gallery.kind == kind
    assert megabytes(folder) <= max_mb
    opened = Gallery.open(folder)
    assert (opened.max_mb, opened.kind, len(opened)) == (max_mb, kind, count)
    if kind == "ivfpq" and opened._rows.form.code_bytes < most_code(DIM):  # a byte more would be too much
        assert megabytes(folder) > max_mb - 0.03 - count / 1e6


@pytest.mark.usefixtures("few")
def test_smaller_codes_still_find_what_is_alike(tmp_path: Path) -> None:
    exact = places(4000, "exact")
    probes = unit(1000, 1, DIM)[:200]
    best = exact.search(probes, 20).rows
    recall = []
    for max_mb in (0.56, 0.5, 0.451):
        gallery = places(4000, max_mb=max_mb)
        assert megabytes(gallery.save(tmp_path / "g")) <= max_mb
        found = gallery.search(probes, 20).rows
        recall.append(np.mean([len(np.intersect1d(*rows)) / 20 for rows in zip(found, best, strict=True)]))
    assert gallery._rows.form.code_bytes == least_code(DIM)
    assert recall[0] > 0.8
    assert recall[2] > 0.2  # of chance: 0.005
    assert recall == sorted(recall, reverse=True)


@pytest.mark.usefixtures("few")
def test_what_can_not_fit_says_the_least_and_changes_nothing(tmp_path: Path) -> None:
    said = r"max_mb=0\.3 is too little for 6,000 rows: they take at least 0\.\d{3} MB, as ivfpq with 2 bytes"
    with pytest.raises(ValueError, match=said) as error:
        places(6000, max_mb=0.3)
    assert "MB are ids and columns; raise max_mb, or keep fewer rows" in str(error.value)
    least = float(re.findall(r"at least ([\d.]+) MB", str(error.value))[0])
    folder = places(6000, max_mb=least).save(tmp_path / "g")
    assert least * 0.96 < megabytes(folder) <= least
    with pytest.raises(
        ValueError, match="as hnsw, of which .*; raise max_mb, leave kind= out, or keep fewer"
    ):
        places(6000, "hnsw", 1)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    gallery = Gallery.open(folder)
    with pytest.raises(ValueError, match=r"is too little for 9,000 rows"):
        add(gallery, 3000, 6000)
    assert len(gallery) == 6000
    gallery.max_mb = least / 2
    with pytest.raises(ValueError, match=r"is too little for 6,000 rows"):
        gallery.save(folder)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


@pytest.mark.slow
@pytest.mark.usefixtures("few")
def test_a_budget_holds_for_rows_that_are_added(tmp_path: Path) -> None:
    folder, kinds = tmp_path / "g", []
    gallery = Gallery(DIM, MODEL, max_mb=1.3)
    for start in range(0, 12_000, 2000):
        add(gallery, 2000, start)
        assert megabytes(gallery.save(folder)) <= 1.3
        gallery = Gallery.open(folder)
        kinds.append((gallery.kind, gallery._rows.form.code_bytes))
    assert kinds[0][0] == "hnsw"
    assert [kind for kind, _ in kinds[1:]] == ["ivfpq"] * 5
    sizes = [size for _, size in kinds[1:]]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < sizes[0]
    gallery.max_mb = math.inf  # lifts it
    add(gallery, 2000, 12_000)
    gallery.save(folder)
    assert json.loads((folder / "meta.json").read_text())["max_mb"] is None
    assert (gallery.kind, gallery._rows.form.code_bytes) == ("ivfpq", sizes[-1])  # what is lost stays lost


@pytest.mark.usefixtures("few")
def test_a_budget_may_be_set_later(tmp_path: Path) -> None:
    gallery = places(5000)
    assert gallery.kind == "hnsw"
    assert not gallery.settle()
    gallery.max_mb = 1.2
    assert gallery.settle()
    assert gallery.kind == "ivfpq"
    assert megabytes(gallery.save(tmp_path / "g")) <= 1.2
    gallery.remove(names(4900))
    assert megabytes(gallery.save(tmp_path / "g")) <= 1.2


@pytest.mark.usefixtures("few")
def test_tombstones_count(tmp_path: Path) -> None:
    whole = megabytes(places(5000, "hnsw").save(tmp_path / "whole"))
    gallery = Gallery.open(tmp_path / "whole")
    gallery.remove(names(500))
    gallery.max_mb = whole * 0.95
    gallery.save(tmp_path / "whole")
    assert gallery._rows.tombstones == 0
    assert megabytes(tmp_path / "whole") <= whole * 0.95


@pytest.mark.usefixtures("few")
def test_merging_within_a_budget(tmp_path: Path) -> None:
    parts = [places(2500, max_mb=1.5), places(2500, start=2500)]
    assert merge(parts).max_mb is None
    merged = merge(parts, max_mb=1.2)
    assert (merged.kind, len(merged)) == ("ivfpq", 5000)
    assert megabytes(merged.save(tmp_path / "g")) <= 1.2
    with pytest.raises(ValueError, match=r"max_mb=0\.1 is too little for 5,000 rows"):
        merge(parts, max_mb=0.1)


def test_bad_budgets() -> None:
    for value in (0, -1, math.nan, True, "5"):
        with pytest.raises(ValueError, match="max_mb is megabytes > 0, inf for any number, or null, got"):
            Gallery(DIM, MODEL, max_mb=value)  # type: ignore[arg-type]
    assert choose_form(100, DIM, max_mb=math.inf) == Form("exact")
    with pytest.raises(
        ValueError, match="is too little for 100 rows: .* as exact"
    ):  # too few to learn codes from
        choose_form(100, DIM, max_mb=0.01)
