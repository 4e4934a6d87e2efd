"""Imports point one way: tasks -> mbapps.{models, ops, …} <- data; verbs and app see all."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHARED = {
    "models", "ops", "geo", "metrics", "search", "predictions", "place_prediction", "locating", "batches", "images",
    "files", "columns",
}  # fmt: skip
ALLOWED = {
    "tasks": SHARED,
    "data": {"geo", "batches", "images", "predictions", "place_prediction", "files", "columns"},
    "mbapps/models": {"models", "ops"},
    "mbapps/ops": {"ops"},
    "mbapps/geo": {"geo", "images", "files", "columns"},
    "mbapps/search": {"search", "files", "columns"},
    "mbapps/metrics": {
        "metrics",
        "ops",
        "geo",
        "batches",
        "predictions",
        "images",
        "files",
        "plots",
        "plots_pairs",
        "plots_places",
        "place_prediction",
        "place_map",
        "locating",
        "sections",
    },
    "mbapps/album": {
        "album",
        "answering",
        "app",
        "deploy",
        "faces",
        "files",
        "geo",
        "geo_verbs",
        "finding",
        "image_ids",
        "images",
        "memory",
        "place_prediction",
        "predictions",
        "sources",
    },
    "mbapps/deploy": {
        "deploy",
        "geo",
        "ops",
        "place_prediction",
        "models",
        "predictions",
        "together",
        "faces",
        "images",
        "files",
        "card",
        "report",
        "tasks",
    },
}
OPEN = {
    "app", "starting", "frozen", "teacher", "teaching", "truth", "verbs", "__main__", "sweep", "loggers", "measuring",
    "geo_index", "heads_training", "training_report", "geo_verbs", "index_rows", "answering", "export_data",
}  # fmt: skip  # see all
SOURCES = sorted(path for room in ("mbapps", "tasks", "data") for path in (ROOT / room).rglob("*.py"))


def imported(path: Path) -> set[str]:
    """Dotted names of mbapps that a file imports, relative ones resolved."""
    room = path.relative_to(ROOT).parts[0]
    package = [*([] if room == "mbapps" else ["mbapps"]), *path.relative_to(ROOT).parent.parts]
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            names.add(".".join([*base, *([node.module] if node.module else [])]))
            if not node.module or node.module == "mbapps":
                names |= {
                    ".".join([*base, *([node.module] if node.module else []), alias.name])
                    for alias in node.names
                }
    return {name for name in names if name.split(".")[0] == "mbapps"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    relative = str(path.relative_to(ROOT))
    room = next((room for room in ALLOWED if relative.startswith(f"{room}/")), None)
    rooms = {name.split(".")[1] for name in imported(path) if "." in name}
    if room:
        own = {"tasks": "tasks", "data": "data"}.get(room)
        assert rooms <= ALLOWED[room] | ({own} if own else set()) | {"__version__"}, (
            f"{relative} imports {sorted(rooms)}"
        )
    elif path.parent == ROOT / "mbapps" and path.stem not in OPEN:
        assert not rooms & {"tasks", "data", "verbs", "app"}, f"{relative} imports {sorted(rooms)}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_app_instantiates(path: Path) -> None:
    if path != ROOT / "mbapps" / "app.py":
        assert "hydra.utils" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unpickles_but_checkpoints(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            assert not name.startswith(("pickle.", "marshal.", "joblib.", "dill.")), f"{path}:{node.lineno}"
            if name == "torch.load":
                assert "weights_only=True" in ast.unparse(node), f"{path}:{node.lineno}"
            if name in ("np.load", "numpy.load"):
                assert "allow_pickle=True" not in ast.unparse(node), f"{path}:{node.lineno}"


def test_light_imports() -> None:
    """Neither opening the package, the command line or a bundle nor answering loads Lightning or its like."""
    import subprocess
    import sys

    code = (
        "import sys, mbapps, mbapps.__main__, mbapps.deploy.bundle, mbapps.search.gallery\n"
        "import mbapps.tasks.detection, mbapps.report, mbapps.answering, mbapps.embedding, mbapps.locating\n"
        "heavy = {'pytorch_lightning', 'albumentations', 'matplotlib', 'torchvision', 'timm', 'h5py', 'tensorboard'}\n"
        "print(sorted((heavy | {'faiss'}) & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert shown.stdout.strip() == "[]"
