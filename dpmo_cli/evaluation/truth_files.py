"""True instances read from files: a COCO JSON, label maps, or a folder of masks per image."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.datasets.names import without_suffix
from dpmo_cli.datasets.paths import listed
from dpmo_cli.datasets.quiet import LIBRARY_WARNINGS_IGNORED
from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.evaluation.instances import rles_of_labels
from dpmo_cli.evaluation.truth_coco import CocoTruth, wrong_size
from dpmo_cli.geometry.rle import Rle

LABEL_SUFFIXES = (".png", ".npy")
_MEND = "copy it again, or leave it out"
_PLAIN_MODES = ("1", "L", "P", "I", "I;16", "I;16B")
"""Pillow's modes of one number per pixel."""


class Truth(Protocol):
    """True instances of images, read one image at a time."""

    names: tuple[str, ...]

    def place(self, name: str) -> str:
        """Where the truth of an image lies, for messages."""

    def instances(self, name: str, size_hw: tuple[int, int]) -> list[Rle]:
        """The masks of one image of (H, W) px. InputError names a file that can't be used."""


class LabelMaps:
    """A folder of label maps, one file per image: 0 is nothing, every other value an instance.

    Attributes:
        names: relative paths without suffix, in order.
    """

    def __init__(self, root: Path, files: Sequence[Path]) -> None:
        self._files: dict[str, Path] = {}
        for path in files:
            name = without_suffix(path.relative_to(root).as_posix())
            if name in self._files:
                problem = f"and {self._files[name].name} are label maps of one image"
                raise InputError(path, problem, "remove one of them")
            self._files[name] = path
        self.names = tuple(self._files)

    def place(self, name: str) -> str:
        """The label map's path."""
        return str(self._files[name])

    def instances(self, name: str, size_hw: tuple[int, int]) -> list[Rle]:
        """Read one label map; see `Truth`."""
        return rles_of_labels(_read_labels(self._files[name], size_hw))


class InstanceFolders:
    """A folder with one sub-folder per image, which holds a PNG per instance: above 0 is it.

    Attributes:
        names: relative paths of the sub-folders, in order.
    """

    def __init__(self, root: Path, folders: Sequence[Path]) -> None:
        self._folders = {path.relative_to(root).as_posix(): path for path in folders}
        self.names = tuple(self._folders)

    def place(self, name: str) -> str:
        """The sub-folder's path."""
        return str(self._folders[name])

    def instances(self, name: str, size_hw: tuple[int, int]) -> list[Rle]:
        """Read the masks of one image; a mask without a pixel is an error. See `Truth`."""
        masks = []
        for path in listed(self._folders[name]):
            if path.suffix.lower() == ".png":
                found = rles_of_labels(_read_png(path, size_hw, colours=True) > 0)
                if not found:
                    raise InputError(path, "holds no pixel above 0", "remove it")
                masks += found
        return masks


def open_truth(path: Path, run_names: Sequence[str]) -> CocoTruth | LabelMaps | InstanceFolders:
    """Find out what a truth is, and list its images.

    Args:
        path: a COCO JSON or a folder. Label maps lie right in it; where only folders do, they
            are one per image if some bear the name of an image of the run, else folders of maps.
        run_names: of the run's images, without suffix.

    Raises:
        UsageError: there is no such file or folder, or nothing in it that is a truth.
        InputError: the file is no COCO JSON.
    """
    if path.is_file():
        return CocoTruth(path)
    if not path.is_dir():
        mend = "give a COCO JSON, a folder of masks, or the word boxes"
        raise UsageError(f"--truth {path}: no such file or folder; {mend}")
    files = [one for one in listed(path) if _is_labels(one)]
    if files:
        return LabelMaps(path, files)
    folders = list(_folders_below(path))
    known = {*run_names, *(name.rpartition("/")[2] for name in run_names)}
    of_images = [
        one for one in folders if one.relative_to(path).as_posix() in known or one.name in known
    ]
    if of_images:
        leaves = [one for one in folders if one in of_images or any(map(_is_labels, listed(one)))]
        return InstanceFolders(path, leaves)
    files = [one for folder in folders for one in listed(folder) if _is_labels(one)]
    if files:
        return LabelMaps(path, files)
    raise UsageError(
        f"--truth {path}: holds no masks; put <image>.png or .npy label maps into it, or a folder "
        "<image>/ of PNGs for each image"
    )


def _is_labels(path: Path) -> bool:
    return path.suffix.lower() in LABEL_SUFFIXES and path.is_file()


def _folders_below(path: Path) -> Iterator[Path]:
    """All visible folders below one, each before what it holds; links are not followed."""
    for one in listed(path):
        if one.is_dir() and not one.is_symlink():
            yield one
            yield from _folders_below(one)


def _read_labels(path: Path, size_hw: tuple[int, int]) -> NDArray[np.integer]:
    """Read one label map, (H, W) of any integer type."""
    if path.suffix.lower() == ".png":
        return _read_png(path, size_hw, colours=False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            labels = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:
        # A header is Python source: damage to it can raise anything.
        raise InputError(path, "can't be read as an array", _MEND) from error
    if not isinstance(labels, np.ndarray) or labels.ndim != 2 or labels.dtype.kind not in "iub":
        problem = "is no (H, W) array of whole numbers"
        raise InputError(path, problem, "save labels with numpy.save")
    if labels.shape != size_hw:
        raise wrong_size(str(path), (labels.shape[0], labels.shape[1]), size_hw)
    return np.array(labels)


def _read_png(path: Path, size_hw: tuple[int, int], *, colours: bool) -> NDArray[np.integer]:
    """Read a PNG as (H, W) numbers: of a palette the indices, of colours the largest channel.

    Args:
        path: the file.
        size_hw: what its size must be, px; checked before it is decoded.
        colours: whether it may have colours; their transparency says nothing.
    """
    from PIL import Image

    try:
        # Decoding alone does not look at the checksums.
        with (
            LIBRARY_WARNINGS_IGNORED,
            path.open("rb") as file,
            Image.open(file, formats=("PNG",)) as image,
        ):
            image.verify()
        with (
            LIBRARY_WARNINGS_IGNORED,
            path.open("rb") as file,
            Image.open(file, formats=("PNG",)) as image,
        ):
            if (image.height, image.width) != size_hw:
                raise wrong_size(str(path), (image.height, image.width), size_hw)
            if image.mode in _PLAIN_MODES:
                return np.asarray(image).astype(np.int64 if image.mode == "I" else np.uint16)
            if colours:
                channels: NDArray[np.uint8] = np.asarray(image.convert("RGB"))
                return np.asarray(channels.max(axis=2))
    except InputError:
        raise
    except Image.DecompressionBombError as error:
        raise InputError(path, "has too many pixels for a PNG", "save it as .npy") from error
    except Exception as error:  # any exception at all may come out of a damaged file
        raise InputError(path, "is no PNG, or cut short", _MEND) from error
    problem = "has colours; a label map has one number per pixel"
    raise InputError(path, problem, "save it in gray of 8 or 16 bits, or with a palette")
