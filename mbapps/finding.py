"""Which files a `source=` means."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".pgm", ".ppm"}
)


def find_files(source: str | Path, suffixes: Collection[str], kinds: str) -> list[Path]:
    """List the files that `source` means: itself, or those of a folder or glob that end as wanted, sorted by name.

    Args:
        source: a file, whatever its ending; a folder, searched below; or a glob.
        suffixes: endings in lower case, with their dot.
        kinds: what the files are, for the error.

    Raises:
        FileNotFoundError: it means no such file at all.
    """
    path = Path(source)
    if path.is_file():
        return [path]
    matches: Iterator[Path] = iter(())
    if path.is_dir():
        matches = path.rglob("*")
    else:
        root = Path(path.anchor) if path.is_absolute() else Path()
        pattern = str(path.relative_to(path.anchor)) if path.is_absolute() else str(path)
        if any(c in pattern for c in "*?["):
            matches = root.glob(pattern)
    found = [file for file in matches if file.suffix.lower() in suffixes and file.is_file()]
    if not found:
        raise FileNotFoundError(
            f"no {kinds} at source={source}; give a file, or a folder or glob with files that end in "
            f"{', '.join(sorted(suffixes))}"
        )
    return sorted(found)
