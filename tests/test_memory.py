from __future__ import annotations

import ctypes
import platform

import pytest

from mbapps.memory import keep_freed_memory


def test_glibc_takes_the_settings() -> None:
    assert keep_freed_memory() == (platform.libc_ver()[0] == "glibc")


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(name: object) -> object:
        raise AssertionError("no library may be opened here")

    monkeypatch.setattr(ctypes, "CDLL", never)
    monkeypatch.setattr("sys.platform", "darwin")
    assert keep_freed_memory() is False
