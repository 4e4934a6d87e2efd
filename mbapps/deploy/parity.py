"""How far a file's answers are from the original's: from real images to raw outputs and to what is told of them."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mbapps.images import UInt8Image
from mbapps.models.network import Network

from .bundle import Bundle, head_views
from .difference import Difference
from .graph import Graph, finish
from .likeness import count_alike, count_roughly_alike, judged, told
from .measured import Measured

METRIC_TOLERANCE = 1e-3  # of the task's own number
LEAST_AGREEMENT = (
    0.99  # share of what is told that must be alike; a tie that falls otherwise costs one of many
)


@dataclass
class Parity:
    """What comparing a file with the original has shown.

    tolerance: greatest error of an output, as a share of its range.
    outputs: by the file's name of the output.
    alike, told: by head, or head and attribute, items of the answers that both tell, and how many there are.
    layer: the first that differs by more than the tolerance, where something does.
    looked: whether layers were compared one by one.
    metrics: tasks' numbers that were measured on labelled images.
    most_noise: of a file in 8 bits, greatest noise of an output that answers are made of, as a share of its spread; its
        answers are compared by what they mean, and its task's number may be better. None: everything must be the same.
    least_agreement: share of what is told by a head that must be alike.
    metric_tolerance: greatest difference of the task's number.
    least_told: items that a head must tell, or one for each image, so that there is something to compare, unless its
        task's number was measured.
    drawn: outputs that are for pictures alone.
    """

    runtime: str
    tolerance: float
    images: int = 0
    outputs: dict[str, Difference] = field(default_factory=dict)
    alike: dict[str, int] = field(default_factory=dict)
    told: dict[str, int] = field(default_factory=dict)
    layer: str | None = None
    metrics: dict[str, Measured] = field(default_factory=dict)
    most_noise: float | None = None
    least_agreement: float = LEAST_AGREEMENT
    metric_tolerance: float = METRIC_TOLERANCE
    least_told: int = 0
    drawn: set[str] = field(default_factory=set)
    looked: bool = False

    @property
    def relative(self) -> float:
        """The greatest error of all outputs, as a share of the range."""
        return max((found.relative for found in self.outputs.values()), default=0.0)

    @property
    def num_told(self) -> int:
        """Items that both tell, of all heads; 0: no answers could be compared."""
        return sum(self.told.values())

    @property
    def agreement(self) -> float:
        """Share of what is told that both tell, of the head that agrees least; 1 where neither tells anything."""
        return min((self.alike[name] / told for name, told in self.told.items() if told), default=1.0)

    @property
    def noise(self) -> float:
        """The greatest noise of the outputs that answers are made of, as a share of the spread."""
        return max(
            (found.noise for name, found in self.outputs.items() if name not in self.drawn), default=0.0
        )

    @property
    def signal_db(self) -> float:
        """The same in decibels of signal over noise, at most 120."""
        return -20 * math.log10(min(max(self.noise, 1e-6), 1e6))

    @property
    def silent(self) -> list[str]:
        """Heads that tell too little to be compared, and whose number was not measured."""
        least = min(self.least_told, self.images)
        measured = {found.head for found in self.metrics.values()}
        counts: dict[str, int] = {}
        for name, count in self.told.items():
            head = name.partition(".")[0]
            counts[head] = counts.get(head, 0) + count
        return [head for head, count in counts.items() if count < least and measured.isdisjoint((head, ""))]

    @property
    def passed(self) -> bool:
        """Whether the file may be used in the original's place."""
        if self.most_noise is None:
            fits = self.relative <= self.tolerance
        else:
            fits = self.noise <= self.most_noise and math.isfinite(self.relative)
        return fits and not self.lost and self.agreement >= self.least_agreement and not self.silent

    @property
    def lost(self) -> dict[str, Measured]:
        """Tasks' numbers that the file does not keep."""
        exact = self.most_noise is None
        return {
            name: found
            for name, found in self.metrics.items()
            if not found.kept(self.metric_tolerance, exact=exact)
        }

    def limit(self, found: Measured) -> float:
        """By how much a task's number may differ, or in 8 bits be worse."""
        return found.limit(self.metric_tolerance, exact=self.most_noise is None)

    def furthest(self, count: int) -> list[int]:
        """Rows of the images whose outputs differ most, the worst first."""
        shares = [
            max(found.share(found.errors[row]) for found in self.outputs.values())
            for row in range(self.images)
        ]
        return sorted(range(self.images), key=lambda row: -shares[row])[:count]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and strings; what is no number or without end is null, and so is agreement on nothing."""
        outputs = {
            name: {
                "error": _finite(found.error), "low": _finite(found.low), "high": _finite(found.high),
                "relative": _finite(found.relative), "noise": _finite(found.noise),
            }
            for name, found in self.outputs.items()
        }  # fmt: skip
        metrics = {
            name: {
                "original": _finite(found.original),
                "file": _finite(found.file),
                "images": found.images,
                "limit": _finite(self.limit(found)),
            }
            for name, found in self.metrics.items()
        }
        return {
            "runtime": self.runtime, "passed": self.passed, "images": self.images,
            "limits": {
                "tolerance": None if self.most_noise else _finite(self.tolerance), "most_noise": self.most_noise,
                "least_agreement": self.least_agreement, "metric_tolerance": self.metric_tolerance,
                "least_told": self.least_told,
            },
            "relative_error": _finite(self.relative), "noise": _finite(self.noise), "signal_db": self.signal_db,
            "agreement": self.agreement if self.num_told else None, "silent": self.silent,
            "first_layer": self.layer, "metrics": metrics, "outputs": outputs,
            "heads": {name: {"alike": self.alike[name], "told": told} for name, told in self.told.items()},
        }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@torch.inference_mode()
def compare(
    bundle: Bundle,
    other: Network,
    batches: Iterable[Sequence[UInt8Image]],
    parity: Parity,
    *,
    suppressed: bool = False,
    thresholds: bool = True,
) -> Parity:
    """Answer for images with a model folder's own network and with another, and add up how they differ.

    Args:
        bundle: the original.
        other: a network of the same heads.
        batches: images [H, W, 3] of any sizes.
        parity: what was found before.
        suppressed: `other` gives 0 as the score of boxes that suppression takes away.
        thresholds: compare what is told above the folder's thresholds; else all that the heads decode.
    """
    for images in batches:
        parity.images += len(images)
        sizes = torch.tensor([image.shape[:2] for image in images])
        for name in bundle.network.heads:
            head, facts = bundle.network.head(name), bundle.facts["heads"][name]
            least = facts.get("thresholds") if thresholds else None
            parity.drawn |= {f"{name}_{output}" for output in getattr(head, "DRAWN", ())}
            views = head_views(facts, images)
            ours, theirs = bundle.network(views, [name])[name], other(views, [name])[name]
            other_outputs = finish(head, theirs)
            for output, value in finish(head, ours).items():
                found = parity.outputs.setdefault(f"{name}_{output}", Difference())
                other_value = other_outputs[output]
                if suppressed and output == "scores":
                    value = value * (other_value > 0)  # which boxes went shows in the answers
                found.add(value.numpy(), other_value.numpy())
            pairs = zip(head.decode(ours, sizes), head.decode(theirs, sizes), strict=True)
            for answers in pairs:
                _count(parity, name, *(judged(answer, least) for answer in answers))
    return parity


def _count(parity: Parity, head: str, ours: Any, theirs: Any) -> None:
    """Add what two answers of a head say alike."""
    if parity.most_noise is None:
        one, two = told(ours), told(theirs)
        counts = {"": (2 * count_alike(one, two, parity.tolerance), len(one) + len(two))}
    else:
        counts = count_roughly_alike(ours, theirs)
    for part, (alike, both) in counts.items():
        name = f"{head}.{part}" if part else head
        parity.alike[name] = parity.alike.get(name, 0) + alike
        parity.told[name] = parity.told.get(name, 0) + both


def first_divergence(
    original: Network,
    exported: Network,
    images: NDArray[np.uint8],
    write: Callable[[Graph, Path], Any],
    tolerance: float,
    *,
    batch: int | None = None,
) -> str | None:
    """Name the first layer, in the order in which they run, whose output is not the original's.

    The network is written once more with the output of every layer visible.

    Args:
        original: the network as it was trained.
        exported: as it is written, its norms folded.
        images: [N, S, S, 3].
        write: writes a graph below a folder and opens it: a session.
        tolerance: of an output's range.
        batch: images that the session takes at a time; None: all of them.

    Returns:
        None where no layer differs: visible outputs keep a runtime from joining layers, and joined ones may differ.
    """
    ours, theirs = Graph(original, taps=True), Graph(exported, taps=True)
    size = batch or len(images)
    differences = {name: Difference() for name in ours.order}
    with tempfile.TemporaryDirectory() as folder:
        session = write(theirs, Path(folder))
        for start in range(0, len(images), size):
            part = np.resize(images[start : start + size], (size, *images.shape[1:]))  # the last is filled up
            with torch.inference_mode():
                truths = ours(torch.from_numpy(part))
            found = session.run(part)
            for name, difference in differences.items():
                difference.add(truths[ours.order[name]].numpy(), found[theirs.order[name]])
        del session  # where files that are open can't be deleted, the folder could not
    far = (name for name, difference in differences.items() if difference.relative > tolerance)
    return next(far, None)
