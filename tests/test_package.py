"""The wheel holds what the tree holds, and works beside a user's own `data` folder."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built without the network, by the setuptools at hand."""
    pytest.importorskip("setuptools", minversion="77", reason="building the wheel needs setuptools >= 77")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        folder,
        source,
    ]
    subprocess.run(command, check=True, capture_output=True)
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_equals_the_tree(wheel: Path) -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    tree = set()
    for name in filter(None, listed.stdout.split("\0")):
        room = name.split("/")[0]
        if room in ("tasks", "data", "conf"):
            tree.add(f"mbapps/{name}")
        elif room == "mbapps":
            tree.add(name)
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert packed == tree


def test_the_wheel_works_beside_a_users_own_data_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    for name in ("data", "tasks", "conf"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError('this is the user\\'s own')")
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "import mbapps, mbapps.tasks.detection, mbapps.data.coco, mbapps.conf;"
        "print(mbapps.tasks.detection.__file__)"
    )
    shown = subprocess.run(
        [sys.executable, "-c", code, str(site)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert Path(shown.stdout.strip()) == site / "mbapps" / "tasks" / "detection.py"


def test_a_checkout_and_its_wheel_import_the_same_names() -> None:
    code = "import mbapps.tasks.detection as a, mbapps.data.coco as b; print(a.__name__, b.__name__)"
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["mbapps.tasks.detection", "mbapps.data.coco"]
