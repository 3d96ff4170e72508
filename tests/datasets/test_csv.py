import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpmo_cli.datasets.csv import CsvPoints
from dpmo_cli.errors import InputError, UsageError

from .conftest import Builder


def _points(dataset: CsvPoints, split: str = "all") -> dict[str, list[list[float]]]:
    entries = dataset.entries(split)
    return {entry.file_name: dataset.read_heads(entry).points_xy.tolist() for entry in entries}


def test_points_of_one_image_keep_the_order_of_the_table(build: Builder) -> None:
    build.csv()
    dataset = CsvPoints(build.root)
    assert dataset.splits() == ("all",)
    assert _points(dataset) == {"photos/a.png": [[3, 4]], "photos/b.png": [[1.5, 2], [5, 6]]}
    entry = dataset.entries("all")[0]
    assert entry.annotation_path is None
    assert entry.image_path.is_file()
    assert dataset.read_heads(entry).external_ids is None


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        pytest.param("image,x,y\na.png,1,2", {"a.png": [[1, 2]]}, id="no line end"),
        pytest.param("image,x,y\r\na.png,1,2\r\n", {"a.png": [[1, 2]]}, id="Windows"),
        pytest.param("\ufeffimage,x,y\na.png,1,2\n", {"a.png": [[1, 2]]}, id="mark"),
        pytest.param(" Image , X,y\na.png, 1 ,2\n", {"a.png": [[1, 2]]}, id="names in any case"),
        pytest.param("y,note,image,x\n2,n,a.png,1\n", {"a.png": [[1, 2]]}, id="other order"),
        pytest.param('image,x,y\n"a, b.png",1,2\n', {"a, b.png": [[1, 2]]}, id="comma"),
        pytest.param('image,x,y\n"a ""b"".png",1,2\n', {'a "b".png': [[1, 2]]}, id="quotes"),
        pytest.param(
            'image,x,y,note\na.png,1,2,"two\nlines"\nb.png,3,4,\n',
            {"a.png": [[1, 2]], "b.png": [[3, 4]]},
            id="line break in a field",
        ),
        pytest.param("image,x,y\nété 人.png,1,2\n", {"été 人.png": [[1, 2]]}, id="non-ASCII"),
        pytest.param("image,x,y\na.png,,\n", {"a.png": []}, id="listed without a point"),
        pytest.param("image,x,y\na.png,,\na.png,1,2\n", {"a.png": [[1, 2]]}, id="listed twice"),
        pytest.param("image,x,y\na.png\n", {"a.png": []}, id="row with the image alone"),
        pytest.param("image,x,y\n./a.png,1,2\na.png,3,4\n", {"a.png": [[1, 2], [3, 4]]}, id="./"),
        pytest.param(
            "image,x,y\n\na.png,1,2\n\n\na.png,3,4\n", {"a.png": [[1, 2], [3, 4]]}, id="blank lines"
        ),
        pytest.param("image,x,y\n", None, id="no row"),
    ],
)
def test_tables_in_all_shapes(
    build: Builder, table: str, expected: dict[str, list[list[float]]] | None
) -> None:
    build.text("points.csv", table)
    dataset = CsvPoints(build.root)
    if expected is None:
        assert dataset.splits() == ()
    else:
        assert _points(dataset) == expected


def test_ids_and_splits_are_kept(build: Builder) -> None:
    rows = (
        "image,x,y,id,split\na.png,1,2,p7,Val\nb.png,3,4,,extra\nc.png,,,,train\na.png,5,6,p8,val\n"
    )
    build.text("points.csv", rows + "d.png,1,1,q,\n")
    dataset = CsvPoints(build.root)
    assert dataset.splits() == ("train", "val", "all", "extra")
    assert _points(dataset, "val") == {"a.png": [[1, 2], [5, 6]]}
    assert dataset.read_heads(dataset.entries("val")[0]).external_ids == ("p7", "p8")
    assert dataset.read_heads(dataset.entries("train")[0]).external_ids == ()
    assert dataset.read_heads(dataset.entries("extra")[0]).external_ids == ("",)


def test_numbers_that_are_not_finite_are_kept(build: Builder) -> None:
    build.text("points.csv", "image,x,y\na.png,nan,1\na.png,2,-inf\na.png,3,4\n")
    dataset = CsvPoints(build.root)
    heads = dataset.read_heads(dataset.entries("all")[0])
    assert np.isfinite(heads.points_xy).all(axis=1).tolist() == [False, False, True]
    assert heads.warnings == ("2 points are NaN or infinite",)


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        pytest.param("a.png,1,2\na.png,one,2\n", "line 3: .*'one' and '2'", id="a word"),
        pytest.param("a.png,1,\n", "line 2: .*'1' and ''", id="y is empty"),
        pytest.param("a.png,1\n", "line 2: .*'1' and ''", id="y is missing"),
        pytest.param("../a.png,1,2\n", r"\.\.", id="step up"),
        pytest.param("/a.png,1,2\n", "absolute", id="absolute"),
    ],
)
def test_a_wrong_row_spoils_its_image_only(build: Builder, rows: str, says: str) -> None:
    build.text("points.csv", f"image,x,y\n{rows}z.png,1,2\n")
    dataset = CsvPoints(build.root)
    wrong, good = dataset.entries("all")
    with pytest.raises(InputError, match=says):
        dataset.read_heads(wrong)
    assert len(dataset.read_heads(good)) == 1


@pytest.mark.parametrize(
    ("table", "says"),
    [
        pytest.param(b"", "image, x, y missing", id="empty"),
        pytest.param(b"name,x\n", "image, y missing", id="other columns"),
        pytest.param(b"image,x,y,X\n", "two columns x", id="twice"),
        pytest.param(b"image,x,y\n,1,2\n", "line 2 names no image", id="no image"),
        pytest.param(b"image,x,y\ncaf\xe9.png,1,2\n", "line 2: can't be read", id="no UTF-8"),
        pytest.param(b"image,x,y,split\na.png,1,2,../up\n", "'../up' is no plain word", id="split"),
        pytest.param(b"image,x,y\n" + b"a" * 200_000, "line 2: can't be read", id="huge field"),
    ],
)
def test_a_wrong_table_is_named(build: Builder, table: bytes, says: str) -> None:
    build.path("points.csv").write_bytes(table)
    with pytest.raises(InputError, match=rf"points\.csv: .*{says}"):
        CsvPoints(build.root)


def test_a_missing_table_is_named(build: Builder) -> None:
    with pytest.raises(UsageError, match=r"holds no points\.csv"):
        CsvPoints(build.root)


def test_a_table_that_vanishes_is_named(build: Builder) -> None:
    build.csv()
    dataset = CsvPoints(build.root)
    entry = dataset.entries("all")[0]
    (build.root / "points.csv").unlink()
    with pytest.raises(InputError, match=r"points\.csv: can't be read"):
        dataset.read_heads(entry)


def test_memory_does_not_grow_with_the_points(build: Builder) -> None:
    rows = "".join(f"{image}.png,{point},{point}\n" for image in "ab" for point in range(20_000))
    build.text("points.csv", "image,x,y\n" + rows)
    tracemalloc.start()
    dataset = CsvPoints(build.root)
    dataset.entries("all")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(rows) > 500_000
    assert peak < 150_000


_NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n/\\."), min_size=1)
_NUMBERS = st.floats(-1e6, 1e6)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows=st.lists(st.tuples(_NAMES, _NUMBERS, _NUMBERS), max_size=12))
def test_what_was_written_is_read(build: Builder, rows: list[tuple[str, float, float]]) -> None:
    import csv

    rows = [row for row in rows if row[0].strip()]
    with build.path("points.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("image", "x", "y"), *rows])
    expected: dict[str, list[list[float]]] = {}
    for name, x, y in rows:
        expected.setdefault(name, []).append([x, y])
    dataset = CsvPoints(build.root)
    assert (_points(dataset) if rows else {}) == expected
