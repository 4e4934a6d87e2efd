"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; what is written there takes its place at the end, or nothing does.

    The temporary name ends like `path`, for libraries that choose a format by it. It may become a file or a
    folder; a folder at `path` is replaced only by a folder.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    holder = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", dir=path.parent))
    temporary = holder / path.name
    old = holder / ".old"
    try:
        yield temporary
        if path.is_dir() and temporary.is_dir():
            os.replace(path, old)
        os.replace(temporary, path)
    except BaseException:
        if old.is_dir() and not path.exists():
            os.replace(old, path)
        raise
    finally:
        shutil.rmtree(holder, ignore_errors=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file by rename."""
    path = Path(path)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path
