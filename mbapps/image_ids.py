"""Images of a `source=` by the ids that a gallery knows them by."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mbapps.finding import IMAGE_SUFFIXES, find_files

if TYPE_CHECKING:
    from mbapps.search.gallery import Gallery


def find_images(source: str) -> tuple[dict[str, Path], dict[str, str]]:
    """Images by id, their path below the folder that was named, with / between its parts; and those without one.

    A path that is not UTF-8 can be no id: such a file counts as broken, and the reason is given by how it is written.

    Raises:
        FileNotFoundError: there are none.
    """
    files = find_files(source, IMAGE_SUFFIXES, "images")
    root = root_of(source)
    named, unnamed = {}, {}
    for file in files:
        try:
            str(file.absolute()).encode()
        except UnicodeEncodeError:
            unnamed[repr(str(file))] = f"{str(file)!r}: its name is not UTF-8; give it another"
        else:
            named[file.relative_to(root).as_posix()] = file
    return named, unnamed


def root_of(source: str) -> Path:
    """The folder that ids start from: of a file its own, of a glob the last one that has a name."""
    root = Path(source)
    if root.is_file():
        root = root.parent
    while not root.is_dir():
        root = root.parent
    return root


def person_of(name: str) -> str:
    """Folder of an image, if ids are one folder deep: a folder for each person.

    >>> person_of("anna/1.jpg"), person_of("1.jpg"), person_of("2024/may/1.jpg")
    ('anna', '', '')
    """
    folder, slash, file = name.partition("/")
    return folder if slash and "/" not in file else ""


def without_known(files: Mapping[str, Path], gallery: Gallery | None) -> dict[str, Path]:
    """Those that are not in the gallery yet, under whatever id.

    Raises:
        ValueError: the gallery has the id of one from another file.
    """
    from mbapps.search.texts import Texts

    if gallery is None:
        return dict(files)
    where = gallery.columns.get("file")
    for name, file in files.items():
        row = gallery.row(name)
        if row is not None and where is not None and where[row] != str(file.absolute()):
            raise ValueError(
                f"the gallery has {name} from {where[row]}, so {file} can't be added under that name; give source= a "
                "folder above both, take the old one out with remove=, or make another gallery"
            )
    there = (
        set(where.plain()) if isinstance(where, Texts) else set()
    )  # from another folder a file has another id
    return {
        name: file for name, file in files.items() if name not in gallery and str(file.absolute()) not in there
    }  # fmt: skip
