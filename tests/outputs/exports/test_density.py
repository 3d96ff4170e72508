from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dpmo_cli.outputs.exports.density import density_map
from dpmo_cli.outputs.finished import FinishedImage
from dpmo_cli.outputs.records import ImageRecord
from dpmo_cli.outputs.schema import NOBODY
from tests.outputs.exports.runs import export, odd_records, read_back
from tests.outputs.samples import make_info, make_record, make_rows, pixels_of, sample_records


def map_of(folder: Path, record: ImageRecord) -> tuple[NDArray[np.float32], FinishedImage]:
    """The map of the only image of a run."""
    to, _ = export(folder, [record], "density")
    (found,) = read_back(folder, record.info.split)
    density = np.load(next(to.rglob("*.npy")))
    assert (density == density_map(found)).all()
    return density, found


@pytest.mark.parametrize("records", [sample_records(), odd_records()], ids=["samples", "odd"])
def test_the_sum_is_the_number_of_people(tmp_path: Path, records: list[ImageRecord]) -> None:
    to, _ = export(tmp_path, records, "density")
    for found in read_back(tmp_path, "train"):
        density = np.load(to / "density" / Path(found.image.file_name).with_suffix(".npy"))
        people = sum(status not in NOBODY for status in found.rows["status"].to_pylist())
        assert density.dtype == np.float32
        assert density.shape == found.image.size_hw
        assert density.min() >= 0
        assert density.sum(dtype=np.float64) == pytest.approx(people, abs=1e-3)


def test_a_person_is_spread_over_the_mask(tmp_path: Path) -> None:
    info = make_info()
    rows = make_rows(info, [(9, 9), (12, 12), (40, 20)])
    density, _ = map_of(tmp_path, make_record(info, rows))
    for row in rows:
        part = density[pixels_of(row)]
        assert part == pytest.approx(np.full(row["area"], 1 / row["area"]))
    assert np.count_nonzero(density) == sum(row["area"] for row in rows)


@pytest.mark.parametrize(
    ("xy", "status", "radius", "reach"),
    [
        pytest.param((20.0, 20.0), "empty", 6.0, 8, id="no pixels"),
        pytest.param((20.0, 20.0), "occluded", None, 16, id="hidden, without a disc"),
        pytest.param((20.0, 20.0), "empty", 0.5, 4, id="the smallest"),
        pytest.param((20.0, 20.0), "empty", 500.0, 16, id="the largest"),
        pytest.param((0.0, 39.4), "empty", 6.0, 8, id="in a corner"),
        pytest.param((-0.5, 20.0), "empty", 6.0, 8, id="on the border"),
    ],
)
def test_without_a_mask_a_gaussian(
    tmp_path: Path, xy: tuple[float, float], status: str, radius: float | None, reach: int
) -> None:
    info = make_info()
    rows = make_rows(info, [xy], statuses={0: status})
    rows[0]["radius_px"] = radius
    density, _ = map_of(tmp_path, make_record(info, rows))
    assert density.sum(dtype=np.float64) == pytest.approx(1, abs=1e-6)
    y, x = np.unravel_index(density.argmax(), density.shape)
    assert (abs(x - xy[0]), abs(y - xy[1])) <= (0.5, 0.5)
    y, x = np.nonzero(density)
    assert max(abs(x - xy[0]).max(), abs(y - xy[1]).max()) <= reach + 1


def test_a_shared_point_is_a_person_of_its_own(tmp_path: Path) -> None:
    info = make_info()
    record = make_record(info, make_rows(info, [(20, 20), (20.2, 20), (30, 9)], shares={1: 0}))
    density, _ = map_of(tmp_path, record)
    assert density.sum(dtype=np.float64) == pytest.approx(3, abs=1e-6)


@pytest.mark.parametrize("status", NOBODY)
def test_nobody_counts_nothing(tmp_path: Path, status: str) -> None:
    info = make_info()
    record = make_record(info, make_rows(info, [(float("nan"), 3.0)], statuses={0: status}))
    density, _ = map_of(tmp_path, record)
    assert not density.any()


def test_the_sum_holds_in_a_crowd_of_thousands(tmp_path: Path) -> None:
    info = make_info(size_hw=(400, 600))
    rng = np.random.default_rng(0)
    points = rng.uniform(0, (599, 399), (4000, 2)).tolist()
    empty = dict.fromkeys(range(4000), "empty")
    density, _ = map_of(tmp_path, make_record(info, make_rows(info, points, statuses=empty)))
    assert density.sum(dtype=np.float64) == pytest.approx(4000, abs=1e-3)
