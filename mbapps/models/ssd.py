"""SSD heads of TF Object Detection as ours: rows, columns and anchors brought into our order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mbapps.ops.anchors import AnchorGenerator
from mbapps.ops.boxes import BoxCoder

from .coco_names import COCO_NAMES, NUM_IDS
from .foreign import Array, ConvNormTensors, HeadWeights, conv_norm

UNUSED = "???"  # how label files mark an id that no class has
ANCHOR_TOLERANCE = 0.005  # share of the image side; anchors stored in eight bits are off by up to 0.0033
Predictor = tuple[Tensor, Tensor]  # kernel [rows, C, 1, 1]; bias [rows]


def ssd_head(
    extras: Sequence[tuple[ConvNormTensors, ConvNormTensors]],
    boxes: Sequence[Predictor],
    classes: Sequence[Predictor],
    anchors: Array,
    map_sizes: Sequence[int],
    image_size: int,
    source: str,
    settings: Mapping[str, object],
    scales: Sequence[float] = (10.0, 10.0, 5.0, 5.0),
) -> HeadWeights:
    """Give the tensors of a `DetectionHead`, its classes not named yet.

    Args:
        extras: the maps after c5, a 1x1 and a 3x3 convolution each.
        boxes: of each map, rows per anchor (y, x, height, width).
        classes: of each map, rows per anchor the background and K classes.
        anchors: [A, 4] centre y, centre x, height, width as shares of the image side, map by map.
        map_sizes: sides of the maps, cells.
        image_size: side of the input, px.
        source: file name, for messages.
        settings: of the head, without its scales.
        scales: that the file multiplies offsets y, x and log height, width by.

    Raises:
        ValueError: the anchors are others than `AnchorGenerator` gives, or the predictors do not fit them.
    """
    min_scale, max_scale = _check_anchors(anchors, map_sizes, source)
    counts = AnchorGenerator(len(map_sizes), min_scale, max_scale).num_anchors_per_location()
    tensors: dict[str, Tensor] = {}
    for index, pair in enumerate(extras):
        for part, layer in enumerate(pair):
            tensors |= conv_norm(f"extras.{index}.{part}", layer)
    columns = len(classes[0][1]) // counts[0]
    ours = torch.tensor(BoxCoder().scales) / torch.tensor([scales[row] for row in (1, 0, 3, 2)])
    for index, count in enumerate(counts):
        for name, predictor, rows in (("boxes", boxes[index], 4), ("classes", classes[index], columns)):
            kernel, bias = predictor
            if kernel.shape[2:] != (1, 1) or len(bias) != count * rows:
                raise ValueError(
                    f"{source} predicts {name} of map {index} by a kernel of shape {list(kernel.shape)}; an SSD "
                    f"head here has {count * rows} rows of 1x1: {count} anchors of {rows} numbers"
                )
            if name == "boxes":
                kernel, bias = (_xywh(tensor, count, ours) for tensor in predictor)
            tensors |= {f"{name}.{index}.weight": kernel, f"{name}.{index}.bias": bias}
    scale_settings = {"min_scale": min_scale, "max_scale": max_scale}
    return HeadWeights(tensors, columns - 1, image_size=image_size, settings={**settings, **scale_settings})


def _xywh(tensor: Tensor, count: int, factors: Tensor) -> Tensor:
    """Rows (y, x, height, width) of each anchor -> (x, y, width, height), in our scales."""
    rows = tensor.view(count, 4, -1)[:, [1, 0, 3, 2]] * factors[:, None]
    return rows.reshape(tensor.shape)


def _check_anchors(anchors: Array, map_sizes: Sequence[int], source: str) -> tuple[float, float]:
    """Read the scales of the first and the last map off the anchors, and check all anchors against ours."""
    wrong = f"{source} has other anchors than SSD's ratios 1, 2, 1/2, 3, 1/3 at evenly spaced scales"
    first_of_last = len(anchors) - 6 * map_sizes[-1] ** 2
    if anchors.ndim != 2 or anchors.shape[1] != 4 or first_of_last < 2:
        raise ValueError(f"{wrong}: an array of shape {list(anchors.shape)}")
    sides = (anchors[[1, first_of_last], 2] * anchors[[1, first_of_last], 3]) ** 0.5
    min_scale, max_scale = (round(float(side), 2) for side in sides)
    try:
        generator = AnchorGenerator(len(map_sizes), min_scale, max_scale)
    except ValueError:
        raise ValueError(f"{wrong}: scales {min_scale} to {max_scale}") from None
    wanted = generator.boxes(map_sizes, 1)
    if len(wanted) != len(anchors):
        raise ValueError(f"{wrong}: {len(anchors)} of them, ours are {len(wanted)}")
    low, high = wanted[:, [1, 0]], wanted[:, [3, 2]]  # y, x
    error = (torch.from_numpy(anchors) - torch.cat([(low + high) / 2, high - low], dim=1)).abs().amax(dim=1)
    if (worst := float(error.max())) > ANCHOR_TOLERANCE:
        raise ValueError(f"{wrong}: anchor {int(error.argmax())} is off by {worst:.3f} of the image side")
    return min_scale, max_scale


def name_classes(head: HeadWeights, lines: Sequence[str] = ()) -> HeadWeights:
    """Name a detector's classes, and drop the columns that stand for none.

    `lines` name its columns in their order, the background first or left out, "???" where no class is meant.
    Without them, ninety columns are COCO's ids and others stay unnamed.

    Raises:
        ValueError: the number of lines is neither K nor K + 1, or no line names a class.
    """
    count = head.num_classes
    if lines and len(lines) not in (count, count + 1):
        raise ValueError(
            f"names {len(lines)} classes, the weights have {count}; a background may come first, and "
            f"{UNUSED} marks a column that no class has"
        )
    used = {column: name for column, name in enumerate(lines[-count:], start=1) if name != UNUSED}
    if not lines:
        used = COCO_NAMES if count == NUM_IDS else {}
    elif not used:
        raise ValueError(f"names no class, {UNUSED} alone")
    columns = tuple(used) or tuple(range(1, count + 1))
    rows = torch.tensor([0, *columns])
    tensors = {
        key: tensor.view(-1, count + 1, *tensor.shape[1:])[:, rows].flatten(0, 1)
        if key.startswith("classes.")
        else tensor
        for key, tensor in head.tensors.items()
    }
    return replace(
        head,
        tensors=tensors,
        num_classes=len(columns),
        class_names=tuple(used.values()),
        category_ids=columns,
    )
