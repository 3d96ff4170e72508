"""What no image can be converted without: its lack ends the run before anything is done."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.conftest import Crowd, Dpmo, FakeEngine, tree
from tests.datasets.conftest import Builder


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    """Builds datasets under `data` in the working folder."""
    return Builder(tmp_path / "data")


@pytest.mark.parametrize(
    ("arguments", "code", "names", "mend"),
    [
        pytest.param(
            ["--root", "nowhere"], 2, "nowhere", "give the dataset's folder", id="missing root"
        ),
        pytest.param(
            ["--root", "data/points.csv"], 2, "points.csv", "give the", id="root is a file"
        ),
        pytest.param(["--root", "empty"], 2, "empty", "name it with --dataset", id="root is empty"),
        pytest.param(
            ["--root", "empty", "--dataset", "qnrf"], 2, "empty", "--root", id="no such dataset"
        ),
        pytest.param(
            ["--root", "data", "--dataset", "shc"], 2, "'shc'", "shb", id="unknown dataset"
        ),
        pytest.param(
            ["--root", "data", "--out", "data/points.csv"],
            2,
            "points.csv",
            "name a folder",
            id="output is a file",
        ),
        pytest.param(
            ["--root", "data", "--out", "data/points.csv/out"],
            1,
            "points.csv/out",
            "choose another folder",
            id="output below a file",
        ),
        pytest.param(
            ["--root", "data", "--out", "o" * 300],
            1,
            "o" * 300,
            "choose another folder",
            id="output name too long",
        ),
    ],
)
def test_wrong_places(
    arguments: list[str],
    code: int,
    names: str,
    mend: str,
    build: Builder,
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    tmp_path: Path,
) -> None:
    build.csv()
    (tmp_path / "empty").mkdir()
    before = tree(tmp_path)
    out = [] if "--out" in arguments else ["--out", "out"]
    outcome = dpmo("convert", *arguments, *out, "--quiet")
    assert outcome.code == code
    (line,) = outcome.lines
    assert line.startswith("dpmo: error: ")
    assert names in line
    assert mend in line
    assert tree(tmp_path) == before
    assert fake_engine.loads == 0


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
def test_output_that_cant_be_written(
    number: int,
    build: Builder,
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    build.csv()

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    outcome = dpmo("convert", "--root", "data", "--out", "out", "--quiet")
    assert outcome.code == 1
    assert outcome.lines == [
        f"dpmo: error: out: can't be written ({os.strerror(number)}); "
        "free space there or choose another folder"
    ]


@pytest.mark.parametrize(
    "split", [pytest.param("test", id="test"), pytest.param("Test", id="in any case")]
)
def test_withheld_labels_of_nwpu(split: str, build: Builder, dpmo: Dpmo, tmp_path: Path) -> None:
    build.nwpu()
    outcome = dpmo("convert", "--root", "data", "--out", "out", "--split", split)
    assert outcome.code == 2
    (line,) = outcome.lines
    assert "the labels of nwpu's split 'test' are withheld by its authors" in line
    assert line.endswith("use --split train or val")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("table", "says"),
    [
        pytest.param("", "expected the columns image, x, y", id="empty"),
        pytest.param("name,x,y\na.png,1,2\n", "image missing", id="no column image"),
        pytest.param("image,x,x,y\n", "has two columns x", id="a column twice"),
        pytest.param("image,x,y\n,1,2\n", "line 2 names no image", id="no name"),
        pytest.param("image,x,y,split\na.png,1,2,a/b\n", "is no plain word", id="split"),
    ],
)
def test_table_of_csv_that_cant_be_used(
    table: str, says: str, build: Builder, dpmo: Dpmo, tmp_path: Path
) -> None:
    build.text("points.csv", table)
    outcome = dpmo("convert", "--dataset", "csv", "--root", "data", "--out", "out")
    assert outcome.code in (1, 2)
    (line,) = outcome.lines
    assert line.startswith("dpmo: error: data/points.csv: ")
    assert says in line
    assert "; " in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["run:1", "file:x", "s3:", b"q\xff"])
def test_names_that_are_no_addresses(
    name: str | bytes, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd
) -> None:
    """A folder is a folder, whatever a library would make of its name."""
    out = os.fsdecode(name)
    outcome = dpmo("convert", "--root", crowd.root, "--out", out, "--quiet")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert dpmo("validate", out).code == 0
    assert dpmo("visualize", out, "--sample", "1", "-o", "x.png").code == 0
