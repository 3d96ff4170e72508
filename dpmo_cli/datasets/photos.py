"""Photos that nobody annotated: files, folders and patterns, maybe with a localiser's points."""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dpmo_cli.datasets.base import Heads, ImageEntry
from dpmo_cli.datasets.paths import IMAGE_SUFFIXES, relative_name
from dpmo_cli.datasets.point_files import PointFile
from dpmo_cli.errors import UsageError

PREDICTIONS = "predictions"
"""The only split of photos."""


class Photos:
    """A `Dataset` of photos without annotations, named from their common folder.

    Args:
        paths: images, folders, which are searched with all below them, and shell patterns.
        points: predicted by somebody's localiser; None where the heads have yet to be found.

    Attributes:
        unclaimed: images of `points` that are not among the photos.

    Raises:
        UsageError: there is no photo at all, none of those named is there, or two would get the
            same name.
        InputError: a photo fits several images of `points`, or one of them several photos.
    """

    name = "photos"

    def __init__(self, paths: Iterable[str], points: PointFile | None = None) -> None:
        found = sorted({path for given in paths for path in _photos_of(given)})
        if not found:
            raise UsageError("no photo is named; give images, or folders that hold some")
        # One that is missing among others costs nothing but its own row; none at all is a mistake.
        if not any(map(os.path.lexists, found)):
            more = (
                ", nor are the others there; check the names" if found[1:] else "; check the name"
            )
            raise UsageError(f"{found[0]}: no such file or folder{more}")
        self.root = Path(os.path.commonpath([path.parent for path in found]))
        self._entries = sorted(
            (ImageEntry(PREDICTIONS, relative_name(self.root, path), path, None) for path in found),
            key=lambda entry: entry.file_name,
        )
        names = [entry.file_name for entry in self._entries]
        for one, other in itertools.pairwise(names):
            if one == other:
                raise UsageError(f"{one}: two photos bear this name; rename one")
        self._points = None if points is None else points.match(names)
        self.unclaimed = () if self._points is None else tuple(self._points.unclaimed)

    def splits(self) -> tuple[str, ...]:
        """The one that results are written under."""
        return (PREDICTIONS,)

    def entries(self, split: str) -> Sequence[ImageEntry]:
        """The photos in lexicographic order of `file_name`."""
        if split != PREDICTIONS:
            raise UsageError(f"photos have no split {split!r}; leave it out")
        return self._entries

    def read_heads(self, entry: ImageEntry) -> Heads:
        """The points that the file gives; without one, no head is known."""
        if self._points is None:
            return Heads(np.zeros((0, 2)))
        found = self._points.get(entry.file_name)
        if found is None:
            return Heads(np.zeros((0, 2)), warnings=("the points file does not name it",))
        return Heads(found.points_xy, locator_scores=found.scores)

    def heads_of_refused(self, entry: ImageEntry) -> Heads | None:
        """No photo is refused for its name."""
        return None


def _photos_of(given: str) -> list[Path]:
    """The photos that one argument means; what is missing is listed, to be named when read."""
    if "\0" in given or not given.strip():
        raise UsageError("a photo's name is empty or holds NUL; leave it out")
    path = Path(given)
    try:
        if path.is_dir():
            found = _below(path)
            if not found:
                kinds = ", ".join(sorted(IMAGE_SUFFIXES))
                raise UsageError(f"{given}: the folder holds no photo ({kinds})")
            return found
        if not path.exists() and glob.has_magic(given):
            fitting = [Path(name) for name in glob.glob(given, recursive=True)]
            found = [photo for one in fitting for photo in (_below(one) if one.is_dir() else [one])]
            if not found:
                raise UsageError(f"{given}: no photo fits this pattern")
            return [_without_dots(photo.parent) / photo.name for photo in found]
    except OSError as error:
        raise UsageError(f"{given}: can't be read ({error.strerror})") from error
    return [_without_dots(path.parent) / path.name]


def _without_dots(folder: Path) -> Path:
    """The absolute path of a folder; `..` would let a photo have two names."""
    return folder.resolve() if ".." in folder.parts else folder.absolute()


def _below(folder: Path) -> list[Path]:
    """The images of a folder and all below it; hidden ones are left out."""

    def stop(error: OSError) -> None:
        raise error

    found = []
    for at, folders, files in os.walk(_without_dots(folder), onerror=stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(at) / name
            for name in files
            if not name.startswith(".") and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
    return found
