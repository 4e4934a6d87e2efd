"""Bringing an album up to date: only what is new or has changed is looked at, the rest stays."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from .folder import PICTURES, SHARDS, State, Wanted, changed_settings, page_parts, shard_sizes
from .hashes import MODEL_FILES, Stamp, content_hash, key_of
from .records import Face, Record, Shard, next_shard, read_shards, tidy, write_shard

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.answering import Answerer

SHOWN_BROKEN = 10  # reasons printed; all stand in the page
SIMILARITY = 0.5  # of faces, where neither the user nor the model's training set one
LEFT = re.compile(r"\.(data-\w+|index\.html|album\.\w+)\..+")  # half written files, as `replacing` names them
RAISED = 0.15  # of the way from a threshold for pairs to 1: among many faces most pairs are strangers
Photos = Mapping[str, tuple[Path, Stamp]]


def bring_up_to_date(cfg: DictConfig, folder: Path, state: State, wanted: Wanted) -> bool:
    """Make the records that are missing, drop those that are of no more use, and write the page.

    Args:
        cfg: of the verb.
        folder: the album.
        state: what it was; it is changed to what it is.
        wanted: what it is to be.

    Returns:
        Whether Ctrl-C ended it before all photos were looked at.

    Raises:
        ValueError: the photos have nothing to do with those of the album.
    """
    from mbapps import app
    from mbapps.answering import Answerer

    key = key_of(wanted.settings)
    shards = read_shards(folder / SHARDS, key)
    known = {record.id: record for records in shards.values() for record in records}
    kept, moved, missing = sort_out(known, wanted.photos, folder / PICTURES, cfg.thumbnail, key)
    if state.files and not set(state.files) & set(wanted.files) and not moved:
        raise ValueError(
            f"source={cfg.source} has none of the {len(state.files)} photos of the album out={folder}; name another "
            "folder for it"
        )
    # what does not fit is told while the album is as it was
    answerer = Answerer.open(cfg) if missing else None
    if state.files and (other := changed_settings(state.settings, wanted.settings)):
        print(f"the album was made with another {' and another '.join(other)}: all photos are looked at anew")
    gone = set(state.files) - set(wanted.files)
    state.settings, state.files = wanted.settings, {}
    state.save(folder)  # from here on it is an album, and not up to date
    app.save_config(cfg, folder)
    if moved:
        (folder / SHARDS).mkdir(exist_ok=True)
        write_shard(next_shard(folder / SHARDS), Shard(key, moved))
    made, notes, stopped = make(cfg, folder, key, missing, answerer) if answerer else ([], [], False)
    if stopped:
        notes = [f"{len(kept) + len(moved) + len(made)} of {len(wanted.photos)} photos so far.", *notes]
    records = sorted([*kept, *moved, *made], key=lambda record: record.id)
    numbers = finish(cfg, folder, state, wanted, records, notes, stopped=stopped)
    if not stopped:
        tidy(folder / SHARDS, key, shards, kept)
    state.numbers = {**numbers, "new": len(made), "removed": len(gone)}
    state.shards = shard_sizes(folder)
    state.files = {record.id: [-1, -1, -1] if record.passing else list(record.stamp) for record in records}
    state.files |= {name: [0, 0, 0] for name in wanted.unnamed}
    state.parts = page_parts(folder)
    state.save(folder)
    return stopped


def sort_out(
    known: Mapping[str, Record], photos: Photos, pictures: Path, px: int, key: str
) -> tuple[list[Record], list[Record], dict[str, tuple[Path, Stamp]]]:
    """Tell photos that have a record from those that need one.

    Returns:
        Records that hold; records of the same content under another name or another time; and the rest of the photos.
    """
    kept, moved = [], []
    missing = {}
    contents = {record.hash: record for record in known.values() if record.hash and not record.error}
    sizes = {record.stamp[0] for record in contents.values()}
    for name, (file, stamp) in photos.items():
        record = known.get(name)
        same = record is not None and record.stamp == stamp and not record.passing
        if record is not None and same and has_pictures(record, pictures, px, key):
            kept.append(record)
            continue
        record = contents.get(digest_of(file)) if stamp[0] in sizes else None
        if record is not None and has_pictures(record, pictures, px, key):
            moved.append(msgspec.structs.replace(record, id=name, stamp=stamp))
        else:
            missing[name] = (file, stamp)
    return kept, moved, missing


def has_pictures(record: Record, pictures: Path, px: int, key: str) -> bool:
    """Tell whether all small copies of a record are there."""
    return all((pictures / path).is_file() for path in record.pictures(px, key))


def digest_of(file: Path) -> str:
    """The hash of a file's content; nothing where it can't be read."""
    try:
        return content_hash([file])
    except OSError:
        return ""


def make(
    cfg: DictConfig, folder: Path, key: str, missing: Photos, answerer: Answerer
) -> tuple[list[Record], list[str], bool]:
    """Look at photos.

    Returns:
        Their records, what there is to say, and whether Ctrl-C ended it early.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from mbapps.memory import keep_freed_memory
    from mbapps.sources import stop_at_interrupt

    from .asking import Asker
    from .filling import fill
    from .threads import own_cores

    keep_freed_memory()  # a third of the time, where batches are as large as ever
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with stop_at_interrupt() as stop, own_cores(answerer.bundle) as pool, Progress(*columns) as progress:
        asker = Asker(answerer, pool)
        bar = progress.add_task("photos", total=len(missing))

        def advance(count: int) -> None:
            progress.advance(bar, count)

        made = list(
            fill(
                folder, key, missing, asker, batch_size=cfg.batch_size, px=cfg.thumbnail, stop=stop,
                advance=advance,
            )
        )  # fmt: skip
    return made, asker.teller.notes, len(made) < len(missing)


def finish(
    cfg: DictConfig,
    folder: Path,
    state: State,
    wanted: Wanted,
    records: Sequence[Record],
    notes: Sequence[str],
    *,
    stopped: bool,
) -> dict[str, Any]:
    """Group faces, write the page, and give the numbers of the album.

    Unless it was stopped, small copies that the page does not show are removed, and what a kill left half written.
    """
    from .page import Album, write_page

    read = [record for record in records if not record.error]
    broken = {**{record.id: record.error for record in records if record.error}, **wanted.unnamed}
    for name, reason in list(broken.items())[:SHOWN_BROKEN]:
        print(f"not read: {name}: {reason}")
    for note in notes[:SHOWN_BROKEN]:
        print(note)
    people, about = group_people(cfg, state, read)
    view = wanted.view
    told = [*notes[: int(stopped)], *about, *page_notes(read, cfg)]
    key = key_of(wanted.settings)
    write_page(
        folder, Album(read, people, broken, view["title"], view["base"], cfg.page, cfg.thumbnail, key, told)
    )
    state.view = view
    shown = {path for record in read for path in record.pictures(cfg.thumbnail, key)}
    for path in () if stopped else [*(folder / PICTURES).glob("*/*"), *folder.glob(".*")]:
        if path.parent == folder:
            if LEFT.fullmatch(path.name):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif path.relative_to(folder / PICTURES).as_posix() not in shown:
            path.unlink()
    faces = sum(len(record.faces) for record in read)
    numbers: dict[str, Any] = {"photos": len(read), "not_read": len(broken)}
    if faces:
        numbers["faces"] = faces
    if any(people):
        numbers["people"] = len({one for numbers in people for one in numbers})
    return numbers


def group_people(
    cfg: DictConfig, state: State, records: Sequence[Record]
) -> tuple[list[list[int]], list[str]]:
    """Number the person of each face; the numbers of before stay where the members do."""
    from .people import group, number

    owners = [(record, row) for record in records for row, face in enumerate(record.faces) if face.vector]
    if not owners:
        return [[] for _ in records], []
    similarity, about = similarity_of(cfg)
    vectors = np.stack([np.frombuffer(record.faces[row].vector, dtype=np.float16) for record, row in owners])
    names = [name_of(record, record.faces[row]) for record, row in owners]
    numbers = number(group(vectors, similarity).tolist(), names, state.people, state.highest)
    state.people = dict(zip(names, numbers, strict=True))
    state.highest = max(state.highest, *numbers)
    people = [[state.people.get(name_of(record, face), 0) for face in record.faces] for record in records]
    told = (
        f"Faces are grouped while the mean similarity of their vectors is {similarity:.2f} or more, {about}."
    )
    return people, [told]


def name_of(record: Record, face: Face) -> str:
    """What a face is known by from one run to the next: the photo's content, and its corner there."""
    return f"{record.hash}-{face.box[0]:.0f}-{face.box[1]:.0f}"


def similarity_of(cfg: DictConfig) -> tuple[float, str]:
    """The mean similarity that the faces of a person have, and where it comes from.

    A threshold of verification is chosen on pairs of which half are genuine. Of the pairs in an album nearly all are of
    strangers, and at that threshold the groups mix people: on 503 faces of 67 people the pairs in a group are right by
    0.39 there and by 0.91 at the raised one, which finds 0.75 of the pairs instead of 0.88.
    """
    if cfg.similarity is not None:
        return float(cfg.similarity), f"as similarity={cfg.similarity} says"
    facts = json.loads((Path(cfg.model) / MODEL_FILES[0]).read_text(encoding="utf-8"))
    pairs = [(head.get("verification") or {}).get("similarity") for head in facts["heads"].values()]
    pair = next((float(one) for one in pairs if one is not None), None)
    if pair is None:
        return SIMILARITY, "since the model has no threshold of its own; similarity= sets one"
    return pair + RAISED * (1 - pair), f"more than the model's threshold for a pair, {pair:.2f}"


def page_notes(records: Sequence[Record], cfg: DictConfig) -> list[str]:
    """What a reader of the page should know."""
    from .filing import SURE

    notes = []
    if any(record.labels for record in records):
        notes.append(f"A photo is filed under its likeliest label where that is {SURE:.0%} probable or more.")
    if any(record.place and not record.truth for record in records):
        notes.append("Places are the model's guesses, but where a photo tells its own.")
    if any(not record.vector for record in records):
        why = (
            "no head looks at whole photos" if cfg.runtime == "torch" else "their features need runtime=torch"
        )
        notes.append(f"Photos are not compared with each other: {why}.")
    origins = {face.origin for record in records for face in record.faces}
    if "person" in origins:
        better = "" if cfg.faces else ": no detector of faces was asked (faces=)"
        notes.append(f"Faces are the upper parts of persons{better}.")
    if "photo" in origins:
        notes.append("Each photo was taken for one cropped face: nothing looked for faces in it.")
    return notes
