"""Writing files so that a reader never meets half of one."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


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


@contextmanager
def locked(path: str | Path, what: str) -> Iterator[None]:
    """Keep other processes out by the lock file `path`, which is removed at the end.

    The lock is the kernel's: it goes with the process however that ends, and a child does not inherit it. It does not
    keep this process itself out. Where the system has no such locks nothing is locked.

    Args:
        path: of the lock file; it tells who holds the lock.
        what: is being changed, for the error.

    Raises:
        BlockingIOError: another process holds it; the message says which.
        OSError: there is no right to write.
    """
    if fcntl is None:
        yield
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with open(path, "a+", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise BlockingIOError(
                    f"{what} is being changed by {holder}; wait until that has ended, then run the same command again"
                ) from None
            except OSError as error:
                if error.errno not in (errno.ENOLCK, errno.ENOTSUP):
                    raise
                yield  # this file system has no locks
                return
            if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
                continue  # who had it before has just removed the file
            file.truncate(0)
            file.write(
                f"process {os.getpid()} on {socket.gethostname()} since {time.strftime('%Y-%m-%d %H:%M:%S')}\n"
            )
            file.flush()
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return
