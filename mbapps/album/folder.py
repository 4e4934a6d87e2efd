"""An album's folder: which photos it holds, as they were, and by which settings; read at once on each run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mbapps import __version__
from mbapps.files import write_text
from mbapps.finding import IMAGE_SUFFIXES
from mbapps.image_ids import find_images, root_of

from .hashes import Stamp, content_hash, stamp

FORMAT = 1  # of album.json and the shards; a newer one is refused
STATE, PAGE, SHARDS, PICTURES = "album.json", "index.html", "shards", "thumbs"
LOCK = "album.lock"
ASSETS = Path(__file__).with_name("page")  # album.html, album.css, album.js


@dataclass
class State:
    """What an album was made from, as album.json has it.

    settings: all that decides the records; another model, or another setting, makes other records.
    view: all that decides the page beside the records.
    files: stamps of the photos in it, by id; of those without an id [0, 0, 0].
    shards: sizes of the files of records, by name.
    hashes: of model folders and other files, with the stamps that they hold for, by path.
    people: the number of each person, by content hash and corner of the faces.
    highest: number of a person that was ever given.
    parts: what the page consists of, by `page_parts`.
    """

    format: int = FORMAT
    settings: dict[str, Any] = field(default_factory=dict)
    view: dict[str, Any] = field(default_factory=dict)
    files: dict[str, list[int]] = field(default_factory=dict)
    shards: dict[str, int] = field(default_factory=dict)
    hashes: dict[str, list[Any]] = field(default_factory=dict)
    people: dict[str, int] = field(default_factory=dict)
    highest: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def holds(self, wanted: Wanted, folder: Path) -> bool:
        """Tell whether the album is what is wanted already."""
        return (
            self.settings == wanted.settings and self.view == wanted.view and self.files == wanted.files
            and self.shards == shard_sizes(folder) and self.parts == page_parts(folder)
        )  # fmt: skip

    def save(self, folder: Path) -> None:
        """Write album.json by rename."""
        write_text(folder / STATE, json.dumps(asdict(self), ensure_ascii=False, separators=(",", ":")) + "\n")


@dataclass(frozen=True)
class Wanted:
    """What an album is to be made from.

    photos: files and stamps by id.
    unnamed: reasons of the files that can have no id.
    settings, view: as in `State`.
    """

    photos: dict[str, tuple[Path, Stamp]]
    unnamed: dict[str, str]
    settings: dict[str, Any]
    view: dict[str, Any]

    @property
    def files(self) -> dict[str, list[int]]:
        """Stamps by id, as in `State`."""
        named = {name: list(times) for name, (_, times) in self.photos.items()}
        return {**named, **{name: [0, 0, 0] for name in self.unnamed}}


def open_state(folder: Path, log: str) -> State:
    """Read the state of an album, or start a new one in a folder that is empty.

    Args:
        folder: the album.
        log: name of a file that may lie in an empty folder.

    Raises:
        FileExistsError: the folder holds something else.
        ValueError: album.json is damaged, or newer.
    """
    path = folder / STATE
    if not path.is_file():
        present = sorted(found.name for found in folder.iterdir() if found.name not in (log, LOCK))
        if present:
            raise FileExistsError(
                f"out={folder} is not empty and no album ({', '.join(present[:4])}); name another folder"
            )
        return State()
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["format"] <= FORMAT:
            return State(**plain)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged: {error!r}; remove it and the rest of {folder}") from error
    raise ValueError(
        f"{path} has format {plain['format']}, newer than this mbapps reads ({FORMAT}); update mbapps"
    )


def find_photos(source: str, album: Path) -> tuple[dict[str, tuple[Path, Stamp]], dict[str, str]]:
    """Photos with their stamps by id, none from inside the album, and the reasons of those that can have no id.

    Raises:
        FileNotFoundError: there are none.
    """
    named, unnamed = find_images(source)
    root = root_of(source)
    inside = os.path.relpath(album.resolve(), root.resolve())
    inside = "" if inside == "." else f"{Path(inside).as_posix()}/"
    unnamed |= {name: "a link to nothing, or no file" for name in no_files(source)}
    found = {}
    albums: dict[str, bool] = {}
    for name, file in named.items():
        if not name.startswith(inside) and not in_album(name, root, albums):
            try:
                found[name] = (file, stamp(file))
            except FileNotFoundError:  # it was there when the folder was listed
                continue
    if not found and not unnamed:
        raise FileNotFoundError(f"no photos at source={source} but those of the album in it")
    return found, unnamed


def no_files(source: str) -> list[str]:
    """Names below a folder that end as photos do, and are neither files nor folders."""
    root = Path(source)
    return [
        path.relative_to(root).as_posix().encode("utf-8", "backslashreplace").decode()
        for path in (root.rglob("*") if root.is_dir() else ())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.is_file() and not path.is_dir()
    ]


def in_album(name: str, root: Path, known: dict[str, bool]) -> bool:
    """Tell whether a photo is a small copy in some album; what is found out of folders is noted in `known`."""
    above, inside, _ = f"/{name}".partition(f"/{PICTURES}/")
    if not inside:
        return False
    if above not in known:
        known[above] = (root / above.lstrip("/") / STATE).is_file()
    return known[above]


def view_of(source: str, folder: Path, **settings: Any) -> dict[str, Any]:
    """All that decides the page beside the records: settings, where the photos are, and the page's own files."""
    root = root_of(source).absolute()
    program = f"{__version__} {content_hash(sorted(ASSETS.iterdir()))}"
    return {
        **settings,
        "title": root.name or "Photos",
        "base": base_address(root, folder),
        "program": program,
    }


def base_address(root: Path, album: Path) -> str:
    """Address of a folder as seen from the album: relative, so that both may move together, or of its own."""
    try:
        relative = os.path.relpath(root.absolute(), album.absolute())
    except ValueError:  # on another drive
        return f"{root.absolute().as_uri()}/"
    return f"{quote(Path(relative).as_posix())}/"


def shard_sizes(folder: Path) -> dict[str, int]:
    """Sizes of an album's shards by name."""
    return {path.name: path.stat().st_size for path in sorted((folder / SHARDS).glob("[0-9]*.msgpack"))}


def page_parts(folder: Path) -> dict[str, int]:
    """Sizes of the files of an album's page by name, and under `PICTURES` the number of small copies."""
    files = [folder / PAGE, *(folder / name for name in ("album.css", "album.js")), *folder.glob("data-*/*")]
    parts = {path.relative_to(folder).as_posix(): path.stat().st_size for path in files if path.is_file()}
    holders = [entry.path for entry in os.scandir(folder / PICTURES)] if (folder / PICTURES).is_dir() else []
    return {**parts, PICTURES: sum(len(os.listdir(holder)) for holder in holders)}


def changed_settings(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Names of settings that differ."""
    return [name for name in {**old, **new} if old.get(name) != new.get(name)]
