"""Learning from a teacher: what a step's loss is where its outputs, and not labels alone, are to be emulated."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from mbapps.batches import UNKNOWN


class Lessons:
    """The loss of a head that emulates a teacher.

    Args:
        label_weight: of the label loss beside it, >= 0; images without labels have no part in that.
        teacher: uint8 views [B, 3, T, T] -> outputs [B, K], asked where a batch brings none.

    Source: Howard et al., MobileNets (2017), section 4.5: the teacher's outputs instead of the labels.
    """

    def __init__(self, label_weight: float = 0.0, teacher: Callable[[Tensor], Tensor] | None = None):
        if label_weight < 0:
            raise ValueError(f"distill.labels must be >= 0, got {label_weight}")
        self.label_weight = label_weight
        self.teacher = teacher

    def __deepcopy__(self, memo: dict[int, Any]) -> Lessons:
        return self  # an average of the student's weights has the same teacher

    def loss(self, head: Any, outputs: dict[str, Tensor], batch: Any) -> dict[str, Tensor]:
        """Give {"loss"} and its parts, "teacher" and, with a weight, "labels"."""
        brought = hasattr(
            batch, "teacher"
        )  # else all images have labels, and the teacher sees what the student sees
        answers = batch.teacher if brought else None
        if answers is None:
            if self.teacher is None:
                raise ValueError("the batch brings no outputs of a teacher, and there is none to ask")
            answers = self.teacher(batch.views if brought else batch.images)
        taught = head.distill_loss(outputs, answers)
        if not self.label_weight:
            return {"loss": taught}
        if not brought:
            labels = head.loss(outputs, batch)["loss"]
            return {
                "loss": taught + self.label_weight * labels,
                "teacher": taught.detach(),
                "labels": labels.detach(),
            }
        known = (
            (batch.labels.flatten(1) if batch.labels.ndim > 1 else batch.labels[:, None]).ne(UNKNOWN).any(1)
        )
        parts = {"teacher": taught, "labels": taught.new_zeros(())}
        if known.any():
            rows = batch._replace(
                **{name: value[known] for name, value in batch._asdict().items() if isinstance(value, Tensor)}
            )
            parts["labels"] = head.loss({name: value[known] for name, value in outputs.items()}, rows)["loss"]
        return {
            "loss": taught + self.label_weight * parts["labels"],
            **{k: v.detach() for k, v in parts.items()},
        }
