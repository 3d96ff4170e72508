import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpmo_cli.datasets import paths
from dpmo_cli.datasets.paths import (
    checked_root,
    child_folder,
    image_files,
    read_capped,
    read_text,
    resolve_inside,
)
from dpmo_cli.errors import InputError, UsageError


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("a.jpg", id="plain"),
        pytest.param("x/y/a b,c é.jpg", id="spaces, comma, non-ASCII"),
        pytest.param("..a/b...jpg", id="dots that are not a step up"),
        pytest.param("missing/a.jpg", id="nothing lies there"),
    ],
)
def test_a_name_inside_is_joined_to_the_root(tmp_path: Path, name: str) -> None:
    assert resolve_inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("../a.jpg", "'..'", id="one step up"),
        pytest.param("x/../../a.jpg", "'..'", id="steps up in the middle"),
        pytest.param("x/../a.jpg", "'..'", id="up and back inside"),
        pytest.param("..\\a.jpg", "'..'", id="step up on Windows"),
        pytest.param("/etc/passwd", "absolute", id="absolute"),
        pytest.param("C:\\a.jpg", "absolute", id="absolute on Windows"),
        pytest.param("a\0.jpg", "NUL", id="NUL"),
        pytest.param("", "empty", id="empty"),
        pytest.param(" ", "empty", id="blank"),
        pytest.param("a\udcff.jpg", "no UTF-8", id="bytes that are no UTF-8"),
    ],
)
def test_a_name_that_leads_out_is_refused(tmp_path: Path, name: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        resolve_inside(tmp_path, name)
    assert says in str(caught.value)
    str(caught.value).encode("utf-8")


def test_symlinks_may_stay_inside_but_not_leave(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "real").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    (root / "inner").symlink_to(root / "real")
    (root / "outer").symlink_to(tmp_path / "secret")
    (root / "loop").symlink_to(root / "loop")
    (tmp_path / "root_link").symlink_to(root)

    assert resolve_inside(root, "inner/a.jpg") == root / "inner/a.jpg"
    assert resolve_inside(tmp_path / "root_link", "real/a.jpg").name == "a.jpg"
    with pytest.raises(InputError, match="leaves the dataset's root"):
        resolve_inside(root, "outer/a.jpg")


@given(st.text(max_size=20))
def test_what_is_let_through_always_lies_inside(name: str) -> None:
    root = Path(__file__).parent
    try:
        path = resolve_inside(root, name)
    except InputError:
        return
    assert os.path.realpath(path).startswith(os.path.realpath(root))


def test_the_root_must_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert checked_root(tmp_path) == tmp_path
    with pytest.raises(UsageError, match="does not exist"):
        checked_root(tmp_path / "missing")
    with pytest.raises(UsageError, match="not a folder"):
        checked_root(tmp_path / "file")
    with pytest.raises(UsageError, match="can't be read"):
        checked_root(tmp_path / ("x" * 5000))


def test_folders_are_found_in_any_case_and_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "Train_Data").mkdir()
    (tmp_path / "test").touch()
    assert child_folder(tmp_path, ("train", "train_data")) == tmp_path / "Train_Data"
    assert child_folder(tmp_path, ("test",)) is None
    (tmp_path / "train").mkdir()
    with pytest.raises(UsageError, match="Train_Data and train"):
        child_folder(tmp_path, ("train", "train_data"))


def test_images_are_listed_by_suffix_without_hidden_files(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "._a.png", "notes.txt", "Thumbs.db"):
        (tmp_path / name).touch()
    assert [path.name for path in image_files(tmp_path)] == ["a.png", "b.JPG"]
    assert image_files(tmp_path / "missing") == []


def test_what_can_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "MAX_ANNOTATION_BYTES", 3)
    (tmp_path / "large").write_bytes(b"1234")
    (tmp_path / "latin").write_bytes(b"\xe9")
    os.mkfifo(tmp_path / "pipe")
    for name, says in (
        ("missing", "is missing"),
        (".", "not a regular file"),
        ("pipe", "not a regular file"),
        ("large", "above the limit"),
    ):
        with pytest.raises(InputError, match=says):
            read_capped(tmp_path / name, "mend it")
    with pytest.raises(InputError, match=r"latin: is not UTF-8 text .*; mend it"):
        read_text(tmp_path / "latin", "mend it")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "marked").write_bytes(b"\xef\xbb\xbf0001 1 1")
    assert read_text(tmp_path / "marked", "") == "0001 1 1"
