from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from dpmo_cli.cli.visualize import visualize
from dpmo_cli.errors import DpmoError, InputError, UsageError
from tests.outputs.samples import sample_records, write_photos, write_run

app = typer.Typer()
app.command()(visualize)
runner = CliRunner()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    records = sample_records()
    write_photos(tmp_path / "data", records)
    return write_run(tmp_path / "out", records)


def run(out: Path, *options: str, root: bool = True) -> tuple[Result, Path]:
    picture = out.parent / "pictures" / "x.png"
    where = ["--root", str(out.parent / "data")] if root else []
    return runner.invoke(app, [str(out), *where, "-o", str(picture), *options]), picture


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return picture.size


@pytest.mark.parametrize("name", ["images/a b.jpg", "a b.jpg", "a b", "c,ä", "d"])
def test_one_image(out: Path, name: str) -> None:
    result, picture = run(out, "--image", name)
    assert result.exit_code == 0, result.exception
    assert result.stdout == f"{picture}\n"
    assert size_of(picture)[0] == 480
    assert [path.name for path in picture.parent.iterdir()] == ["x.png"]


@pytest.mark.parametrize(
    "options",
    [["--image", "a b", "--image", "f", "--image", "a b"], ["--sample", "2"], ["--sample", "99"]],
    ids=["named", "sampled", "all"],
)
def test_a_contact_sheet(out: Path, options: list[str]) -> None:
    result, picture = run(out, *options)
    assert result.exit_code == 0, result.exception
    assert size_of(picture)[0] == 2800


def test_the_same_call_gives_the_same_bytes(out: Path) -> None:
    _, picture = run(out, "--sample", "2", "--seed", "1")
    first = picture.read_bytes()
    stamp = picture.stat().st_mtime_ns
    run(out, "--sample", "2", "--seed", "1")
    assert (picture.read_bytes(), picture.stat().st_mtime_ns) == (first, stamp)
    seeds = set()
    for seed in range(3):
        run(out, "--sample", "2", "--seed", str(seed))
        seeds.add(picture.read_bytes())
    assert len(seeds) > 1


@pytest.mark.parametrize(
    "option", [["--no-discs"], ["--no-points"], ["--crop", "2,3,30,30"], ["--max-side", "60"]]
)
def test_options_change_the_picture(out: Path, option: list[str]) -> None:
    _, picture = run(out, "--image", "a b")
    before = picture.read_bytes()
    result, picture = run(out, "--image", "a b", *option)
    assert result.exit_code == 0, result.exception
    assert picture.read_bytes() != before


def test_a_crop_is_cut_at_the_border(out: Path) -> None:
    _, picture = run(out, "--image", "a b", "--crop", "-5,-5,999,999")
    whole = picture.read_bytes()
    _, picture = run(out, "--image", "a b")
    assert picture.read_bytes() == whole


def test_the_root_of_the_run_is_the_default(out: Path) -> None:
    document = json.loads((out / "run.json").read_text())
    document["root"] = str(out.parent / "data")
    (out / "run.json").write_text(json.dumps(document))
    result, _ = run(out, "--image", "a b", root=False)
    assert result.exit_code == 0, result.exception


def test_a_split_can_be_asked_for(out: Path) -> None:
    result, _ = run(out, "--image", "f", "--split", "train")
    assert isinstance(result.exception, UsageError)
    result, _ = run(out, "--image", "f", "--split", "test")
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("options", "kind", "problem"),
    [
        pytest.param([], UsageError, "--image NAME", id="nothing chosen"),
        pytest.param(["--image", "f", "--sample", "1"], UsageError, "or take", id="both"),
        pytest.param(["--image", "a bc.jpg"], UsageError, "near it are a b.jpg", id="unknown"),
        pytest.param(["--image", "e"], UsageError, "no image", id="an image that failed"),
        pytest.param(["--image", "f", "-o", "x.gif"], UsageError, ".png", id="no PNG"),
        pytest.param(["--image", "f", "--crop", "1,2,3"], UsageError, "four", id="short crop"),
        pytest.param(["--image", "f", "--crop", "a,2,3,4"], UsageError, "four", id="odd crop"),
        pytest.param(
            ["--image", "f", "--crop", "9,9,9,20"], UsageError, "no pixel", id="empty crop"
        ),
        pytest.param(["--sample", "2", "--crop", "0,0,4,4"], UsageError, "one image", id="crops"),
        pytest.param(["--image", "f", "--root", "none"], InputError, "missing", id="no root"),
    ],
)
def test_wrong_calls(out: Path, options: list[str], kind: type[DpmoError], problem: str) -> None:
    result, picture = run(out, *options)
    assert type(result.exception) is kind
    assert problem in str(result.exception)
    assert "\n" not in str(result.exception)
    assert not picture.exists()


@pytest.mark.parametrize("text", [None, "{", "[]", '{"root": 3}'])
def test_no_root_at_all(out: Path, text: str | None) -> None:
    (out / "run.json").unlink()
    if text is not None:
        (out / "run.json").write_text(text)
    result, _ = run(out, "--image", "f", root=False)
    assert isinstance(result.exception, UsageError)
    assert "--root" in str(result.exception)


def test_a_photo_of_another_size(out: Path) -> None:
    Image.new("RGB", (31, 64)).save(out.parent / "data" / "images" / "f.jpg")
    result, _ = run(out, "--image", "f")
    assert isinstance(result.exception, InputError)
    assert "31 x 64" in str(result.exception)
    assert "30 x 64" in str(result.exception)


def test_a_name_that_leads_out_of_the_root(out: Path) -> None:
    coco = out / "annotations" / "test.json"
    coco.write_text(coco.read_text().replace("images/f.jpg", "../data/images/f.jpg"))
    result, _ = run(out, "--image", "f")
    assert isinstance(result.exception, InputError)
    assert ".." in str(result.exception)


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    result = runner.invoke(app, [str(tmp_path), "--image", "f", "-o", str(tmp_path / "x.png")])
    assert isinstance(result.exception, UsageError)
    assert "holds no finished run; give the folder that `dpmo" in str(result.exception)


def test_photos_that_were_moved(out: Path) -> None:
    (out.parent / "data").rename(out.parent / "moved")
    result, _ = run(out, "--image", "f")
    assert isinstance(result.exception, InputError)
    name = out.parent / "data" / "images" / "f.jpg"
    assert str(result.exception) == (
        f"{name}: is missing; give the folder of the photos with --root"
    )
    assert run(out, "--image", "f", "--root", str(out.parent / "moved"))[0].exit_code == 0


def test_importing_the_commands_loads_nothing_heavy() -> None:
    script = (
        "import sys, dpmo_cli.cli.visualize, dpmo_cli.cli.validate\n"
        "print([m for m in ('numpy', 'pyarrow', 'PIL', 'scipy', 'torch') if m in sys.modules])"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert process.stdout.decode().strip() == "[]"
