"""`mbapps album` with networks that were never trained: what is done again, what stays, what is told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from album_files import TRICKY, write_photo_with_place, write_photos
from conftest import Cli
from model_files import need_runtime, save

from mbapps.album.folder import STATE
from mbapps.album.hashes import key_of
from mbapps.album.records import Record, read_shards

ROOT = Path(__file__).parent.parent.parent
HEADS = ("detection", "fine_grained", "face_attr", "face_embed")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("album") / "model", *HEADS, names=("person", "cat", "dog"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return write_photos(tmp_path / "photos", 6)


def state(album: Path) -> dict[str, Any]:
    return json.loads((album / STATE).read_text(encoding="utf-8"))


def records(album: Path) -> dict[str, Record]:
    shards = read_shards(album / "shards", key_of(state(album)["settings"]))
    return {record.id: record for found in shards.values() for record in found}


def script(album: Path, name: str) -> Any:
    """What a file of the page's data hands over."""
    (path,) = album.glob(f"data-*/{name}.js")
    text = path.read_text(encoding="utf-8")
    return json.loads(f"[{text[text.index('(') + 1 : text.rindex(')')]}]")


def small_copies(album: Path, record: Record) -> list[str]:
    return record.pictures(320, key_of(state(album)["settings"]))


def numbers(album: Path) -> tuple[int, int, int]:
    told = state(album)["numbers"]
    return told["photos"], told["new"], told["removed"]


def left_alone(album: Path, call: Callable[[], Any]) -> bool:
    """Tell whether a call changed no file."""
    before = {path: path.stat().st_mtime_ns for path in album.rglob("*") if path.is_file()}
    call()
    return before == {path: path.stat().st_mtime_ns for path in album.rglob("*") if path.is_file()}


def make(cli: Cli, model: Path, photos: Path, *words: str) -> Path:
    out = photos.parent / "album"
    return cli(
        "album", f"source={photos}", f"model={model}", f"out={out}", "batch_size=4", "min_face=8", *words
    )


def test_an_album_says_what_the_model_says(
    cli: Cli, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import mbapps

    album = make(cli, model, photos)
    assert numbers(album) == (6, 6, 0)
    found = records(album)
    for name, record in found.items():
        (told,) = mbapps.load(model, min_face=8).predict(photos / name)
        boxes = told.answers["detection"].to_json()
        assert [one[0] for one in record.objects] == [box["name"] for box in boxes]
        assert [one[0] for one in record.labels["fine_grained"]][0] == told.answers["fine_grained"].to_json()[
            0
        ]["name"]
        assert [face.box for face in record.faces] == [face.box for face in told.faces]
        assert len(record.vector) == 2 * 256  # of the body's last map
    assert any(record.faces for record in found.values())
    (meta,) = script(album, "meta")
    assert {group["name"] for group in meta["groups"]} >= {"Objects", "Labels", "People", "Attributes"}
    assert (meta["base"], meta["title"], meta["map"]) == ("../photos/", "photos", False)
    for record in found.values():
        assert all((album / "thumbs" / path).is_file() for path in small_copies(album, record))
    assert str(album / "index.html") in capsys.readouterr().out.replace("\n", "")
    assert not list(album.glob("*.lock"))


def test_an_unchanged_album_is_left_alone(
    cli: Cli, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    album = make(cli, model, photos)
    monkeypatch.setattr("mbapps.album.making.bring_up_to_date", lambda *_: pytest.fail("it was made again"))
    assert left_alone(album, lambda: make(cli, model, photos))


def test_an_unchanged_album_needs_no_network(cli: Cli, model: Path, photos: Path) -> None:
    album = make(cli, model, photos)
    code = (
        "import sys\nfrom mbapps.__main__ import main\n"
        f"sys.argv = ['mbapps', 'album', 'source={photos}', 'model={model}', 'out={album}', 'batch_size=4']\n"
        "sys.argv.append('min_face=8')\n"
        "main()\nprint(sorted({'torch', 'numpy', 'cv2', 'PIL', 'faiss'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.splitlines()[-1] == "[]"


def test_only_what_changed_is_looked_at_again(cli: Cli, model: Path, photos: Path) -> None:
    album = make(cli, model, photos)
    before = records(album)
    write_photos(photos / "new", 8)
    for row in range(6):  # the same content as outside, under another name
        (photos / "new" / f"{row:04}.jpg").replace(photos / "new" / f"copy {row}.jpg")
    shutil.copy(photos / "new" / "0007.jpg", photos / "0001.jpg")
    (photos / "0002.jpg").unlink()
    (photos / "0003.jpg").rename(photos / "renamed.jpg")
    os.utime(photos / "0004.jpg", (1, 1))
    make(cli, model, photos)
    after = records(album)
    assert numbers(album) == (13, 3, 2)  # 0006, 0007 and the changed 0001 were asked about
    assert after["0001.jpg"].hash == after["new/0007.jpg"].hash != before["0001.jpg"].hash
    assert after["renamed.jpg"].vector == before["0003.jpg"].vector
    assert "0002.jpg" not in after
    shown = {path for record in after.values() for path in small_copies(album, record)}
    assert {path.relative_to(album / "thumbs").as_posix() for path in (album / "thumbs").glob("*/*")} == shown
    assert len(list(album.glob("data-*"))) == 1
    assert left_alone(album, lambda: make(cli, model, photos))


def test_what_cannot_be_read_is_listed(
    cli: Cli, model: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bad.jpg").write_text("no image")
    (photos / "cut.jpg").write_bytes((photos / "0000.jpg").read_bytes()[:300])
    with open(os.fsencode(photos) + b"/\xff.jpg", "wb") as file:
        file.write((photos / "0000.jpg").read_bytes())
    album = make(cli, model, photos)
    (meta,) = script(album, "meta")
    reasons = dict(meta["broken"])
    assert len(reasons) == 3
    assert "cannot identify" in reasons["bad.jpg"]
    assert any("not UTF-8" in reason for reason in reasons.values())
    assert "not read: bad.jpg" in capsys.readouterr().out
    assert numbers(album)[0] == 6
    assert left_alone(album, lambda: make(cli, model, photos))
    shutil.copy(photos / "0001.jpg", photos / "bad.jpg")
    make(cli, model, photos)
    assert "bad.jpg" in records(album)
    assert not records(album)["bad.jpg"].error


def test_another_model_or_setting_makes_all_anew(
    cli: Cli, model: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    album = make(cli, model, photos)
    first = records(album)
    other = save(tmp_path / "other", *HEADS, seed=3, names=("person", "cat", "dog"))
    make(cli, other, photos)
    assert "made with another model: all photos are looked at anew" in capsys.readouterr().out
    assert numbers(album)[1] == 6
    assert all(record.vector != first[name].vector for name, record in records(album).items())
    for word in (
        "thumbnail=64",
        "score_thresh={detection:0.9}",
        "min_face=20",
        "heads=[detection,face_embed]",
    ):
        make(cli, other, photos, word)
        assert numbers(album)[1] == 6, word
    assert not any(record.labels for record in records(album).values())
    shards = read_shards(album / "shards", "none of them")
    assert len(shards) == 1  # those of other settings are gone


def test_page_and_similarity_change_the_page_alone(cli: Cli, model: Path, photos: Path) -> None:
    album = make(cli, model, photos)
    make(cli, model, photos, "page=2", "similarity=1")
    (meta,) = script(album, "meta")
    faces = sum(len(record.faces) for record in records(album).values())
    assert (numbers(album)[1], meta["page"]) == (0, 2)
    assert len(meta["people"]) > faces / 2
    make(cli, model, photos, "similarity=-1")
    (meta,) = script(album, "meta")
    assert [person[1] for person in meta["people"]] == [faces]
    assert "as similarity=-1 says" in " ".join(meta["notes"])


def test_people_keep_their_numbers(cli: Cli, model: Path, photos: Path) -> None:
    album = make(cli, model, photos, "similarity=0.95")
    before = state(album)["people"]
    write_photos(photos / "more", 20)
    make(cli, model, photos, "similarity=0.95")
    after = state(album)["people"]
    assert len(after) > len(before)
    groups = {number: {name for name in before if before[name] == number} for number in set(before.values())}
    for number, members in groups.items():
        if len({after[name] for name in members}) == 1 and len(members) > 1:
            assert after[next(iter(members))] == number


@pytest.mark.slow
def test_a_killed_run_goes_on_from_its_shards(model: Path, tmp_path: Path, cli: Cli) -> None:
    photos = write_photos(tmp_path / "photos", 700)
    album = tmp_path / "album"
    words = [
        sys.executable,
        "-m",
        "mbapps",
        "album",
        f"source={photos}",
        f"model={model}",
        f"out={album}",
        "batch_size=4",
        "min_face=8",
    ]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 120
    while time.monotonic() < end and len(list(album.glob("shards/*.msgpack"))) < 2:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = len(list(album.glob("shards/*.msgpack")))
    assert kept >= 2
    make(cli, model, photos)
    assert numbers(album) == (700, 700 - 64 * kept, 0)
    assert not list(album.glob("shards/.*"))
    assert len(records(album)) == 700


def test_ctrl_c_ends_cleanly_and_says_how_to_go_on(
    cli: Cli, model: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbapps.album.asking import Asker

    ask = Asker.ask

    def interrupted(self: Asker, images: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return ask(self, images)

    monkeypatch.setattr(Asker, "ask", interrupted)
    with pytest.raises(SystemExit) as stopped:
        make(cli, model, photos)
    album = photos.parent / "album"
    assert stopped.value.code == 130
    assert "the same command goes on" in capsys.readouterr().err
    assert len(script(album, "photos-0")[0]) == 4  # the page shows what was done
    monkeypatch.setattr(Asker, "ask", ask)
    make(cli, model, photos)
    assert numbers(album) == (6, 2, 0)


def test_photos_that_tell_their_place_are_on_the_map(cli: Cli, model: Path, photos: Path) -> None:
    write_photo_with_place(photos / "there.jpg", 43, 11)
    album = make(cli, model, photos)
    (meta,) = script(album, "meta")
    places = {row[0]: row[5] for row in script(album, "photos-0")[0]}
    assert meta["map"]
    assert places["there.jpg"] == [43, 11, 1]
    assert places["0000.jpg"] == 0


def test_the_album_may_lie_among_the_photos(cli: Cli, model: Path, photos: Path) -> None:
    words = ("album", f"source={photos}", f"model={model}", f"out={photos / 'album'}")
    album = cli(*words)
    assert left_alone(album, lambda: cli(*words))
    assert script(album, "meta")[0]["base"] == "../"


def test_names_are_text(cli: Cli, model: Path, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "it's <b>&\"", 4)
    for row, name in enumerate(TRICKY):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / f"{row:04}.jpg").rename(photos / name)
    album = make(cli, model, photos)
    page = (album / "index.html").read_text(encoding="utf-8")
    assert "<title>it&#x27;s &lt;b&gt;&amp;&quot;</title>" in page
    assert "<b>" not in page
    assert {row[0] for row in script(album, "photos-0")[0]} == set(TRICKY)
    assert script(album, "meta")[0]["base"] == "../it%27s%20%3Cb%3E%26%22/"


@pytest.mark.parametrize("heads", [("fine_grained",), ("face_embed",), ("face_attr",), ("detection",)])
def test_each_section_is_there_if_a_head_answers_for_it(
    cli: Cli, photos: Path, tmp_path: Path, heads: tuple[str, ...]
) -> None:
    album = make(cli, save(tmp_path / "one", *heads), photos)
    (meta,) = script(album, "meta")
    groups = {group["name"] for group in meta["groups"]}
    assert ("Objects" in groups) == (heads == ("detection",))
    assert ("Attributes" in groups) <= (heads == ("face_attr",))
    assert bool(meta["people"]) == bool(meta["faceDim"]) == (heads == ("face_embed",))
    assert meta["photoDim"] == 5  # of six photos


def test_faces_are_found_by_the_model_that_is_named(
    cli: Cli, model: Path, photos: Path, tmp_path: Path
) -> None:
    finder = save(tmp_path / "finder", "detection", seed=3, names=("dog", "face"))
    album = make(cli, model, photos, f"faces={finder}")
    faces = [face for record in records(album).values() for face in record.faces]
    assert {face.origin for face in faces} == {"face"}
    assert not any("upper parts" in note for note in script(album, "meta")[0]["notes"])
    make(cli, model, photos)
    assert numbers(album)[1] == 6


def test_the_model_is_asked_in_batches(
    cli: Cli, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbapps.album.asking import Asker

    ask, sizes = Asker.ask, []
    monkeypatch.setattr(Asker, "ask", lambda self, images: sizes.append(len(images)) or ask(self, images))
    make(cli, model, photos)
    assert sizes == [4, 2]


@pytest.mark.slow
def test_an_exported_file_answers_too(cli: Cli, photos: Path, tmp_path: Path) -> None:
    need_runtime("onnx")
    folder = save(tmp_path / "exported", "detection", "fine_grained")
    cli("export", f"model={folder}", "runtime=onnx", f"source={photos}")
    album = make(cli, folder, photos, "runtime=onnx")
    (meta,) = script(album, "meta")
    assert (numbers(album)[1], meta["photoDim"]) == (6, 0)
    assert any("not compared with each other" in note for note in meta["notes"])
    ours = make(cli, folder, photos)
    assert numbers(ours)[1] == 6
    assert script(ours, "meta")[0]["photoDim"] > 0


def test_a_geo_index_is_for_places(cli: Cli, model: Path, photos: Path) -> None:
    index = photos.parent / "index"
    index.mkdir()
    (index / "meta.json").write_text("{}")
    with pytest.raises(ValueError, match=r"gallery= is for models of task=geo|needs exactly one"):
        make(cli, model, photos, f"gallery={index}")


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("page=0", r"page must be a whole number >= 1, got 0"),
        ("thumbnail=8", r"thumbnail must be a whole number >= 32, got 8"),
        ("similarity=2", r"similarity must lie in \[-1, 1\], got 2"),
        ("model=nowhere", r"no model folder at (model=)?nowhere"),
        ("faces=nowhere", r"no model folder at nowhere"),
        ("gallery=nowhere", r"no gallery at gallery=nowhere"),
        ("runtime_file=nowhere", r"no file at runtime_file=nowhere"),
        ("source=nowhere", r"no images at source=nowhere"),
        ("runtime=onnx", r"no file at .*mbapps export model=.* runtime=onnx writes one"),
        ("runtime=abacus", r"runtime must be one of"),
        ("precision=int8", r"precision=int8 is for exported files"),
        ("device=abacus", r"device must be auto"),
        ("min_face=0", r"min_face must be >= 1 px, got 0"),
        ("score_thresh={bird:0.5}", r"there is no head bird"),
    ],
)
def test_what_does_not_fit_is_told(cli: Cli, model: Path, photos: Path, word: str, message: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        make(cli, model, photos, word)


def test_a_folder_that_is_no_album_is_left_alone(cli: Cli, model: Path, photos: Path) -> None:
    album = write_photos(photos.parent / "album", 1)
    with pytest.raises(FileExistsError, match=r"is not empty and no album \(0000.jpg\); name another folder"):
        make(cli, model, photos)
    assert [path.name for path in album.iterdir()] == ["0000.jpg"]


def test_an_album_of_other_photos_is_left_alone(cli: Cli, model: Path, photos: Path) -> None:
    album = make(cli, model, photos)
    other = write_photos(photos.parent / "other", 3, (80, 80))
    for path in other.iterdir():
        path.rename(other / f"other {path.name}")
    with pytest.raises(
        ValueError, match=r"has none of the 6 photos of the album out=.*; name another folder"
    ):
        cli("album", f"source={other}", f"model={model}", f"out={album}")
    assert len(records(album)) == 6


def test_a_damaged_album_is_told(cli: Cli, model: Path, photos: Path) -> None:
    album = make(cli, model, photos)
    text = (album / STATE).read_text(encoding="utf-8")
    (album / STATE).write_text(text.replace('"format":1', '"format":2'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"has format 2, newer than this mbapps reads"):
        make(cli, model, photos)
    (album / STATE).write_text(text[:50], encoding="utf-8")
    with pytest.raises(ValueError, match=r"album\.json is damaged"):
        make(cli, model, photos)


def test_a_damaged_shard_or_a_lost_picture_is_made_again(cli: Cli, model: Path, photos: Path) -> None:
    album = make(cli, model, photos)
    (shard,) = album.glob("shards/*.msgpack")
    shard.write_bytes(shard.read_bytes()[:99])
    make(cli, model, photos)
    assert numbers(album) == (6, 6, 0)
    (album / "thumbs" / small_copies(album, records(album)["0003.jpg"])[0]).unlink()
    (album / "index.html").unlink()
    make(cli, model, photos)
    assert numbers(album) == (6, 1, 0)


def test_photos_that_have_all_changed_are_still_its_own(cli: Cli, model: Path, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    good = write_photos(tmp_path / "good", 3)
    (photos / "one.jpg").write_bytes((good / "0000.jpg").read_bytes()[:200])
    album = make(cli, model, photos)
    assert state(album)["numbers"]["not_read"] == 1
    for number in (1, 2):  # mended, and then another picture
        shutil.copy(good / f"000{number}.jpg", photos / "one.jpg")
        make(cli, model, photos)
        assert numbers(album) == (1, 1, 0)
    (good / "0002.jpg").unlink()
    with pytest.raises(ValueError, match="has none of the 1 photos of the album"):
        make(cli, model, good)


def test_a_command_that_fails_leaves_the_album_as_it_was(cli: Cli, model: Path, photos: Path) -> None:
    album = make(cli, model, photos)
    for word in ("score_thresh=7", "min_face=-5", "source="):
        before = (album / STATE).read_bytes()
        with pytest.raises(ValueError, match=r"score_thresh|min_face|source= is empty"):
            make(cli, model, photos, word)
        assert (album / STATE).read_bytes() == before
    assert left_alone(album, lambda: make(cli, model, photos))


def test_a_lost_part_of_the_page_is_noticed(cli: Cli, model: Path, photos: Path) -> None:
    album = make(cli, model, photos)
    (album / "album.js").unlink()
    next(album.glob("data-*/photos-0.js")).write_text("")
    make(cli, model, photos)
    assert (album / "album.js").is_file()
    assert len(script(album, "photos-0")[0]) == 6
    shutil.rmtree(album / "thumbs")
    make(cli, model, photos)
    for record in records(album).values():
        assert all((album / "thumbs" / path).is_file() for path in small_copies(album, record))


def test_what_the_disk_refused_is_tried_again(
    cli: Cli, model: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mbapps.album import filling

    read = filling.read_image

    def refuse(path: Path) -> Any:
        if path.name == "0002.jpg":
            raise OSError(5, "Input/output error")
        return read(path)

    with monkeypatch.context() as patch:
        patch.setattr(filling, "read_image", refuse)
        album = make(cli, model, photos)
    assert script(album, "meta")[0]["broken"] == [["0002.jpg", "Input/output error"]]
    make(cli, model, photos)
    assert numbers(album) == (6, 1, 0)
    assert script(album, "meta")[0]["broken"] == []


def test_links_to_nothing_and_other_albums(cli: Cli, model: Path, photos: Path) -> None:
    make(cli, model, photos, f"out={photos / 'old'}")
    (photos / "lost.jpg").symlink_to("nowhere.jpg")
    album = make(cli, model, photos)
    assert numbers(album) == (6, 6, 0)
    assert script(album, "meta")[0]["broken"] == [["lost.jpg", "a link to nothing, or no file"]]
