"""Input that is odd but fine: converted normally, exit 0, every point accounted for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from dpmo_cli.outputs.validate import validate_run
from tests.conftest import Crowd, Dpmo, FakeEngine
from tests.datasets.conftest import Builder

NOISE = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)


def statuses(out: Path, split: str = "train") -> Counter[str]:
    return Counter(pq.read_table(out / f"points/{split}.parquet")["status"].to_pylist())


def _convert_fine(dpmo: Dpmo, crowd: Crowd, tmp_path: Path) -> Counter[str]:
    outcome = dpmo("convert", "--root", crowd.root, "--out", tmp_path / "out", "--json")
    assert outcome.code == 0
    assert outcome.errors == []
    assert outcome.json["counts"]["points"] == crowd.total
    assert validate_run(tmp_path / "out") == []
    return statuses(tmp_path / "out")


def _sixteen_bits(path: Path) -> None:
    Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257).save(path)


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(NOISE).save(path, exif=exif)


@pytest.mark.parametrize(
    ("name", "write"),
    [
        pytest.param("a.png", lambda p: Image.fromarray(NOISE[..., 0]).save(p), id="grayscale"),
        pytest.param("a.jpg", lambda p: Image.fromarray(NOISE).convert("CMYK").save(p), id="CMYK"),
        pytest.param("a.png", _sixteen_bits, id="16 bits"),
        pytest.param("a.jpg", _turned, id="EXIF orientation"),
        pytest.param("two words.png", lambda p: Image.fromarray(NOISE).save(p), id="space"),
        pytest.param("a,b.png", lambda p: Image.fromarray(NOISE).save(p), id="comma"),
        pytest.param("ä-人群.png", lambda p: Image.fromarray(NOISE).save(p), id="non-ASCII"),
    ],
)
def test_kinds_and_names_of_images(
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    empty_crowd: Crowd,
    tmp_path: Path,
    name: str,
    write: Callable[[Path], None],
) -> None:
    write(empty_crowd.add(name))
    assert _convert_fine(dpmo, empty_crowd, tmp_path) == {"ok": 4}
    table = pq.read_table(tmp_path / "out/points/train.parquet")
    assert set(table["image"].to_pylist()) == {name}


def test_exif_orientation_leaves_points_in_stored_pixels(
    dpmo: Dpmo, fake_engine: FakeEngine, empty_crowd: Crowd, tmp_path: Path
) -> None:
    _turned(empty_crowd.add("a.jpg"))
    # Inside as stored (64 wide, 48 high), outside when turned upright.
    empty_crowd.points["train", "a.jpg"] = [(60.0, 10.0)]
    empty_crowd.write()
    assert _convert_fine(dpmo, empty_crowd, tmp_path) == {"ok": 1}


@pytest.mark.parametrize(
    ("size_hw", "points", "expected"),
    [
        pytest.param((1, 1), [(0.0, 0.0)], {"ok": 1}, id="one-pixel image"),
        pytest.param((40, 12_000), [(3.0, 4.0), (11_990.5, 30.0)], {"ok": 2}, id="12,000 px wide"),
        pytest.param((48, 64), [], {}, id="zero points"),
        pytest.param((48, 64), [(20.0, 20.0)], {"ok": 1}, id="one point"),
        pytest.param((48, 64), [(9.0, 9.0)] * 5, {"ok": 1, "shared": 4}, id="all points equal"),
        pytest.param(
            (48, 64), [(-3.0, 5.0), (9.0, 9.0), (64.0, 5.0)], {"ok": 1, "outside": 2}, id="outside"
        ),
    ],
)
def test_sizes_and_points(
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    empty_crowd: Crowd,
    tmp_path: Path,
    size_hw: tuple[int, int],
    points: list[tuple[float, float]],
    expected: dict[str, int],
) -> None:
    empty_crowd.add("a.png", size_hw=size_hw)
    empty_crowd.points["train", "a.png"] = points
    empty_crowd.write()
    assert _convert_fine(dpmo, empty_crowd, tmp_path) == expected


def test_real_network_takes_the_smallest_image(
    dpmo: Dpmo, nano: None, empty_crowd: Crowd, tmp_path: Path
) -> None:
    empty_crowd.add("a.png", count=1, size_hw=(1, 1))
    empty_crowd.points["train", "a.png"] = [(0.0, 0.0)]
    empty_crowd.write()
    assert sum(_convert_fine(dpmo, empty_crowd, tmp_path).values()) == 1


def test_twenty_thousand_points(
    dpmo: Dpmo, fake_engine: FakeEngine, empty_crowd: Crowd, tmp_path: Path
) -> None:
    empty_crowd.add("a.png", count=20_000, size_hw=(1000, 1500))
    found = _convert_fine(dpmo, empty_crowd, tmp_path)
    assert sum(found.values()) == 20_000
    assert found["ok"] + found["shared"] + found["empty"] == 20_000
    assert fake_engine.prompted == 20_000 - found["shared"]


@pytest.mark.parametrize("bad", ["nan", "inf", "-inf"])
def test_coordinates_that_are_no_numbers_warn(
    dpmo: Dpmo, fake_engine: FakeEngine, native: Builder, tmp_path: Path, bad: str
) -> None:
    native.image("a.png")
    native.text("points.csv", f"image,x,y\na.png,5,5\na.png,{bad},7\n")
    outcome = dpmo("convert", "--root", native.root, "--out", tmp_path / "out")
    assert outcome.code == 0
    assert any("warning" in line and "a.png" in line for line in outcome.lines)
    assert statuses(tmp_path / "out", "all") == {"ok": 1, "invalid": 1}


def test_count_that_disagrees_warns(
    dpmo: Dpmo, fake_engine: FakeEngine, native: Builder, tmp_path: Path
) -> None:
    native.shanghaitech()
    native.gt(
        "part_A_final/train_data/ground-truth/GT_IMG_2.mat", np.array([[1.5, 2.0]]), np.uint8(7)
    )
    outcome = dpmo(
        "convert", "--dataset", "sha", "--root", native.root, "--split", "train",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 0
    [warning] = [line for line in outcome.lines if "warning" in line]
    assert "IMG_2.jpg" in warning
    assert "7" in warning
    assert statuses(tmp_path / "out") == {"ok": 5}
