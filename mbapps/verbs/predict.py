"""`mbapps predict`: answers for images, as JSON and drawn."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mbapps.report import print_table, run_context, write_results

if TYPE_CHECKING:
    from omegaconf import DictConfig

BATCH_SIZE = 16


def run(cfg: DictConfig) -> None:
    """Write predictions.json and, beside it, the drawn pictures; unreadable images are counted and listed."""
    from rich.progress import track

    from mbapps import app
    from mbapps.files import write_text
    from mbapps.images import BrokenImageError, find_images, read_image, write_image

    folder = app.run_folder(cfg)
    files = find_images(cfg.source)
    bundle = app.open_bundle(cfg)
    names = _names(files, Path(cfg.source))
    answers: dict[str, Any] = {}
    broken: dict[str, str] = {}
    started, found = time.perf_counter(), 0
    for start in track(range(0, len(files), BATCH_SIZE), "predicting"):
        readable = []
        for file in files[start : start + BATCH_SIZE]:
            try:
                readable.append((file, read_image(file)))
            except BrokenImageError as error:
                broken[str(file)] = str(error)
        if not readable:
            continue
        predictions = bundle.predict([image for _, image in readable], score_thresh=cfg.score_thresh)
        for (file, image), prediction in zip(readable, predictions, strict=True):
            answer = prediction.to_json()
            found += len(answer)
            answers[str(file)] = answer
            if cfg.draw:
                write_image(folder / "pictures" / names[file], prediction.draw(image))
    if not answers:
        raise ValueError(
            f"none of the {len(files)} images of source={cfg.source} can be read: {next(iter(broken.values()))}"
        )
    content = {"model": str(cfg.model), "task": bundle.head_name, "images": answers, "broken": broken}
    text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
    path = write_text(folder / "predictions.json", text + "\n")
    seconds = time.perf_counter() - started
    numbers = {
        "images": len(answers), "broken": len(broken), "answers": found,
        "seconds": seconds, "images_per_second": len(answers) / seconds,
    }  # fmt: skip
    results = write_results(folder, numbers, run_context())
    for reason in list(broken.values())[:10]:
        print(f"not read: {reason}")
    print_table("predict", numbers, paths=[path, results, *([folder / "pictures"] if cfg.draw else [])])


def _names(files: list[Path], source: Path) -> dict[Path, str]:
    """Name each drawn picture after its file, below the same subfolders; a JPEG or PNG keeps its ending."""
    root = source if source.is_dir() else None
    names: dict[Path, str] = {}
    taken: set[str] = set()
    for file in files:
        relative = file.relative_to(root) if root else Path(file.name)
        ending = file.suffix if file.suffix.lower() in (".jpg", ".jpeg", ".png") else ".jpg"
        name = str(relative.with_suffix(ending))
        number = 2
        while name in taken:
            name = str(relative.with_name(f"{relative.stem}_{number}{ending}"))
            number += 1
        taken.add(name)
        names[file] = name
    return names
