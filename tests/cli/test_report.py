from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dpmo_cli.outputs.validate import validate_run
from tests.conftest import Crowd, Dpmo
from tests.outputs.samples import sample_records, write_photos, write_run
from tests.outputs.test_page import check


@pytest.fixture
def out(tmp_path: Path) -> Path:
    records = sample_records()
    write_photos(tmp_path / "data", records)
    return write_run(tmp_path / "out", records)


def test_the_page_stands_in_the_run(dpmo: Dpmo, out: Path) -> None:
    outcome = dpmo("report", out)
    assert (outcome.code, outcome.lines) == (0, [])
    assert outcome.stdout == f"{out / 'report.html'}\n"
    page = (out / "report.html").read_text(encoding="utf-8")
    # Nine masks, four images that could be read.
    assert len(check(page).named("img")) == 9 + 4
    assert len(page) < 4 * 2**20
    assert validate_run(out) == []


def test_the_same_call_gives_the_same_bytes(dpmo: Dpmo, out: Path, tmp_path: Path) -> None:
    page = tmp_path / "pages" / "a.html"
    pages = set()
    for seed in ("0", "1", "2"):
        dpmo("report", out, "-o", page, "--sample", "2", "--seed", seed)
        first, stamp = page.read_bytes(), page.stat().st_mtime_ns
        dpmo("report", out, "-o", page, "--sample", "2", "--seed", seed)
        assert (page.read_bytes(), page.stat().st_mtime_ns) == (first, stamp)
        pages.add(first)
    assert len(pages) > 1
    assert [path.name for path in page.parent.iterdir()] == ["a.html"]


def test_json(dpmo: Dpmo, out: Path) -> None:
    outcome = dpmo("report", out, "--json")
    assert outcome.json["kind"] == "report"
    assert outcome.json["report"] == str(out / "report.html")
    assert outcome.json["counts"] == {
        "images": 5, "failed_images": 1, "points": 16, "masks": 9, "flagged": 9
    }  # fmt: skip
    assert outcome.json["by_reason"]["tiny"] == 4
    assert sum(outcome.json["area_px"]["counts"]) == 9


@pytest.mark.parametrize(
    ("damage", "said", "images"),
    [
        pytest.param(shutil.rmtree, "is missing", 0, id="root moved"),
        pytest.param(
            lambda data: (data / "images" / "f.jpg").unlink(), "f.jpg: is missing", 9, id="one lost"
        ),
        pytest.param(
            lambda data: Image.new("RGB", (31, 64)).save(data / "images" / "f.jpg"),
            "has 31 x 64 px",
            9,
            id="another size",
        ),
        pytest.param(
            lambda data: (data / "images" / "f.jpg").write_bytes(b"x"), "no image", 9, id="torn"
        ),
    ],
)
def test_missing_photos(
    dpmo: Dpmo, out: Path, damage: Callable[[Path], object], said: str, images: int
) -> None:
    damage(out.parent / "data")
    outcome = dpmo("report", out)
    assert outcome.code == 0
    (line,) = outcome.lines
    assert line.startswith("dpmo: warning: ")
    assert said in line
    if "missing" in said:
        assert "; give the folder of the photos with --root" in line
    page = check((out / "report.html").read_text(encoding="utf-8"))
    assert len(page.named("img")) == images + 1 if images else not page.named("img")
    assert ("without overlays" in page.text) == (images == 0)
    assert said in page.text


def test_no_root(dpmo: Dpmo, out: Path) -> None:
    document = json.loads((out / "run.json").read_text())
    del document["root"]
    (out / "run.json").write_text(json.dumps(document))
    outcome = dpmo("report", out)
    assert outcome.code == 0
    assert "does not say where the photos are; give the folder" in outcome.lines[0]
    assert outcome.lines[0].endswith("with --root")
    assert dpmo("report", out, "--root", out.parent / "data").lines == []


def test_a_run_without_images(dpmo: Dpmo, tmp_path: Path) -> None:
    out = write_run(tmp_path / "out", [])
    outcome = dpmo("report", out)
    assert (outcome.code, outcome.lines) == (0, [])
    check((out / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("options", "code", "problem"),
    [
        pytest.param(["none"], 2, "holds no finished run", id="no folder"),
        pytest.param(["out", "-o", "x.pdf"], 2, "let it end in .html", id="no page"),
        pytest.param(["out", "--sample", "-1"], 2, "--sample", id="sample"),
        pytest.param(["out/run.json"], 2, "holds no finished run", id="a file"),
        pytest.param(["out", "-o", "out/run.json/x.html"], 1, "can't be written", id="no place"),
    ],
)
def test_wrong_calls(dpmo: Dpmo, out: Path, options: list[str], code: int, problem: str) -> None:
    outcome = dpmo("report", *options)
    assert outcome.code == code
    (line,) = outcome.errors
    assert problem in line


@pytest.mark.parametrize(
    ("name", "text"),
    [("run.json", "{"), ("run.json", '{"version":9}'), ("review/queue.parquet", "x")],
)
def test_damaged_runs(dpmo: Dpmo, out: Path, name: str, text: str) -> None:
    (out / name).write_text(text)
    outcome = dpmo("report", out)
    assert outcome.code == 1
    (line,) = outcome.errors
    assert name in line
    assert not (out / "report.html").exists()


@pytest.mark.usefixtures("fake_engine")
def test_a_converted_run(dpmo: Dpmo, crowd: Crowd) -> None:
    assert dpmo("convert", "--root", crowd.root, "--out", "masks", "--quiet").code == 0
    outcome = dpmo("report", "masks", "--sample", "3")
    assert (outcome.code, outcome.lines) == (0, [])
    page = check(Path("masks/report.html").read_text(encoding="utf-8"))
    assert len(page.named("img")) == 12 + 3
    # The page is no part of the run: a second one still has nothing to do.
    again = dpmo("convert", "--root", crowd.root, "--out", "masks", "--json")
    assert again.json["changed"] is False
