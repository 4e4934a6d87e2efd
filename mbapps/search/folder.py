"""A gallery on disk: three files that are written together and checked when they are opened."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mbapps.columns import open_columns, write_columns
from mbapps.files import locked, replacing

from .checks import is_share, some
from .indexes import KINDS, is_kind, load_faiss, read_index

FORMAT = 1  # of meta.json; a newer one is refused
INDEX, METADATA, META = "index.faiss", "metadata.safetensors", "meta.json"
BLOCK = 16 << 20  # bytes that have a checksum of their own: several threads share the work of a large file
PIECE = 256 << 10  # bytes that are read at a time: they stay in the processor's cache
OWN = {INDEX, METADATA, META}  # all that a gallery's folder may hold: saving replaces it as a whole
AGAIN = "build the gallery again, or bring back a copy of it"


def recover(folder: Path) -> bool:
    """Bring back a gallery that a kill between the two renames of its replacement left aside; say if there was one."""
    if folder.exists():
        return False
    holder = re.compile(
        rf"\.{re.escape(folder.name[:40])}\.[^.]+"
    )  # as `replacing` names it: of no gallery a.b
    left = [path for path in folder.parent.glob(f".*/.old/{META}") if holder.fullmatch(path.parts[-3])]
    if not left:
        return False
    os.replace(max(left, key=lambda path: path.stat().st_mtime).parent, folder)
    return True


def write_folder(
    folder: Path, index: Any, arrays: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]
) -> None:
    """Write a gallery at once: it is complete or as it was before.

    Args:
        folder: the gallery.
        index: of faiss; None for a gallery without rows.
        arrays: columns, labels among them.
        meta: what is known of it; format and checksums are added.

    Raises:
        FileExistsError: the folder holds something else, which would be lost.
        OSError: there is no room, or no right to write.
    """
    check_alone(folder)
    try:
        with replacing(folder) as temporary:
            temporary.mkdir()
            if index is not None:
                load_faiss().write_index(index, str(temporary / INDEX))
            write_columns(temporary / METADATA, arrays)
            facts = {
                "format": FORMAT, **meta,
                "columns_digest": open_columns(temporary / METADATA).digest,
                "files": {path.name: checksum(path) for path in sorted(temporary.iterdir())},
            }  # fmt: skip
            text = json.dumps(facts, indent=1, ensure_ascii=False)
            (temporary / META).write_text(text + "\n", encoding="utf-8")
            check_alone(folder)  # again: writing takes its time
    except RuntimeError as error:  # faiss says a full disk in its own way
        raise OSError(f"could not save {folder}: {error}; what was there before is whole") from error


def lock(folder: Path) -> AbstractContextManager[None]:
    """Keep other processes from changing a gallery: from before it is opened until it is saved.

    Raises:
        BlockingIOError: another process is changing it; the message says which.
    """
    folder = folder.absolute()
    return locked(folder.with_name(f"{folder.name}.lock"), f"gallery={folder}")


def check_alone(folder: Path) -> None:
    """Check that a folder, if it is there, holds nothing but a gallery's own files.

    Raises:
        FileExistsError: it does; the first of them are named.
    """
    others = sorted(path.name for path in folder.iterdir() if path.name not in OWN) if folder.is_dir() else []
    if others:
        raise FileExistsError(
            f"gallery={folder} holds {some(list(map(ascii, others)))} besides a gallery's own files, and saving would "
            "remove that; move it elsewhere, or name another folder"
        )


def read_folder(folder: Path, *, verify: bool) -> tuple[dict[str, Any], Any, Mapping[str, NDArray[Any]]]:
    """Give meta, index and arrays of a gallery; arrays and index are mapped.

    Raises:
        FileNotFoundError: there is none.
        ValueError: a file is damaged, was cut short or altered, or is newer than this version.
    """
    meta = read_meta(folder)
    names = [METADATA, INDEX] if meta["count"] else [METADATA]
    for name in names:
        check_file(folder / name, meta["files"].get(name, {}), verify=verify)
    arrays = open_columns(folder / METADATA, meta["columns_digest"]).arrays
    if not meta["count"]:
        return meta, None, arrays
    try:
        index = read_index(meta["kind"], str(folder / INDEX))
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{folder / INDEX} is damaged ({reason}); {AGAIN}") from error
    if index.d != meta["dim"] or not is_kind(meta["kind"], index):
        raise ValueError(
            f"{folder / INDEX} is no {meta['kind']} index of {meta['dim']} numbers as {META} says; {AGAIN}"
        )
    return meta, index, arrays


def read_meta(folder: Path) -> dict[str, Any]:
    """Read meta.json, checked to be of a format that this version reads and of the right types.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged or newer.
    """
    path = folder / META
    if not path.is_file():
        raise FileNotFoundError(f"no gallery at {folder}: it has no {META}; mbapps index makes one")
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        newer = meta["format"] > FORMAT
        if not newer:
            _check(meta)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} is no description of a gallery: {error!r}; {AGAIN}") from error
    if newer:
        raise ValueError(
            f"{path} has format {meta['format']}, newer than this mbapps reads ({FORMAT}); update mbapps"
        )
    return dict(meta)


def _check(meta: Mapping[str, Any]) -> None:
    types = {
        "kind": str, "chosen": bool, "dim": int, "count": int, "model": dict, "columns_digest": str, "files": dict,
    }  # fmt: skip
    for key, kind in types.items():
        if type(meta[key]) is not kind:
            raise TypeError(f"{key} must be a {kind.__name__}")
    if meta["kind"] not in KINDS or meta["dim"] < 1 or meta["count"] < 0:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, dim >= 1 and count >= 0")
    for key, kind in {"name": str, "fingerprint": str, "view": dict}.items():
        if type(meta["model"][key]) is not kind:
            raise TypeError(f"model.{key} must be a {kind.__name__}")
    if unknown := sorted(set(meta["model"]) - {"name", "fingerprint", "view"}):
        raise ValueError(f"model.{unknown[0]} is unknown")
    if not is_share(meta["model"]["view"].get("face_crop", 1)):
        raise ValueError("model.view.face_crop must lie in (0, 1]")
    if type(meta["model"]["view"].get("flip", False)) is not bool:
        raise TypeError("model.view.flip must be a bool")
    if not all(isinstance(facts, dict) for facts in meta["files"].values()):
        raise TypeError("files must be objects")


def checksum(path: Path) -> dict[str, Any]:
    """Size, and the hash of the hashes of its blocks."""
    size = path.stat().st_size
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        hashes = pool.map(partial(_block, path), range(0, size, BLOCK))
        return {"size": size, "sha256": hashlib.sha256(b"".join(hashes)).hexdigest()}


def _block(path: Path, start: int) -> bytes:
    digest, piece = hashlib.sha256(), memoryview(bytearray(PIECE))
    with path.open("rb", buffering=0) as file:
        file.seek(start)
        for _ in range(BLOCK // PIECE):
            digest.update(piece[: file.readinto(piece)])  # type: ignore[attr-defined]
    return digest.digest()


def check_file(path: Path, known: Mapping[str, Any], *, verify: bool) -> None:
    """Compare a file with what was written: its size, and with `verify` every byte of it.

    Raises:
        ValueError: it is another, or is not there.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing; {AGAIN}")
    size = path.stat().st_size
    if size != known.get("size"):
        raise ValueError(f"{path} has {size:,} bytes, not the {known.get('size')} that were written; {AGAIN}")
    if verify and checksum(path) != known:
        raise ValueError(f"{path} was altered: its checksum is not the one in {META}; {AGAIN}")
