import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import loadmat, savemat
from scipy.sparse import csc_matrix

from dpmo_cli.datasets import paths
from dpmo_cli.datasets.tables import mat_variable, number_table
from dpmo_cli.errors import InputError

FILE = Path("a.mat")
POINTS = np.array([[1.5, 2.0], [3.0, -4.25]])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param(POINTS, POINTS, id="float64"),
        pytest.param(POINTS.astype(np.float32), POINTS, id="float32"),
        pytest.param(np.array([[3, 5]], np.uint16), [[3.0, 5.0]], id="uint16"),
        pytest.param(np.array([[-3, 5]], np.int8), [[-3.0, 5.0]], id="int8"),
        pytest.param(np.empty((0, 0)), np.empty((0, 2)), id="empty 0 x 0"),
        pytest.param(np.empty((0, 2)), np.empty((0, 2)), id="empty 0 x 2"),
        pytest.param(np.empty((1, 0), "U1"), np.empty((0, 2)), id="empty char, MATLAB's ''"),
        pytest.param([], np.empty((0, 2)), id="empty list"),
        pytest.param([[1, 2.5], [3, 4]], [[1, 2.5], [3, 4]], id="lists"),
        pytest.param([1, 2], [[1, 2]], id="one bare row"),
        pytest.param([[1, None]], [[1, np.nan]], id="null is NaN"),
        pytest.param(json.loads("[[NaN, Infinity]]"), [[np.nan, np.inf]], id="NaN of JSON"),
    ],
)
def test_a_table_becomes_float64(value: object, expected: object) -> None:
    table = number_table(FILE, "points", value, 2)
    assert table.dtype == np.float64
    assert table.shape == np.shape(expected)
    np.testing.assert_array_equal(table, expected)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(np.zeros((2, 3)), r"shape \(2, 3\)", id="three columns"),
        pytest.param(np.zeros((2, 2, 2)), "shape", id="three dimensions"),
        pytest.param(np.zeros((2, 1)), "shape", id="one column"),
        pytest.param(np.array([["a", "b"]]), "array of <U1", id="characters"),
        pytest.param(np.array([[1j, 2]]), "complex128", id="complex"),
        pytest.param(np.array([[True, False]]), "bool", id="booleans"),
        pytest.param(np.array([[{}, 1]]), "object", id="objects"),
        pytest.param(csc_matrix(POINTS), "csc", id="sparse"),
        pytest.param([[1, 2], [3]], "list", id="rows of unequal length"),
        pytest.param([["1", "2"]], "list", id="numbers as text"),
        pytest.param([[True, 2]], "list", id="a boolean"),
        pytest.param([[[1], [2]]], "list", id="deeper lists"),
        pytest.param([[10**400, 2]], "list", id="an integer beyond float64"),
        pytest.param([1, 2, 3], "shape", id="a bare row of three"),
        pytest.param({"x": 1}, "dict", id="a dict"),
        pytest.param(None, "NoneType", id="null"),
        pytest.param(7, "int", id="a number"),
    ],
)
def test_anything_else_is_refused_with_what_was_found(value: object, found: str) -> None:
    with pytest.raises(InputError, match=rf"a\.mat: expected points to be .*found .*{found}"):
        number_table(FILE, "points", value, 2)


@pytest.mark.parametrize("options", [{}, {"do_compression": True}, {"format": "4"}])
def test_a_variable_is_read(tmp_path: Path, options: dict[str, object]) -> None:
    savemat(tmp_path / "a.mat", {"annPoints": POINTS, "other": POINTS + 1}, **options)
    np.testing.assert_array_equal(mat_variable(tmp_path / "a.mat", "annPoints"), POINTS)


def test_a_missing_variable_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"image_info": POINTS, "x": POINTS})
    with pytest.raises(InputError, match="expected the variable annPoints, found image_info, x"):
        mat_variable(tmp_path / "a.mat", "annPoints")
    assert mat_variable(tmp_path / "a.mat", "annPoints", required=False) is None


def _mat_bytes(tmp_path: Path) -> bytes:
    savemat(tmp_path / "good.mat", {"annPoints": POINTS})
    return (tmp_path / "good.mat").read_bytes()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"x,y\n1,2\n", "can't be read as a MAT file", id="text"),
        pytest.param(b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "version 7.3 .*save -v7", id="HDF5"),
        pytest.param(
            b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM".ljust(388) + b"\x89HDF\r\n\x1a\n",
            "version 7.3",
            id="v7.3",
        ),
        pytest.param(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM", "HDF", id="v7.3, cut short"),
        pytest.param(b"\x80\x04cposix\nsystem\n.", "can't be read as a MAT file", id="a pickle"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(InputError, match=rf"a\.mat: .*{says}"):
        mat_variable(tmp_path / "a.mat", "annPoints")


def test_a_cut_file_and_a_folder_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(_mat_bytes(tmp_path)[:-8])
    for name in ("a.mat", ".", "missing.mat"):
        with pytest.raises(InputError):
            mat_variable(tmp_path / name, "annPoints")


def test_a_huge_file_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _mat_bytes(tmp_path)
    monkeypatch.setattr(paths, "MAX_ANNOTATION_BYTES", 10)
    with pytest.raises(InputError, match="above the limit"):
        mat_variable(tmp_path / "good.mat", "annPoints")


def test_scipys_warnings_stay_inside(tmp_path: Path) -> None:
    content = _mat_bytes(tmp_path)
    twice = content + content[128:]  # the same variable a second time
    (tmp_path / "a.mat").write_bytes(twice)
    with pytest.warns(Warning, match="Duplicate variable name"):
        loadmat(tmp_path / "a.mat")
    assert np.shape(mat_variable(tmp_path / "a.mat", "annPoints")) == (2, 2)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_damage_gives_a_table_or_an_input_error(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(_mat_bytes(tmp_path))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "damaged.mat"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        table = number_table(path, "annPoints", mat_variable(path, "annPoints"), 2)
    except InputError:
        return
    assert table.shape[1] == 2
