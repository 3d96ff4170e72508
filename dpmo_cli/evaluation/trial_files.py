"""The results that `dpmo train compare` writes, read with all of their values checked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.geometry.points import FloatArray
from dpmo_cli.outputs.findings import one_line
from dpmo_cli.outputs.json_values import as_int, as_list, as_number, as_numbers, as_object, as_text

RESULT_FILE = "result.json"
VERSION = 2
"""Of these files, and of the formulas of the mask losses: trainings by others are not compared."""
NONE, MASK = "none", "mask"
AGAIN = "delete it and run `dpmo train compare` again"
OWN_SETTINGS = ("seed", "mask_losses", "mask_shape", "mask_weight")
"""What trainings that are compared may differ in."""
OURS = {"version", "model", "loss", "counts"}


@dataclass(frozen=True)
class TrialResult:
    """What one training counts in I images.

    Attributes:
        path: the file.
        dataset, model, shape, loss, seed: which one it is; the loss tells a
            weight that was given.
        settings: all that it was trained with.
        images: names.
        true: (I,) float64 people.
        counts: (I, L) float64 at L levels.
        plain: (I,) float64 counts at the level that the loss means.
        matched: pairs within some px, by name, of each image; empty where there are no points.
    """

    path: Path
    dataset: str
    model: str
    shape: str
    loss: str
    seed: int
    settings: Mapping[str, object]
    images: tuple[str, ...]
    true: FloatArray
    counts: FloatArray
    plain: FloatArray
    matched: dict[str, FloatArray]

    @property
    def shared(self) -> str:
        """The settings that its rivals must share with it, as text."""
        shared = {name: one for name, one in self.settings.items() if name not in OWN_SETTINGS}
        return json.dumps(shared, sort_keys=True)

    @property
    def fitted(self) -> FloatArray:
        """(I,) float64 counts of each half of the images at the level that is best for the other.

        Best is the least sum of absolute errors.
        """
        fitted = np.zeros(len(self.true))
        half = np.arange(len(self.true)) % 2 == 0
        for part in (half, ~half):
            errors = np.abs(self.counts[~part] - self.true[~part, None]).sum(axis=0)
            # Of equal ones the middle: thresholds without effect lie side by side.
            best = np.flatnonzero(errors == errors.min())
            fitted[part] = self.counts[part, best[len(best) // 2]]
        return fitted

    def found_the_same(self, other: TrialResult) -> bool:
        """Whether another file of the same training tells the same."""
        return (
            (self.images, self.matched.keys()) == (other.images, other.matched.keys())
            and np.array_equal(self.true, other.true)
            and np.array_equal(self.counts, other.counts)
            and np.array_equal(self.plain, other.plain)
            and all(
                np.array_equal(self.matched[name], other.matched[name]) for name in other.matched
            )
        )


def read_trials(out: Path) -> list[TrialResult]:
    """Read the results of all finished runs below a folder, by name; of copies the first.

    Raises:
        UsageError: there is none.
        InputError: one can't be used, or two of the same training differ.
    """
    found: dict[tuple[object, ...], TrialResult] = {}
    for path in sorted(out.glob(f"**/{RESULT_FILE}")):
        one = read_trial(path)
        first = found.setdefault(
            (one.dataset, one.model, one.shared, one.shape, one.loss, one.seed), one
        )
        if not one.found_the_same(first):
            raise InputError(
                path,
                f"tells other counts than {first.path} of the same training",
                "delete one of them",
            )
    if not found:
        raise UsageError(f"{out}: holds no finished run; see `dpmo train compare`")
    return list(found.values())


def read_trial(path: Path) -> TrialResult:
    """Read the result of one run.

    Raises:
        InputError: it is damaged, of another version, or something else.
    """
    try:
        document = as_object(json.loads(path.read_text(encoding="utf-8")), "the file")
        if not document.keys() >= OURS:
            raise InputError(path, "is no result of `dpmo train compare`", "move it elsewhere")
        if document["version"] != VERSION:
            raise InputError(
                path,
                "is of another version, whose losses were others",
                "use another --out of `dpmo train compare`",
            )
        return _result(path, document)
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(path, f"can't be read ({one_line(error)})", AGAIN) from error


def _result(path: Path, document: Mapping[str, object]) -> TrialResult:
    settings = as_object(document.get("settings"), "settings")
    loss = as_text(document["loss"], "loss")
    weight = settings.get("mask_weight")
    if weight is not None and loss != NONE:
        # All digits: two weights are never one row.
        loss += f" x {as_number(weight, 'mask_weight')!r}".removesuffix(".0")
    levels = _length(document.get("levels"), "levels")
    plain_level = as_int(document.get("plain_level"), "plain_level")
    if not 0 <= plain_level < levels:
        raise ValueError("plain_level is none of the levels")
    images = _length(document.get("images"), "images")
    rows = as_list(document["counts"], images, "counts")
    counts = np.array([as_numbers(row, levels, "a row of counts") for row in rows])
    return TrialResult(
        path=path,
        dataset=as_text(document.get("dataset"), "dataset"),
        model=as_text(document["model"], "model"),
        shape=as_text(document.get("shape"), "shape"),
        loss=loss,
        seed=as_int(document.get("seed"), "seed"),
        settings=settings,
        images=tuple(
            as_text(name, "an image") for name in as_list(document["images"], images, "images")
        ),
        true=np.array(as_numbers(document.get("true"), images, "true")),
        counts=counts,
        plain=counts[:, plain_level],
        matched={
            name.removeprefix("matched_"): np.array(as_numbers(document[name], images, name))
            for name in sorted(document)
            if name.startswith("matched_")
        },
    )


def _length(value: object, name: str) -> int:
    """How long a list is that must not be empty."""
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name} is empty or no list")
    return len(value)
