"""What an album keeps of each photo, and the shards that hold it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec

from mbapps.files import replacing

SHARD = "{:06}.msgpack"
KEY = 8  # digits of a key of settings in a file's name

Named = tuple[str, float]  # a class and its score
Hash = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]*$")]  # it names files


class Face(msgspec.Struct, omit_defaults=True):
    """A face in a photo.

    origin: "face", "person" where it is the upper part of a person, or "photo" where it is all of the photo.
    vector: float16, of length 1; empty where no head embeds faces.
    """

    box: tuple[float, float, float, float]  # xyxy px of the photo
    score: float = 1.0
    origin: str = "face"
    attributes: list[tuple[str, float, bool]] = []  # name, score, whether it is there
    vector: bytes = b""


class Record(msgspec.Struct, omit_defaults=True):
    """What a model says of one photo; of one that can't be read, why."""

    id: str  # path below the source, with / between its parts
    stamp: tuple[int, int, int]  # size, and times of the last change of content and of the file, in ns
    hash: Hash = ""  # of the content
    error: str = ""
    passing: bool = False  # the error may be gone next time: the disk's, not the file's
    size: tuple[int, int] = (0, 0)  # width and height, px
    objects: list[tuple[str, float, tuple[float, float, float, float]]] = []  # class, score, box
    labels: dict[str, list[Named]] = {}  # by head, best first
    place: dict[str, Any] = {}  # lat, lon, score, and what else is known: radius_km, name
    truth: dict[str, Any] = {}  # lat, lon, name: as the photo's EXIF tells it
    faces: list[Face] = []
    vector: bytes = b""  # float16: what photos are compared by

    def pictures(self, px: int, key: str) -> list[str]:
        """Paths, below the folder of pictures, of the small copy of the photo and of its faces.

        Args:
            px: of the longer side of the photo's.
            key: of the settings by which the faces were found.
        """
        start = f"{self.hash[:2]}/{self.hash}-{px}"
        faces = (f"{start}-{key[:KEY]}-{row}.jpg" for row in range(len(self.faces)))
        return [] if self.error else [f"{start}.jpg", *faces]


class Shard(msgspec.Struct):
    """Some records, and the key of the settings that they were made with."""

    key: str
    records: list[Record]


def write_shard(path: Path, shard: Shard) -> None:
    """Write a shard by rename."""
    with replacing(path) as temporary:
        temporary.write_bytes(msgspec.msgpack.encode(shard))


def read_shards(folder: Path, key: str) -> dict[Path, list[Record]]:
    """Records by shard; a shard of other settings, or a damaged one, has none."""
    found: dict[Path, list[Record]] = {}
    for path in sorted(folder.glob("[0-9]*.msgpack")):
        try:
            shard = msgspec.msgpack.decode(path.read_bytes(), type=Shard)
        except msgspec.MsgspecError:
            found[path] = []
        else:
            found[path] = shard.records if shard.key == key else []
    return found


def next_shard(folder: Path) -> Path:
    """The name of a shard that is not there yet."""
    numbers = [int(path.stem) for path in folder.glob("[0-9]*.msgpack") if path.stem.isdecimal()]
    return folder / SHARD.format(max(numbers, default=-1) + 1)


def tidy(folder: Path, key: str, shards: dict[Path, list[Record]], live: Sequence[Record]) -> None:
    """Take out of the shards what is no longer of use, and what a kill left half written."""
    wanted = set(map(id, live))
    for path, records in shards.items():
        kept = [record for record in records if id(record) in wanted]
        if not kept:
            path.unlink(missing_ok=True)
        elif len(kept) < len(records):
            write_shard(path, Shard(key, kept))
    holder = re.compile(r"\.\d+\.msgpack\..+")  # as `replacing` names it
    for path in folder.iterdir():
        if holder.fullmatch(path.name):
            shutil.rmtree(path)
