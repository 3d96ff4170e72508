"""NWPU-Crowd's lines of heads: tables of cases, and the real truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpmo_cli.datasets.nwpu_lines import read_lines, read_sized_heads
from dpmo_cli.errors import InputError, UsageError

from .conftest import Builder

HERE = Path("heads.txt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("3110 2 1 2 3.5 4\n", {"3110": [[1, 2], [3.5, 4]]}, id="a line"),
        pytest.param("3110 0\n\n3111 1 5 6", {"3110": [], "3111": [[5, 6]]}, id="nobody"),
        pytest.param("3110.jpg 1 5 6\n", {"3110": [[5, 6]]}, id="with a suffix"),
        pytest.param("7 1 5 6\n", {"0007": [[5, 6]]}, id="leading zeros"),
        pytest.param("a/b 1 5 6\r\n", {"a/b": [[5, 6]]}, id="another name"),
    ],
)
def test_lines(text: str, expected: dict[str, list[list[float]]]) -> None:
    found = read_lines(HERE, text, 2)
    assert {name: table.tolist() for name, table in found.items()} == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("3110\n", "line 1: expected a count behind the image's id, found nothing"),
        pytest.param("3110 -1 2\n", "line 1: expected a count behind the image's id, found '-1'"),
        pytest.param("\n3110 2 1 2\n", "line 2: 2 heads have 4 numbers, found 2;"),
        pytest.param("3110 1 1 2 3 4 2\n", "found 5; this is a truth with sigmas, for --gt-loc"),
        pytest.param("3110 1 1 b\n", "line 1: expected numbers, found 'b'"),
        pytest.param("3110 1 nan 1\n", "line 1: expected numbers, found 'nan'"),
        pytest.param("3110 0\n3110.jpg 0\n", "line 2: a second line of image 3110"),
    ],
)
def test_wrong_lines(text: str, says: str) -> None:
    with pytest.raises(InputError) as caught:
        read_lines(HERE, text, 2)
    assert str(caught.value).startswith("heads.txt: line")
    assert says in str(caught.value)
    assert str(caught.value).endswith("; correct the line")


def test_sized_heads(build: Builder) -> None:
    path = build.text("loc.txt", "3110 2 851 1304 15 23 3 831 1344 13 22 2\n3143 0\n")
    found = read_sized_heads(path)
    assert list(found) == ["3110", "3143"]
    assert found["3110"].points_xy.tolist() == [[851, 1304], [831, 1344]]
    assert found["3110"].sigma_small_px.tolist() == [15, 13]
    assert found["3110"].sigma_large_px.tolist() == [23, 22]
    assert found["3110"].levels.tolist() == [3, 2]
    assert len(found["3143"].points_xy) == 0


@pytest.mark.parametrize(
    "line", ["3110 1 1 2 3 4 6\n", "3110 1 1 2 -3 4 2\n", "3110 1 1 2 3 4 1.5\n"]
)
def test_wrong_sizes(build: Builder, line: str) -> None:
    with pytest.raises(InputError, match="image 3110: a sigma is below 0, or a level"):
        read_sized_heads(build.text("loc.txt", line))


def test_no_truth(build: Builder) -> None:
    with pytest.raises(UsageError, match="no such file; give NWPU's"):
        read_sized_heads(build.root / "loc.txt")


def test_the_real_truth(shared_data: Path) -> None:
    found = read_sized_heads(shared_data / "NWPU-Crowd" / "val_gt_loc.txt")
    sizes = np.array([len(heads.points_xy) for heads in found.values()])
    assert (len(sizes), sizes.sum(), (sizes == 0).sum()) == (500, 196_238, 35)
