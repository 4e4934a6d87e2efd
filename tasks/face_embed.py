"""Face embeddings: a unit vector per face, emulated from a teacher, drawn apart by margins, or both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mbapps.batches import UNKNOWN, ClassificationBatch
from mbapps.models.mobilenet import MobileNetV1
from mbapps.ops.distill import squared_difference
from mbapps.ops.margins import arcface_logits, cosface_logits, triplet_loss
from mbapps.predictions import Embedding

POOLS = ("avg", "gdc", "flatten")


class Reduction(nn.Module):
    """Teacher's embeddings [B, E] -> [B, D] of length 1: their place about the mean, on the axes they vary most on.

    Args:
        answers: [N, E], by which mean and axes are found; where they have fewer axes than D the rest is 0.
        dim: D.
    """

    mean: Tensor
    axes: Tensor

    def __init__(self, answers: Tensor, dim: int):
        super().__init__()
        mean = answers.mean(dim=0)
        axes = torch.linalg.svd(answers - mean, full_matrices=False).Vh[:dim]  # [up to D, E]
        self.register_buffer("mean", mean)
        self.register_buffer("axes", F.pad(axes, (0, 0, 0, dim - len(axes))))

    def forward(self, embeddings: Tensor) -> Tensor:
        return F.normalize((embeddings - self.mean) @ self.axes.T)


class FaceEmbedHead(nn.Module):
    """Feature maps -> {"embeddings": [B, D] of length 1}.

    c5 is pooled, a linear layer and a batch norm give D numbers, and these are scaled to length 1. What only
    training needs, a prototype of each person and the axes of the teacher, is not shipped.

    Args:
        body: asked for the width of c5; not kept.
        class_names: the K people of the training set; () where none are to be learned, as in a model folder.
        image_size: side of the square input, px; "gdc" and "flatten" take no other.
        dim: D; None gives the pooled features themselves, without the linear layer.
        pool: "avg"; "gdc", a global depthwise convolution; or "flatten", every cell of c5, whose parameters
            come nearest to Table 14's at 128 px.
        triplet, cosface, arcface: weight of each loss on the labels, >= 0.
        triplet_margin, cosface_margin, arcface_margin: the papers', see `mbapps.ops.margins`.
        scale: of the cosines; the papers' 64 is for tens of thousands of people: a body from random weights learns
            nothing of a hundred with it.

    Raises:
        ValueError: an argument is out of its range.

    Source: Howard et al., MobileNets (2017), section 4.7 and Table 14; the linear layer, norm and losses of Schroff et
    al., FaceNet (2015), and Deng et al., ArcFace (2019); Chen et al., MobileFaceNets (2018), for "gdc".
    """

    CLASS_LAYERS = ("prototypes",)  # state dict prefixes that are void for other people
    OPEN_SET = True  # the people it will be asked about are not those it learned from
    TAUGHT = "embeddings"  # the output that a teacher is asked for
    EMBEDS = True  # galleries can be made with it
    SCORED = False  # an embedding has no score
    OF_FACES = True  # it is shown one cropped face

    def __init__(
        self,
        body: MobileNetV1,
        class_names: Sequence[str] = (),
        image_size: int = 160,
        *,
        dim: int | None = 128,
        pool: str = "avg",
        triplet: float = 0.0,
        cosface: float = 1.0,
        arcface: float = 0.0,
        triplet_margin: float = 0.2,
        cosface_margin: float = 0.35,
        arcface_margin: float = 0.5,
        scale: float = 16.0,
    ):
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"task.head.pool must be one of {list(POOLS)}, got {pool!r}")
        if dim is not None and dim < 1:
            raise ValueError(f"task.head.dim must be >= 1 or null, got {dim}")
        self.weights = {"triplet": triplet, "cosface": cosface, "arcface": arcface}
        for name, weight in self.weights.items():
            if not isinstance(weight, (int, float)) or weight < 0:
                raise ValueError(f"task.head.{name} is the weight of a loss, >= 0, got {weight!r}")
        self.POOLED = pool == "avg"  # then it sees nothing but the pooled c5
        self.class_names = tuple(class_names)
        self.image_size = image_size
        self.settings: dict[str, Any] = {
            "dim": dim, "pool": pool, **self.weights, "triplet_margin": triplet_margin,
            "cosface_margin": cosface_margin, "arcface_margin": arcface_margin, "scale": scale,
        }  # fmt: skip
        channels, stride = body.features["c5"]
        side = -(-image_size // stride)
        self.pool: nn.Module = nn.AdaptiveAvgPool2d(1)
        if pool == "gdc":
            self.pool = nn.Sequential(
                nn.Conv2d(channels, channels, side, groups=channels, bias=False), nn.BatchNorm2d(channels)
            )
            nn.init.constant_(next(self.pool.parameters()), 1 / side**2)  # it starts as the average
        if pool == "flatten":
            self.pool = nn.Identity()
        width = channels * (side**2 if pool == "flatten" else 1)
        self.project: nn.Module = nn.Identity()
        if dim is not None:
            self.project = nn.Sequential(nn.Linear(width, dim, bias=False), nn.BatchNorm1d(dim))
            width = dim
        self.dim = width
        self.prototypes: nn.Parameter | None = None
        self.reduction: Reduction | None = None
        if self.class_names and (cosface or arcface):
            self.prototypes = nn.Parameter(torch.randn(len(self.class_names), width) * 0.01)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        pooled = self.pool(features["c5"]).flatten(1)  # [B, C], or [B, C * side^2] of "flatten"
        return {"embeddings": F.normalize(self.project(pooled).float())}

    def learn_from(self, answers: Tensor, *, labels: bool) -> str:
        """Get ready for a teacher before training, with or without the labels; say what is done.

        A teacher of another width than D is emulated on the principal axes of its answers, about their mean. A map
        that learns along with the student instead reaches a smaller loss, by stretching what the student finds
        easy, and embeddings whose similarities mean less.

        Args:
            answers: [N, E] of the teacher, for some images to learn from.
            labels: whether the labels have a part in the loss.
        """
        if not labels:
            self.prototypes = None  # else their gradients would be waited for
        width = answers.shape[1]
        if width == self.dim:
            return f"the student emulates the teacher's {width} numbers"
        self.reduction = Reduction(answers, self.dim)
        return f"the student emulates the teacher's {width} numbers on their {self.dim} principal axes"

    def strip(self) -> None:
        """Leave behind what only training needs, and the names of the people."""
        self.prototypes = self.reduction = None
        self.class_names = ()

    def loss(self, outputs: dict[str, Tensor], batch: ClassificationBatch) -> dict[str, Tensor]:
        """Give {"loss"} and its weighted parts; images of label UNKNOWN have no part in it."""
        if not any(self.weights.values()):
            raise ValueError(
                "there is nothing to learn by: give task.head.triplet, .cosface or .arcface a weight, or a teacher by "
                "distill.teacher="
            )
        known = batch.labels != UNKNOWN
        embeddings, labels = outputs["embeddings"].float()[known], batch.labels[known]
        parts: dict[str, Tensor] = {}
        with torch.autocast(embeddings.device.type, enabled=False):  # a rounded cosine, scaled, is no logit
            if self.weights["triplet"]:
                parts["triplet"] = triplet_loss(embeddings, labels, margin=self.settings["triplet_margin"])
            if self.prototypes is not None:
                cosines = embeddings @ F.normalize(self.prototypes).T
                for name, logits in (("cosface", cosface_logits), ("arcface", arcface_logits)):
                    if self.weights[name]:
                        margin = self.settings[f"{name}_margin"]
                        widened = logits(cosines, labels, scale=self.settings["scale"], margin=margin)
                        parts[name] = F.cross_entropy(widened, labels, reduction="sum") / max(1, len(labels))
            loss = torch.stack([self.weights[name] * part for name, part in parts.items()]).sum()
        return {"loss": loss} | (
            {name: part.detach() for name, part in parts.items()} if len(parts) > 1 else {}
        )

    def distill_loss(self, outputs: dict[str, Tensor], teacher_embeddings: Tensor) -> Tensor:
        """Squared distance to the teacher's embedding, averaged over images.

        Args:
            outputs: of this head, for B images.
            teacher_embeddings: [B, E] of length 1; other widths than D are reduced, after `learn_from`.

        Source: Howard et al., MobileNets (2017), section 4.7.
        """
        wanted = teacher_embeddings.float()
        return squared_difference(outputs["embeddings"], self.reduction(wanted) if self.reduction else wanted)

    def mirror(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Raw outputs of images flipped left to right are what they say of the images as they were."""
        return outputs

    @torch.no_grad()
    def decode(self, outputs: dict[str, Tensor], sizes: Tensor) -> list[Embedding]:
        """Raw outputs, or means of them, -> the embedding of each image; `sizes` does not matter."""
        vectors = F.normalize(outputs["embeddings"].float()).cpu().numpy()
        return [Embedding(row) for row in vectors]
