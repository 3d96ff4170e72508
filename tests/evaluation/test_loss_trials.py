"""Trainings compared by hand: figures over seeds, paired gains, levels fitted on other images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.evaluation.loss_trials import VERSION, compare_trials, read_trials

TRUE = [10, 20, 30, 40]


def write(out: Path, loss: str, seed: int, found: list[list[float]], **changes: Any) -> Path:
    """A result of four images, counted at three levels of which the middle one is plain."""
    path = out / f"{loss}.{seed}" / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "version": VERSION, "dataset": "csv", "model": "density", "loss": loss, "shape": "mask",
        "seed": seed, "levels": [0.5, 1, 2], "plain_level": 1,
        "settings": {"steps": 5, "seed": seed, "mask_losses": [loss], "mask_shape": "mask"},
        "images": ["a", "b", "c", "d"], "true": TRUE, "counts": found,
        "seconds": {"train": 1.0}, **changes,
    }  # fmt: skip
    path.write_text(json.dumps(document))
    return path


def levels(*plain: float) -> list[list[float]]:
    return [[0.5 * one, one, 2 * one] for one in plain]


def test_figures_over_seeds(tmp_path: Path) -> None:
    write(tmp_path, "none", 0, levels(12, 20, 30, 44))
    write(tmp_path, "none", 1, levels(10, 20, 30, 30))
    write(tmp_path, "all", 0, levels(10, 20, 30, 42))
    none, every = sorted(compare_trials(read_trials(tmp_path)), key=lambda row: -row.seeds)
    assert (none.loss, none.seeds, none.gains) == ("none", 2, None)
    assert none.figures["mae"].value == pytest.approx((6 / 4 + 10 / 4) / 2)
    assert none.figures["rmse"].value == pytest.approx((np.sqrt(20 / 4) + 5) / 2)
    assert none.figures["bias"].value == pytest.approx((6 / 4 - 10 / 4) / 2)
    # Only the seed that both have counts for the gain.
    assert every.gains is not None
    assert every.gains["mae"].value == pytest.approx(2 / 4 - 6 / 4)


def test_gains_are_paired(tmp_path: Path) -> None:
    """One person fewer wrong in each image: certain, however different the images are."""
    write(tmp_path, "none", 0, levels(11, 28, 60, 140))
    write(tmp_path, "all", 0, levels(10, 27, 59, 139))
    (row,) = [row for row in compare_trials(read_trials(tmp_path)) if row.gains]
    assert row.gains is not None
    gain = row.gains["mae"]
    assert (gain.value, gain.low, gain.high) == pytest.approx((-1, -1, -1))
    assert row.figures["mae"].low < 20 < row.figures["mae"].high


def test_other_shapes_are_compared_with_the_masks(tmp_path: Path) -> None:
    write(tmp_path, "none", 0, levels(11, 20, 30, 40))
    write(tmp_path, "all", 0, levels(12, 20, 30, 40))
    write(tmp_path / "disc", "all", 0, levels(16, 20, 30, 40), shape="disc")
    rows = {(row.loss, row.shape): row for row in compare_trials(read_trials(tmp_path))}
    assert rows["none", "mask"].over_masks is rows["all", "mask"].over_masks is None
    disc = rows["all", "disc"]
    assert disc.over_masks is not None
    assert disc.gains is not None
    assert (disc.gains["mae"].value, disc.over_masks["mae"].value) == (5 / 4, 4 / 4)


def test_other_weights_are_compared_with_none(tmp_path: Path) -> None:
    write(tmp_path, "none", 0, levels(11, 20, 30, 40))
    write(tmp_path, "all", 0, levels(12, 20, 30, 40))
    weighed = {"steps": 5, "seed": 0, "mask_losses": ["all"], "mask_weight": 0.1}
    write(tmp_path / "weight", "all", 0, levels(10, 20, 30, 40), settings=weighed)
    gains = {row.loss: row.gains for row in compare_trials(read_trials(tmp_path))}
    assert gains["none"] is None
    assert gains["all"] is not None
    assert gains["all x 0.1"] is not None
    assert gains["all x 0.1"]["mae"].value == -1 / 4


def test_levels_are_fitted_on_other_images(tmp_path: Path) -> None:
    """At half the level the first and third image are right, at twice the others."""
    counts = [[10.0, 0, 99], [99, 0, 20], [30, 0, 99], [99, 0, 40]]
    write(tmp_path, "none", 0, counts)
    (row,) = compare_trials(read_trials(tmp_path))
    assert row.figures["mae"].value == 25
    # Each half takes what suits the other, and is wrong.
    assert row.figures["mae_fitted"].value == pytest.approx((89 + 79 + 69 + 59) / 4)
    write(tmp_path, "none", 0, levels(5, 10, 15, 20))
    (row,) = compare_trials(read_trials(tmp_path))
    assert row.figures["mae_fitted"].value == 0


def test_points_have_an_f1(tmp_path: Path) -> None:
    write(tmp_path, "none", 0, levels(10, 20, 30, 20), matched_4=[5, 10, 15, 10])
    (row,) = compare_trials(read_trials(tmp_path))
    assert row.figures["f1@4"].value == pytest.approx(2 * 40 / 180)


def test_other_settings_are_not_compared(tmp_path: Path) -> None:
    write(tmp_path, "none", 0, levels(12, 20, 30, 44), settings={"steps": 9})
    write(tmp_path, "all", 0, levels(10, 20, 30, 42))
    assert [row.gains for row in compare_trials(read_trials(tmp_path))] == [None, None]


def test_other_images_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "none", 0, levels(12, 20, 30, 44))
    write(tmp_path, "all", 0, levels(12, 20, 30, 44), images=["a", "b", "c", "e"])
    with pytest.raises(UsageError, match="counted different images"):
        list(compare_trials(read_trials(tmp_path)))


@pytest.mark.parametrize(
    "changes", [{"version": 9}, {"counts": [[1]]}, {"levels": [1]}, {"images": ["a"]}]
)
def test_damaged_results(changes: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "none", 0, levels(1, 2, 3, 4))
    path = write(tmp_path, "all", 0, levels(1, 2, 3, 4), **changes)
    with pytest.raises(InputError, match="run it again") as caught:
        read_trials(tmp_path)
    assert str(path) in str(caught.value)
    path.write_text("{")
    with pytest.raises(InputError, match="can't be read"):
        read_trials(tmp_path)
