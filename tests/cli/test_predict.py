"""`dpmo predict`: what it takes, what it refuses, and how it says so."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from dpmo_cli.outputs.validate import validate_run
from dpmo_cli.rps.policy import Policy
from dpmo_cli.training.rps import write_policy
from tests.conftest import Dpmo, FakeEngine, Outcome, draw_people
from tests.outputs.samples import Row

pytestmark = pytest.mark.usefixtures("one_thread")

Predict = Callable[..., Outcome]


@pytest.fixture
def predict(dpmo: Dpmo, fake_engine: FakeEngine, locator_file: Path) -> Predict:
    """Predicts photos into `out`, where they were located."""

    def run(*arguments: str | Path) -> Outcome:
        command = ("predict", *arguments, "--out", "out", "--json")
        return dpmo(*command, "--selector", "first", "--locator", locator_file)

    return run


@pytest.fixture
def prompt(dpmo: Dpmo, fake_engine: FakeEngine) -> Predict:
    """Predicts photos into `out` with the points of a file."""

    def run(text: str, *arguments: str | Path) -> Outcome:
        Path("points.csv").write_text(text)
        command = ("predict", *arguments, "--out", "out", "--json")
        return dpmo(*command, "--selector", "first", "--points", "points.csv")

    return run


def rows_of(out: Path) -> list[Row]:
    rows: list[Row] = pq.read_table(out / "points/predictions.parquet").to_pylist()
    return rows


def counts_of(out: Path) -> dict[str, str]:
    with (out / "counts.csv").open(encoding="utf-8", newline="") as file:
        _, *rows = csv.reader(file)
    return {name: people for name, people, _ in rows}


def test_help_and_nothing(dpmo: Dpmo) -> None:
    assert dpmo("predict", "--help").code == 0
    for arguments in ((), ("--out", "out"), ("a.png",)):
        outcome = dpmo("predict", *arguments)
        assert outcome.code == 2
        assert len(outcome.lines) == 1


def test_what_it_says(predict: Predict, dpmo: Dpmo, locator_file: Path, album: Path) -> None:
    outcome = predict("album")
    assert outcome.code == 0
    found = outcome.json
    assert (found["version"], found["kind"], found["out"]) == (1, "predict", "out")
    assert (found["changed"], found["converted_images"], found["exit_code"]) == (True, 3, 0)
    assert found["splits"].keys() == {"predictions"}
    command = ("predict", "album", "--out", "out", "--selector", "first")
    quiet = dpmo(*command, "--locator", locator_file, "--quiet")
    assert (quiet.code, quiet.stdout, quiet.stderr) == (0, "", "")


def test_photos_of_stdin(
    predict: Predict, album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = "album/b.png\n\nalbum/sub\r\nalbum/b.png\n"
    monkeypatch.setattr(sys, "stdin", io.StringIO(lines))
    assert predict("-", "album/a.png").code == 0
    assert list(counts_of(tmp_path / "out")) == ["a.png", "b.png", "sub/c.png"]


def test_stdin_that_is_not_utf8(
    predict: Predict, album: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A name is the bytes that the file system knows."""
    os.rename(os.fsencode(album / "b.png"), os.fsencode(album) + b"/\xff.png")
    raw = io.TextIOWrapper(io.BytesIO(b"album/\xff.png\nalbum/a.png\n"), encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", raw)
    assert predict("-").code == 0
    assert list(counts_of(tmp_path / "out")) == ["\\udcff.png", "a.png"]
    assert validate_run(tmp_path / "out") == []


@pytest.mark.parametrize("text", ["", "\n \n"])
def test_an_empty_stdin(text: str, predict: Predict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    outcome = predict("-")
    assert outcome.code == 2
    assert outcome.lines == [
        "dpmo: error: no photo is named; give images, or folders that hold some"
    ]


def _truncated(path: Path) -> None:
    Image.fromarray(draw_people(0)).save(path, format="PNG")
    path.write_bytes(path.read_bytes()[:2000])


def _text(path: Path) -> None:
    path.write_text("hello")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _animation(path: Path) -> None:
    frames = [Image.fromarray(draw_people(number)) for number in range(2)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _missing(path: Path) -> None:
    pass


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _floats(path: Path) -> None:
    Image.fromarray(np.zeros((8, 9), dtype=np.float32)).save(path)


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere.png")


@pytest.mark.parametrize(
    ("name", "make", "says"),
    [
        pytest.param("t.png", _truncated, "can't be decoded", id="truncated"),
        pytest.param("t.png", _text, "is no image of a known format", id="text"),
        pytest.param("t.txt", _text, "is no image of a known format", id="text file"),
        pytest.param("t.png", _empty, "is no image of a known format", id="empty"),
        pytest.param("t.gif", _animation, "is no image of a known format", id="animated GIF"),
        pytest.param("t.png", _missing, "is missing", id="missing"),
        pytest.param("t.png", _pipe, "is not a regular file", id="a pipe"),
        pytest.param("t.tif", _floats, "has floating-point pixels", id="floating point"),
        pytest.param("t.png", _dangling, "is missing", id="a link to nothing"),
        pytest.param(os.fsdecode(b"\xff.png"), _text, "is no image", id="text, name not UTF-8"),
    ],
)
def test_photos_that_cannot_be_read(
    name: str,
    make: Callable[[Path], None],
    says: str,
    predict: Predict,
    album: Path,
    tmp_path: Path,
) -> None:
    make(album / name)
    outcome = predict("album/a.png", f"album/{name}")
    assert outcome.code == 3
    (line,) = outcome.errors
    problem, mend = line.split(says)
    assert name in problem
    assert "; " in mend
    found = outcome.json
    assert (found["counts"]["images"], found["counts"]["failed_images"]) == (2, 1)
    assert (found["exit_code"], len(found["failures"])) == (3, 1)
    assert validate_run(tmp_path / "out") == []
    counted = counts_of(tmp_path / "out")
    assert counted.pop("a.png").isdecimal()
    assert list(counted.values()) == [""], "nothing is known of it"

    again = predict("album/a.png", f"album/{name}")
    assert (again.code, again.json["changed"]) == (3, False)
    alone = predict(f"album/{name}")
    # What is not there at all is a wrong use of the command.
    assert alone.code == (1 if os.path.lexists(album / name) else 2), "all have failed"
    strict = predict("album/a.png", f"album/{name}", "--strict")
    assert (strict.code, strict.stdout, len(strict.errors)) == (1, "", 1)


def _turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(draw_people(0)).save(path, exif=exif, quality=100)


def _mode(mode: str) -> Callable[[Path], None]:
    return lambda path: Image.fromarray(draw_people(0)).convert(mode).save(path)


def _sixteen(path: Path) -> None:
    gray = draw_people(0)[..., 0].astype(np.uint16) * 257
    Image.fromarray(gray).save(path)


def _tiny(width: int, height: int) -> Callable[[Path], None]:
    return lambda path: Image.new("RGB", (width, height), (200, 30, 90)).save(path)


@pytest.mark.parametrize(
    ("name", "make", "size_wh"),
    [
        pytest.param("o.webp", _animation, (64, 48), id="animated WEBP"),
        pytest.param("o.jpg", _turned, (64, 48), id="EXIF orientation"),
        pytest.param("o.jpg", _mode("CMYK"), (64, 48), id="CMYK"),
        pytest.param("o.png", _mode("RGBA"), (64, 48), id="transparent"),
        pytest.param("o.png", _mode("1"), (64, 48), id="bilevel"),
        pytest.param("o.png", _sixteen, (64, 48), id="16-bit"),
        pytest.param("o.png", _tiny(1, 1), (1, 1), id="one pixel"),
        pytest.param("o.png", _tiny(1, 70), (1, 70), id="one column"),
        pytest.param("o b,c\"é'.png", _mode("RGB"), (64, 48), id="odd name"),
    ],
)
def test_odd_photos(
    name: str,
    make: Callable[[Path], None],
    size_wh: tuple[int, int],
    predict: Predict,
    tmp_path: Path,
) -> None:
    make(tmp_path / name)
    outcome = predict(name, "--min-score", "0.001")
    assert (outcome.code, outcome.errors) == (0, [])
    assert validate_run(tmp_path / "out") == []
    document = json.loads((tmp_path / "out/annotations/predictions.json").read_text())
    (image,) = document["images"]
    assert (image["file_name"], image["width"], image["height"]) == (name, *size_wh)
    rows = rows_of(tmp_path / "out")
    assert all(0 <= row["x"] < size_wh[0] and 0 <= row["y"] < size_wh[1] for row in rows)
    assert counts_of(tmp_path / "out") == {name: str(len(rows))}
    assert bool(rows) == (min(size_wh) > 1), "a cell's middle is 1.5 px from the corner"


POINTS = "image,x,y,score\na.png,10,12,0.75\na.png,40.5,30,0.5\n"


def test_points_of_a_file(prompt: Predict, album: Path, tmp_path: Path) -> None:
    outcome = prompt(POINTS + "b.png,,,\n", "album/a.png", "album/b.png")
    assert (outcome.code, outcome.errors) == (0, [])
    rows = rows_of(tmp_path / "out")
    assert [(row["x"], row["y"], row["locator_score"]) for row in rows] == [
        (10, 12, 0.75), (40.5, 30, 0.5)
    ]  # fmt: skip
    assert {row["status"] for row in rows} == {"ok"}
    assert validate_run(tmp_path / "out") == []
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["config"]["points"] == "points.csv"
    assert record["settings"]["points"] == "points of a file, selector first"
    same = prompt(POINTS + "b.png,,,\n", "album/a.png", "album/b.png")
    assert same.json["changed"] is False
    more = prompt(POINTS + "b.png,5,5,1\n", "album/a.png", "album/b.png")
    assert more.json["converted_images"] == 1


def test_points_of_an_unknown_image(prompt: Predict, album: Path, tmp_path: Path) -> None:
    outcome = prompt(POINTS + "zebra.png,3,4,1\n", "album/a.png")
    assert outcome.code == 3
    assert outcome.errors == [
        "dpmo: error: points.csv: names zebra, which is none of the photos; mend the name"
    ]
    assert outcome.json["exit_code"] == 3
    assert len(rows_of(tmp_path / "out")) == 2
    assert validate_run(tmp_path / "out") == []
    strict = prompt(POINTS + "zebra.png,3,4,1\n", "album/a.png", "--strict")
    assert (strict.code, strict.stdout) == (1, "")


def test_a_photo_without_points(prompt: Predict, album: Path) -> None:
    outcome = prompt(POINTS, "album/a.png", "album/b.png")
    assert outcome.code == 0
    assert "dpmo: warning: b.png: the points file does not name it" in outcome.lines
    assert outcome.json["warnings"] == 1


@pytest.mark.parametrize("selector", ["first", "score", "rps"])
def test_points_outside_the_image(
    selector: str, prompt: Predict, dpmo: Dpmo, album: Path, tmp_path: Path
) -> None:
    """Beside others, and all of them."""
    outside = "image,x,y\na.png,-3,5\na.png,64,5\na.png,1e200,-1e300\n"
    Path("p.csv").write_text(outside)
    Path("q.csv").write_text(outside + "a.png,20,20\na.png,20,20\n")
    options = ["--selector", selector]
    if selector == "rps":
        from dpmo_cli.sam.models import resolve_engine

        torch.manual_seed(0)
        network = resolve_engine("nano", device="cpu").weights_sha256
        write_policy(Policy(2), tmp_path / "rps.safetensors", network)
        options += ["--policy", "rps.safetensors"]
    for name, inside in (("p.csv", 0), ("q.csv", 2)):
        command = ("predict", "album/a.png", "--out", name[0], "--points", name)
        assert dpmo(*command, *options).code == 0
        assert validate_run(tmp_path / name[0]) == []
        statuses = Counter(row["status"] for row in rows_of(tmp_path / name[0]))
        assert statuses.total() == 3 + inside
        assert statuses["outside"] == 3
        assert statuses["ok"] == statuses["shared"] == inside // 2
        assert counts_of(tmp_path / name[0]) == {"a.png": str(inside)}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(["--selector", "first", "--reject"], "--reject needs a policy", id="reject"),
        pytest.param(["--selector", "score", "--policy", "p"], "--policy needs", id="policy"),
        pytest.param(["--selector", "best"], "--selector best: unknown", id="selector"),
        pytest.param(["--min-score", "0"], "--min-score 0.0: must lie between", id="score 0"),
        pytest.param(["--min-score", "1"], "--min-score 1.0: must lie between", id="score 1"),
        pytest.param(["--min-score", "-2"], "--min-score -2.0: must lie", id="score below"),
        pytest.param(["--min-score", "nan"], "--min-score nan: must lie", id="score NaN"),
        pytest.param(["--min-score", "much"], "--min-score", id="score, a word"),
        pytest.param(
            ["--selector", "first", "--points", "points.csv", "--locator", "points.csv"],
            "--points and --locator exclude each other",
            id="points and locator",
        ),
        pytest.param(
            ["--selector", "first", "--locator", "none"], "no such file of weights", id="locator"
        ),
        pytest.param(
            ["--selector", "first", "--locator", "points.csv"], "is no checkpoint", id="no locator"
        ),
        pytest.param(
            ["--points", "points.csv", "--policy", "points.csv"], "is no checkpoint", id="no policy"
        ),
        pytest.param(["--points", "none.csv"], "none.csv: no such file", id="no points"),
        pytest.param(["--shard", "3/2"], "--shard 3/2: give i/n", id="shard"),
        pytest.param(["--extent", "arm"], "--extent arm: unknown", id="extent"),
        pytest.param(["--out", "points.csv"], "--out points.csv: is a file", id="out"),
    ],
)
def test_wrong_options(
    options: list[str], says: str, dpmo: Dpmo, fake_engine: FakeEngine, album: Path
) -> None:
    Path("points.csv").write_text(POINTS)
    outcome = dpmo("predict", "album/a.png", "--out", "out", "-q", *options)
    assert (outcome.code, outcome.stdout) == (2, "")
    (line,) = outcome.errors
    assert says in line


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param(["album/none"], "none: no such file or folder", id="one that is not there"),
        pytest.param(["albun/"], "albun: no such file or folder", id="a mistyped folder"),
        pytest.param(["albun/a.png", "albun/b.png"], "nor are the others there", id="all of them"),
        pytest.param(["album/*.bmp"], "no photo fits this pattern", id="a pattern"),
        pytest.param(["empty"], "the folder holds no photo", id="an empty folder"),
        pytest.param([""], "is empty", id="an empty name"),
    ],
)
def test_wrong_paths(given: list[str], says: str, predict: Predict, album: Path) -> None:
    Path("empty").mkdir()
    outcome = predict(*given)
    assert outcome.code == 2
    (line,) = outcome.lines
    assert says in line
    assert not Path("out").exists(), "nothing is left behind"


def test_damaged_points(prompt: Predict, album: Path) -> None:
    outcome = prompt("image,x,y\na.png,1,east\n", "album/a.png")
    assert outcome.code == 1
    (line,) = outcome.errors
    assert "points.csv: line 2: expected" in line
