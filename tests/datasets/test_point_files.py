"""Predicted points from CSV, NWPU's lines and text files, and their way to the images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpmo_cli.datasets.point_files import PointFile, has_text_files, read_point_file
from dpmo_cli.errors import InputError, UsageError

from .conftest import Builder

Plain = dict[str, list[list[float]]]


def plain(file: PointFile) -> Plain:
    return {name: found.points_xy.tolist() for name, found in file.entries.items()}


@pytest.mark.parametrize(
    ("text", "format_name", "expected"),
    [
        pytest.param(
            "image,x,y\na/1.jpg,1,2\nb.png,3,4\na/1.jpg,5.5,6\n",
            "csv",
            {"a/1": [[1, 2], [5.5, 6]], "b": [[3, 4]]},
            id="csv",
        ),
        pytest.param(
            "\ufeff Y ,note,Image,X\r\n2,n,./a.jpg,1\r\n", "csv", {"a": [[1, 2]]}, id="csv columns"
        ),
        pytest.param(
            "image,x,y,id\na.jpg,,\n\nb,1,2,7\n", "csv", {"a": [], "b": [[1, 2]]}, id="csv nobody"
        ),
        pytest.param("image,x,y\n", "csv", {}, id="csv without rows"),
        pytest.param(
            "image,x,y\nc.1,1,2\nc.2,3,4\n",
            "csv",
            {"c.1": [[1, 2]], "c.2": [[3, 4]]},
            id="csv dots",
        ),
        pytest.param(
            "3110 2 1 2 3 4\n3111.jpg 0\n",
            "nwpu",
            {"3110": [[1, 2], [3, 4]], "3111": []},
            id="nwpu",
        ),
        pytest.param(
            "3111 0\n3110 1 1 2\n", "nwpu", {"3111": [], "3110": [[1, 2]]}, id="nwpu later"
        ),
        pytest.param("3111 0\n3112 0\n", "nwpu", {"3111": [], "3112": []}, id="nwpu nobody"),
        pytest.param("12 4\n13.5 7\n", "text", {"file": [[12, 4], [13.5, 7]]}, id="text"),
        pytest.param("12,4\n\n13.5, 7\n", "text", {"file": [[12, 4], [13.5, 7]]}, id="text commas"),
        pytest.param("12 0\n13 7\n", "text", {"file": [[12, 0], [13, 7]]}, id="text at the edge"),
    ],
)
def test_formats(build: Builder, text: str, format_name: str, expected: Plain) -> None:
    found = read_point_file(build.text("file.txt", text))
    assert (found.format, plain(found)) == (format_name, expected)
    assert all(one.scores is None for one in found.entries.values())
    assert all(one.points_xy.shape == (len(one), 2) for one in found.entries.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("image,x,y,score\nfile,1,2,0.5\nfile,3,4,1\ne,,,\n", [0.5, 1], id="csv"),
        pytest.param("1 2 0.25\n3 4 0.75\n", [0.25, 0.75], id="text"),
    ],
)
def test_scores(build: Builder, text: str, expected: list[float]) -> None:
    found = read_point_file(build.text("file.txt", text)).entries
    scores = found["file"].scores
    assert scores is not None
    assert scores.tolist() == expected


def test_a_folder_of_text_files(build: Builder) -> None:
    build.text("out/IMG_1.txt", "1 2 0.5\n")
    build.text("out/part/IMG_2.jpg.txt", "3 4 0.5\n5 6 1\n")
    build.text("out/IMG_3.txt", "")
    build.text("out/._IMG_1.txt", "junk")
    build.image("out/IMG_1.jpg")
    found = read_point_file(build.root / "out")
    assert found.format == "text"
    assert plain(found) == {"IMG_1": [[1, 2]], "IMG_3": [], "part/IMG_2": [[3, 4], [5, 6]]}
    assert [len(one.scores) for one in found.entries.values() if one.scores is not None] == [
        1,
        0,
        2,
    ]
    assert has_text_files(build.root)
    assert not has_text_files(build.root / "out" / "IMG_1.jpg")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("", "is empty; give a CSV of image,x,y[,score], NWPU's lines", id="empty"),
        pytest.param("hello world\n", "line 1: 'hello world' begins no known format", id="words"),
        pytest.param("a.jpg,1,2\n", "name the columns in the first line", id="no header"),
        pytest.param("image,x\na,1\n", "expected the columns image, x, y, y missing", id="column"),
        pytest.param("image,x,y,x\na,1,2,3\n", "has two columns x", id="two columns"),
        pytest.param("image,x,y\na,1,2\n,1,2\n", "line 3 names no image", id="no image"),
        pytest.param(
            "image,x,y\na,1,b\n", "line 2: expected y to be a number, found 'b'", id="csv word"
        ),
        pytest.param(
            "image,x,y\na,1,nan\n", "line 2: expected y to be a number, found 'nan'", id="csv nan"
        ),
        pytest.param(
            "image,x,y\na,inf,1\n", "expected x to be a number, found 'inf'", id="csv inf"
        ),
        pytest.param("image,x,y\na,,1\n", "expected x to be a number, found ''", id="csv half"),
        pytest.param("image,x,y,score\na,1,1,\n", "expected score to be a number", id="csv score"),
        pytest.param(
            "image,x,y\na.jpg,1,1\na.png,1,1\n",
            "a.png and a.jpg differ in their suffix",
            id="csv twice",
        ),
        pytest.param("3110 2 1 2\n", "line 1: 2 heads have 4 numbers, found 2", id="nwpu count"),
        pytest.param(
            "3110 1 1 2\n3110 0\n", "line 2: a second line of image 3110", id="nwpu twice"
        ),
        pytest.param("3110 1 1 x\n", "line 1: expected numbers, found 'x'", id="nwpu word"),
        pytest.param(
            "1 2\n3 four\n", "line 2: expected `x y` or `x y score`, found '3 four'", id="text word"
        ),
        pytest.param("1 2\nnan 4\n", "line 2: expected `x y`", id="text nan"),
        pytest.param("1 2\n3 4 5 6\n", "line 2: expected `x y`", id="text long"),
        pytest.param("1 2\n3 4 0.5\n", "line 2: 3 numbers, 2 in the lines before", id="text score"),
    ],
)
def test_wrong_files(build: Builder, text: str, says: str) -> None:
    path = build.text("file.txt", text)
    with pytest.raises(InputError) as caught:
        read_point_file(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_wrong_places(build: Builder) -> None:
    with pytest.raises(UsageError, match="no such file or folder; give a CSV"):
        read_point_file(build.root / "none.csv")
    with pytest.raises(UsageError, match=r"holds no \.txt file of points"):
        read_point_file(build.root)
    build.text("a.txt", "1 2\n")
    build.text("a.jpg.txt", "1 2\n")
    with pytest.raises(InputError, match=r"a\.txt: is a second file of image a; leave one"):
        read_point_file(build.root)
    (build.root / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8 text"):
        read_point_file(build.root / "bytes.csv")


def test_matching_with_images(build: Builder) -> None:
    path = build.text("p.csv", "image,x,y\ntrain/1.jpg,1,1\n2.jpg,2,2\nz/9.jpg,,\n")
    found = read_point_file(path).match(["train/1.png", "test/2.png", "test/3.png", "test/2.png"])
    first, second = found.get("train/1.png"), found.get("test/2.png")
    assert first is not None
    assert second is not None
    assert (first.points_xy.tolist(), second.points_xy.tolist()) == ([[1, 1]], [[2, 2]])
    assert found.get("test/3.png") is None
    assert found.missing == ("test/3.png",)
    assert found.unclaimed == ("z/9",)


def test_names_that_fit_several(build: Builder) -> None:
    path = build.text("p.csv", "image,x,y\n1.jpg,1,1\n")
    with pytest.raises(InputError) as caught:
        read_point_file(path).match(["train/1.jpg", "test/1.jpg"])
    assert str(caught.value) == (
        f"{path}: image train/1 fits 1 of the predictions, and so does 1 other of the images; "
        "name the images with their folders, or give --split"
    )


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(alphabet="ax1 .,0\n-eny", max_size=60))
def test_any_text_is_read_or_refused(build: Builder, text: str) -> None:
    try:
        found = read_point_file(build.text("p.txt", text))
    except InputError:
        return
    for one in found.entries.values():
        assert np.isfinite(one.points_xy).all()
