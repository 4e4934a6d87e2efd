"""Images to vectors, by a model folder whose head gives them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from .deploy.bundle import Bundle, stack_views
from .deploy.saving import fingerprint
from .images import UInt8Image, central_view
from .search.checks import ModelId, is_share


class Embedder:
    """A model folder that gives vectors.

    Args:
        folder: the model folder that `bundle` was opened from.
        face_crop: of faces, the share of each side, round the middle, that is looked at, in (0, 1]; None is that of the
            training.
        flip: take the mean of each image's vector and its mirror image's.

    Raises:
        ValueError: the model has no embeddings, or an argument is out of its range.
    """

    def __init__(
        self, folder: str | Path, bundle: Bundle, *, face_crop: float | None = None, flip: bool = False
    ):
        if face_crop is not None and not is_share(face_crop):
            raise ValueError(f"face_crop must lie in (0, 1], got {face_crop}")
        if not isinstance(flip, bool):
            raise ValueError(f"flip must be true or false, got {flip}")
        heads = list(bundle.network.heads)
        names = [name for name in heads if getattr(bundle.network.head(name), "EMBEDS", False)]
        if len(names) != 1:
            raise ValueError(
                f"a gallery needs a model with embeddings, such as task=face_embed and task=geo train; {folder} holds "
                f"{', '.join(heads)}{', of which one is to be named by task=' if names else ''}"
            )
        self.bundle, self.name, self.flip = bundle, names[0], flip
        self.places = hasattr(bundle.network.head(self.name), "attach")  # it can ask a geo-index
        self.facts: dict[str, Any] = bundle.facts["heads"][self.name]
        settings = self.facts["settings"]
        if settings.get("coarse_only") is not None:
            raise ValueError(
                f"{folder} was trained with task.coarse_only={settings['coarse_only']}: it gives no embeddings, "
                "since a gallery of photos with their places would reveal more than it may"
            )
        view: dict[str, Any] = {"head": self.name} if len(bundle.facts["heads"]) > 1 else {}
        if "central_crop" in settings:
            if flip:
                raise ValueError(f"flip=true is for faces; {folder} is asked with photos as they are")
            if face_crop is not None:
                raise ValueError(
                    f"face_crop is for faces; {folder} sees the middle {settings['central_crop']} of each side"
                )
            self.crop = float(settings["central_crop"])
        else:
            self.crop = float(self.facts.get("face_crop", 1.0) if face_crop is None else face_crop)
            view["face_crop"] = self.crop
        self.model = ModelId(
            str(Path(folder).absolute()), fingerprint(folder, [self.name]), {**view, "flip": flip}
        )

    def view(self, image: UInt8Image) -> UInt8Image:
        """What the network sees of an image [H, W, 3]: [S, S, 3]."""
        return central_view(image, self.facts["image_size"], self.crop)

    @torch.inference_mode()
    def embed(self, views: Tensor) -> NDArray[np.float32]:
        """Views uint8 [B, 3, S, S], on the network's device -> vectors [B, D] of length 1, in full precision."""
        network = self.bundle.network
        with torch.autocast(views.device.type, enabled=False):  # a trainer's would part rows from probes
            outputs = network.answer(views, self.name, flip=self.flip)
        return np.asarray(F.normalize(outputs["embeddings"].float()).cpu().numpy())

    def embed_images(self, images: Sequence[UInt8Image]) -> NDArray[np.float32]:
        """Images [H, W, 3] of any sizes -> vectors [B, D] of length 1."""
        return self.embed(stack_views([self.view(image) for image in images]).to(self.bundle.device))
