"""Images of a run and of a truth, matched by name."""

from __future__ import annotations

import pytest

from dpmo_cli.datasets.names import AmbiguousNameError, match_names, without_suffix


@pytest.mark.parametrize(
    ("file_name", "expected"),
    [
        ("a/b/IMG_1.jpg", "a/b/IMG_1"),
        ("./IMG_1.jpg", "IMG_1"),
        ("a\\b.png", "a/b"),
        ("a.b/c.d.png", "a.b/c.d"),
        ("plain", "plain"),
        ("", "."),
    ],
)
def test_without_suffix(file_name: str, expected: str) -> None:
    assert without_suffix(file_name) == expected


@pytest.mark.parametrize(
    ("run", "truth", "pairs", "missing"),
    [
        pytest.param([], [], {}, [], id="nothing"),
        pytest.param(["x/1", "x/2"], ["2", "1"], {0: 1, 1: 0}, [], id="by stem"),
        pytest.param(["x/1", "y/1"], ["y/1", "x/1"], {0: 1, 1: 0}, [], id="by path"),
        pytest.param(["x/1", "y/1"], ["y/1", "1"], {0: 1, 1: 0}, [], id="path first"),
        pytest.param(["train/1"], ["train/1", "test/1"], {0: 0}, [1], id="a stem taken by path"),
        pytest.param(["x/1"], ["3", "x/1", "z/4"], {0: 1}, [0, 2], id="missing"),
        pytest.param(["x/1", "x/5"], ["1"], {0: 0}, [], id="left out"),
    ],
)
def test_matches(
    run: list[str], truth: list[str], pairs: dict[int, int], missing: list[int]
) -> None:
    found = match_names(run, truth)
    assert (found.pairs, found.missing) == (pairs, missing)


@pytest.mark.parametrize(
    ("run", "truth", "name", "says"),
    [
        pytest.param(["x/1", "y/1"], ["1"], "1", "fits x/1 and y/1 of the run", id="two of run"),
        pytest.param(
            ["x/1"], ["a/1", "b/1"], "a/1", "so does 1 other of the truth", id="two of truth"
        ),
        pytest.param(["x/1", "x/1"], ["x/1"], "x/1", "fits 2 images", id="two of a path"),
        pytest.param(["x/1"], ["x/1", "x/1"], "x/1", "two images of the truth", id="twice"),
    ],
)
def test_ambiguity(run: list[str], truth: list[str], name: str, says: str) -> None:
    with pytest.raises(AmbiguousNameError, match=says) as caught:
        match_names(run, truth)
    assert caught.value.name == name
