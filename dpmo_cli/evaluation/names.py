"""Images of a run and of the truth, brought together by their names."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath


class AmbiguousNameError(ValueError):
    """An image of the truth could be several of the run's, or several could be one."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        super().__init__(problem)


@dataclass(frozen=True)
class Matches:
    """Which images of the truth are which of the run.

    Attributes:
        pairs: index among the run's images -> index among the truth's.
        missing: indices of the truth's images that the run does not have.
    """

    pairs: dict[int, int]
    missing: list[int]


def without_suffix(file_name: str) -> str:
    """The relative path of a file without its last suffix, "/" between its parts."""
    path = PurePosixPath(file_name.replace("\\", "/"))
    return (path.parent / path.stem).as_posix()


def match_names(run: Sequence[str], truth: Sequence[str]) -> Matches:
    """Match names without suffix: by the whole path, else by its last part where that is unique.

    Raises:
        AmbiguousNameError: one line that names what could be matched in several ways.
    """
    by_path, by_stem = defaultdict(list), defaultdict(list)
    for index, name in enumerate(run):
        by_path[name].append(index)
    pairs: dict[int, int] = {}
    rest: list[int] = []
    for index, name in enumerate(truth):
        found = by_path.get(name, [])
        if len(found) > 1:
            raise AmbiguousNameError(name, f"fits {len(found)} images of the run of that path")
        if found:
            _pair(pairs, found[0], index, truth)
        else:
            rest.append(index)
    for index, name in enumerate(run):
        if index not in pairs:
            by_stem[_stem(name)].append(index)
    same_stem = Counter(_stem(truth[index]) for index in rest)
    missing: list[int] = []
    for index in rest:
        stem = _stem(truth[index])
        found = by_stem.get(stem, [])
        if not found:
            missing.append(index)
        elif len(found) > 1 or same_stem[stem] > 1:
            some = " and ".join(sorted(run[one] for one in found)[:2])
            others = same_stem[stem] - 1
            also = f", and so do {others} others of the truth" if others else ""
            raise AmbiguousNameError(truth[index], f"fits {some} of the run{also}")
        else:
            _pair(pairs, found[0], index, truth)
    return Matches(pairs, missing)


def _pair(pairs: dict[int, int], of_run: int, of_truth: int, truth: Sequence[str]) -> None:
    if of_run in pairs:
        raise AmbiguousNameError(truth[of_truth], "is the name of two images of the truth")
    pairs[of_run] = of_truth


def _stem(name: str) -> str:
    return name.rpartition("/")[2]
