from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from gallery_files import DIM, MODEL, OTHER, filled, names, unit

from mbapps.search import indexes
from mbapps.search.checks import ModelId
from mbapps.search.gallery import Gallery
from mbapps.search.indexes import KINDS, choose_kind


def rows_at(gallery: Gallery, probes: np.ndarray) -> list[str]:
    return [gallery.ids[row] for row in gallery.search(probes, 1).rows[:, 0].tolist()]


@pytest.mark.parametrize("kind", KINDS)
def test_each_row_finds_itself(kind: str) -> None:
    gallery = filled(kind)
    found = gallery.search(unit(600), 5)
    assert found.scores.shape == found.rows.shape == (600, 5)
    assert (found.rows[:, 0] == np.arange(600)).mean() > (0.9 if kind == "ivfpq" else 0.999)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    if kind != "ivfpq":
        np.testing.assert_allclose(found.scores[:, 0], 1, atol=1e-5)
        np.testing.assert_allclose(
            found.scores, np.einsum("qd,qkd->qk", unit(600), unit(600)[found.rows]), atol=1e-5
        )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_opened(kind: str, tmp_path: Path) -> None:
    gallery = filled(kind)
    gallery.remove(names(3, 10))
    folder = gallery.save(tmp_path / "new" / "gallery")
    opened = Gallery.open(folder)
    assert sorted(path.name for path in folder.iterdir()) == [
        "index.faiss",
        "meta.json",
        "metadata.safetensors",
    ]
    assert [path.name for path in folder.parent.iterdir()] == ["gallery"]
    assert (opened.kind, opened.dim, opened.model, len(opened)) == (kind, DIM, MODEL, 597)
    assert opened.ids.plain() == gallery.ids.plain()
    assert opened.columns["person"][9] == "p2"
    assert opened.columns["lat"][10] == 6.5  # row 13 of before
    for one, other in zip(gallery.search(unit(20, 1)), opened.search(unit(20, 1)), strict=True):
        np.testing.assert_array_equal(one, other)
    opened.add(unit(5, 2), names(5, 1000), {"person": ["new"] * 5, "lat": [0.0] * 5}, model=MODEL)
    opened.remove(["1001.jpg"])
    opened.save(folder)
    again = Gallery.open(folder, verify=False)
    assert len(again) == 601
    assert again.ids.plain()[-4:] == ["1000.jpg", "1002.jpg", "1003.jpg", "1004.jpg"]
    assert rows_at(again, unit(5, 2)[[0, 2, 3, 4]]) == ["1000.jpg", "1002.jpg", "1003.jpg", "1004.jpg"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_removed_is_not_found(kind: str, tmp_path: Path) -> None:
    gallery = filled(kind)
    gone = names(200, 100)
    gallery.remove(gone)
    assert len(gallery) == 400
    assert gone[0] not in gallery
    assert "99.jpg" in gallery
    assert not set(gone) & set(rows_at(gallery, unit(600)))
    kept = np.r_[0:100, 300:600]
    found = gallery.search(unit(600)[kept], 1)
    assert (found.rows[:, 0] == np.arange(400)).mean() > (0.9 if kind == "ivfpq" else 0.999)
    assert gallery.search(unit(1), 400).rows.max() == 399
    assert gallery.columns["lat"][100] == 150
    gallery.add(unit(600)[100:300], gone, {"person": [""] * 200, "lat": [0] * 200})
    assert (gallery.search(unit(600)[100:300], 1).rows[:, 0] >= 400).mean() > 0.9
    gallery.remove(gallery.ids.plain())
    with pytest.raises(ValueError, match="the gallery is empty; add vectors to it first"):
        gallery.search(unit(1))
    empty = Gallery.open(gallery.save(tmp_path / "empty"))
    assert len(empty) == 0
    empty.add(unit(300), names(300))
    assert rows_at(empty, unit(3)) == names(3)


def test_hnsw_keeps_tombstones_until_they_are_many(tmp_path: Path) -> None:
    gallery = filled("hnsw")
    gallery.remove(names(60))
    gallery.save(tmp_path / "g")
    assert len(gallery) + gallery._rows.tombstones == 600
    gallery.remove(names(70, 60))
    gallery.save(tmp_path / "g")
    opened = Gallery.open(tmp_path / "g")
    assert len(opened) == 470
    assert opened._rows.tombstones == 0
    assert rows_at(opened, unit(600)[130:]) == names(470, 130)


def test_the_kind_follows_the_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert [choose_kind(count) for count in (0, 49_999, 50_000, 5_000_000)] == [
        "exact",
        "exact",
        "hnsw",
        "ivfpq",
    ]
    monkeypatch.setattr(indexes, "EXACT_BELOW", 400)
    monkeypatch.setattr(indexes, "HNSW_BELOW", 800)
    gallery = Gallery(DIM, MODEL)
    kinds = []
    for start in range(0, 900, 300):
        gallery.add(unit(900)[start : start + 300], names(300, start))
        kinds.append(gallery.kind)
        gallery = Gallery.open(gallery.save(tmp_path / "g"))
    assert kinds == ["exact", "hnsw", "ivfpq"]
    assert (gallery.search(unit(900), 1).rows[:, 0] == np.arange(900)).mean() > 0.9
    named = filled("exact", 500)
    assert Gallery.open(named.save(tmp_path / "named")).kind == "exact"


def test_hnsw_is_nearly_exact() -> None:
    """Two hundred people with forty noisy photos each: the graph must not fall apart into islands."""
    people = unit(200, 5, 64).repeat(40, axis=0)
    photos = people + unit(8000, 6, 64) * 0.8
    photos /= np.linalg.norm(photos, axis=1, keepdims=True)
    probes = unit(200, 5, 64) + unit(200, 7, 64) * 0.8
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    answers = {}
    for kind in ("exact", "hnsw"):
        gallery = Gallery(64, MODEL, kind)
        gallery.add(photos, names(8000))
        answers[kind] = gallery.search(probes, 1).rows
    assert (answers["hnsw"] == answers["exact"]).mean() >= 0.95


def test_top_k_above_the_size_gives_all() -> None:
    for kind in ("exact", "hnsw"):
        found = filled(kind, 4).search(unit(2), 10)
        assert sorted(found.rows[0].tolist()) == [0, 1, 2, 3]


def test_bad_arguments() -> None:
    for words, message in (
        ({"dim": 0}, "a gallery's vectors need dim >= 1, got 0"),
        ({"kind": "lsh"}, "kind must be one of exact, hnsw, ivfpq, or null, got 'lsh'"),
    ):
        with pytest.raises(ValueError, match=message):
            Gallery(**{"dim": DIM, "model": MODEL, **words})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="top_k must be >= 1, got 0"):
        filled(None, 3).search(unit(1), 0)
    with pytest.raises(ValueError, match="the gallery is empty; add vectors to it first"):
        Gallery(DIM, MODEL).search(unit(1))
    with pytest.raises(ValueError, match="kind=ivfpq needs at least 256 vectors to learn from, got 3"):
        filled("ivfpq", 3)


def test_bad_vectors_leave_the_gallery_as_it_was() -> None:
    gallery = filled(None, 10)
    columns = {"person": ["a"] * 2, "lat": [0] * 2}
    broken = unit(2, 1)
    broken[1, 3] = np.nan
    with pytest.raises(ValueError, match=r"row 1 \(b\) has length nan"):
        gallery.add(broken, ["a", "b"], columns)
    with pytest.raises(ValueError, match="row 0 has length 2, and 1 more are like it"):
        gallery.search(2 * unit(2))
    with pytest.raises(ValueError, match=r"vectors must be \[N, 16\] as the gallery's, got \[2, 8\]"):
        gallery.add(unit(2, dim=8), ["a", "b"], columns)
    with pytest.raises(ValueError, match="2 vectors came with 1 ids"):
        gallery.add(unit(2), ["a"], columns)
    with pytest.raises(ValueError, match="ids must be unique, but b would be there twice"):
        gallery.add(unit(2), ["b", "b"], columns)
    with pytest.raises(
        ValueError, match="ids must be unique, but 3.jpg would be there twice; remove the old rows first"
    ):
        gallery.add(unit(2), ["b", "3.jpg"], columns)
    with pytest.raises(
        ValueError, match=r"the gallery's columns are .*'lat': 'numbers'.*they must be the same"
    ):
        gallery.add(unit(2), ["a", "b"], {"person": ["a", "b"]})
    with pytest.raises(ValueError, match="no x, y in the gallery; nothing was removed"):
        gallery.remove(["3.jpg", "x", "y"])
    assert len(gallery) == len(gallery.ids) == 10
    assert "3.jpg" in gallery


def test_another_model_is_refused_and_both_are_named() -> None:
    gallery = filled(None, 3)
    both = r"runs/a/model \(aaaaaaaaaaaa, flip=False\), which can't be compared with those of runs/b/model \(bbbb"
    with pytest.raises(ValueError, match=both):
        gallery.search(unit(1), model=OTHER)
    with pytest.raises(ValueError, match=both):
        gallery.add(unit(1), ["x"], model=OTHER)
    flipped = ModelId("runs/a/model", "a" * 32, {"flip": True})
    with pytest.raises(ValueError, match="flip=False.*flip=True"):
        gallery.search(unit(1), model=flipped)
    gallery.search(unit(1), model=ModelId("moved/model", "a" * 32, {"flip": False}))


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed(kind: str, tmp_path: Path) -> None:
    folder = filled(kind).save(tmp_path / "g")
    for name in ("index.faiss", "metadata.safetensors"):
        path, sound = folder / name, (folder / name).read_bytes()
        path.write_bytes(sound[:-100])
        with pytest.raises(
            ValueError, match=rf"{name} has .* bytes, not the {len(sound)} that were written; build"
        ):
            Gallery.open(folder, verify=False)
        for place in np.random.default_rng(0).integers(0, len(sound), 10).tolist():
            path.write_bytes(sound[:place] + bytes([sound[place] ^ 1]) + sound[place + 1 :])
            with pytest.raises(
                ValueError, match=rf"{name} was altered: its checksum is not the one in meta\.json"
            ):
                Gallery.open(folder)
        path.unlink()
        with pytest.raises(ValueError, match=rf"{name} is missing; build the gallery again"):
            Gallery.open(folder)
        path.write_bytes(sound)
    assert len(Gallery.open(folder)) == 600


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    from mbapps.search.folder import checksum

    def rewritten(**changes: object) -> Path:
        meta = json.loads((folder / "meta.json").read_text())
        meta["files"] = {name: checksum(folder / name) for name in meta["files"]}
        (folder / "meta.json").write_text(json.dumps(meta | changes))
        return folder

    folder = filled("hnsw").save(tmp_path / "g")
    sound = shutil.copytree(folder, tmp_path / "sound")
    with pytest.raises(ValueError, match=r"index\.faiss is no exact index of 16 numbers as meta\.json says"):
        Gallery.open(rewritten(kind="exact"))
    with pytest.raises(ValueError, match=r"index\.faiss is no hnsw index of 8 numbers"):
        Gallery.open(rewritten(kind="hnsw", dim=8))
    with pytest.raises(
        ValueError, match=r"metadata\.safetensors does not belong to this gallery: its columns do not"
    ):
        Gallery.open(rewritten(dim=16, count=500))
    shutil.copy(filled("hnsw", 300).save(tmp_path / "small") / "index.faiss", folder)
    with pytest.raises(ValueError, match="does not belong to this gallery: its labels lie beyond the index"):
        Gallery.open(rewritten(count=600))
    (folder / "index.faiss").write_bytes(b"no index at all")
    with pytest.raises(ValueError, match=r"index\.faiss is damaged \("):
        Gallery.open(rewritten())
    with pytest.raises(ValueError, match=r"meta\.json has format 2, newer than this mbapps reads \(1\)"):
        Gallery.open(rewritten(format=2))
    for bad in (
        {"format": 1, "kind": "lsh"},
        {"format": 1, "kind": "hnsw", "count": "many"},
        {"format": 1, "files": []},
    ):
        with pytest.raises(ValueError, match=r"meta\.json is no description of a gallery"):
            Gallery.open(rewritten(**bad))
    model = {"name": "a", "fingerprint": "b", "view": {}}
    for change, message in (
        ({"name": 3}, "model.name must be a str"),
        ({"fingerprint": None}, "model.fingerprint must be a str"),
        ({"view": []}, "model.view must be a dict"),
        ({"more": 1}, "model.more is unknown"),
        ({"view": {"face_crop": "x"}}, r"model.view.face_crop must lie in \(0, 1\]"),
        ({"view": {"flip": 1}}, "model.view.flip must be a bool"),
    ):
        with pytest.raises(ValueError, match=rf"meta\.json is no description of a gallery: .*{message}"):
            Gallery.open(rewritten(format=1, kind="hnsw", count=600, model=model | change))
    (folder / "meta.json").write_text("[")
    with pytest.raises(ValueError, match=r"meta\.json is no description of a gallery"):
        Gallery.open(folder)
    with pytest.raises(
        FileNotFoundError, match=r"no gallery at .*nothing: it has no meta\.json; mbapps index"
    ):
        Gallery.open(tmp_path / "nothing")
    assert len(Gallery.open(sound)) == 600


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import faiss

    def full(index: object, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise RuntimeError("write error")

    folder = filled(None).save(tmp_path / "g")
    monkeypatch.setattr(faiss, "write_index", full)
    with pytest.raises(OSError, match=r"could not save .*write error; what was there before is whole"):
        filled(None, 3).save(folder)
    assert len(Gallery.open(folder)) == 600
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


def test_without_faiss_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match="a gallery needs faiss: pip install faiss-cpu"):
        filled(None, 3)


def test_a_killed_save_leaves_a_whole_gallery(tmp_path: Path) -> None:
    folder = filled("exact").save(tmp_path / "g")
    code = (
        "import sys; from pathlib import Path; from mbapps.search.gallery import Gallery\n"
        "gallery = Gallery.open(sys.argv[1]); print('open', flush=True)\n"
        "while True: gallery.save(sys.argv[1])"
    )
    root = Path(__file__).parent.parent.parent
    child = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, cwd=root)
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(0.2)
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    whole = [path for path in [folder, *tmp_path.glob(".g.*/.old")] if path.exists()]
    assert len(Gallery.open(whole[0])) == 600


def test_saving_takes_nothing_else_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mbapps.search import folder as folders

    folder = filled(None, 3).save(tmp_path / "g")
    (folder / ".hidden").write_text("mine")
    (folder / "photos").mkdir()
    with pytest.raises(
        FileExistsError, match=r"gallery=.*g holds '.hidden', 'photos' besides .* would remove"
    ):
        filled(None, 4).save(folder)
    shutil.rmtree(folder / "photos")
    (folder / ".hidden").unlink()

    def late(*args: object) -> str:  # something that comes while the gallery is being written
        (folder / "notes.txt").write_text("mine")
        return written(*args)

    written = folders.checksum
    monkeypatch.setattr(folders, "checksum", late)
    with pytest.raises(FileExistsError, match="gallery=.*g holds 'notes.txt' besides"):
        filled(None, 4).save(folder)
    assert (folder / "notes.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["g"]
    (folder / "notes.txt").unlink()
    assert len(Gallery.open(folder, verify=False)) == 3
