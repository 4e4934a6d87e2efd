"""From the probabilities of cells, and the photos of a geo-index that are alike, to places with radii."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mbapps.geo.cell_map import CellMap, most_probable
from mbapps.geo.density import SIGMA, density_peaks, neighbour_weights, snap
from mbapps.geo.distance import EARTH_KM, great_circle_km

from .place_prediction import FARTHEST_KM, PhotosLike, Place

if TYPE_CHECKING:
    from mbapps.search.gallery import Gallery

CELLS, NEIGHBOURS, HYBRID = "cells", "neighbours", "hybrid"
NEIGHBOUR_COUNT = 100  # Vo et al. (2017)
FUSED_CELLS = 50  # the likeliest, that take part in the hybrid's density
NEAR_KM = np.radians(SIGMA) * EARTH_KM  # how far from a place its score looks: as the density is blurred
LEAST_KM = 1.0  # of a spread: photos of one street corner do not make it 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Fitted:
    """What was fitted on validation photos.

    temperature: what the cells' log-probabilities are divided by, > 0.
    weight: of the neighbours in the hybrid, in [0, 1]; the cells have the rest.
    radius: by method, how many times the spread holds the true place as often as wanted.
    index: digest of the geo-index that weight and radii, but those of the cells, were fitted with; None: of none.
    """

    temperature: float = 1.0
    weight: float = 0.5
    radius: Mapping[str, float] = field(default_factory=dict)
    index: str | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any] | None) -> Fitted:
        """Read what `to_json` gave; None gives what is not fitted yet."""
        return cls(**facts) if facts else cls()

    def to_json(self) -> dict[str, Any]:
        """Plain numbers by name."""
        return {
            "temperature": self.temperature, "weight": self.weight, "radius": dict(self.radius), "index": self.index,
        }  # fmt: skip


class Locator:
    """Places images by cells alone or, with a geo-index, by its most similar photos and by both together.

    How much the neighbours of another geo-index than the fitted one tell is not known: then the cells answer, and the
    neighbours are shown beside.

    Args:
        gallery: with columns lat and lon; None: there is none.
        candidates: weights of the neighbours in a hybrid that are tried beside the fitted one: `others` then has the
            answer of each, by its text.

    Raises:
        ValueError: the gallery is empty or has no places.

    Source: Vo et al., Revisiting IM2GPS in the Deep Learning Era (2017), section 3, for the neighbours.
    """

    def __init__(self, gallery: Gallery | None, candidates: Sequence[float] = ()):
        self.gallery = gallery
        self.candidates = candidates
        self.digest: str | None = None
        if gallery is None:
            return
        if not len(gallery):
            raise ValueError("the geo-index is empty; mbapps index task=geo adds photos to it")
        missing = [name for name in ("lat", "lon") if not isinstance(gallery.columns.get(name), np.ndarray)]
        if missing:
            raise ValueError(
                f"the gallery has no places, only {', '.join(gallery.columns) or 'ids'}: it is no geo-index; "
                "mbapps index task=geo makes one"
            )
        self.lat, self.lon = (np.asarray(gallery.columns[name], np.float64) for name in ("lat", "lon"))
        digest = hashlib.blake2b(gallery.ids.content.tobytes(), digest_size=16)
        for column in (gallery.ids.cuts, self.lat, self.lon):
            digest.update(np.ascontiguousarray(column).tobytes())
        self.digest = digest.hexdigest()  # of which photos, wherever they lie and however they are compressed

    def fits(self, fitted: Fitted) -> bool:
        """Tell whether this is the geo-index that was fitted with, or one that is being fitted with."""
        return self.digest == fitted.index or bool(self.candidates)

    def locate(
        self, cells: CellMap, probabilities: Floats, vectors: NDArray[np.float32] | None, fitted: Fitted
    ) -> list[Place]:
        """Place B images.

        Args:
            cells: K of them.
            probabilities: [B, K].
            vectors: [B, D] of length 1, asked for with a geo-index; None of a coarse-only model.
            fitted: temperature is taken to be in the probabilities already.
        """
        rows = np.arange(len(probabilities))
        best = probabilities.argmax(axis=1)
        distances = cells.distances_km(cells.lat[best], cells.lon[best])
        spread = (probabilities * distances).sum(axis=1)
        answers = [
            Place(lat, lon, score, _radius(fitted, CELLS, far), None, far, cells, each)
            for lat, lon, score, far, each in zip(
                cells.lat[best].tolist(), cells.lon[best].tolist(), probabilities[rows, best].tolist(),
                spread.tolist(), probabilities, strict=True,
            )
        ]  # fmt: skip
        if self.gallery is None:
            return answers
        if vectors is None:
            raise ValueError("a coarse-only model gives no embeddings: it can't be used with a geo-index")
        return self._with_neighbours(answers, cells, probabilities, vectors, fitted)

    def _with_neighbours(
        self, answers: Sequence[Place], cells: CellMap, probabilities: Floats, vectors: NDArray[np.float32],
        fitted: Fitted,
    ) -> list[Place]:  # fmt: skip
        assert self.gallery is not None
        scores, found = self.gallery.search(vectors, min(NEIGHBOUR_COUNT, len(self.gallery)))
        there = found >= 0
        lat, lon = (np.where(there, column[found], np.nan) for column in (self.lat, self.lon))
        weights = neighbour_weights(scores)
        likely = most_probable(probabilities, FUSED_CELLS)
        shares = np.take_along_axis(probabilities, likely, axis=1)
        points = (
            np.concatenate([lat, cells.lat[likely]], axis=1),
            np.concatenate([lon, cells.lon[likely]], axis=1),
        )
        near = there / there.sum(
            axis=1, keepdims=True
        )  # each neighbour alike: by weight one would hide the others
        methods = {NEIGHBOURS: 1.0, **{str(each): each for each in self.candidates}}
        if self.fits(fitted):
            methods[HYBRID] = fitted.weight
        else:
            fitted = replace(fitted, radius={})  # of the cells it is in their answers already
        made: dict[str, list[Place]] = {CELLS: list(answers)}
        alike = [
            PhotosLike([self.gallery.ids[row] for row in rows if row >= 0], *columns)
            for rows, *columns in zip(
                found.tolist(), scores.astype(np.float64), lat, lon, weights, strict=True
            )
        ]
        for method, weight in methods.items():
            mass = np.concatenate([weight * weights, (1 - weight) * shares], axis=1)
            peak = density_peaks(lat, lon, weights) if weight == 1 else density_peaks(*points, mass)
            where = snap(*peak, *points, mass)[:2]
            far = self._spread(cells, probabilities, where, (lat, lon), near, weight)
            score = (mass * (_distances(where, points) <= NEAR_KM)).sum(axis=1)
            made[method] = [
                replace(
                    answer, lat=y, lon=x, score=one, radius_km=_radius(fitted, method, km), spread_km=km,
                    neighbours=like,
                )
                for answer, like, y, x, one, km in zip(
                    answers, alike, where[0].tolist(), where[1].tolist(), score.tolist(), far.tolist(), strict=True
                )
            ]  # fmt: skip
        if HYBRID not in made:
            made[HYBRID] = [
                replace(answer, neighbours=like) for answer, like in zip(answers, alike, strict=True)
            ]
        places = made.pop(HYBRID)
        return [
            replace(place, others={method: one[row] for method, one in made.items()})
            for row, place in enumerate(places)
        ]

    @staticmethod
    def _spread(
        cells: CellMap, probabilities: Floats, where: tuple[Floats, Floats], places: tuple[Floats, Floats],
        near: Floats, weight: float,
    ) -> Floats:  # fmt: skip
        """Expected distance [B] of the truth: from the neighbours, each alike, and from the cells."""
        spread = weight * (near * np.nan_to_num(_distances(where, places))).sum(axis=1)
        if weight < 1:
            spread += (1 - weight) * (probabilities * cells.distances_km(*where)).sum(axis=1)
        return np.maximum(spread, LEAST_KM)


def _distances(where: tuple[Floats, Floats], points: tuple[Floats, Floats]) -> Floats:
    """[B, M] km from a place to its points; NaN where there is none."""
    return great_circle_km(where[0][:, None], where[1][:, None], *points)


def _radius(fitted: Fitted, method: str, spread_km: float) -> float | None:
    factor = fitted.radius.get(method)
    return None if factor is None else min(factor * spread_km, FARTHEST_KM)
