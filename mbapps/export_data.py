"""What `mbapps export` compares and measures on: images, and the tasks' numbers of the data that is named."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.deploy.bundle import Bundle
    from mbapps.deploy.export import Metric
    from mbapps.images import UInt8Image
    from mbapps.models.network import Network

WHOLE = ("root", "annotations", "places")  # keys of data that name all of it
SPLIT_OF = {
    "train": "train", "val": "val", "test": "test", "test_ids": "test", "pairs": "test", "test_people": "test",
}  # fmt: skip  # the others name a split


class Opened(NamedTuple):
    """The data of a head, opened: the split of it that is measured, and the keys that name it."""

    data: Any
    split: str
    keys: tuple[str, ...]


def naming(data: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys that name data; none of them: it is the synthetic set.

    >>> naming({"root": None, "test": "lfw", "pairs": None, "batch_size": 8})
    ('test',)
    """
    return tuple(key for key in (*WHOLE, *SPLIT_OF) if data.get(key))


def split_of(cfg: DictConfig, split: str) -> str:
    """Give a split back if the data that is named has it.

    Raises:
        ValueError: it has only others.
    """
    keys = naming(cfg.data)
    has = {SPLIT_OF[key] for key in keys if key in SPLIT_OF}
    if not keys or split in has or not set(keys).isdisjoint(WHOLE):
        return split
    other = " or ".join(f"set split={one}" for one in ("val", "test") if one in has)
    raise ValueError(
        f"the task's number is measured on the {split} split, and {' and '.join(f'data.{key}=' for key in keys)} names "
        f"only {' and '.join(sorted(has))}: name data.{split}= or data.root={f', or {other}' if other else ''}"
    )


def open_data(cfg: DictConfig, views: Mapping[str, DictConfig], bundle: Bundle) -> dict[str, Opened]:
    """Open the data of each head whose number is measured: it is named, or the only head's split is.

    That split is cfg.split, or else val, or test of data that have no val.

    Raises:
        ValueError, FileNotFoundError: it is not there, has no such split or other classes than the model.
    """
    from mbapps import app
    from mbapps.measuring import print_problems

    found = {}
    for name in (name for name in views if name in bundle.network.heads):
        view = views[name]
        keys = naming(view.data)
        if keys or (len(views) == 1 and cfg.split is not None):
            with app.of_head(cfg, name):
                if "jax" in sys.modules:  # which does not survive the fork of processes that read images
                    view.data.num_workers = 0
                split = split_of(view, cfg.split or "val")
                try:
                    data = app.build_data(view, bundle.only([name]), split)
                except FileNotFoundError as error:
                    lacking = str(error).startswith("no val split in") and not view.data.get("val")
                    if cfg.split is not None or not lacking:
                        raise
                    split = "test"
                    try:
                        data = app.build_data(view, bundle.only([name]), split)
                    except FileNotFoundError:
                        raise error from None
                    print(f"{name}: there is no val split, so that the test split is measured")
            print_problems(data.problems())
            found[name] = Opened(data, split, keys)
    return found


class Images(NamedTuple):
    """Images, and where they are from."""

    images: list[UInt8Image]
    source: str


def images_of(
    cfg: DictConfig, task: str, opened: Mapping[str, Opened], *, calibrated: bool
) -> tuple[Images, Images | None]:
    """Give the images to compare on, at most cfg.images, and where calibrated those to take ranges from.

    These are neither compared on nor measured, as far as there are others.

    Args:
        cfg: of the verb.
        task: whose synthetic images are taken where nothing is named.
        opened: data of the heads; where source or calibration names nothing, images of these are taken.
        calibrated: give calibration images, at most cfg.calibration_images; else None.

    Raises:
        FileNotFoundError: there are none.
        ValueError: none can be read.
    """
    key = "calibration" if cfg.calibration and not (cfg.source or opened) and calibrated else "source"
    lists, told = files_for(cfg, task, opened, key)
    if not calibrated:
        return Images(read(choose(lists, cfg.images), told, key), told), None
    other = "calibration" if cfg.calibration else key
    pool, pool_told = files_for(cfg, task, opened, other)
    total = {file for files in lists for file in files}
    most = cfg.images
    if not total.isdisjoint(file for files in pool for file in files):
        most = min(most, max(len(total) - cfg.calibration_images, len(total) // 4, 1))
    compared = choose(lists, most)
    measured = {file for one in opened.values() for file in split_files(one)}
    rest = [others(files, set(compared), measured) for files in pool]
    ranged = choose(rest, cfg.calibration_images)
    if count := len(measured.intersection(ranged)):
        print(
            f"{other}: {count} of {len(ranged)} images that give ranges are measured too: there are no others"
        )
    return Images(read(compared, told, key), told), Images(read(ranged, pool_told, other), pool_told)


def others(files: list[Path], compared: set[Path], measured: set[Path]) -> list[Path]:
    """Those that are neither compared on nor measured, or else that are not compared on, or else all."""
    free = [file for file in files if file not in compared]
    return [file for file in free if file not in measured] or free or files


def files_for(
    cfg: DictConfig, task: str, opened: Mapping[str, Opened], key: str
) -> tuple[list[list[Path]], str]:
    """Lists of image files that `key` names, or of each head's data, or else synthetic ones; and where they are."""
    from mbapps.data.synthetic import synthetic_root
    from mbapps.sources import find_sources

    sources: list[tuple[str, list[Path]]] = []
    try:
        if cfg[key]:
            sources = [(str(cfg[key]), find_sources(cfg[key])[0])]
        elif opened:
            sources = [files_of(one) for one in opened.values()]
        else:
            root = synthetic_root(task)
            sources = [(str(root), find_sources(root)[0])]
    except FileNotFoundError as error:
        raise FileNotFoundError(str(error).replace("source=", f"{key}=", 1)) from None
    lists = {
        tuple(file.absolute() for file in files): name for name, files in sources
    }  # heads may share data
    told = ", ".join(lists.values())
    if not any(lists):
        raise FileNotFoundError(f"there are videos and no images in {told}; name images by {key}=")
    return [list(files) for files in lists], told


def choose(lists: Sequence[Sequence[Path]], count: int) -> list[Path]:
    """At most `count` files, evenly chosen, as many of each list as it has of an equal share and of what others lack.

    >>> choose([[Path("a"), Path("b"), Path("c")], [Path("d")]], 3)
    [PosixPath('d'), PosixPath('a'), PosixPath('b')]
    """
    from mbapps.deploy.eight_bits import evenly

    chosen: dict[Path, None] = {}
    for place, files in enumerate(sorted(lists, key=len)):
        new = [file for file in files if file not in chosen]
        share = (count - len(chosen)) // (len(lists) - place)
        chosen |= dict.fromkeys(new[row] for row in evenly(len(new), share))
    return list(chosen)


def read(files: Sequence[Path], told: str, key: str) -> list[UInt8Image]:
    """Read images; those that can't be read are left out and told.

    Raises:
        ValueError: none can.
    """
    from mbapps.images import BrokenImageError
    from mbapps.sources import read_images

    found = [image for _, image in read_images(files, len(files))]
    images = [image for image in found if not isinstance(image, BrokenImageError)]
    broken = [str(image) for image in found if isinstance(image, BrokenImageError)]
    if not images:
        raise ValueError(f"none of {len(files)} images of {told} can be read; name others by {key}=")
    if broken:
        print(
            f"{key}: {len(broken)} of {len(found)} images can't be read and are left out: {'; '.join(broken[:5])}"
        )
    return images


def check_images(cfg: DictConfig, task: str, opened: Mapping[str, Opened], facts: Mapping[str, Any]) -> None:
    """See that ranges are not taken from drawings for a model that did not learn from them.

    Raises:
        ValueError: they would be.
    """
    from mbapps.data.synthetic import synthetic_name

    learned = [data.get("name") for data in (facts.get("lineage") or {}).get("data") or ()]
    if not (cfg.calibration or cfg.source or opened) and synthetic_name(task) not in learned:
        raise ValueError(
            "precision=int8 takes ranges from images such as the device will see, and none are named: name a few "
            "hundred by calibration="
        )


def files_of(one: Opened) -> tuple[str, list[Path]]:
    """Where images of a data set are from, and their files: all in its folder, or those of the split."""
    from mbapps.sources import find_sources

    if set(one.keys) <= {"root"}:
        return str(one.data.root), find_sources(one.data.root)[0]
    return f"the {one.split} split of {' and '.join(f'data.{key}=' for key in one.keys)}", split_files(one)


def split_files(one: Opened) -> list[Path]:
    """Files of the images that are measured."""
    table = one.data.tables[one.split]
    return list(dict.fromkeys((table.folder / str(file)).absolute() for file in table.files))


def metric_of(cfg: DictConfig, folder: Path, bundle: Bundle, one: Opened, prefix: str) -> Metric:
    """What measures the number that picks a task's best epoch, of the bundle's only head, on its data.

    Args:
        cfg: of the head alone.
        folder: of the run.
        bundle: the model, with that head.
        one: its data.
        prefix: of the number's name.
    """
    from mbapps import app
    from mbapps.deploy.export import Metric
    from mbapps.deploy.runtimes import RuntimeNetwork
    from mbapps.measuring import collect

    name = cfg.task.monitor.removeprefix("-")
    original: list[float] = []  # it is measured once; an opened file would be kept by what is known of it

    def measure(network: Network) -> float:
        ours = not isinstance(network, RuntimeNetwork)
        if ours and original:
            return original[0]
        task = app.build_task(cfg, network.only([bundle.head_name]))
        collect(cfg, folder, task, one.data, one.split)
        network.eval()
        value = float(task.numbers[one.split][name])
        if ours and not math.isfinite(value):
            raise ValueError(
                f"{name} is {value} for the model itself: the {one.split} split has nothing to measure it by; name "
                "another by split= or other data"
            )
        original.extend([value] * ours)
        return value

    images = len(one.data.tables[one.split].files)
    return Metric(prefix + name, measure, cfg.task.monitor.startswith("-"), images, bundle.head_name)
