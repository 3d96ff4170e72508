"""Photos: which files arguments mean, how they are called, and whose points they have."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpmo_cli.datasets.images import read_image
from dpmo_cli.datasets.photos import PREDICTIONS, Photos
from dpmo_cli.datasets.point_files import read_point_file
from dpmo_cli.errors import InputError, UsageError


@pytest.fixture
def album(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Some photos, and what is none; the working folder."""
    for name in ("a.jpg", "b.PNG", "sub/c.webp", "sub/deep/d.tif", "other/a.jpg", "x[1].jpg"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6)).save(path)
    for name in (".hidden.jpg", ".cache/e.jpg", "sub/notes.txt", "sub/f.gif", "empty/none.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(given: Sequence[str]) -> list[str]:
    photos = Photos(given)
    assert photos.splits() == (PREDICTIONS,)
    entries = photos.entries(PREDICTIONS)
    for entry in entries:
        assert entry.split == PREDICTIONS
        assert entry.annotation_path is None
        assert len(photos.read_heads(entry)) == 0
        assert photos.heads_of_refused(entry) is None
        assert entry.image_path.is_absolute()
    found = [entry.file_name for entry in entries]
    assert found == sorted(set(found)), "in order, each once"
    return found


ALL = ["a.jpg", "b.PNG", "other/a.jpg", "sub/c.webp", "sub/deep/d.tif", "x[1].jpg"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(["a.jpg"], ["a.jpg"], id="a file"),
        pytest.param(["sub/c.webp"], ["c.webp"], id="from its own folder"),
        pytest.param(["b.PNG", "a.jpg"], ["a.jpg", "b.PNG"], id="files, in order of name"),
        pytest.param(["a.jpg", "sub/c.webp"], ["a.jpg", "sub/c.webp"], id="from the common folder"),
        pytest.param(["sub/deep/d.tif", "sub/c.webp"], ["c.webp", "deep/d.tif"], id="a lower one"),
        pytest.param(["sub", "other"], ["other/a.jpg", "sub/c.webp", "sub/deep/d.tif"], id="two"),
        pytest.param(["."], ALL, id="a folder with all below it"),
        pytest.param(["sub/"], ["c.webp", "deep/d.tif"], id="only images"),
        pytest.param([".hidden.jpg"], [".hidden.jpg"], id="hidden, but named"),
        pytest.param(["sub/notes.txt"], ["notes.txt"], id="no image, but named"),
        pytest.param(["a.jpg", "./a.jpg", "sub/../a.jpg", "."], ALL, id="named again"),
        pytest.param(["sub/../a.jpg", "b.PNG"], ["a.jpg", "b.PNG"], id="by way of another folder"),
        pytest.param(["sub/../other"], ["a.jpg"], id="a folder by way of another"),
        pytest.param(["*.jpg"], ["a.jpg", "x[1].jpg"], id="a pattern"),
        pytest.param(["**/*.jpg"], ["a.jpg", "other/a.jpg", "x[1].jpg"], id="of any depth"),
        pytest.param(["su[bc]"], ["c.webp", "deep/d.tif"], id="a pattern of folders"),
        pytest.param(["x[1].jpg"], ["x[1].jpg"], id="a file that looks like a pattern"),
        pytest.param(["[ae]*"], ["a.jpg"], id="also fits a folder without photos"),
        pytest.param(["?.*"], ["a.jpg", "b.PNG"], id="any letter"),
        pytest.param(["none.jpg", "sub"], ["none.jpg", "sub/c.webp", "sub/deep/d.tif"],
                     id="missing beside others"),
    ],
)  # fmt: skip
def test_names(given: list[str], expected: list[str], album: Path) -> None:
    assert names(given) == expected
    assert names([str(album / one) for one in given]) == expected
    assert names(given * 2) == expected


def test_the_common_root(album: Path) -> None:
    assert Photos(["sub/c.webp"]).root == album / "sub"
    assert Photos(["sub", "a.jpg"]).root == album
    assert Photos(["sub/../a.jpg"]).root == album


def test_the_missing_fail_when_read(album: Path) -> None:
    entry = Photos(["none.jpg", "sub"]).entries(PREDICTIONS)[0]
    with pytest.raises(InputError, match=r"none\.jpg: is missing"):
        read_image(entry.image_path)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        pytest.param([], "no photo is named", id="nothing"),
        pytest.param(["none.jpg"], "none.jpg: no such file or folder", id="missing, alone"),
        pytest.param(["none", "none"], "none: no such file or folder", id="missing, named twice"),
        pytest.param(
            ["none.jpg", "neither.jpg"], "no such file or folder, nor are the others", id="all"
        ),
        pytest.param([""], "is empty", id="an empty name"),
        pytest.param([" "], "is empty", id="a blank name"),
        pytest.param(["a\0.jpg"], "holds NUL", id="NUL"),
        pytest.param(["empty"], "empty: the folder holds no photo", id="a folder without any"),
        pytest.param(["a.jpg", "empty"], "the folder holds no photo", id="beside others"),
        pytest.param(["*.bmp"], r"\*\.bmp: no photo fits this pattern", id="a pattern of nothing"),
        pytest.param(["n" * 300], "can't be read", id="a name that is too long"),
    ],
)
def test_wrong_names(given: list[str], says: str, album: Path) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        Photos(given)
    assert len(str(caught.value).splitlines()) == 1


def test_there_is_one_split(album: Path) -> None:
    with pytest.raises(UsageError, match="photos have no split 'train'"):
        Photos(["."]).entries("train")


def test_symlinks(album: Path) -> None:
    """Of a file it is a photo of its own name; folders are not followed, unless named."""
    (album / "sub/link.jpg").symlink_to(album / "a.jpg")
    (album / "sub/loop").symlink_to(album / "sub")
    (album / "way").symlink_to(album / "other")
    assert names(["sub"]) == ["c.webp", "deep/d.tif", "link.jpg"]
    assert names(["way"]) == ["a.jpg"]
    assert names(["sub/loop"]) == ["c.webp", "deep/d.tif", "link.jpg"]
    (album / "sub/torn.jpg").symlink_to(album / "nowhere.jpg")
    assert "torn.jpg" in names(["sub"])


def test_names_that_are_not_utf8(album: Path) -> None:
    raw = os.fsencode(album) + b"/other/\xff.jpg"
    with open(raw, "wb") as file:
        file.write((album / "a.jpg").read_bytes())
    assert names(["other"]) == ["\\udcff.jpg", "a.jpg"]
    (entry, _) = Photos(["other"]).entries(PREDICTIONS)
    assert read_image(entry.image_path).shape == (6, 8, 3)
    # The name that is shown in its place may be taken.
    (album / "other/\\udcff.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match="two photos bear this name"):
        Photos(["other"])


def _csv(folder: Path) -> Path:
    path = folder / "points.csv"
    path.write_text("image,x,y,score\na.jpg,1,2,0.5\na.jpg,3,4,0.25\nsub/c.webp,,,\n")
    return path


def _without_scores(folder: Path) -> Path:
    path = folder / "points.csv"
    path.write_text("image,x,y\na,1,2\na,3,4\nc,,\n")
    return path


def _texts(folder: Path) -> Path:
    (folder / "found/sub").mkdir(parents=True)
    (folder / "found/a.txt").write_text("1 2 0.5\n3 4 0.25\n")
    (folder / "found/sub/c.txt").write_text("")
    return folder / "found"


@pytest.mark.parametrize(
    ("write", "scores"),
    [
        pytest.param(_csv, [0.5, 0.25], id="csv"),
        pytest.param(_without_scores, None, id="csv without scores"),
        pytest.param(_texts, [0.5, 0.25], id="text files"),
    ],
)
def test_points_of_a_file(
    write: Callable[[Path], Path], scores: list[float] | None, album: Path
) -> None:
    photos = Photos(["a.jpg", "b.PNG", "sub/c.webp"], read_point_file(write(album)))
    assert photos.unclaimed == ()
    first, second, third = map(photos.read_heads, photos.entries(PREDICTIONS))
    np.testing.assert_array_equal(first.points_xy, [[1, 2], [3, 4]])
    found = first.locator_scores
    assert (None if found is None else found.tolist()) == scores
    assert (len(first), len(second), len(third)) == (2, 0, 0)
    assert (first.warnings, third.warnings) == ((), ())
    assert second.warnings == ("the points file does not name it",)


def test_points_of_others(album: Path) -> None:
    (album / "points.csv").write_text("image,x,y\nz.jpg,1,2\na.jpg,1,2\n")
    photos = Photos(["a.jpg"], read_point_file(album / "points.csv"))
    assert photos.unclaimed == ("z",)


def test_points_of_either(album: Path) -> None:
    (album / "points.csv").write_text("image,x,y\nq/a.jpg,1,2\n")
    with pytest.raises(InputError, match="a"):
        Photos(["a.jpg", "other/a.jpg"], read_point_file(album / "points.csv"))
