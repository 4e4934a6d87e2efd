from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photographs and weights."""
    folder = os.environ.get("MBAPPS_TEST_DATA")
    if not folder:
        pytest.skip("MBAPPS_TEST_DATA is not set: real photographs and weights are not at hand")
    path = Path(folder).resolve()
    assert path.is_dir(), f"MBAPPS_TEST_DATA={folder} is not a folder"
    return path
