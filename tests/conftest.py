from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from omegaconf import DictConfig, open_dict

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

Cli = Callable[..., Path]


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photographs and weights."""
    folder = os.environ.get("MBAPPS_TEST_DATA")
    if not folder:
        pytest.skip("MBAPPS_TEST_DATA is not set: real photographs and weights are not at hand")
    path = Path(folder).resolve()
    assert path.is_dir(), f"MBAPPS_TEST_DATA={folder} is not a folder"
    return path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic detection set in COCO's layout."""
    from mbapps.data.synthetic import write_detection

    return write_detection(tmp_path_factory.mktemp("tiny") / "set", train=24, val=8, test=8)


@pytest.fixture(scope="session")
def textures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic set of eight classes, as folders of classes."""
    from mbapps.data.synthetic_textures import write_textures

    return write_textures(tmp_path_factory.mktemp("textures") / "set", train=32, val=16, test=16)


@pytest.fixture(scope="session")
def tiny_faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of synthetic faces in CelebA's layout."""
    from mbapps.data.synthetic_faces import write_faces

    return write_faces(tmp_path_factory.mktemp("tiny") / "faces", train=32, val=24, test=24)


@pytest.fixture(scope="session")
def tiny_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small set of synthetic people in LFW's layout, with pairs."""
    from mbapps.data.synthetic_identities import write_identities

    return write_identities(tmp_path_factory.mktemp("tiny") / "people", train=14, test=6)


@pytest.fixture(scope="session")
def tiny_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic world: photos with their places, in lists of splits."""
    from mbapps.data.synthetic_landscapes import write_landscapes

    return write_landscapes(tmp_path_factory.mktemp("tiny") / "world", train=48, val=24, test=24)


def coco_splits(root: Path) -> dict[str, tuple[Path, Path]]:
    """Annotations and image folder of each split that one file of a COCO folder claims."""
    from mbapps.data.coco_files import coco_files, image_folder

    files = {split: paths[0] for split, paths in coco_files(root).items() if len(paths) == 1}
    return {split: (path, image_folder(root, path)) for split, path in files.items()}


def write_files(root: Path, files: Mapping[str, str | None]) -> Path:
    """Files by path below `root`: text, or a black picture of 60 x 40 px where it is None."""
    from PIL import Image

    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            Image.new("RGB", (60, 40)).save(path)
        else:
            path.write_text(content, encoding="utf-8")
    return root


def compose(*words: str) -> DictConfig:
    """The configuration of a command line, with Hydra's own part."""
    import hydra

    from mbapps.__main__ import rewrite

    with hydra.initialize_config_module("mbapps.conf", version_base="1.3"):
        return hydra.compose("config", overrides=rewrite(words), return_hydra_config=True)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Run a command line in this process: `cli("train", "task=detection", …)` gives the run folder."""
    import importlib

    from hydra.core.hydra_config import HydraConfig

    count = 0

    def run(*words: str) -> Path:
        nonlocal count
        count += 1
        if not any(word.startswith(("out=", "resume=")) for word in words):
            words = (*words, f"out={tmp_path / f'run{count}'}")
        cfg = compose(*words)
        folder = Path(cfg.out)
        folder.mkdir(parents=True, exist_ok=True)
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = str(folder)
            cfg.hydra.job.name = "mbapps"
        HydraConfig.instance().set_config(cfg)
        with open_dict(cfg):
            del cfg["hydra"]  # as Hydra does before it calls the program
        try:
            importlib.import_module(f"mbapps.verbs.{cfg.verb}").run(cfg)
        finally:
            HydraConfig.instance().cfg = None
        return folder

    return run


QUICK = (
    "backbone.alpha=0.25", "data.image_size=64", "data.batch_size=8", "data.num_workers=0",
    "trainer.progress=false", "trainer.accelerator=cpu",
)  # fmt: skip
