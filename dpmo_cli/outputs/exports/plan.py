"""What is exported where: the images with the names of their files, and what a format writes."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.atomic import atomic_path, copy_file, link_file
from dpmo_cli.outputs.finished import FinishedImage, RunImage

LINK = "link"
COPY = "copy"
NONE = "none"


@dataclass(frozen=True)
class Photo:
    """The photo of an image, in a form that trainers read as its masks were made for.

    Attributes:
        path: where it lies.
        redraw: gives its (H, W, 3) uint8 RGB pixels in stored order, where a reader of the file
            itself would turn it by its EXIF orientation or not know the format; else None.
    """

    path: Path
    redraw: Callable[[], NDArray[np.uint8]] | None = None

    @property
    def suffix(self) -> str:
        """Of the file that `place` makes."""
        return self.path.suffix if self.redraw is None else ".png"

    def place(self, to: Path, how: str) -> None:
        """Link or copy the photo to a path; what has to be drawn again becomes a PNG there."""
        if self.redraw is not None:
            with atomic_path(to) as temporary:
                self._save_png(temporary)
        elif how == LINK:
            link_file(to, self.path.absolute())
        else:
            copy_file(to, self.path)

    def read(self) -> bytes:
        """Return the bytes of the file that `place` would make. OSError passes."""
        import io

        if self.redraw is None:
            return self.path.read_bytes()
        drawn = io.BytesIO()
        self._save_png(drawn)
        return drawn.getvalue()

    def _save_png(self, file: object) -> None:
        from PIL import Image

        assert self.redraw is not None
        Image.fromarray(self.redraw()).save(file, format="PNG")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Options:
    """What a user may choose beside the format; not every format takes all of them.

    Attributes:
        images: "link", "copy" or "none".
        per_image: one JSON per image instead of one per split.
        png: label maps as PNG too.
    """

    images: str = NONE
    per_image: bool = False
    png: bool = False


@dataclass(frozen=True)
class Plan:
    """One export.

    Attributes:
        to: the folder to write.
        dataset, extent: of the run.
        images: of each split that is exported, in order.
        names: the path of each image's files without suffix, "/" between its parts.
        photos: of each image; empty where the photos are not wanted.
        largest_point_id: finds that of all masks of the run, exported or not; -1 without any.
        options: what the user chose.
    """

    to: Path
    dataset: str
    extent: str
    images: Mapping[str, Sequence[RunImage]]
    names: Mapping[RunImage, str]
    photos: Mapping[RunImage, Photo]
    largest_point_id: Callable[[], int]
    options: Options


class Writer(Protocol):
    """Writes one format; all its files lie inside the plan's folder."""

    def files(self) -> Iterator[str]:
        """Yield the path in the folder of every file that it may write, "/" between its parts."""

    def write_split(self, split: str, images: Iterator[FinishedImage]) -> None:
        """Write a split, one image in memory at a time."""

    def write_rest(self) -> None:
        """Write what belongs to no split."""

    def warnings(self) -> Iterator[str]:
        """Yield what could not be written as asked, each one line, after all is done."""


def name_images(images: Sequence[RunImage], *, flat: bool, by_split: bool) -> dict[RunImage, str]:
    """Name the files of images: their path without suffix.

    Where that is the name of several images, a.jpg and a.png, the suffix is taken in: a_jpg and
    a_png. Names that differ in case alone count as the same: some file systems know no other.

    Args:
        images: all that are exported.
        flat: no folders; "a/b" becomes "a__b".
        by_split: each split has a folder of its own.

    Raises:
        UsageError: two images would get the same files all the same.
    """
    named = {image: _name(image, flat, keep_suffix=False) for image in images}
    for same in _clashes(named, by_split):
        named |= {image: _name(image, flat, keep_suffix=True) for image in same}
    for same in _clashes(named, by_split):
        one, other = (f"{image.file_name} ({image.split})" for image in same[:2])
        mend = "export one split at a time with --split" if not by_split else "rename one of them"
        raise UsageError(f"{one} and {other} would get the same files; {mend}")
    return named


def _name(image: RunImage, flat: bool, *, keep_suffix: bool) -> str:
    path = PurePosixPath(image.file_name)
    last = f"{path.stem}_{path.suffix[1:]}" if keep_suffix and path.suffix else path.stem
    parts = [*path.parts[:-1], last]
    return ("__" if flat else "/").join(parts)


def _clashes(named: Mapping[RunImage, str], by_split: bool) -> Iterator[list[RunImage]]:
    bearers: dict[tuple[str, str], list[RunImage]] = defaultdict(list)
    for image, name in named.items():
        folded = unicodedata.normalize("NFC", name).casefold()
        bearers[image.split if by_split else "", folded].append(image)
    return (images for images in bearers.values() if len(images) > 1)
