"""Students of a face net on LFW's people: body alone, labels, distillation; 1.0@160 to 0.25@128.

python bench/face_embed.py lfw=<folder of people> faces=<more faces, without names> weights=<folder> out=<folder> [only=<text>]

Learned from: the people of LFW's part who are not in people_dev.txt, the middle of their pictures, and more faces
cut close. Measured once on the 60 of people_dev.txt by pairs_dev.txt and by all their pairs. The teacher is a face
net of 1,024 numbers; students start from ImageNet weights. Each row sees as many images as the others of its
size. A finished row is a line of <out>/rows.csv and is not run again. Choices were made on a tenth of the people
learned from.
"""

from __future__ import annotations

IMAGES = {"1.0@160": 30_000, "0.75@160": 45_000, "0.5@128": 100_000, "0.25@128": 160_000}  # seen in training
WEIGHTS = {
    "1.0": "mobilenet_v1_1.0_224_frozen.pb", "0.75": "mobilenet_v1_0.75_192_quant.tflite",
    "0.5": "mobilenet_v1_0.5_160_quant.tflite", "0.25": "mobilenet_v1_0.25_224.h5",
}  # fmt: skip
COMMON = "experiment=lfw_people data.root={lfw} trainer.precision=bf16-mixed data.num_workers=1 trainer.progress=false"
WAYS = {
    "distilled": "distill.teacher={out}/teacher/model distill.images={faces}",
    "triplet": "task.head.cosface=0 task.head.triplet=1",
    "arcface": "task.head.cosface=0 task.head.arcface=1",
}
ROWS = [("1.0@160", "arcface"), ("1.0@160", "triplet"), *((size, "distilled") for size in IMAGES)]
COLUMNS = (
    "row", "accuracy", "accuracy_se", "auc", "all_pairs_tar_at_far_1e-2", "all_pairs_tar_at_far_1e-3",
    "all_pairs_tar_at_far_1e-3_low", "all_pairs_tar_at_far_1e-3_high", "rank1", "params", "macs", "seconds", "command",
)  # fmt: skip
