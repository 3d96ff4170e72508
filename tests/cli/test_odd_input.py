"""Input that is odd but fine: each kind is converted like any other, exit code 0."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from PIL import Image

from dpmo_cli.outputs.coco import iter_coco
from dpmo_cli.outputs.validate import validate_run
from tests.conftest import Dpmo, FakeEngine, Outcome
from tests.datasets.conftest import Builder
from tests.outputs.samples import Row

NAN, INF = float("nan"), float("inf")
HEIGHT, WIDTH = 24, 32
POINTS = [(5.5, 6.25), (20.0, 12.0), (27.5, 3.0)]
MANY = 20_000

Points = list[tuple[float, float]]
Convert = Callable[..., tuple[Outcome, list[Row]]]


def _noise(height: int = HEIGHT, width: int = WIDTH, channels: int = 3) -> NDArray[np.uint8]:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture
def convert(dpmo: Dpmo, tmp_path: Path) -> Convert:
    """Converts one image of a csv dataset, which must go well, and returns its rows."""
    root = tmp_path / "data"
    root.mkdir()

    def run(
        image: Image.Image, name: str, points: Points, **saving: object
    ) -> tuple[Outcome, list[Row]]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(root / name, **saving)
        with (root / "points.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image", "x", "y"])
            table.writerows([[name, repr(x), repr(y)] for x, y in points] or [[name, "", ""]])
        outcome = dpmo("convert", "--root", root, "--out", "out", "--json")
        assert outcome.code == 0
        assert outcome.errors == []
        assert validate_run(tmp_path / "out") == []
        rows: list[Row] = pq.read_table(tmp_path / "out/points/all.parquet").to_pylist()
        kept_xy = np.array([[row["x"], row["y"]] for row in rows]).reshape(-1, 2)
        np.testing.assert_array_equal(kept_xy, np.array(points).reshape(-1, 2))
        (info,) = [one for kind, one in iter_coco(tmp_path / "out/annotations/all.json")
                   if kind == "images"]  # fmt: skip
        assert info["file_name"] == name
        assert (info["width"], info["height"]) == image.size, "stored pixels"
        assert all(row["image"] == name for row in rows)
        assert dpmo("convert", "--root", root, "--out", "out", "--json").json["changed"] is False
        return outcome, rows

    return run


def _statuses(rows: list[Row]) -> dict[str, int]:
    return dict(Counter(row["status"] for row in rows))


def _unwarned(outcome: Outcome) -> None:
    assert "warning" not in outcome.stderr
    assert outcome.json["warnings"] == 0


def _gray16() -> Image.Image:
    return Image.fromarray(_noise(channels=1).astype(np.uint16) * 257)


def _turned() -> Image.Image:
    image = Image.fromarray(_noise())
    image.getexif()[0x0112] = 6
    return image


@pytest.mark.usefixtures("nano")
@pytest.mark.parametrize(
    ("image", "name", "saving"),
    [
        pytest.param(Image.fromarray(_noise(channels=1)), "a.jpg", {}, id="grayscale"),
        pytest.param(Image.fromarray(_noise(channels=1)).convert("1"), "a.png", {}, id="bilevel"),
        pytest.param(Image.fromarray(_noise()).convert("P"), "a.png", {}, id="palette"),
        pytest.param(Image.fromarray(_noise(channels=4), "RGBA"), "a.png", {}, id="transparent"),
        pytest.param(Image.fromarray(_noise()).convert("CMYK"), "a.jpg", {}, id="CMYK"),
        pytest.param(_gray16(), "a.png", {}, id="16-bit"),
        pytest.param(_turned(), "a.jpg", {"exif": _turned().getexif()}, id="EXIF orientation"),
        pytest.param(Image.fromarray(_noise()), "a b  c.png", {}, id="name with spaces"),
        pytest.param(Image.fromarray(_noise()), "a,b,c.png", {}, id="name with commas"),
        pytest.param(Image.fromarray(_noise()), "人群 Größe é.png", {}, id="name, non-ASCII"),
        pytest.param(Image.fromarray(_noise()), "a\"b'c[/red].png", {}, id="name with quotes"),
        pytest.param(Image.fromarray(_noise()), "deep/er/a.png", {}, id="name with folders"),
    ],
)
def test_images(image: Image.Image, name: str, saving: dict[str, object], convert: Convert) -> None:
    outcome, rows = convert(image, name, POINTS, **saving)
    assert len(rows) == len(POINTS)
    assert set(_statuses(rows)) <= {"ok", "empty"}
    _unwarned(outcome)


@pytest.mark.usefixtures("nano")
@pytest.mark.parametrize(
    ("size_hw", "points"),
    [
        pytest.param((1, 1), [(0.0, 0.0)], id="one pixel"),
        pytest.param((1, 1), [(0.0, 0.0), (0.4, 0.4), (3.0, 0.0)], id="one pixel, three points"),
        pytest.param((1, 40), [(3.0, 0.0), (30.0, 0.5)], id="one row"),
        pytest.param((40, 1), [(0.0, 3.0), (0.5, 30.0)], id="one column"),
    ],
)
def test_tiny_images(size_hw: tuple[int, int], points: Points, convert: Convert) -> None:
    outcome, rows = convert(Image.fromarray(_noise(*size_hw)), "a.png", points)
    assert set(_statuses(rows)) <= {"ok", "empty", "shared", "outside"}
    _unwarned(outcome)


@pytest.mark.usefixtures("nano")
def test_12000_pixels(convert: Convert) -> None:
    image = Image.fromarray(_noise(160, 12_000))
    outcome, rows = convert(image, "a.png", [(3.0, 80.0), (11_999.0, 10.0), (6000.5, 159.0)])
    assert set(_statuses(rows)) <= {"ok", "empty"}
    _unwarned(outcome)


@pytest.mark.usefixtures("nano")
@pytest.mark.parametrize(
    ("points", "statuses"),
    [
        pytest.param([], {}, id="zero points"),
        pytest.param([(-4.0, 3.0), (1e9, -1e9), (32.0, 3.0), (3.0, 24.0)], {"outside": 4},
                     id="all points outside the image"),
    ],
)  # fmt: skip
def test_nothing_to_prompt(points: Points, statuses: dict[str, int], convert: Convert) -> None:
    outcome, rows = convert(Image.fromarray(_noise()), "a.png", points)
    assert _statuses(rows) == statuses
    _unwarned(outcome)


@pytest.mark.parametrize(
    ("points", "statuses"),
    [
        pytest.param(POINTS[:1], {"ok": 1}, id="one point"),
        pytest.param(POINTS[:1] * 7, {"ok": 1, "shared": 6}, id="all points equal"),
        pytest.param(
            [*POINTS, (-4.0, 3.0), (31.9, 23.9), (32.0, 24.0)],
            {"ok": 4, "outside": 2},
            id="points outside the image",
        ),
        pytest.param([(0.0, 0.0), (31.0, 23.0), (31.99, 0.0)], {"ok": 3}, id="points in corners"),
    ],
)
def test_points(
    points: Points, statuses: dict[str, int], convert: Convert, fake_engine: FakeEngine
) -> None:
    outcome, rows = convert(Image.fromarray(_noise()), "a.png", points)
    assert _statuses(rows) == statuses
    _unwarned(outcome)


@pytest.mark.usefixtures("nano")
def test_one_point_and_equal_points_with_the_real_network(convert: Convert) -> None:
    _, rows = convert(Image.fromarray(_noise()), "a.png", [(5.0, 6.0)] * 3)
    assert len({(row["annotation_id"], row["score"]) for row in rows}) == 1


def _spread(count: int, height: int, width: int) -> Points:
    spots = np.random.default_rng(0).uniform((0, 0), (width - 1, height - 1), (count, 2))
    return [(x, y) for x, y in spots.round(2).tolist()]


def test_20000_points(convert: Convert, fake_engine: FakeEngine) -> None:
    """Every site is prompted once, in tiles that hold many: the work grows with the points."""
    fake_engine.cells = 16
    image = Image.fromarray(_noise(400, 600))
    outcome, rows = convert(image, "a.png", _spread(MANY, 400, 600))
    statuses = _statuses(rows)
    assert sum(statuses.values()) == MANY
    assert set(statuses) <= {"ok", "shared", "empty"}
    sites = MANY - statuses.get("shared", 0)
    assert fake_engine.prompted == sites
    assert fake_engine.encoded < sites / 10
    _unwarned(outcome)


def test_20000_equal_points(convert: Convert, fake_engine: FakeEngine) -> None:
    _, rows = convert(Image.fromarray(_noise()), "a.png", [(5.0, 6.0)] * MANY)
    assert _statuses(rows) == {"ok": 1, "shared": MANY - 1}
    assert fake_engine.prompted == 1


@pytest.mark.parametrize(
    "point",
    [
        pytest.param((NAN, 3.0), id="NaN"),
        pytest.param((3.0, INF), id="infinite"),
        pytest.param((-INF, NAN), id="both"),
    ],
)
def test_single_coordinates_that_are_not_finite_are_warned_of(
    point: tuple[float, float], convert: Convert, fake_engine: FakeEngine
) -> None:
    outcome, rows = convert(Image.fromarray(_noise()), "a.png", [*POINTS, point])
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "invalid"]
    assert rows[3]["reasons"] == ["not_finite"]
    assert "dpmo: warning: a.png: 1 points are NaN or infinite" in outcome.lines
    assert outcome.json["warnings"] == 1


def _shanghaitech_count(build: Builder) -> None:
    build.shanghaitech()
    path = "part_A_final/train_data/ground-truth/GT_IMG_2.mat"
    build.gt(path, np.array([[3.0, 4.0], [9.0, 9.0]]), number=np.uint16(7))


def _jhu_count(build: Builder) -> None:
    build.jhu()
    build.text("jhu_crowd_v2.0/train/image_labels.txt", "0001,7,street,1,0\n0009,0,water,0,1\n")


def _nwpu_count(build: Builder) -> None:
    build.nwpu()
    build.json("NWPU-Crowd/jsons/0001.json", {"human_num": 7, "points": [[3, 4], [9, 9]]})


@pytest.mark.parametrize(
    ("builder", "image"),
    [
        pytest.param(
            _shanghaitech_count, "part_A_final/train_data/images/IMG_2.jpg", id="shanghaitech-a"
        ),
        pytest.param(_jhu_count, "jhu_crowd_v2.0/train/images/0001.jpg", id="jhu"),
        pytest.param(_nwpu_count, "NWPU-Crowd/images/0001.jpg", id="nwpu"),
    ],
)
def test_counts_that_disagree_with_the_points_are_warned_of(
    builder: Callable[[Builder], None],
    image: str,
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    tmp_path: Path,
) -> None:
    builder(Builder(tmp_path / "data"))
    outcome = dpmo("convert", "--root", "data", "--out", "out", "--split", "train", "--json")
    assert outcome.code == 0
    (warning,) = [line for line in outcome.lines if line.startswith("dpmo: warning: ")]
    assert warning.startswith(f"dpmo: warning: {image}: count mismatch: ")
    assert "says 7, 2 points are listed" in warning
    rows = pq.read_table(tmp_path / "out/points/train.parquet").to_pylist()
    assert len([row for row in rows if row["image"] == image]) == 2
    assert validate_run(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("build", "points"),
    [
        pytest.param(Builder.shanghaitech, 12, id="shanghaitech-a"),
        pytest.param(lambda b: b.shanghaitech("part_B_final"), 12, id="shanghaitech-b"),
        pytest.param(Builder.qnrf, 2, id="qnrf"),
        pytest.param(Builder.jhu, 6, id="jhu"),
        pytest.param(Builder.nwpu, 4, id="nwpu"),
        pytest.param(Builder.cc50, 3, id="ucf-cc-50"),
        pytest.param(Builder.csv, 3, id="csv"),
    ],
)
def test_every_native_layout(
    build: Callable[[Builder], None],
    points: int,
    request: pytest.FixtureRequest,
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    tmp_path: Path,
) -> None:
    """All labelled splits by default, found by `auto`, every point with a row."""
    build(Builder(tmp_path / "data"))
    outcome = dpmo("convert", "--root", "data", "--out", "out", "--json")
    assert outcome.code == 0
    assert outcome.json["counts"]["points"] == points
    assert validate_run(tmp_path / "out") == []
    name = request.node.callspec.id
    assert dpmo(
        "convert", "--dataset", name, "--root", "data", "--out", "out", "--json"
    ).json["changed"] is False  # fmt: skip
