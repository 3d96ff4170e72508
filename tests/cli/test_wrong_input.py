"""Input that is wrong: one line that names the file and the mend; the rest of the run goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from dpmo_cli.outputs.validate import validate_run
from tests.conftest import Dpmo, FakeEngine, Outcome, tree
from tests.datasets.conftest import Builder

A = "part_A_final/train_data"
GT = f"{A}/ground-truth/GT_IMG_2.mat"
IMG = f"{A}/images/IMG_2.jpg"


@dataclass(frozen=True)
class Wrong:
    """One thing that is wrong.

    Attributes:
        build: makes the dataset.
        damage: does it, given the builder of the dataset.
        names: the file that the line must name.
        says: what the line must say of it.
        failed: how many images are lost by it.
    """

    build: Callable[[Builder], None]
    damage: Callable[[Builder], object]
    names: str
    says: str
    failed: int = 1


def _truncate(name: str, part: float = 0.5) -> Callable[[Builder], object]:
    def damage(build: Builder) -> None:
        content = build.path(name).read_bytes()
        build.path(name).write_bytes(content[: int(len(content) * part)])

    return damage


def _remove(name: str) -> Callable[[Builder], object]:
    return lambda build: build.path(name).unlink()


def _write(name: str, text: str) -> Callable[[Builder], object]:
    return lambda build: build.text(name, text)


def _link_out(name: str) -> Callable[[Builder], object]:
    """Put a symlink to a copy outside the root in the place of a file or folder."""

    def damage(build: Builder) -> None:
        path = build.path(name)
        outside = build.root.parent / "outside" / path.name
        outside.parent.mkdir()
        path.rename(outside)
        path.symlink_to(outside)

    return damage


def _pipe(name: str) -> Callable[[Builder], object]:
    def damage(build: Builder) -> None:
        build.path(name).unlink()
        os.mkfifo(build.path(name))

    return damage


def _folder(name: str) -> Callable[[Builder], object]:
    def damage(build: Builder) -> None:
        build.path(name).unlink()
        build.path(name).mkdir()

    return damage


def _named(row: str) -> Callable[[Builder], object]:
    """Add a row to the table of the csv dataset."""

    def damage(build: Builder) -> None:
        table = build.path("points.csv")
        table.write_text(table.read_text() + row + "\n")

    return damage


JHU, NWPU, QNRF = "jhu_crowd_v2.0/train", "NWPU-Crowd", "UCF-QNRF_ECCV18/Train"
WRONG = {
    "missing image": Wrong(Builder.shanghaitech, _remove(IMG), IMG, "is missing"),
    "missing image of csv": Wrong(
        Builder.csv, _remove("photos/a.png"), "photos/a.png", "is missing"
    ),
    "missing image of nwpu": Wrong(
        Builder.nwpu, _remove(f"{NWPU}/images/0001.jpg"), "images/0001.jpg", "is missing"
    ),
    "empty image": Wrong(Builder.shanghaitech, _write(IMG, ""), IMG, "is no image"),
    "truncated header": Wrong(Builder.shanghaitech, _truncate(IMG, 0.01), IMG, "can't be decoded"),
    "truncated image": Wrong(
        Builder.csv, _truncate("photos/a.png", 0.6), "photos/a.png", "can't be decoded"
    ),
    "text for an image": Wrong(Builder.shanghaitech, _write(IMG, "hello"), IMG, "is no image"),
    "a pipe for an image": Wrong(Builder.shanghaitech, _pipe(IMG), IMG, "is not a regular file"),
    "a folder for an image": Wrong(
        Builder.shanghaitech, _folder(IMG), IMG, "is not a regular file"
    ),
    "missing mat": Wrong(Builder.shanghaitech, _remove(GT), GT, "is missing"),
    "truncated mat": Wrong(Builder.shanghaitech, _truncate(GT), GT, "can't be read as a MAT"),
    "empty mat": Wrong(Builder.shanghaitech, _write(GT, ""), GT, "is empty"),
    "text for a mat": Wrong(
        Builder.shanghaitech, _write(GT, "1 2\n3 4\n"), GT, "can't be read as a MAT"
    ),
    "mat of version 7.3": Wrong(
        Builder.shanghaitech, _write(GT, "x" * 512 + "\x7f"), GT, "can't be read as a MAT"
    ),
    "wrong variable": Wrong(
        Builder.shanghaitech,
        lambda build: build.mat(GT, points=np.zeros((3, 2))),
        GT,
        "expected the variable image_info, found points",
    ),
    "wrong struct": Wrong(
        Builder.shanghaitech,
        lambda build: build.mat(GT, image_info={"place": np.zeros((3, 2))}),
        GT,
        "expected image_info to be a struct with location",
    ),
    "wrong shape": Wrong(
        Builder.shanghaitech,
        lambda build: build.gt(GT, np.zeros((3, 5))),
        GT,
        "to be an (N, 2) table of numbers, found the shape (3, 5)",
    ),
    "wrong variable of qnrf": Wrong(
        Builder.qnrf,
        lambda build: build.mat(f"{QNRF}/img_0001_ann.mat", points=np.zeros((3, 2))),
        f"{QNRF}/img_0001_ann.mat",
        "expected the variable annPoints, found points",
    ),
    "wrong shape of qnrf": Wrong(
        Builder.qnrf,
        lambda build: build.mat(f"{QNRF}/img_0001_ann.mat", annPoints=np.zeros((2, 2, 2))),
        f"{QNRF}/img_0001_ann.mat",
        "found the shape (2, 2, 2)",
    ),
    "wrong shape of ucf-cc-50": Wrong(
        Builder.cc50,
        lambda build: build.mat("UCF_CC_50/2_ann.mat", annPoints=np.zeros((4, 3))),
        "UCF_CC_50/2_ann.mat",
        "found the shape (4, 3)",
    ),
    "missing JSON": Wrong(
        Builder.nwpu, _remove(f"{NWPU}/jsons/0001.json"), "jsons/0001.json", "is missing"
    ),
    "truncated JSON": Wrong(
        Builder.nwpu, _truncate(f"{NWPU}/jsons/0001.json"), "jsons/0001.json", "is not valid JSON"
    ),
    "wrong JSON": Wrong(
        Builder.nwpu,
        _write(f"{NWPU}/jsons/0001.json", '{"heads": []}'),
        "jsons/0001.json",
        "expected a JSON object with points, found the keys heads",
    ),
    "wrong shape in JSON": Wrong(
        Builder.nwpu,
        _write(f"{NWPU}/jsons/0001.json", '{"points": [[1, 2, 3]]}'),
        "jsons/0001.json",
        "found the shape (1, 3)",
    ),
    "words in JSON": Wrong(
        Builder.nwpu,
        _write(f"{NWPU}/jsons/0001.json", '{"points": [["1", "2"]]}'),
        "jsons/0001.json",
        "to be an (N, 2) table of numbers",
    ),
    "missing text": Wrong(Builder.jhu, _remove(f"{JHU}/gt/0001.txt"), "gt/0001.txt", "is missing"),
    "truncated text": Wrong(
        Builder.jhu,
        _truncate(f"{JHU}/gt/0001.txt", 0.4),
        "gt/0001.txt",
        "expected the 6 of x y w h",
    ),
    "words in text": Wrong(
        Builder.jhu, _write(f"{JHU}/gt/0001.txt", "a b c d e f"), "gt/0001.txt", "holds no numbers"
    ),
    "binary text": Wrong(
        Builder.jhu,
        lambda build: build.path(f"{JHU}/gt/0001.txt").write_bytes(b"\xff\xfe\x00"),
        "gt/0001.txt",
        "is not UTF-8 text",
    ),
    "words in the table": Wrong(
        Builder.csv, _named("photos/c.png,a,b"), "points.csv", "line 5: expected x and y to be"
    ),
    "'..' in a name": Wrong(
        Builder.csv, _named("../secret.png,1,2"), "../secret.png", "the name holds '..'"
    ),
    "'..' inside a name": Wrong(
        Builder.csv, _named("photos/../../a.png,1,2"), "photos/../../a.png", "holds '..'"
    ),
    "'..' in a list": Wrong(
        Builder.nwpu,
        _write(f"{NWPU}/train.txt", "0001 1 1\n../../0003 0 0\n"),
        "../../0003.jpg",
        "the name holds '..'",
    ),
    "absolute path": Wrong(
        Builder.csv, _named("/etc/secret.png,1,2"), "/etc/secret.png", "is an absolute path"
    ),
    "absolute path of Windows": Wrong(
        Builder.csv, _named("C:\\secret.png,1,2"), "C:\\secret.png", "is an absolute path"
    ),
    "symlink of an image out of the root": Wrong(
        Builder.shanghaitech, _link_out(IMG), IMG, "is a symlink that leaves the dataset's root"
    ),
    "symlink of a mat out of the root": Wrong(
        Builder.shanghaitech, _link_out(GT), GT, "is a symlink that leaves the dataset's root"
    ),
    "symlink of a text out of the root": Wrong(
        Builder.jhu, _link_out(f"{JHU}/gt/0001.txt"), "gt/0001.txt", "is a symlink that leaves"
    ),
    "symlink of an image named in a table": Wrong(
        Builder.csv, _link_out("photos/a.png"), "photos/a.png", "is a symlink that leaves"
    ),
    "symlink of a folder out of the root": Wrong(
        Builder.shanghaitech, _link_out(f"{A}/images"), IMG, "is a symlink that leaves", failed=3
    ),
}


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    """Builds datasets under `data` in the working folder."""
    return Builder(tmp_path / "data")


def _one_line_each(outcome: Outcome, wrong: Wrong) -> None:
    assert len(outcome.errors) == wrong.failed
    (line,) = [line for line in outcome.errors if wrong.names in line]
    problem, mend = line.split(wrong.says)
    assert wrong.names in problem, "the file comes first"
    assert "; " in mend, "and how to mend it last"
    assert len(mend.rpartition("; ")[2].split()) >= 3


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_named_and_the_rest_goes_on(
    name: str, build: Builder, dpmo: Dpmo, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    wrong = WRONG[name]
    wrong.build(build)
    wrong.damage(build)
    command = ("convert", "--root", "data", "--json")
    outcome = dpmo(*command, "--out", "out")
    assert outcome.code == 3
    _one_line_each(outcome, wrong)
    counts = outcome.json["counts"]
    assert counts["failed_images"] == wrong.failed
    assert outcome.json["converted_images"] == counts["images"] - wrong.failed > 0
    assert outcome.errors == [f"dpmo: error: {one}" for one in outcome.json["failures"]]
    assert validate_run(tmp_path / "out") == []

    strict = dpmo(*command, "--out", "strict", "--strict")
    assert strict.code == 1
    assert strict.stdout == ""
    assert len(strict.errors) == 1
    assert strict.errors[0] in outcome.errors


def test_nothing_outside_the_root_is_read(
    build: Builder, dpmo: Dpmo, fake_engine: FakeEngine, tmp_path: Path
) -> None:
    """The files that names lead to are there and could be read."""
    build.csv()
    Builder(tmp_path).image("secret.png")
    for row in ("../secret.png,1,2", f"{tmp_path}/secret.png,1,2"):
        _named(row)(build)
    outcome = dpmo("convert", "--root", "data", "--out", "out", "--json")
    assert outcome.code == 3
    assert fake_engine.encoded == 2
    # Refused images keep the rows of their points.
    assert outcome.json["counts"]["by_status"]["failed"] == 2
    assert not any(b"secret" in content for content in tree(tmp_path / "out", without=()).values()
                   if content.startswith(b'{"info"'))  # fmt: skip


def test_points_of_an_unreadable_image_keep_their_rows(
    build: Builder, dpmo: Dpmo, fake_engine: FakeEngine
) -> None:
    build.shanghaitech()
    _truncate(IMG, 0.1)(build)
    counts = dpmo("convert", "--root", "data", "--out", "out", "--json").json["counts"]
    assert (counts["points"], counts["by_status"]["failed"]) == (12, 2)
