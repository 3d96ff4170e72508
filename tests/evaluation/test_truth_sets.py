"""Truth sets: which scenes a name gives, and that what is written is read back the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation import truth_sets
from dpmo_cli.evaluation.truth import TruthScene, is_validation, labelled_scenes
from dpmo_cli.evaluation.truth_sets import COMPOSED, GROUPED, TRUTH_SETS, load_set, write_set
from tests.training.worlds import (
    TRAINING_NAMES,
    VALIDATION_NAMES,
    write_nuclei,
    write_penn_fudan,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_penn_fudan(tmp_path, (*TRAINING_NAMES, *VALIDATION_NAMES))
    for number in range(8):
        write_nuclei(tmp_path, f"n{number}")
    return tmp_path


def scene(*, heads: bool = True) -> TruthScene:
    """Three instances, of which the second has no point."""
    labels = np.zeros((6, 9), dtype=np.int32)
    labels[1:3, 1:3], labels[4, 4], labels[2:5, 6:8] = 4, 2, 9
    known = (labels > 0) & (np.arange(6)[:, None] < 3) if heads else None
    image = np.random.default_rng(1).integers(0, 256, (6, 9, 3), dtype=np.uint8)
    points = np.array([[1.5, 1.25], [6.0, 2.0]])
    return TruthScene("set/a.b.jpg", image, labels, np.array([4, 9], np.int32), points, known)


@pytest.mark.parametrize("name", ["pennfudan", "nuclei"])
def test_the_split_follows_the_names(data: Path, name: str) -> None:
    held_out, training = (load_set(name, data, validation=part) for part in (True, False))
    assert held_out
    assert training
    assert all(is_validation(found.name) for found in held_out)
    assert not any(is_validation(found.name) for found in training)


def test_a_limit_is_spread_over_the_set(data: Path) -> None:
    names = [found.name for found in load_set("nuclei", data, validation=False)]
    few = [found.name for found in load_set("nuclei", data, validation=False, limit=2)]
    assert few == [names[0], names[-1]]


@pytest.mark.parametrize("name", TRUTH_SETS)
def test_no_data(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=f"^{tmp_path}.*: no "):
        load_set(name, tmp_path)


def test_crowds_are_as_dense_as_promised() -> None:
    """Cut-outs of one drawn person do; what is promised is the density."""
    from dpmo_cli.evaluation.compose import Cutout, Ingredients
    from dpmo_cli.geometry.nnec import neighbour_distances
    from dpmo_cli.geometry.points import group_points

    alpha = np.zeros((90, 36), np.uint8)
    alpha[:14, 10:26], alpha[14:, 2:34] = 255, 255
    person = Cutout(np.full((90, 36, 3), 200, np.uint8), alpha)
    ground = np.full((200, 200, 3), 90, np.uint8)
    parts = Ingredients([person], [ground])
    for name in (COMPOSED, GROUPED):
        first, again = (truth_sets.dense_crowds(name, parts, 1)[0] for _ in range(2))
        assert np.array_equal(first.image, again.image)
        assert len(first.points_xy) >= 300
        sites = group_points(first.points_xy, first.labels.shape)
        assert np.median(neighbour_distances(sites)) <= 20


@pytest.mark.parametrize("heads", [True, False])
def test_written_and_read_back(tmp_path: Path, heads: bool) -> None:
    written = scene(heads=heads)
    root = tmp_path / "out"
    lines: list[str] = []
    write_set([written], root, lines.append)
    (found,) = labelled_scenes(root)
    assert lines == ["1 of 1 scenes"]
    assert np.array_equal(found.image, written.image)
    assert np.array_equal(found.points_xy, written.points_xy)
    assert np.array_equal(found.labels, written.labels_of_points())
    assert set(np.unique(found.labels)) == {0, 1, 2}
    if heads:
        assert written.heads is not None
        assert found.heads is not None
        assert np.array_equal(found.heads, written.heads & (found.labels > 0))
        assert np.asarray(Image.open(root / "truth/heads/a.b.png")).max() == 2
    else:
        assert found.heads is None


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UsageError, match=f"^--out {tmp_path}: is not an empty folder"):
        write_set([scene()], tmp_path, print)
    assert (tmp_path / "mine").read_text() == "x"
