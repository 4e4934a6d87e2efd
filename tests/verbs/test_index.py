"""`mbapps index` and `mbapps search` with a network that was never trained."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from conftest import Cli
from PIL import Image

from mbapps.deploy.bundle import Bundle
from mbapps.deploy.saving import describe, fingerprint, save_bundle, save_facts
from mbapps.embedding import Embedder
from mbapps.images import read_image
from mbapps.models.folder import read_tensors
from mbapps.models.mobilenet import MobileNetV1, initialise
from mbapps.models.network import Network
from mbapps.search.folder import INDEX
from mbapps.search.gallery import Gallery
from mbapps.tasks.detection import DetectionHead
from mbapps.tasks.face_embed import FaceEmbedHead

CPU = ("trainer.accelerator=cpu", "trainer.progress=false", "num_workers=0")
PEOPLE = 4


def save(
    folder: Path, head: type[Any] = FaceEmbedHead, name: str = "face_embed", seed: int = 0, **facts: object
) -> Path:
    torch.manual_seed(seed)
    body = MobileNetV1(alpha=0.25)
    initialise(body)
    network = Network(body, {name: head(body, ("a",) if head is DetectionHead else (), 64)}).eval()
    return save_bundle(
        folder, network, describe(network, {name: facts}, lineage={"data": [], "weights": None})
    )


def photos(root: Path, people: int = PEOPLE, each: int = 5) -> Path:
    random = np.random.default_rng(0)
    for person in range(people):
        face = random.integers(0, 256, (6, 6, 3))
        for number in range(each):
            noisy = (face + random.integers(-9, 9, face.shape)).clip(0, 255).astype(np.uint8)
            path = root / f"p{person}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(cv2.resize(noisy, (70, 80))).save(path)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("models") / "first", verification={"similarity": 0.5})


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos"))


@pytest.fixture
def gallery(model: Path, people: Path, cli: Cli, tmp_path: Path) -> Path:
    cli("index", f"model={model}", f"source={people}", f"gallery={tmp_path / 'g'}", *CPU)
    return tmp_path / "g"


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def same(one: Path, other: Path) -> bool:
    """Whether two galleries hold the same; the header of a file of columns has its notes in any order."""
    columns = [read_tensors(folder / "metadata.safetensors") for folder in (one, other)]
    return (
        (one / INDEX).read_bytes() == (other / INDEX).read_bytes()
        and columns[0].keys() == columns[1].keys()
        and all(torch.equal(value, columns[1][key]) for key, value in columns[0].items())
    )


def test_a_folder_becomes_a_gallery(gallery: Path, people: Path, model: Path) -> None:
    opened = Gallery.open(gallery)
    files = sorted(people.rglob("*.png"))
    assert opened.ids.plain() == [file.relative_to(people).as_posix() for file in files]
    assert opened.facts(7) == {"file": str(people / "p1" / "2.png"), "person": "p1"}
    assert opened.model.view == {"face_crop": 1.0, "flip": False}
    assert opened.model.fingerprint == fingerprint(model)
    assert not gallery.with_name("g.shards").exists()
    bundle = Bundle.open(model)
    wanted = np.stack([answer.vector for answer in bundle.predict(files)])  # type: ignore[attr-defined]
    np.testing.assert_allclose(opened.vectors(), wanted, atol=1e-5)


def test_shard_size_and_batches_do_not_matter(gallery: Path, people: Path, model: Path, cli: Cli) -> None:
    other = gallery.with_name("other")
    cli(
        "index",
        f"model={model}",
        f"source={people}",
        f"gallery={other}",
        *CPU,
        "shard_size=3",
        "batch_size=2",
    )
    np.testing.assert_allclose(Gallery.open(other).vectors(), Gallery.open(gallery).vectors(), atol=1e-5)
    assert Gallery.open(other).ids.plain() == Gallery.open(gallery).ids.plain()


def test_new_images_are_added_and_old_ones_taken_out(model: Path, cli: Cli, tmp_path: Path) -> None:
    root = photos(tmp_path / "photos")
    words = ["index", f"source={root}", f"gallery={tmp_path / 'g'}", *CPU]
    shutil.move(root / "p3", tmp_path / "p3")
    assert results(cli(*words, f"model={model}"))["added"] == 15
    shutil.move(tmp_path / "p3", root / "p3")
    (root / "p0" / "broken.jpg").write_bytes(b"no picture")
    numbers = results(cli(*words))  # the model is known from the gallery
    assert (numbers["added"], numbers["already_there"], numbers["broken"], numbers["count"]) == (5, 15, 1, 20)
    assert "broken.jpg" in numbers["context"]["broken"][0]
    assert Gallery.open(tmp_path / "g").ids.plain()[15:] == [f"p3/{number}.png" for number in range(5)]
    numbers = results(cli("index", f"gallery={tmp_path / 'g'}", "remove=[p0/1.png,p3/0.png]", *CPU))
    assert (numbers["removed"], numbers["count"]) == (2, 18)
    assert results(cli(*words, "kind=hnsw"))["kind"] == "hnsw"
    opened = Gallery.open(tmp_path / "g")
    assert len(opened) == 20
    assert opened.search(opened.vectors(), 1).rows[:, 0].tolist() == list(range(20))
    with pytest.raises(ValueError, match="no p9/1.png in the gallery; nothing was removed"):
        cli("index", f"gallery={tmp_path / 'g'}", "remove=[p9/1.png]", *CPU)


def test_the_view_is_the_gallerys(model: Path, people: Path, cli: Cli, tmp_path: Path) -> None:
    words = [f"source={people}", f"gallery={tmp_path / 'g'}", *CPU]
    cli("index", *words, f"model={model}", "face_crop=0.5", "flip=true")
    opened = Gallery.open(tmp_path / "g")
    assert opened.model.view == {"face_crop": 0.5, "flip": True}
    embedder = Embedder(model, Bundle.open(model), face_crop=0.5, flip=True)
    images = [read_image(people / name) for name in opened.ids.plain()]
    np.testing.assert_allclose(embedder.embed_images(images), opened.vectors(), atol=1e-5)
    mirrored = embedder.embed_images([np.ascontiguousarray(image[:, ::-1]) for image in images])
    np.testing.assert_allclose(mirrored, opened.vectors(), atol=1e-2)
    assert results(cli("index", *words))["added"] == 0
    with pytest.raises(
        ValueError, match=r"face_crop=0.5, flip=True\), which can't be compared with .*face_crop=0.9"
    ):
        cli("index", *words, "face_crop=0.9")
    run = cli(
        "search", f"source={people / 'p1' / '0.png'}", f"gallery={tmp_path / 'g'}", "top_k=1", "device=cpu"
    )
    (hits,) = json.loads((run / "search.json").read_text())["probes"].values()
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-4)


def test_search_finds_prints_and_draws(
    gallery: Path, people: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    probes = tmp_path / "probes"
    probes.mkdir()
    shutil.copy(people / "p2" / "3.png", probes / "who (1).png")
    shutil.copy(people / "p0" / "0.png", probes / "a,b.png")
    (probes / "broken.jpg").write_bytes(b"no picture")
    run = cli("search", f"source={probes}", f"gallery={gallery}", "top_k=3", "device=cpu")
    content = json.loads((run / "search.json").read_text())
    assert [Path(file).name for file in content["probes"]] == ["a,b.png", "who (1).png"]
    best = [hits[0] for hits in content["probes"].values()]
    assert [hit["id"] for hit in best] == ["p0/0.png", "p2/3.png"]
    assert best[0] == {
        "rank": 1, "id": "p0/0.png", "similarity": pytest.approx(1, abs=1e-4), "same": True,
        "file": str(people / "p0" / "0.png"), "person": "p0",
    }  # fmt: skip
    assert content["similarity"] == 0.5
    assert "broken.jpg" in next(iter(content["broken"]))
    printed = capsys.readouterr().out
    assert "p2/3.png" in printed
    assert "= marks similarities of 0.500 or more" in printed
    with Image.open(run / "contact_sheet.jpg") as sheet:
        assert sheet.width > 4 * 160
        assert np.asarray(sheet).std() > 20
    assert results(run)["same"] >= 2


def test_search_without_a_threshold_gives_all_rows(
    people: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tmp_path / "plain")
    cli("index", f"model={model}", f"source={people}", f"gallery={tmp_path / 'g'}", *CPU)
    photo = people / "p1" / "0.png"
    run = cli("search", f"source={photo}", f"gallery={tmp_path / 'g'}", "top_k=100", "device=cpu")
    (hits,) = json.loads((run / "search.json").read_text())["probes"].values()
    assert len(hits) == 20
    assert {hit["same"] for hit in hits} == {None}
    assert "mbapps calibrate chooses the similarity" in capsys.readouterr().out


def test_another_model_is_refused(gallery: Path, people: Path, cli: Cli, tmp_path: Path, model: Path) -> None:
    other = save(tmp_path / "other", seed=1)
    both = rf"model .*first \({fingerprint(model)[:12]}.*those of .*other \({fingerprint(other)[:12]}"
    photo = f"source={people / 'p1' / '0.png'}"
    with pytest.raises(ValueError, match=both):
        cli("search", photo, f"gallery={gallery}", f"model={other}", "device=cpu")
    with pytest.raises(ValueError, match=both):
        cli("index", f"source={people}", f"gallery={gallery}", f"model={other}", *CPU)
    copy = shutil.copytree(model, tmp_path / "copy")
    facts = json.loads((copy / "model.json").read_text())
    facts["heads"]["face_embed"]["verification"] = {"similarity": 0.9}
    save_facts(copy, facts)  # a threshold changes no vector
    cli("search", photo, f"gallery={gallery}", f"model={copy}", "device=cpu")
    meta = json.loads((gallery / "meta.json").read_text())
    meta["model"]["name"] = "/gone/model"
    (gallery / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(
        FileNotFoundError, match=r"the gallery was made with /gone/model .* no longer there; give model="
    ):
        cli("search", photo, f"gallery={gallery}", "device=cpu")


def test_what_index_refuses(model: Path, people: Path, cli: Cli, tmp_path: Path, gallery: Path) -> None:
    new = f"gallery={tmp_path / 'new'}"
    detector = save(tmp_path / "detector", DetectionHead, "detection")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.jpg").write_bytes(b"no picture")
    elsewhere = photos(tmp_path / "elsewhere", 1, 1)
    source, named, old = f"source={people}", f"model={model}", f"gallery={gallery}"
    for words, message in (
        ([f"model={detector}", source, new], "a gallery needs a model with embeddings.* holds detection"),
        ([source, new], "index needs model=, since there is no gallery at .*new yet"),
        ([named, new], r"index needs source=, the images to add, or remove=\[ids\]"),
        ([named, new, "remove=[a]"], "remove= needs a gallery, and there is none at .*new"),
        ([named, source, new, "kind=lsh"], "kind must be one of exact, hnsw, ivfpq, or null, got 'lsh'"),
        ([named, source, new, "kind=ivfpq"], "kind=ivfpq needs at least 256 vectors to learn from, got 20"),
        ([named, source, new, "shard_size=0"], "shard_size must be a whole number >= 1, got 0"),
        ([named, source, new, "shard_size=true"], "shard_size must be a whole number >= 1, got True"),
        ([named, source, new, "num_workers=-1"], "num_workers must be a whole number >= 0, got -1"),
        ([named, source, new, "face_crop=0"], r"face_crop must lie in \(0, 1\], got 0"),
        ([named, source, new, "face_crop=big"], r"face_crop must lie in \(0, 1\], got big"),
        ([named, source, new, "flip=often"], "flip must be true or false, got often"),
        ([named, f"source={tmp_path / 'bad'}", new], "none of the 1 images of .* can be read: .*a.jpg"),
        ([named, f"source={elsewhere}", old], "the gallery has p0/0.png from .*can't be added under that"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            cli("index", *CPU, *words)
    with pytest.raises(FileExistsError, match="gallery=.*full is there and no gallery; name another folder"):
        cli("index", named, source, f"gallery={tmp_path / 'full'}", *CPU)
    with pytest.raises(FileNotFoundError, match="no images at source="):
        cli("index", named, f"source={tmp_path / 'nothing'}", new, *CPU)
    assert not (tmp_path / "new").exists()


def test_what_search_refuses(people: Path, cli: Cli, tmp_path: Path, gallery: Path) -> None:
    photo, named = f"source={people / 'p1' / '0.png'}", f"gallery={gallery}"
    (tmp_path / "a.jpg").write_bytes(b"no picture")
    for words, message in (
        ([photo, named, "top_k=0"], "top_k must be a whole number >= 1, got 0"),
        ([photo, named, "top_k=true"], "top_k must be a whole number >= 1, got True"),
        ([photo, named, "top_k=abc"], "top_k must be a whole number >= 1, got abc"),
        ([f"source={tmp_path / 'a.jpg'}", named], "none of the 1 files of .* can be read: .*a.jpg"),
    ):
        with pytest.raises(ValueError, match=message):
            cli("search", *words, "device=cpu")
    with pytest.raises(FileNotFoundError, match=r"no gallery at .*nothing: it has no meta\.json"):
        cli("search", photo, f"gallery={tmp_path / 'nothing'}", "device=cpu")
    cli("index", f"gallery={gallery}", f"remove=[{','.join(Gallery.open(gallery).ids.plain())}]", *CPU)
    with pytest.raises(ValueError, match="the gallery at .* is empty; mbapps index adds images to it"):
        cli("search", photo, named, "device=cpu")


def test_ids_of_a_glob_and_of_one_file(model: Path, people: Path, cli: Cli, tmp_path: Path) -> None:
    words = [f"model={model}", *CPU]
    cli("index", *words, f"source={people}/p[12]/1.png", f"gallery={tmp_path / 'g'}")
    assert Gallery.open(tmp_path / "g").ids.plain() == ["p1/1.png", "p2/1.png"]
    cli("index", *words, f"source={people}/p1/0.png", f"gallery={tmp_path / 'one'}")
    assert Gallery.open(tmp_path / "one").ids.plain() == ["0.png"]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "mbapps", "index", *words, *CPU, "shard_size=3", "batch_size=2"]


KILLED = """
import os, signal, mbapps.files
replace = os.replace
def rename(source, place):
    if str(place).endswith("000005.safetensors"):  # written, but not under its name yet
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, place)
mbapps.files.os.replace = rename
from mbapps.__main__ import main
main()
"""
TOLD = """
import mbapps.shard_writer as writer
write = writer.write_shard
writer.write_shard = lambda path, *rest: (print("made", path.name), write(path, *rest))
from mbapps.__main__ import main
main()
"""


@pytest.mark.slow
def test_a_killed_build_goes_on_from_its_shards(model: Path, tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", 5, 6)  # ten shards
    words = [f"model={model}", f"source={root}"]
    whole, killed, shards = tmp_path / "whole", tmp_path / "killed", tmp_path / "killed.shards"
    again = [*words, f"gallery={killed}"]
    one = subprocess.run([*command(*words, f"gallery={whole}"), f"out={tmp_path / 'r1'}"], check=False)
    assert one.returncode == 0
    line = [sys.executable, "-c", KILLED, *command(*again)[3:], f"out={tmp_path / 'r2'}"]
    assert subprocess.run(line, check=False).returncode == -signal.SIGKILL
    assert not killed.exists()
    assert sorted(path.name for path in shards.glob("0*")) == [f"00000{k}.safetensors" for k in range(5)]
    first = shards / "000000.safetensors"
    first.write_bytes(first.read_bytes()[:-7])  # a damaged one is made again
    line = [sys.executable, "-c", TOLD, *command(*again)[3:], f"out={tmp_path / 'r3'}"]
    shown = subprocess.run(line, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr[-3000:]
    made = [word.split()[1] for word in shown.stdout.splitlines() if word.startswith("made")]
    assert made == [f"00000{k}.safetensors" for k in (0, 5, 6, 7, 8, 9)]
    assert same(whole, killed)
    assert not shards.exists()


@pytest.mark.slow
def test_two_processes_make_the_gallery_of_one(model: Path, people: Path, tmp_path: Path) -> None:
    words = [f"model={model}", f"source={people}"]
    one, two = tmp_path / "one", tmp_path / "two"
    for gallery, more in ((one, []), (two, ["trainer.devices=2", "trainer.strategy=ddp"])):
        line = [*command(*words, f"gallery={gallery}", *more), f"out={tmp_path / f'run_{gallery.name}'}"]
        shown = subprocess.run(line, capture_output=True, text=True, check=False)
        assert shown.returncode == 0, shown.stderr[-3000:]
    opened, both = Gallery.open(one), Gallery.open(two)
    assert both.ids.plain() == opened.ids.plain()
    np.testing.assert_allclose(both.vectors(), opened.vectors(), atol=1e-5)  # other threads, other rounding
    assert not list(tmp_path.glob("*.shards"))


def test_index_takes_nothing_of_the_users_away(
    gallery: Path, people: Path, model: Path, cli: Cli, tmp_path: Path
) -> None:
    named, old = f"model={model}", f"gallery={gallery}"
    before = {path.name: path.stat().st_mtime_ns for path in gallery.iterdir()}
    assert results(cli("index", f"source={people}", old, *CPU))["added"] == 0
    assert {path.name: path.stat().st_mtime_ns for path in gallery.iterdir()} == before  # nothing to save
    more = photos(gallery / "photos", 1, 1)
    with pytest.raises(
        ValueError, match="source=.*photos lies inside gallery=.*g, a folder that is replaced"
    ):
        cli("index", f"source={more}", old, *CPU)
    with pytest.raises(ValueError, match="source=.*p0 lies inside gallery=.*g, "):
        cli("index", f"source={more}/p0/*.png", old, *CPU)
    with pytest.raises(FileExistsError, match="gallery=.*g holds 'photos' besides a gallery's own files"):
        cli("index", named, f"source={people}", old, "kind=hnsw", *CPU)
    assert (more / "p0" / "0.png").is_file()
    shutil.rmtree(more)
    with pytest.raises(ValueError, match="out=.*run lies inside gallery=.*new, "):
        cli(
            "index", named, f"source={people}", f"gallery={tmp_path / 'new'}", f"out={tmp_path}/new/run", *CPU
        )


def test_two_at_once_are_kept_apart(
    gallery: Path, people: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "import sys, pathlib, time\nfrom mbapps.search.folder import lock\n"
    code += "with lock(pathlib.Path(sys.argv[1])):\n print(flush=True); time.sleep(99)"
    holder = subprocess.Popen([sys.executable, "-c", code, str(gallery)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    words = ["index", f"source={people}", f"gallery={gallery}", *CPU]
    with pytest.raises(
        BlockingIOError, match=rf"gallery=.*g is being changed by process {holder.pid} on .*; wait"
    ):
        cli(*words)
    monkeypatch.setenv("LOCAL_RANK", "1")  # the first of several processes holds it for all
    cli(*words)
    monkeypatch.delenv("LOCAL_RANK")
    holder.kill()
    holder.wait()
    cli(*words)
    assert not gallery.with_name("g.lock").exists()


def test_one_id_may_be_named_without_brackets(gallery: Path, cli: Cli) -> None:
    numbers = results(cli("index", f"gallery={gallery}", "remove=p0/0.png", *CPU))
    assert (numbers["removed"], numbers["count"]) == (1, 19)


def test_a_name_that_is_not_utf_8_stops_no_other(
    model: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = photos(tmp_path / "photos", 1, 3)
    strange = Path(os.fsdecode(os.fsencode(root / "caf") + b"\xe9.png"))
    try:
        shutil.copy(root / "p0" / "0.png", strange)
    except OSError:
        pytest.skip("this file system takes only names of UTF-8")
    words = [f"source={root}", f"gallery={tmp_path / 'g'}"]
    numbers = results(cli("index", f"model={model}", *words, *CPU))
    assert (numbers["added"], numbers["broken"]) == (3, 1)
    assert r"caf\udce9.png': its name is not UTF-8" in numbers["context"]["broken"][0]
    content = json.loads((cli("search", *words, "device=cpu") / "search.json").read_text())
    assert len(content["probes"]) == 3
    assert next(iter(content["broken"])).endswith(r"caf\udce9.png'")
    assert capsys.readouterr().out.count("its name is not UTF-8; give it another") == 2


def test_codes_are_not_taken_for_vectors(gallery: Path, people: Path, model: Path, cli: Cli) -> None:
    from gallery_files import names, unit

    codes = Gallery(128, Gallery.open(gallery).model, "ivfpq")
    codes.add(unit(300, dim=128), names(300), {"file": [""] * 300, "person": [""] * 300})
    folder = codes.save(gallery.with_name("codes"))
    words = ["index", f"source={people}", f"gallery={folder}", *CPU]
    with pytest.raises(
        ValueError, match="kind=exact can't be made of gallery=.*codes: it is ivfpq, .* are gone"
    ):
        cli(*words, "kind=exact")
    assert results(cli(*words, "kind=ivfpq"))["count"] == 320


def test_a_gallery_that_was_left_aside_comes_back(
    gallery: Path, people: Path, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a kill between the two renames of its replacement leaves it."""
    other = gallery.with_name(f".{gallery.name}.b.abc12345") / ".old"  # of a gallery of a longer name
    other.parent.mkdir()
    Gallery(128, Gallery.open(gallery).model).save(gallery.with_name("empty")).rename(other)
    aside = gallery.with_name(f".{gallery.name}.abc12345") / ".old"
    aside.parent.mkdir()
    gallery.rename(aside)
    numbers = results(cli("index", f"source={people}", f"gallery={gallery}", *CPU))
    assert (numbers["added"], numbers["count"]) == (0, 20)
    assert "what was there before is back" in capsys.readouterr().out


def test_too_many_broken_images_add_nothing(model: Path, cli: Cli, tmp_path: Path) -> None:
    root = photos(tmp_path / "photos", 1, 3)
    for name in ("a.jpg", "b.jpg"):
        (root / name).write_bytes(b"no picture")
    words = ["index", f"model={model}", f"source={root}", f"gallery={tmp_path / 'g'}", *CPU]
    with pytest.raises(ValueError, match=r"2 of 5 images can't be read, more than max_broken=0\.01 allows"):
        cli(*words)
    assert not (tmp_path / "g").exists()
    assert results(cli(*words, "max_broken=0.5"))["count"] == 3
    assert results(cli(*words, "max_broken=0.5"))["already_there"] == 3  # what can't be read comes up again


def test_a_threshold_of_another_view_marks_nothing(
    people: Path, cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = save(tmp_path / "own", verification={"similarity": 0.1}, face_crop=0.6)
    for crop, said in (
        ([], "the model's own threshold"),
        (["face_crop=1.0"], "is not for the view of this gallery"),
    ):
        place = f"gallery={tmp_path / f'g{len(crop)}'}"
        cli("index", f"model={own}", f"source={people}", place, *crop, *CPU)
        cli("search", f"source={people / 'p0' / '0.png'}", place, "device=cpu", "top_k=30")
        shown = capsys.readouterr().out
        assert said in shown
        assert "top_k=30, but the gallery has 20 rows: all are shown" in shown


def test_ctrl_c_says_what_is_kept(
    model: Path, people: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    embed, calls = Embedder.embed, []

    def stop(self: Embedder, views: torch.Tensor) -> Any:
        calls.append(len(views))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return embed(self, views)

    monkeypatch.setattr(Embedder, "embed", stop)
    words = ["index", f"model={model}", f"source={people}", f"gallery={tmp_path / 'g'}", "shard_size=5", *CPU]
    with pytest.raises(SystemExit) as stopped:
        cli(*words)
    assert stopped.value.code == 130
    assert "stopped; 2 of 4 shards are done and kept: the same command goes on" in capsys.readouterr().err
    assert results(cli(*words))["count"] == 20
    assert sum(calls[3:]) == 10
