from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mbapps.files import locked

pytest.importorskip("fcntl", reason="this system has no such locks")
HOLD = (
    "import sys, time\nfrom mbapps.files import locked\n"
    "with locked(sys.argv[1], 'it'):\n print(flush=True); time.sleep(99)"
)


def test_a_lock_keeps_others_out_until_its_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "it.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    assert holder.stdout is not None
    holder.stdout.readline()
    message = rf"it is being changed by process {holder.pid} on .* since .*; wait until that has ended"
    with pytest.raises(BlockingIOError, match=message), locked(path, "it"):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert path.exists()
    with locked(path, "it"):
        assert f"process {os.getpid()} on" in path.read_text()
    assert not path.exists()


def test_where_there_are_no_locks_nothing_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = pytest.importorskip("fcntl", reason="this system has no locks of files")

    def refuse(*values: object) -> None:
        raise OSError(error, "not here")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    error = errno.ENOLCK
    with locked(tmp_path / "lock", "a folder"):
        (tmp_path / "changed").touch()
    assert (tmp_path / "changed").exists()
    error = errno.EIO
    with pytest.raises(OSError, match="not here"), locked(tmp_path / "lock", "a folder"):
        pass
