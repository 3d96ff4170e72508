"""Trainings compared by hand: figures over seeds, paired gains, levels fitted on other images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmo_cli.cli.losses import print_losses
from dpmo_cli.errors import InputError
from dpmo_cli.evaluation.loss_trials import compare_trials
from dpmo_cli.evaluation.trial_files import VERSION, read_trials

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
        **changes,
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


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"images": ["a", "b", "c", "e"]}, "counted other images than"),
        ({"true": [10, 20, 30, 41]}, "tells other people in the same images than"),
        ({"matched_4": [1, 2, 3, 4]}, "holds other figures than"),
    ],
)
def test_results_that_can_not_be_compared(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    other = write(tmp_path, "all", 0, levels(12, 20, 30, 44))
    path = write(tmp_path, "none", 0, levels(12, 20, 30, 44), **changes)
    with pytest.raises(InputError, match=says) as caught:
        list(compare_trials(read_trials(tmp_path)))
    assert str(path) in str(caught.value)
    assert str(other) in str(caught.value)


def test_the_settings_that_differ_are_told(tmp_path: Path) -> None:
    for steps in (5, 9):
        settings = {"steps": steps, "rate": 1.0}
        write(tmp_path / str(steps), "all", 0, levels(12, 20, 30, 44), settings=settings)
    rows = list(compare_trials(read_trials(tmp_path)))
    assert [row.settings for row in rows] == [{"steps": 5}, {"steps": 9}]
    (row,) = compare_trials(read_trials(tmp_path / "5"))
    assert row.settings == {}


def test_a_copy_counts_once(tmp_path: Path) -> None:
    """A plain training does not depend on the weight of masks, either."""
    write(tmp_path, "none", 0, levels(11, 20, 30, 40))
    weighed = {"steps": 5, "seed": 0, "mask_losses": [], "mask_weight": 0.1}
    again = write(tmp_path / "copy", "none", 0, levels(11, 20, 30, 40), settings=weighed)
    (row,) = compare_trials(read_trials(tmp_path))
    assert (row.loss, row.seeds) == ("none", 1)
    write(tmp_path / "copy", "none", 0, levels(12, 20, 30, 40))
    with pytest.raises(InputError, match=r"tells other counts than .* of the same") as told:
        read_trials(tmp_path)
    assert str(again.parent.parent) in str(told.value)


def test_near_weights_are_two_rows(tmp_path: Path) -> None:
    for name, weight in (("a", 0.12345678), ("b", 0.123456789)):
        settings = {"steps": 5, "mask_weight": weight}
        write(tmp_path / name, "all", 0, levels(12, 20, 30, 40), settings=settings)
    losses = [row.loss for row in compare_trials(read_trials(tmp_path))]
    assert losses == ["all x 0.12345678", "all x 0.123456789"]


def test_the_range_over_the_seeds(tmp_path: Path) -> None:
    for seed, wrong in ((0, 4), (1, 12)):
        write(tmp_path, "none", seed, levels(10, 20, 30, 40 + 8))
        write(tmp_path, "all", seed, levels(10, 20, 30, 40 + wrong))
    (row,) = [row for row in compare_trials(read_trials(tmp_path)) if row.gains]
    assert row.gains is not None
    gain = row.gains["mae"]
    assert (gain.value, gain.least, gain.most) == (0, -1, 1)


def test_one_image_has_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = {"images": ["a"], "true": [3]}
    write(tmp_path, "none", 0, levels(5), **one)
    write(tmp_path, "all", 0, levels(4), **one)
    print_losses(tmp_path)
    told = capsys.readouterr().out
    assert "against none: MAE -1.0; " in told
    assert "nan" not in told


@pytest.mark.parametrize(
    "changes",
    [
        {"counts": [[1]]},
        {"counts": [[1, 2, float("nan")]] * 4},
        {"levels": [1]},
        {"images": ["a"]},
        {"images": [["a"], ["b"], ["c"], ["d"]]},
        {"settings": []},
        {"settings": None},
        {"dataset": [1]},
        {"shape": 3},
        {"plain_level": -1},
        {"plain_level": 3},
        {"true": [[1], [2], [3], [4]]},
        {"true": [1, 2, 3, float("inf")]},
        {"matched_4": [1]},
    ],
    ids=str,
)
def test_damaged_results(changes: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, "none", 0, levels(1, 2, 3, 4))
    path = write(tmp_path, "all", 0, levels(1, 2, 3, 4), **changes)
    with pytest.raises(InputError, match="delete it and run `dpmo train compare` again") as caught:
        read_trials(tmp_path)
    assert str(path) in str(caught.value)
    path.write_text("{")
    with pytest.raises(InputError, match="can't be read"):
        read_trials(tmp_path)


def test_files_of_others(tmp_path: Path) -> None:
    path = write(tmp_path, "none", 0, levels(1, 2, 3, 4), version=1)
    with pytest.raises(InputError, match="is of another version, whose losses were others"):
        read_trials(tmp_path)
    path.write_text('{"accuracy": 1.0}')
    with pytest.raises(InputError, match="is no result of `dpmo train compare`"):
        read_trials(tmp_path)
