"""An SSD as .tflite: LiteRT's own raw outputs against the converted model folder, in COCO AP.

pip install ai-edge-litert
python bench/litert.py ssd.tflite coco128/annotations/instances_train2017.json coco128/images/train2017

Both see the same pixels. LiteRT's boxes and scores are taken from before its post-processing and decoded here, in
plain numpy; the model folder decodes its own. pycocotools scores both.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

import mbapps
from mbapps.deploy.bundle import Bundle
from mbapps.deploy.saving import describe, save_bundle
from mbapps.images import read_image, resize
from mbapps.models.weights import read_weights
from mbapps.verbs.convert import build_network

Floats = NDArray[np.float64]
POSTPROCESS = "TFLite_Detection_PostProcess"
SCALES = np.array([10.0, 10.0, 5.0, 5.0])  # y, x, height, width
TOP = 100


class LiteRT:
    """Boxes (y, x, height, width offsets), scores with the background first and anchors, as LiteRT has them."""

    def __init__(self, path: Path):
        from ai_edge_litert.interpreter import Interpreter

        warnings.simplefilter("ignore")
        self.net = Interpreter(str(path), experimental_preserve_all_tensors=True)
        self.net.allocate_tensors()
        last = next(op for op in self.net._get_ops_details() if op["op_name"] == POSTPROCESS)
        self.rows = [int(row) for row in last["inputs"]]
        self.facts = {fact["index"]: fact for fact in self.net.get_tensor_details()}
        self.size = int(self.net.get_input_details()[0]["shape"][1])

    def __call__(self, pixels: NDArray[np.uint8]) -> list[Floats]:
        given = self.net.get_input_details()[0]
        self.net.set_tensor(given["index"], pixels[None].astype(given["dtype"]))
        self.net.invoke()
        return [self._real(row) for row in self.rows]

    def _real(self, row: int) -> Floats:
        scale, zero_point = self.facts[row]["quantization"]
        stored = self.net.get_tensor(row).astype(np.float64)
        return ((stored - zero_point) * scale if scale else stored).reshape(-1, stored.shape[-1])


def iou(box: Floats, others: Floats) -> Floats:
    top, left = np.maximum(box[:2], others[:, :2]).T
    bottom, right = np.minimum(box[2:], others[:, 2:]).T
    inter = np.maximum(bottom - top, 0) * np.maximum(right - left, 0)
    area = np.prod(others[:, 2:] - others[:, :2], axis=1)
    return inter / np.maximum((box[2] - box[0]) * (box[3] - box[1]) + area - inter, 1e-12)


def decode(
    codes: Floats, scores: Floats, anchors: Floats, thresh: float, nms: float
) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """[N, 4] y0 x0 y1 x1 as shares of the image, scores, column: suppression within each column, the best TOP."""
    codes = codes / SCALES
    centre = codes[:, :2] * anchors[:, 2:] + anchors[:, :2]
    half = np.exp(codes[:, 2:]) * anchors[:, 2:] / 2
    boxes = np.clip(np.concatenate([centre - half, centre + half], axis=1), 0, 1)
    found: list[tuple[float, int, int]] = []
    for column in range(1, scores.shape[1]):  # 0 is the background
        rows = np.flatnonzero(scores[:, column] > thresh)
        rows = rows[np.argsort(-scores[rows, column], kind="stable")]
        while len(rows):
            found.append((float(scores[rows[0], column]), int(rows[0]), column))
            rows = rows[1:][iou(boxes[rows[0]], boxes[rows[1:]]) <= nms]
    found = sorted(found, reverse=True)[:TOP]
    return (
        boxes[[row for _, row, _ in found]],
        np.array([score for score, _, _ in found]),
        np.array([column for _, _, column in found], dtype=np.int64),
    )


def score(truth: COCO, results: list[dict[str, Any]]) -> list[float]:
    """AP, AP50 and AP75 by pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        run = COCOeval(truth, truth.loadRes(results), "bbox")
        run.evaluate(), run.accumulate(), run.summarize()
    return [float(value) for value in run.stats[:3]]


def to_coco(image: int, boxes: Floats, scores: Floats, ids: NDArray[np.int64]) -> list[dict[str, Any]]:
    """Boxes [N, 4] xyxy px -> COCO's results."""
    return [
        {"image_id": image, "category_id": int(k), "bbox": [x, y, x1 - x, y1 - y], "score": float(s)}
        for (x, y, x1, y1), s, k in zip(boxes.tolist(), scores, ids, strict=True)
    ]


def open_ours(path: Path, thresh: float, nms: float) -> Bundle:
    """Convert, save and open as a user would, decoding set alike."""
    weights = read_weights(path)
    network = build_network(weights)
    network.head("detection").settings |= {
        "score_thresh": thresh, "nms_thresh": nms, "detections_per_img": TOP,
    }  # fmt: skip
    about = {"category_ids": list(weights.heads["detection"].category_ids)}
    with tempfile.TemporaryDirectory() as folder:
        return mbapps.load(
            save_bundle(Path(folder) / "model", network, describe(network, {"detection": about}))
        )


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tflite", type=Path)
    parser.add_argument("annotations", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--thresh", type=float, default=0.05)
    parser.add_argument("--nms", type=float, default=0.6)
    words = parser.parse_args()
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(words.annotations))
    bundle, litert = open_ours(words.tflite, words.thresh, words.nms), LiteRT(words.tflite)
    head = bundle.network.head("detection")
    ids = {item["name"]: item["id"] for item in truth.cats.values()}
    numbers = np.array([-1, *(ids[name] for name in head.class_names)])  # id in the truth of each column
    used = [0, *bundle.head_facts["category_ids"]]
    corners = head.anchors.double().numpy()[:, [1, 0, 3, 2]] / head.image_size
    exact = (
        np.concatenate([corners[:, :2] + corners[:, 2:], 2 * (corners[:, 2:] - corners[:, :2])], axis=1) / 2
    )
    results: dict[str, list[dict[str, Any]]] = {}
    codes, scores = [], []
    for image, item in truth.imgs.items():
        picture = read_image(words.images / item["file_name"])
        height, width = picture.shape[:2]
        pixels = resize(picture, litert.size, litert.size)
        theirs, their_scores, their_anchors = litert(pixels)
        outputs = bundle.network(torch.from_numpy(pixels).permute(2, 0, 1)[None])["detection"]
        (found,) = head.decode(outputs, torch.tensor([[height, width]]))
        results.setdefault("ours", [])
        results["ours"] += to_coco(image, found.boxes, found.scores, numbers[found.labels + 1])
        ours = outputs["deltas"][0].double().numpy()[:, [1, 0, 3, 2]]
        our_scores = outputs["logits"][0].sigmoid().double().numpy()
        codes.append((ours, theirs))
        scores.append((our_scores, their_scores[:, used]))
        for kind, raw in (
            ("ours, decoded in numpy", (ours, our_scores, exact)),
            ("LiteRT", (theirs, their_scores[:, used], their_anchors)),
            ("LiteRT, exact anchors", (theirs, their_scores[:, used], exact)),
        ):
            boxes, best, column = decode(*raw, words.thresh, words.nms)
            boxes = boxes[:, [1, 0, 3, 2]] * [width, height, width, height]
            results.setdefault(kind, [])
            results[kind] += to_coco(image, boxes, best, numbers[column])
    (ours, theirs), (our_scores, their_scores) = (np.stack(pairs, axis=1) for pairs in (codes, scores))
    top = their_scores.max()  # eight bits end here
    print(f"{len(truth.imgs)} images, score threshold {words.thresh}, suppression at {words.nms}, best {TOP}")
    print(f"box offsets correlate by {np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]:.5f}")
    print(
        f"scores differ by {np.abs(np.minimum(our_scores, top) - their_scores).max():.3f} at most below {top:.3f}"
    )
    for kind, boxes_found in results.items():
        ap, ap50, ap75 = score(truth, boxes_found)
        print(f"{kind:24s} AP {ap:.4f}  AP50 {ap50:.4f}  AP75 {ap75:.4f}")


if __name__ == "__main__":
    main()
