"""An album of photos made anew, and the same command again on unchanged photos: whole processes.

python bench/album.py MODEL FOLDER COUNT:SOURCE ...

MODEL is a model folder. Of each SOURCE, a folder, COUNT photos are taken, evenly spread in the order of their names;
FOLDER gets links to them and the album. Both runs are measured from the start of Python to its end.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from mbapps.finding import IMAGE_SUFFIXES, find_files

AGAIN = 7


def link(folder: Path, count: int, source: Path) -> int:
    """Link `count` photos of `source` into a folder of its name."""
    files = find_files(source, IMAGE_SUFFIXES, "photos")
    count = min(count, len(files))
    for file in (files[row * len(files) // count] for row in range(count)):
        path = folder / source.name / file.relative_to(source)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(file.absolute())
    return count


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def main() -> None:
    model, folder = sys.argv[1], Path(sys.argv[2])
    if folder.exists():
        raise SystemExit(f"{folder} is there; name a folder that is not")
    given = [word.partition(":") for word in sys.argv[3:]]
    photos = sum(link(folder / "photos", int(count), Path(source)) for count, _, source in given)
    words = [f"source={folder / 'photos'}", f"model={model}", f"out={folder / 'album'}"]
    command = [sys.executable, "-m", "mbapps", "album", *words]
    first = seconds(command)
    again = [seconds(command) for _ in range(AGAIN)]
    middle = statistics.median(again)
    print(f"{photos} photos: {first:.1f} s, {photos / first:.1f} photos/s")
    print(f"again: {middle:.3f} s ({min(again):.3f}-{max(again):.3f}), {first / middle:.0f}x faster")


if __name__ == "__main__":
    main()
