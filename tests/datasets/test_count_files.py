"""Tables of counts."""

from __future__ import annotations

import pytest

from dpmo_cli.datasets.count_files import is_count_file, read_count_file
from dpmo_cli.errors import InputError

from .conftest import Builder


def test_counts(build: Builder) -> None:
    path = build.text("c.csv", "\ufeffMasks, Count ,image\n3,4,a/1.jpg\n,2.5,./b.png\n1,0,c.1\n")
    assert is_count_file(path)
    assert read_count_file(path) == {"a/1": 4, "b": 2.5, "c.1": 0}


def test_images_that_could_not_be_read(build: Builder) -> None:
    assert read_count_file(build.text("c.csv", "image,count\na.jpg,\nb.jpg,1\nc.jpg\n")) == {"b": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("image,count\na.jpg,-1\n", "line 2: the count -1 is below 0", id="negative"),
        pytest.param("image,count\na.jpg,x\n", "line 2: expected count to be a number", id="word"),
        pytest.param(
            "image,count\na.jpg, \n", "expected count to be a number, found ''", id="blank"
        ),
        pytest.param("image,count\na.jpg,nan\n", "line 2: expected count", id="nan"),
        pytest.param(
            "image,count\na.jpg,1\na.png,1\n", "line 3: a second row of image a", id="twice"
        ),
        pytest.param("image,count\n,1\n", "line 2 names no image", id="no image"),
    ],
)
def test_wrong_rows(build: Builder, text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read_count_file(build.text("c.csv", text))
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["image,x,y\n", "", "3110 0\n", "image,counts\n", "\0\n"])
def test_other_files(build: Builder, text: str) -> None:
    assert not is_count_file(build.text("c.csv", text))


def test_no_file(build: Builder) -> None:
    assert not is_count_file(build.root / "none.csv")
    assert not is_count_file(build.root)
    (build.root / "bytes.csv").write_bytes(b"\xff\xfe")
    assert not is_count_file(build.root / "bytes.csv")
