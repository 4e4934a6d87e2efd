"""What `mbapps export` compares and measures on: images, and the tasks' numbers of the data that is named."""

from __future__ import annotations

from collections.abc import Mapping
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


class Measured(NamedTuple):
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


def split_of(cfg: DictConfig) -> str:
    """The split that the number is measured on: cfg.split, or val.

    Raises:
        ValueError: the data that is named has only other splits.
    """
    split, keys = cfg.split or "val", naming(cfg.data)
    has = {SPLIT_OF[key] for key in keys if key in SPLIT_OF}
    if not keys or split in has or not set(keys).isdisjoint(WHOLE):
        return str(split)
    other = " or ".join(f"set split={one}" for one in ("val", "test") if one in has)
    raise ValueError(
        f"the task's number is measured on the {split} split, and {' and '.join(f'data.{key}=' for key in keys)} names "
        f"only {' and '.join(sorted(has))}: name data.{split}= or data.root={f', or {other}' if other else ''}"
    )


def open_data(cfg: DictConfig, views: Mapping[str, DictConfig], bundle: Bundle) -> dict[str, Measured]:
    """Open the data of each head whose number is measured: it is named, or the only head's split is.

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
                split = split_of(view)
                data = app.build_data(view, bundle.only([name]), split)
            print_problems(data.problems())
            found[name] = Measured(data, split, keys)
    return found


def images_of(
    cfg: DictConfig, task: str, opened: Mapping[str, Measured], key: str, count: int
) -> tuple[list[UInt8Image], str]:
    """At most `count` images of those that `key` names, evenly chosen, and where they are from.

    Args:
        cfg: of the verb.
        task: whose synthetic images are taken where nothing is named.
        opened: data of the heads; where `key` names nothing, images of these are taken.
        key: of cfg.
        count: of images.

    Raises:
        FileNotFoundError: there are none.
        ValueError: none can be read.
    """
    from mbapps.data.synthetic import synthetic_root
    from mbapps.deploy.eight_bits import evenly
    from mbapps.images import BrokenImageError
    from mbapps.sources import find_sources, read_images

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
    chosen: list[Path] = []
    for place, (_, files) in enumerate(sources):
        share = len(range(place, count, len(sources)))
        chosen += [files[row] for row in evenly(len(files), share)]
    told = ", ".join(name for name, _ in sources)
    if not chosen:
        raise FileNotFoundError(f"there are videos and no images in {told}; name images by {key}=")
    found = [image for _, image in read_images(chosen, len(chosen))]
    read = [image for image in found if not isinstance(image, BrokenImageError)]
    broken = [str(image) for image in found if isinstance(image, BrokenImageError)]
    if not read:
        raise ValueError(f"none of {len(chosen)} images of {told} can be read; name others by {key}=")
    if broken:
        print(
            f"{key}: {len(broken)} of {len(found)} images can't be read and are left out: {'; '.join(broken[:5])}"
        )
    return read, told


def files_of(one: Measured) -> tuple[str, list[Path]]:
    """Where images of a data set are from, and their files: all in its folder, or those of the split."""
    from mbapps.sources import find_sources

    if set(one.keys) <= {"root"}:
        return str(one.data.root), find_sources(one.data.root)[0]
    table = one.data.tables[one.split]
    files = dict.fromkeys(table.folder / str(file) for file in table.files)
    return f"the {one.split} split of {' and '.join(f'data.{key}=' for key in one.keys)}", list(files)


def metric_of(cfg: DictConfig, folder: Path, bundle: Bundle, one: Measured, prefix: str) -> Metric:
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
        original.extend([value] * ours)
        return value

    return Metric(prefix + name, measure)
