"""Images of two sources, such as a run and the truth, brought together by their names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Generic, TypeVar

from dpmo_cli.datasets.paths import IMAGE_SUFFIXES
from dpmo_cli.errors import InputError

Entry = TypeVar("Entry")


class AmbiguousNameError(ValueError):
    """An image of the second source could be several of the first's, or several could be one."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        super().__init__(problem)


@dataclass(frozen=True)
class Matches:
    """Which images of the second source, such as the truth, are which of the first, such as a run.

    Attributes:
        pairs: index among the first's images -> index among the second's.
        missing: indices of the second's images that the first does not have.
    """

    pairs: dict[int, int]
    missing: list[int]


@dataclass(frozen=True)
class Matched(Generic[Entry]):
    """The entries of a file of predictions, given to images.

    Attributes:
        of_image: the file name of each image that has an entry -> the entry.
        missing: file names of the images that have none.
        unclaimed: names of the entries that belong to no image.
    """

    of_image: Mapping[str, Entry]
    missing: tuple[str, ...]
    unclaimed: tuple[str, ...]

    def get(self, file_name: str) -> Entry | None:
        """The entry of an image; None where it has none."""
        return self.of_image.get(file_name)


def without_suffix(file_name: str) -> str:
    """The relative path of a file without its last suffix, "/" between its parts."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    return (path.parent / path.stem).as_posix()


def image_key(image: str) -> str:
    """The path of an image as predictions name it, without its suffix if it has an image's."""
    path = PurePosixPath(image.strip().replace("\\", "/"))
    is_image = path.suffix.lower() in IMAGE_SUFFIXES
    return path.with_suffix("").as_posix() if is_image else path.as_posix()


def match_names(
    first: Sequence[str],
    second: Sequence[str],
    called: tuple[str, str] = ("the run", "the truth"),
) -> Matches:
    """Match names without suffix: by the whole path, else by its last part where that is unique.

    Args:
        first, second: the names of both sources.
        called: what messages call the two.

    Raises:
        AmbiguousNameError: one line that names what could be matched in several ways.
    """
    by_path, by_stem = defaultdict(list), defaultdict(list)
    for index, name in enumerate(first):
        by_path[name].append(index)
    pairs: dict[int, int] = {}
    rest: list[int] = []
    for index, name in enumerate(second):
        found = by_path.get(name, [])
        if len(found) > 1:
            raise AmbiguousNameError(name, f"fits {len(found)} images of {called[0]} of that path")
        if found and found[0] in pairs:
            raise AmbiguousNameError(name, f"is the name of two images of {called[1]}")
        if found:
            pairs[found[0]] = index
        else:
            rest.append(index)
    for index, name in enumerate(first):
        if index not in pairs:
            by_stem[_stem(name)].append(index)
    same_stem = Counter(_stem(second[index]) for index in rest)
    missing: list[int] = []
    for index in rest:
        stem = _stem(second[index])
        found = by_stem.get(stem, [])
        if not found:
            missing.append(index)
        elif len(found) > 1 or same_stem[stem] > 1:
            some = " and ".join(sorted(first[one] for one in found)[:2])
            others = same_stem[stem] - 1
            do = "does 1 other" if others == 1 else f"do {others} others"
            also = f", and so {do} of {called[1]}" if others else ""
            raise AmbiguousNameError(second[index], f"fits {some} of {called[0]}{also}")
        else:
            pairs[found[0]] = index
    return Matches(pairs, missing)


def match_entries(
    path: Path, entries: Mapping[str, Entry], file_names: Sequence[str]
) -> Matched[Entry]:
    """Give predictions to images: by path without suffix, else by name where only one bears it.

    Args:
        path: where the predictions lie, for messages.
        entries: the path of an image without suffix -> what is predicted of it.
        file_names: of all the images that there are, relative, with "/".

    Raises:
        InputError: an image fits several entries, or an entry several images.
    """
    names, images = list(entries), list(dict.fromkeys(file_names))
    called = ("the predictions", "the images")
    try:
        found = match_names(names, [without_suffix(one) for one in images], called)
    except AmbiguousNameError as error:
        mend = "name the images with their folders, or give --split"
        raise InputError(path, f"image {error.name} {error}", mend) from error
    return Matched(
        of_image={images[of]: entries[names[one]] for one, of in found.pairs.items()},
        missing=tuple(images[of] for of in found.missing),
        unclaimed=tuple(name for one, name in enumerate(names) if one not in found.pairs),
    )


def _stem(name: str) -> str:
    return name.rpartition("/")[2]
