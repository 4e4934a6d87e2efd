"""Geo-localization in PlaNet's way: a photo is classified into cells of the Earth, and may be compared with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbapps.batches import UNKNOWN, GeoBatch
from mbapps.geo.cell_map import CellMap
from mbapps.geo.cells import levels
from mbapps.geo.counts import rows_of
from mbapps.geo.distance import EARTH_KM
from mbapps.geo.partition import cells_of
from mbapps.locating import Fitted, Locator
from mbapps.models.mobilenet import MobileNetV1
from mbapps.ops.distill import softened_kl
from mbapps.place_prediction import COARSE_LEVELS, Place


class GeoHead(nn.Module):
    """Feature maps -> {"logits": [B, K], "embeddings": [B, D]} for K cells of one or several nested partitions.

    Embeddings are of length 1: a geo-index compares them. A coarse-only head gives none.

    Args:
        body: asked for the width of c5; not kept.
        class_names: tokens of the cells, as `class_names_of` gives them; other names serve to count parameters alone.
        image_size: side of the square input it is meant for, px; pooled features allow any other.
        dim: D, of a linear layer before that of the cells; None: the pooled features themselves, as in the paper.
        dropout: share of the features dropped in training, in [0, 1).
        smoothing_km: by how many km a cell may be farther than the photo's own to get 1/e of its label, >= 0; 0, as in
            the paper, gives the photo's own cell all. PIGEON takes 75.
        hierarchical: of nested partitions, answer by the product of their probabilities; False: by the finest alone.
        central_crop: share of each side of an image that is seen, in (0, 1].
        teacher_temperature: that softens a teacher's answers and its own where it learns from one, > 0.
        coverage: share of the photos whose place lies within the radius that is told, in (0, 1).
        coarse_only: "country" or "region": the finest cells that it may have. None: any.
        fitted: what was fitted on validation photos, as `Fitted` has it; None: nothing yet.

    Source: Weyand et al., PlaNet (2016), section 3; Howard et al., MobileNets (2017), section 4.4; Müller-Budack et
    al., ISN (2018), section 3.2, for the product; Haas et al., PIGEON (2023), section 3.2, for the smoothing.
    """

    CLASS_LAYERS = ("linear.", "centres")
    POOLED = True
    EMBEDS = True
    SCORED = False  # it always answers with a place

    def __init__(
        self,
        body: MobileNetV1,
        class_names: Sequence[str],
        image_size: int = 224,
        *,
        dim: int | None = None,
        dropout: float = 0.0,
        smoothing_km: float = 0.0,
        hierarchical: bool = True,
        central_crop: float = 0.875,
        teacher_temperature: float = 2.0,
        coverage: float = 0.9,
        coarse_only: str | None = None,
        fitted: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        if not class_names:
            raise ValueError("task=geo needs at least one cell, got none")
        if dim is not None and dim < 1:
            raise ValueError(f"task.head.dim must be >= 1 or null, got {dim}")
        if not 0 <= dropout < 1:
            raise ValueError(f"task.head.dropout must be in [0, 1), got {dropout}")
        if smoothing_km < 0:
            raise ValueError(f"task.head.smoothing_km must be >= 0, got {smoothing_km}")
        if not 0 < central_crop <= 1:
            raise ValueError(f"task.head.central_crop must be in (0, 1], got {central_crop}")
        if teacher_temperature <= 0:
            raise ValueError(f"task.head.teacher_temperature must be > 0, got {teacher_temperature}")
        if not 0 < coverage < 1:
            raise ValueError(f"task.head.coverage must be in (0, 1), got {coverage}")
        if coarse_only is not None and coarse_only not in COARSE_LEVELS:
            raise ValueError(
                f"task.coarse_only must be {' or '.join(COARSE_LEVELS)}, or null, got {coarse_only!r}"
            )
        if coarse_only is not None:
            check_coarse(class_names, coarse_only)
        self.class_names = tuple(class_names)
        self.image_size = image_size
        self.settings: dict[str, Any] = {
            "dim": dim, "dropout": dropout, "smoothing_km": smoothing_km, "hierarchical": hierarchical,
            "central_crop": central_crop, "teacher_temperature": teacher_temperature, "coverage": coverage,
            "coarse_only": coarse_only, "fitted": dict(fitted) if fitted else None,
        }  # fmt: skip
        # how many cells each partition has
        self.counts = [
            len(list(each)) for _, each in groupby(self.class_names, lambda name: name.rpartition("/")[0])
        ]
        width = body.features["c5"].channels
        self.project: nn.Module = nn.Identity()
        if dim is not None:
            self.project = nn.Sequential(nn.Linear(width, dim, bias=False), nn.BatchNorm1d(dim))
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(dim or width, len(self.class_names))
        self.centres: Tensor
        self.register_buffer("centres", torch.full((len(self.class_names), 2), torch.nan))  # degrees
        self.locator: Locator | None = None  # asks a geo-index too

    def place_cells(self, centres: np.ndarray[Any, Any]) -> None:
        """Take the middles of the cells, [K, 2] latitude and longitude in degrees."""
        self.centres.copy_(torch.from_numpy(centres))

    def attach(self, locator: Locator | None) -> None:
        """Answer by a geo-index too from now on; None: by the cells alone."""
        self.locator = locator

    @cached_property
    def cells(self) -> CellMap:
        """Cells of the finest partition, which answers are made of."""
        *_, finest = cells_of(self.class_names).values()
        centres = self.centres[-len(finest) :].cpu().numpy().astype(np.float64)
        if not np.isfinite(centres).all():
            raise ValueError("the head does not know where its cells lie: it was never trained")
        return CellMap.of(finest, centres)

    @cached_property
    def _parents(self) -> list[Tensor]:
        """Row of each finest cell in the coarser partitions."""
        *coarser, finest = cells_of(self.class_names).values()
        return [torch.from_numpy(rows_of(cells, finest)) for cells in coarser]

    @property
    def fitted(self) -> Fitted:
        """What was fitted on validation photos."""
        return Fitted.of(self.settings["fitted"])

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        vectors = self.project(features["c5"].mean(dim=(2, 3)))  # [B, D]
        outputs = {"logits": self.linear(self.dropout(vectors))}
        if self.settings["coarse_only"] is None:
            outputs["embeddings"] = F.normalize(vectors.float())
        return outputs

    def loss(self, outputs: dict[str, Tensor], batch: GeoBatch) -> dict[str, Tensor]:
        """Give {"loss"}: cross-entropy with the photos' cells, the mean over partitions; without photos in no cell."""
        parts, centres = self._split(outputs["logits"]), self.centres.split(self.counts)
        losses = []
        for number, logits in enumerate(parts):
            labels = batch.labels[:, number]
            known = labels != UNKNOWN
            target: Tensor = labels[known]
            if self.settings["smoothing_km"] and batch.places is not None:
                target = smoothed(target, batch.places[known], centres[number], self.settings["smoothing_km"])
            total = F.cross_entropy(logits[known], target, reduction="sum")
            losses.append(total / max(1, len(target)))
        return {"loss": torch.stack(losses).mean()}

    def distill_loss(self, outputs: dict[str, Tensor], teacher_logits: Tensor) -> Tensor:
        """Divergence from a teacher's softened probabilities of the same cells, averaged over images and partitions.

        Args:
            outputs: of this head, for B images.
            teacher_logits: [B, K].

        Source: Hinton et al., Distilling the Knowledge in a Neural Network (2015), section 2.
        """
        pairs = zip(self._split(outputs["logits"]), self._split(teacher_logits), strict=True)
        temperature = self.settings["teacher_temperature"]
        return torch.stack([softened_kl(ours, theirs, temperature) for ours, theirs in pairs]).mean()

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of images flipped left to right are what they say of the images as they were."""
        return outputs

    def _split(self, logits: Tensor) -> tuple[Tensor, ...]:
        return logits.float().split(self.counts, dim=1)

    @property
    def temperature(self) -> float:
        """What finished logits are divided by."""
        return self.fitted.temperature

    @property
    def finished_names(self) -> tuple[str, ...]:
        """Tokens of the finest cells, [F]."""
        return tuple(name.rpartition("/")[2] for name in self.class_names[-self.counts[-1] :])

    def finish(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs -> those with logits [B, F] of the F finest cells, nested ones multiplied in; once is enough."""
        logits = outputs["logits"]
        if logits.shape[1] == self.counts[-1]:
            return outputs
        *coarser, joint = (F.log_softmax(part, dim=1) for part in self._split(logits))
        if self.settings["hierarchical"]:
            for part, rows in zip(coarser, self._parents, strict=True):
                joint = joint + part[:, rows.to(part.device)]
        return {**outputs, "logits": joint}

    def probabilities(self, logits: Tensor) -> Tensor:
        """Logits [B, K] of all partitions, or finished ones -> probabilities [B, F] of the F finest cells."""
        return F.softmax(self.finish({"logits": logits})["logits"].float() / self.temperature, dim=1)

    @torch.no_grad()
    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> list[Place]:
        """Outputs, finished or not -> the place of each image; `sizes` does not matter."""
        probabilities = self.probabilities(outputs["logits"]).double().cpu().numpy()
        vectors = None
        if "embeddings" in outputs:  # of length 1 again where they are the mean with a mirror image's
            vectors = F.normalize(outputs["embeddings"].float()).cpu().numpy()
        locator = self.locator or Locator(None)
        return locator.locate(self.cells, probabilities, vectors, self.fitted)

    def calibrate(self, metric: Any) -> None:
        """Fit temperature, radii and the weight of the neighbours to the answers that a metric has collected."""
        fitted = metric.fit(self.fitted, self.settings["coverage"])
        index = self.locator.digest if self.locator else None
        self.settings["fitted"] = replace(fitted, index=index).to_json()


def check_coarse(class_names: Sequence[str], coarse_only: str) -> None:
    """See that no cell is finer than a coarse-only head may have.

    Raises:
        ValueError: one is, or the names are no cells.
    """
    finest = COARSE_LEVELS[coarse_only]
    found = max(int(levels(cells).max()) for cells in cells_of(class_names).values())
    if found > finest:
        raise ValueError(
            f"coarse_only={coarse_only} allows no cell finer than level {finest}, and there are some of level {found}: "
            "set task.coarse_only=, which the cells follow, and leave data.coarse_only and task.head.coarse_only alone"
        )


def smoothed(labels: Tensor, places: Tensor, centres: Tensor, km: float) -> Tensor:
    """Give targets [B, K] that fall off by the distance of a cell's middle, beyond that of the photo's own cell's.

    Args:
        labels: [B] own cells.
        places: [B, 2] latitude and longitude, degrees.
        centres: [K, 2] likewise.
        km: by which a cell may be farther to get 1/e of the share of the own cell.
    """
    chord = torch.cdist(_vectors(places), _vectors(centres), compute_mode="donot_use_mm_for_euclid_dist")
    distance = 2 * EARTH_KM * torch.asin((chord / 2).clamp(max=1))
    return F.softmax((distance.gather(1, labels[:, None]) - distance).clamp(max=0) / km, dim=1)


def _vectors(places: Tensor) -> Tensor:
    lat, lon = places.float().deg2rad().unbind(-1)
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=-1)
