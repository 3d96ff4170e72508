"""What the readers have in common: checked splits, safe names, and images paired with files."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import numpy as np

from dpmo_cli.datasets.base import Heads, ImageEntry
from dpmo_cli.datasets.paths import (
    checked_root,
    child_folder,
    child_folders,
    image_files,
    listed,
    relative_name,
    resolve_inside,
)
from dpmo_cli.errors import UsageError

COUNT_MISMATCH = "count mismatch"
"""How every warning begins that says that a count disagrees with the points."""

CERTAIN = 1.0
LIKELY = 0.7
POSSIBLE = 0.4


@dataclass(frozen=True)
class Evidence:
    """How sure a layout is that of a dataset (0 to 1), and what speaks for it."""

    confidence: float
    why: str


class Reader(ABC):
    """Base of the readers: a `Dataset` whose root has been checked.

    Raises:
        UsageError: the root is missing or does not hold this dataset.
    """

    name: str
    root: Path

    def __init__(self, root: Path) -> None:
        self.root = checked_root(root)

    @abstractmethod
    def splits(self) -> tuple[str, ...]:
        """Names of the labelled splits that are there."""

    @abstractmethod
    def evidence(self) -> Evidence:
        """What speaks for this dataset lying at the root."""

    @abstractmethod
    def _list(self, split: str) -> Iterable[ImageEntry]:
        """The images of a split that `splits` names, in any order."""

    @abstractmethod
    def _read(self, entry: ImageEntry) -> Heads:
        """Read the annotation of an image whose paths have been checked."""

    def entries(self, split: str) -> Sequence[ImageEntry]:
        """The images of a split in lexicographic order of `file_name`.

        Raises:
            UsageError: the split is not there or has no labels.
        """
        split = split.lower()
        if split not in self.splits():
            raise UsageError(self._why_not(split))
        return tuple(sorted(self._list(split), key=lambda entry: entry.file_name))

    def read_heads(self, entry: ImageEntry) -> Heads:
        """Read the annotation of one image, after checking that it and the image lie inside.

        Raises:
            InputError: a name leads out of the root, or the annotation is missing or broken.
        """
        resolve_inside(self.root, entry.file_name)
        if entry.annotation_path is not None:
            # Listed from folders: the names on disk count, which file_name may show escaped.
            for path in (entry.image_path, entry.annotation_path):
                resolve_inside(self.root, path.relative_to(self.root).as_posix())
        heads = self._read(entry)
        bad = int((~np.isfinite(heads.points_xy)).any(axis=1).sum())
        if not bad:
            return heads
        return replace(heads, warnings=(*heads.warnings, f"{bad} points are NaN or infinite"))

    def heads_of_refused(self, entry: ImageEntry) -> Heads | None:
        """The annotation of an image whose name was refused; what the name leads to stays unread.

        Raises:
            InputError: the annotation is broken.
        """
        # Only a table that annotates all images can be read without following the name.
        return self._read(entry) if entry.annotation_path is None else None

    def _why_not(self, split: str) -> str:
        there = ", ".join(self.splits()) or "none"
        return f"{self.name} has no labelled split {split!r} in {self.root}; there: {there}"


def count_warning(source: str, said: object, found: int) -> tuple[str, ...]:
    """A warning where a count given by the dataset is not the number of points; else nothing."""
    if said == found:
        return ()
    return (f"{COUNT_MISMATCH}: {source} says {said}, {found} points are listed",)


@dataclass(frozen=True)
class Pairing:
    """How the annotation of an image is called: prefix + stem of the image + suffix."""

    prefix: str
    suffix: str

    def annotation_name(self, image_stem: str) -> str:
        """The annotation's file name for an image without its extension."""
        return f"{self.prefix}{image_stem}{self.suffix}"

    def image_stem(self, annotation_name: str) -> str | None:
        """The image's name without extension; None when the file is no annotation."""
        folded = annotation_name.casefold()
        prefix, suffix = self.prefix.casefold(), self.suffix.casefold()
        if not (folded.startswith(prefix) and folded.endswith(suffix)):
            return None
        return annotation_name[len(prefix) : len(annotation_name) - len(suffix)] or None


@dataclass(frozen=True)
class SplitFolders:
    """Where the images and the annotations of a split lie (maybe the same folder)."""

    images: Path
    annotations: Path


class PairedReader(Reader):
    """Base of the readers of layouts with one annotation file for each image.

    An image without annotation and an annotation without image are both listed, so that the
    loss shows up when the entry is read.
    """

    pairing: ClassVar[Pairing]
    folder_names: ClassVar[tuple[str, ...]]
    """Names that the dataset's folder has in releases and mirrors."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.home = self._find_home()
        self._folders = self.split_folders(self.home)

    @classmethod
    @abstractmethod
    def split_folders(cls, home: Path) -> Mapping[str, SplitFolders]:
        """The splits that lie in a folder, labelled or not, in the dataset's usual order."""

    @classmethod
    @abstractmethod
    def expected(cls) -> str:
        """What `--root` should be, for the message that it isn't."""

    def splits(self) -> tuple[str, ...]:
        """Names of the splits with at least one annotation file."""
        return tuple(split for split in self._folders if self._annotations(split))

    def _find_home(self) -> Path:
        if self._is_home(self.root):
            return self.root
        homes = [
            path for path in child_folders(self.root, self.folder_names) if self._is_home(path)
        ]
        if len(homes) > 1:
            names = " and ".join(path.name for path in homes)
            raise UsageError(f"{self.root} holds {names}; give one of them with --root")
        if not homes:
            wanted = f"give {self.expected()} with --root"
            raise UsageError(f"{self.root} holds no {self.name} with annotations; {wanted}")
        return homes[0]

    @classmethod
    def _is_home(cls, folder: Path) -> bool:
        """Whether a split with annotations lies in the folder."""
        return any(cls._annotations_in(folders) for folders in cls.split_folders(folder).values())

    def _annotations(self, split: str) -> dict[str, Path]:
        return self._annotations_in(self._folders[split])

    @classmethod
    def _annotations_in(cls, folders: SplitFolders) -> dict[str, Path]:
        """Annotation files by the stem of their image, in small letters."""
        named = ((cls.pairing.image_stem(path.name), path) for path in listed(folders.annotations))
        return {stem.casefold(): path for stem, path in named if stem is not None}

    def _list(self, split: str) -> Iterable[ImageEntry]:
        folders = self._folders[split]
        annotations = self._annotations(split)
        images = image_files(folders.images)
        for image in images:
            missing = folders.annotations / self.pairing.annotation_name(image.stem)
            yield self._entry(split, image, annotations.get(image.stem.casefold(), missing))
        have_image = {image.stem.casefold() for image in images}
        for stem, annotation in annotations.items():
            if stem not in have_image:
                original = self.pairing.image_stem(annotation.name)
                yield self._entry(split, folders.images / f"{original}.jpg", annotation)

    def _read(self, entry: ImageEntry) -> Heads:
        if entry.annotation_path is None:
            raise ValueError(f"{entry.file_name} was not listed by {self.name}")
        return self._read_file(entry.annotation_path, entry)

    @abstractmethod
    def _read_file(self, path: Path, entry: ImageEntry) -> Heads:
        """Read one annotation file; the entry says what else is known of the image."""

    def _entry(self, split: str, image: Path, annotation: Path) -> ImageEntry:
        return ImageEntry(split, relative_name(self.root, image), image, annotation)


def sub_folder(parent: Path, *names: str) -> Path:
    """The sub-folder with one of the names, or the path of the first name when there is none."""
    return child_folder(parent, names) or parent / names[0]


def existing_splits(
    home: Path,
    names: Mapping[str, tuple[str, ...]],
    folders_of: Callable[[Path], SplitFolders],
) -> Mapping[str, SplitFolders]:
    """The split folders that are there, by split name.

    Args:
        home: the dataset's folder.
        names: for each split the names that its folder may have.
        folders_of: gives the image and annotation folder of a split's folder.
    """
    found = {split: child_folder(home, folder_names) for split, folder_names in names.items()}
    return {split: folders_of(path) for split, path in found.items() if path is not None}
