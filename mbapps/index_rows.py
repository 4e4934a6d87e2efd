"""What `mbapps index` adds to a gallery: which images, under which ids, and what its columns say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .image_ids import find_images, person_of, root_of, without_known

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from .label_tables import GeoTable
    from .search.gallery import Gallery


@dataclass(frozen=True)
class Offer:
    """Images of a source, by id.

    fresh: those to add.
    known: how many are in the gallery already.
    broken: reasons why others can't be read.
    places: latitude and longitude, in degrees, of those to add; None of faces.
    without_place: how many have none.
    left_out: reasons why photos of a list or without a place are not added, and which.
    """

    fresh: Mapping[str, Path]
    known: int
    broken: Sequence[str]
    places: Mapping[str, tuple[float, float]] | None = None
    without_place: int = 0
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def columns(self, names: Sequence[str]) -> dict[str, Any]:
        """What the gallery's columns say of some of them."""
        import numpy as np

        from .geo.places import NAMELESS
        from .geo_index import place_columns

        files = [self.fresh[name] for name in names]
        if self.places is None:
            people = [person_of(name) for name in names]
            return {"file": [str(file.absolute()) for file in files], "person": people}
        lat, lon = np.array([self.places[name] for name in names], dtype=np.float64).reshape(-1, 2).T
        columns = place_columns(files, lat, lon)
        if names and not any(columns["place"]):
            print(NAMELESS)
        return columns


def offer(cfg: DictConfig, gallery: Gallery | None, *, places: bool) -> Offer:
    """The images of `source=` with or without places; none where it is null."""
    if cfg.source is None:
        return Offer({}, 0, [], {} if places else None)
    return offer_places(cfg, gallery) if places else offer_faces(cfg, gallery)


def offer_faces(cfg: DictConfig, gallery: Gallery | None) -> Offer:
    """The images of `source=`; a folder in it is a person.

    Raises:
        FileNotFoundError: there are none.
        ValueError: the gallery has the id of one from another file.
    """
    files, unnamed = find_images(cfg.source)
    fresh = without_known(files, gallery)
    return Offer(fresh, len(files) - len(fresh), list(unnamed.values()))


def offer_places(cfg: DictConfig, gallery: Gallery | None) -> Offer:
    """The photos of `source=`, placed by a list, or else by their EXIF; those in the gallery are not looked at again.

    `source` is a list, whose images lie in `data.images` or beside it; or images, which `data.places` may list.

    Raises:
        FileNotFoundError: there are no images.
        ImportError: the list needs an extra that is not installed.
        ValueError: no photo has a place; the list can't be read; or the gallery has the id of one from another file.
    """
    from .data.geotags import FROM_ZERO, NOT_A_NUMBER, OUT_OF_RANGE, ZERO, check_places, read_place_list
    from .data.photo_places import BROKEN, NO_PLACE, UNREADABLE, photo_table
    from .data.place_lists import LIST_SUFFIXES

    settings: Mapping[str, Any] = cfg.data if "drop_zero" in cfg.data else {}
    drop_zero = bool(settings.get("drop_zero", True))
    source, listed = Path(cfg.source), settings.get("places")
    broken: list[str] = []
    table: GeoTable
    if listed or (source.is_file() and source.suffix.lower() in LIST_SUFFIXES):
        folder = Path(settings.get("images") or root_of(cfg.source))
        columns = {key: name for key, name in (settings.get("columns") or {}).items() if name}
        table = read_place_list(Path(listed or source), folder, columns=columns, drop_zero=drop_zero)
        files = {str(name): table.folder / str(name) for name in table.files.tolist()}
        fresh = without_known(files, gallery)
    else:
        files, unnamed = find_images(cfg.source)
        fresh = without_known(files, gallery)
        table = photo_table(root_of(cfg.source), list(fresh))
        broken = list(unnamed.values())
        broken += [f"{file}: its header can't be read" for file in table.problems.pop(UNREADABLE, [])]
        table = check_places(table, source, drop_zero=drop_zero, may_be_empty=True)
    degrees = zip(table.lat.tolist(), table.lon.tolist(), strict=True)
    places = dict(zip(table.files.tolist(), degrees, strict=True))
    without = sum(
        len(table.problems.get(why, []))
        for why in (NO_PLACE, BROKEN, NOT_A_NUMBER, OUT_OF_RANGE, FROM_ZERO, ZERO)
    )
    known = len(files) - len(fresh)
    if without and not known and not places:
        reasons = "; ".join(f"{len(lines)} x {reason}" for reason, lines in table.problems.items())
        raise ValueError(
            f"none of the {without + len(broken)} photos of source={cfg.source} has a place: {reasons}; name a list of "
            "places with task=geo data.places="
        )
    fresh = {name: file for name, file in fresh.items() if name in places}
    return Offer(fresh, known, broken, places, without, table.problems)


def check_broken(cfg: DictConfig, offered: Offer, broken: Sequence[str], added: int) -> None:
    """Check that few enough images are broken, of all: those that are come up in every run.

    Args:
        cfg: has `max_broken`, the share that may be.
        offered: what there was to add.
        broken: reasons why some can't be read, of which `offered` may know fewer.
        added: images that could be.

    Raises:
        ValueError: too many are.
    """
    total = offered.known + len(offered.fresh) + len(offered.broken) + offered.without_place
    if broken and not added + offered.known:
        can = "read" if len(broken) == total else "read and has a place"
        raise ValueError(f"none of the {total} images of source={cfg.source} can be {can}: {broken[0]}")
    if len(broken) > max(1, cfg.max_broken * total):
        raise ValueError(
            f"{len(broken)} of {total} images can't be read, more than max_broken={cfg.max_broken} allows; mend them "
            f"or raise max_broken: what was embedded is kept. The first: {broken[0]}"
        )
