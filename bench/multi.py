"""One body for five tasks against five models: each alone, all frozen, all together, with shared norms and their own.

python bench/multi.py datasets=<folder> weights=<ImageNet file of alpha 0.5> out=<folder> [only=<text>]

`datasets` holds detection/bccd, fine_grained/flowers12, faces/utkface_adult and faces/lfw_train; places are the
synthetic world. All rows start from the same body, and each task sees as many images in the joint rows as alone. A
finished row is a line of <out>/rows.csv and is not run again; one that was stopped goes on where it was. Choices were
made on validation. Scores of test are told relative to two floors: knowing nothing, and a head on the frozen body.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

SCORES = {  # number of test, and what it is of a model that knows nothing
    "detection": ("AP", 0.0),
    "fine_grained": ("top1", 1 / 12),
    "face_attr": ("mean_AP", None),  # the share of faces that have an attribute, of the test labels
    "geo": ("median_error_km", None),  # of the best single place
    "face_embed": ("accuracy", 0.5),
}
SETS = {
    "detection": "data.root={datasets}/detection/bccd data.batch_size=12",
    "fine_grained": "data.root={datasets}/fine_grained/flowers12 data.image_size=160 data.batch_size=24",
    "face_attr": "data.root={datasets}/faces/utkface_adult data.image_size=128 data.batch_size=32",
    "geo": "data.image_size=112 data.batch_size=64",
    "face_embed": (
        "data.root={datasets}/faces/lfw_train data.test_people={datasets}/faces/lfw_train/people_dev.txt "
        "data.pairs={datasets}/faces/lfw_train/pairs_dev.txt data.image_size=128 data.batch_size=48"
    ),
}
COMMON = (
    "experiment=five backbone.alpha=0.5 backbone.weights={weights} data.num_workers=1 trainer.progress=false "
    "trainer.precision=bf16-mixed"
)
STEPS = "steps_per_epoch=40 trainer.max_epochs=12"  # a step has a batch of each head
ROWS = {
    **{f"{name} alone": STEPS for name in SETS},
    "frozen": "mode=frozen trainer.max_epochs=30",
    "joint": f"{STEPS} task.freeze_bn=8 heads.detection.weight=2",
    "joint, norms per task": f"{STEPS} norm=per_task",
}


def main() -> None:
    given = {"only": "", "seed": "0", **dict(word.split("=", 1) for word in sys.argv[1:])}
    out = Path(given["out"])
    for row, words in ROWS.items():
        heads = [row.split()[0]] if row.endswith("alone") else list(SETS)
        if given["only"] in row:
            full = f"{COMMON} seed={given['seed']} {words}".format(**given).split()
            full.append(f"heads=[{','.join(heads)}]")
            full += [f"heads.{name}.{word}" for name in heads for word in SETS[name].format(**given).split()]
            run(out, row, full)
    tell(out)


def run(out: Path, row: str, words: list[str]) -> None:
    """Train in a process of its own, or let it go on, and append its numbers as a line."""
    folder, table = out / row.replace(", ", "-").replace(" ", "-"), out / "rows.csv"
    if row in finished(table):
        return
    given = [f"resume={folder}"] if (folder / "checkpoints").is_dir() else [*words, f"out={folder}"]
    env = {**os.environ, "MBAPPS_DATA": str(out / "data")}
    subprocess.run([sys.executable, "-m", "mbapps", "train", *given], check=True, env=env)
    numbers = json.loads((folder / "results.json").read_text())
    values = {
        **{name: numbers.get(f"{name}_{score}") for name, (score, _) in SCORES.items()},
        **{key: numbers[key] for key in ("params", "macs", "seconds")},
        "row": row,
        "megabytes": (folder / "model" / "model.safetensors").stat().st_size / 1e6,
        "command": " ".join(["mbapps train", *words]),
    }
    fresh = not table.exists()
    with table.open("a", newline="") as file:
        writer = csv.DictWriter(file, ["row", *SCORES, "params", "macs", "megabytes", "seconds", "command"])
        if fresh:
            writer.writeheader()
        writer.writerow(values)


def finished(table: Path) -> dict[str, dict[str, str]]:
    """Rows by their name."""
    if not table.exists():
        return {}
    with table.open(newline="") as file:
        return {line["row"]: line for line in csv.DictReader(file)}


def knowing_nothing(words: list[str], out: Path) -> dict[str, float]:
    """Scores of test that take no look at an image.

    An attribute's AP in any order is its share of the faces; the place is that of the training photo that lies best
    among the training photos.
    """
    import numpy as np

    from mbapps.data.face_attr import FaceAttrData
    from mbapps.data.geo import GeoData
    from mbapps.geo.distance import great_circle_km

    os.environ["MBAPPS_DATA"] = str(out / "data")
    root = next(word for word in words if word.startswith("heads.face_attr.data.root=")).partition("=")[2]
    attributes = ["male", "age>=30", "age>=45", "age>=60"]
    faces = FaceAttrData(root=root, image_size=128, attributes=attributes).truth("test")
    places = GeoData(root=None, image_size=112)
    train, test = places.truth("train"), places.truth("test")
    tried = range(0, len(train), 10)
    middle = min(
        tried,
        key=lambda row: np.median(great_circle_km(train.lat[row], train.lon[row], train.lat, train.lon)),
    )
    errors = great_circle_km(train.lat[middle], train.lon[middle], test.lat, test.lon)
    return {
        **{name: floor for name, (_, floor) in SCORES.items() if floor is not None},
        "face_attr": float((faces.labels == 1).mean()),
        "geo": float(np.median(errors)),
    }


def tell(out: Path) -> None:
    """The table: scores of test, and where they lie from a floor to alone."""
    rows = finished(out / "rows.csv")
    alone = {name: rows.get(f"{name} alone", {}).get(name) for name in SCORES}
    if not all(alone.values()) or "frozen" not in rows:
        print("the rows that are finished:", ", ".join(rows))
        return
    floors = {
        "knowing nothing": knowing_nothing(rows["frozen"]["command"].split(), out),
        "a head on the frozen body": {name: float(rows["frozen"][name]) for name in SCORES},
    }
    print(
        "alone: " + ", ".join(f"{name} {SCORES[name][0]} {float(value):.4g}" for name, value in alone.items())
    )
    one = [rows[f"{name} alone"] for name in SCORES]
    for key in ("params", "macs", "megabytes", "seconds"):
        values = {row: float(rows[row][key]) for row in ROWS if row in rows and not row.endswith("alone")}
        print(f"{key}: five models {sum(float(line[key]) for line in one):,.1f}; {values}")
    for said, floor in floors.items():
        print(f"relative, from {said} ({', '.join(f'{name} {value:.4g}' for name, value in floor.items())}):")
        for row in ("frozen", "joint", "joint, norms per task"):
            if row in rows:
                scores = {name: float(rows[row][name]) for name in SCORES}
                parts = {
                    name: (scores[name] - floor[name]) / (float(alone[name]) - floor[name])  # type: ignore[arg-type]
                    for name in SCORES
                }
                texts = ", ".join(f"{name} {scores[name]:.4g} ({part:.3f})" for name, part in parts.items())
                print(f"  {row}: {texts}; mean {sum(parts.values()) / len(parts):.3f}")


if __name__ == "__main__":
    main()
