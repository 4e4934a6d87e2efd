"""Non-maximum suppression inside an ONNX file: scores of suppressed boxes become zero, shapes stay as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from mbapps.models.network import Network

from .sessions import need

RAW = "_before_nms"  # behind the name of scores that are still to be suppressed


class Suppression(NamedTuple):
    """What a file does with a detector's boxes.

    head: its name.
    iou_thresh: overlap above which the worse of two boxes of a class goes.
    score_thresh: at or below which a box goes.
    most: boxes of a class and an image that stay at most.
    """

    head: str
    iou_thresh: float
    score_thresh: float
    most: int


def suppression_of(network: Network) -> Suppression:
    """How the only detector of a network suppresses, as its head decodes.

    Raises:
        ValueError: there is no detector, or several.
    """
    found = _with_boxes(network)
    if len(found) != 1:
        raise ValueError(f"nms=true is for a model with one head that gives boxes, not {len(found)} of them")
    settings = network.head(found[0]).settings
    return Suppression(
        found[0], settings["nms_thresh"], settings["score_thresh"], settings["detections_per_img"]
    )


def has_boxes(network: Network) -> bool:
    """Whether a head of a network gives boxes."""
    return bool(_with_boxes(network))


def _with_boxes(network: Network) -> list[str]:
    return [name for name in network.heads if "nms_thresh" in network.head(name).settings]


def add_suppression(path: Path, wanted: Suppression) -> None:
    """Change an ONNX file so that only boxes that suppression keeps have a score: of others it is 0.

    Args:
        path: of the file; it gives `<head>_boxes` [B, A, 4] and `<head>_scores` [B, A, K].
        wanted: what to do.
    """
    (onnx,) = need("onnx", "onnx")
    model = onnx.load(path)
    boxes, scores = f"{wanted.head}_boxes", f"{wanted.head}_scores"
    for node in model.graph.node:
        node.output[:] = [name + RAW if name == scores else name for name in node.output]
        node.input[:] = [name + RAW if name == scores else name for name in node.input]
    number, whole = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
    constants = {
        "most": (whole, wanted.most), "iou": (number, wanted.iou_thresh), "score": (number, wanted.score_thresh),
    }  # fmt: skip
    model.graph.initializer.extend(
        onnx.helper.make_tensor(f"nms_{name}", kind, [1], [value])
        for name, (kind, value) in constants.items()
    )

    def step(operator: str, inputs: list[str], output: str, **attributes: Any) -> None:
        model.graph.node.append(onnx.helper.make_node(operator, inputs, [output], output, **attributes))

    step("Transpose", [scores + RAW], "nms_by_class", perm=[0, 2, 1])  # [B, K, A]
    inputs = [boxes, "nms_by_class", *(f"nms_{name}" for name in constants)]
    step("NonMaxSuppression", inputs, "nms_kept")  # [N, 3]: image, class, box
    step("GatherND", ["nms_by_class", "nms_kept"], "nms_kept_scores")  # [N]
    step("Shape", ["nms_by_class"], "nms_shape")
    step("ConstantOfShape", ["nms_shape"], "nms_zeros")
    step("ScatterND", ["nms_zeros", "nms_kept", "nms_kept_scores"], "nms_scores")
    step("Transpose", ["nms_scores"], scores, perm=[0, 2, 1])
    onnx.checker.check_model(model)
    onnx.save(model, path)
