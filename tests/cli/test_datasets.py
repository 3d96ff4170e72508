"""`dpmo datasets`: what it prints where, and how it exits."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from dpmo_cli.cli.datasets import app
from dpmo_cli.datasets.registry import DATASET_NAMES
from dpmo_cli.errors import UsageError

runner = CliRunner()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A csv dataset of two photos, 30 x 20 px, whose points have one of each oddity."""
    for name in ("a b.png", "c.png"):
        Image.new("RGB", (30, 20)).save(tmp_path / name)
    rows = ["image,x,y,split", "a b.png,1,1,train", "a b.png,1,1,train", "a b.png,30,1,train"]
    rows += ["a b.png,nan,1,train", "c.png,,,val"]
    (tmp_path / "points.csv").write_text("\n".join(rows), encoding="utf-8")
    return tmp_path


def _json(stdout: str) -> dict[str, object]:
    (line,) = stdout.splitlines()
    content = json.loads(line)
    assert isinstance(content, dict)
    return content


def test_detect_says_which_and_why(root: Path) -> None:
    result = runner.invoke(app, ["detect", str(root)])
    assert result.exit_code == 0
    assert result.stdout.startswith("csv  100%  ")
    assert "points.csv" in result.stdout
    assert result.stderr == ""

    result = runner.invoke(app, ["detect", str(root), "--json"])
    why = f"{root}/points.csv has the columns image, x, y"
    assert _json(result.stdout) == {
        "version": 1,
        "kind": "detection",
        "root": str(root),
        "found": [{"name": "csv", "confidence": 1.0, "why": why}],
    }


def test_detect_of_nothing_names_what_is_known(tmp_path: Path) -> None:
    result = runner.invoke(app, ["detect", str(tmp_path)])
    assert isinstance(result.exception, UsageError)
    assert all(name in str(result.exception) for name in DATASET_NAMES)
    result = runner.invoke(app, ["detect", str(tmp_path), "--json"])
    assert result.exit_code == 0
    assert _json(result.stdout)["found"] == []


def test_inspect_prints_a_table_and_warnings(root: Path) -> None:
    result = runner.invoke(app, ["inspect", "--dataset", "auto", "--root", str(root)])
    assert result.exit_code == 0
    numbers = [[w for w in line.split() if w.isdecimal()] for line in result.stdout.splitlines()]
    # train, val and total of: images, points, duplicates, outside, invalid, unreadable, mismatches
    expected = ["112", "404", "101", "101", "101", "000", "000"]
    assert ["".join(row) for row in numbers if row] == expected
    warning = "dpmo: warning: a b.png: 1 points are NaN or infinite\n"
    assert result.stderr == warning


def test_inspect_prints_one_json_object(root: Path) -> None:
    arguments = ["inspect", "--dataset", "csv", "--root", str(root), "--json"]
    content = _json(runner.invoke(app, arguments).stdout)
    assert (content["kind"], content["dataset"], content["root"]) == (
        "inspection",
        "csv",
        str(root),
    )
    train, val = content["splits"]
    assert train == {
        "split": "train",
        "images": 1,
        "points": 4,
        "duplicates": 1,
        "outside": 1,
        "invalid": 1,
        "unreadable": [],
        "count_mismatches": [],
        "warnings": [{"file_name": "a b.png", "what": "1 points are NaN or infinite"}],
    }
    assert (val["split"], val["images"], val["points"]) == ("val", 1, 0)
    assert content["total"] == {**train, "split": "total", "images": 2}
    only = _json(runner.invoke(app, [*arguments, "--split", "val"]).stdout)
    assert only["splits"] == [val]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_unreadable_files_give_exit_code_3(root: Path, options: list[str]) -> None:
    (root / "c.png").write_bytes(b"no photo")
    result = runner.invoke(app, ["inspect", "--dataset", "csv", "--root", str(root), *options])
    assert result.exit_code == 3
    assert "c.png: is no image" in (result.stdout if options else result.stderr)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--dataset", "csw"], "did you mean csv", id="unknown dataset"),
        pytest.param(["--dataset", "csv", "--split", "test"], "'test'", id="unknown split"),
        pytest.param(["--dataset", "jhu"], "holds no jhu", id="another dataset"),
    ],
)
def test_wrong_use_is_a_usage_error(root: Path, arguments: list[str], says: str) -> None:
    result = runner.invoke(app, ["inspect", "--root", str(root), *arguments])
    assert isinstance(result.exception, UsageError)
    assert says in str(result.exception)


def test_importing_the_command_is_light() -> None:
    code = (
        "import sys, dpmo_cli.cli.datasets; "
        "print(sorted({'numpy', 'scipy', 'PIL', 'torch', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_list_prints_the_images(root: Path) -> None:
    """`printf csv/d.png | sha1sum` is divisible by five; its folder does not matter."""
    names = ("d.png", "f.png", "sub/d.png")
    (root / "points.csv").write_text(
        "image,x,y,split\n" + "".join(f"{name},1,1,val\n" for name in names) + "c.png,,,train\n"
    )

    def listed(*more: str) -> list[str]:
        result = runner.invoke(app, ["list", "--dataset", "csv", "--root", str(root), *more])
        assert (result.exit_code, result.stderr) == (0, "")
        return [line.removeprefix(f"{root}/") for line in result.stdout.splitlines()]

    assert listed() == ["c.png", *names]
    assert listed("--split", "val") == list(names)
    kept, others = listed("--held-out"), listed("--not-held-out")
    assert sorted(kept + others) == sorted(listed())
    assert kept == ["d.png", "sub/d.png"]
