"""Photos into records: read once, asked, and their small copies written beside the network."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, NamedTuple

from mbapps.faces import cut
from mbapps.images import BrokenImageError, UInt8Image, read_image, resize
from mbapps.sources import READERS, batched, read_ahead

from .folder import PICTURES, SHARDS
from .hashes import Stamp, content_hash
from .records import Record, Shard, next_shard, write_shard

if TYPE_CHECKING:
    from .asking import Asker

SHARD_SIZE = 64  # photos: what a kill loses is less than that
FACE_PX = 112  # of the side of a face's picture
QUALITY = 82  # of JPEG


class PassingError(BrokenImageError):
    """What the disk said of a file that may be as good as any."""


class Seen(NamedTuple):
    """A photo that was opened."""

    name: str
    file: Path
    stamp: Stamp
    hash: str
    image: UInt8Image | BrokenImageError


def see(name: str, file: Path, stamp: Stamp, pictures: Path, px: int) -> Seen:
    """Read a photo and write its small copy."""
    digest = ""
    try:
        digest = content_hash([file])
        image = read_image(file)
    except BrokenImageError as error:
        return Seen(name, file, stamp, digest, error)
    except OSError as error:
        return Seen(name, file, stamp, digest, PassingError(f"{file}: {error.strerror or error}"))
    scale = min(1, px / max(image.shape[:2]))
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    write_picture(pictures / Record("", stamp, digest).pictures(px, "")[0], resize(image, height, width))
    return Seen(name, file, stamp, digest, image)


def write_picture(path: Path, image: UInt8Image) -> None:
    """Write a JPEG by rename; what a kill leaves half written is removed with the next page."""
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    coded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]
    temporary = path.with_name(f".{path.name}.{threading.get_ident()}")
    temporary.write_bytes(coded.tobytes())
    os.replace(temporary, path)


def write_faces(pictures: Path, record: Record, px: int, key: str, image: UInt8Image) -> None:
    """Write the pictures of a photo's faces."""
    for path, face in zip(record.pictures(px, key)[1:], record.faces, strict=True):
        write_picture(pictures / path, resize(cut(image, face.box), FACE_PX, FACE_PX))


def fill(
    folder: Path,
    key: str,
    photos: Mapping[str, tuple[Path, Stamp]],
    asker: Asker,
    *,
    batch_size: int,
    px: int,
    stop: Event,
    advance: Callable[[int], None],
) -> Iterator[Record]:
    """Give the record of each photo, once its shard is written.

    Args:
        folder: the album.
        key: of the settings that decide the records.
        photos: files and stamps by id.
        asker: asks the model.
        batch_size: photos that are asked about at a time; as many are read ahead.
        px: of the longer side of the small copies.
        stop: when it is set, the batch at hand is the last.
        advance: is told of every batch.
    """
    pictures, shards = folder / PICTURES, folder / SHARDS
    shards.mkdir(exist_ok=True)
    calls = (partial(see, name, *photo, pictures, px) for name, photo in photos.items())
    kept: list[Record] = []
    writing: list[Future[None]] = []
    with ThreadPoolExecutor(1) as pool:
        for batch in batched(read_ahead(calls, READERS, batch_size), batch_size):
            for seen, record in zip(batch, ask(asker, batch), strict=True):
                if record.faces and not isinstance(seen.image, BrokenImageError):
                    writing.append(pool.submit(write_faces, pictures, record, px, key, seen.image))
                kept.append(record)
            advance(len(batch))
            if len(kept) >= SHARD_SIZE or stop.is_set():
                for future in writing:
                    future.result()
                write_shard(next_shard(shards), Shard(key, kept))
                yield from kept
                kept, writing = [], []
            if stop.is_set():
                return
        for future in writing:
            future.result()
        if kept:
            write_shard(next_shard(shards), Shard(key, kept))
            yield from kept


def ask(asker: Asker, batch: Sequence[Seen]) -> list[Record]:
    """Records of photos that were opened."""
    from .asking import place_of

    images = [seen.image for seen in batch if not isinstance(seen.image, BrokenImageError)]
    answers = iter(asker.ask(images) if images else [])
    records = []
    for seen in batch:
        if isinstance(seen.image, BrokenImageError):
            reason = str(seen.image).removeprefix(f"{seen.file}: ")
            passing = isinstance(seen.image, PassingError)
            records.append(Record(seen.name, seen.stamp, seen.hash, error=reason, passing=passing))
            continue
        record = next(answers)
        record.id, record.stamp, record.hash = seen.name, seen.stamp, seen.hash
        record.truth = place_of(asker.teller, seen.file)
        records.append(record)
    return records
