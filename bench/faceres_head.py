"""A face net's own layers as a head of attributes, for a teacher: `trust=faceres_head` with this folder on the path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mbapps.tasks.face_attr import FaceAttrHead

AGE = re.compile(r"age>=(\d+)")
AGES, HIDDEN = 100, 256


class FaceResHead(FaceAttrHead):
    """Feature maps -> {"logits": [B, A]} of "male" and "age>=<years>", by 256 features, a sigmoid and a softmax.

    The logit of an age is that of the probability that the softmax over 0 to 99 years gives to it and above.
    """

    CLASS_LAYERS = ()
    POOLED = False

    def __init__(self, body: Any, class_names: Sequence[str], image_size: int = 224, **settings: float):
        super().__init__(body, class_names, image_size, **settings)
        self.years = [int(found[1]) if (found := AGE.fullmatch(name)) else None for name in class_names]
        self.feats = nn.Linear(self.linear.in_features, HIDDEN)
        self.gender = nn.Linear(HIDDEN, 1)
        self.age = nn.Linear(HIDDEN, AGES)
        del self.linear

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        hidden = torch.relu(self.feats(self.dropout(features["c5"].mean(dim=(2, 3)))))
        gender = self.gender(hidden).float()[:, 0]
        ages = self.age(hidden).float().log_softmax(dim=1)
        logits = [
            gender if years is None else ages[:, years:].logsumexp(1) - ages[:, :years].logsumexp(1)
            for years in self.years
        ]
        return {"logits": torch.stack(logits, dim=1)}
