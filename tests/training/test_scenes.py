"""Scenes to train on and to validate on: the split, the crowds, and the batches of the steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation import truth_sets
from dpmo_cli.evaluation.compose import (
    GROUPS,
    ROWS,
    Ingredients,
    Recipe,
    compose_dense_crowd,
    ingredients_of,
)
from dpmo_cli.evaluation.truth import TruthScene
from dpmo_cli.evaluation.truth_sets import COMPOSED, GROUPED
from dpmo_cli.sam.nano import FRAME_PX
from dpmo_cli.training import scenes
from dpmo_cli.training.crops import NEGATIVES, PreparedScene, prepare
from dpmo_cli.training.scenes import (
    SOURCE_WEIGHTS,
    Batch,
    CropBatches,
    Material,
    load_material,
    validation_crops,
)
from tests.training.worlds import (
    TRAINING_NAMES,
    VALIDATION_NAMES,
    block_scene,
    write_coco,
    write_nuclei,
    write_penn_fudan,
    write_rendered,
)


def silent(_line: str) -> None:
    """Say nothing."""


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """Few small validation crowds; the recipes that they were composed with."""
    recipes: list[Recipe] = []

    def compose(*arguments: Any) -> TruthScene:
        recipes.append(arguments[-1])
        return compose_dense_crowd(*arguments, fewest=60)

    monkeypatch.setattr(scenes, "CROWDS", 1)
    monkeypatch.setattr(truth_sets, "CROWD_SIZE_HW", (240, 320))
    monkeypatch.setattr(truth_sets, "compose_dense_crowd", compose)
    return recipes


def persons() -> Ingredients:
    return ingredients_of([block_scene((120, 60), [(5, 5, 45, 105)])])


def scene_of(count: int, *, heads: bool = False) -> PreparedScene:
    boxes = [(5, 5, 20, 30), (30, 20, 50, 50), (60, 60, 80, 85)]
    return prepare(block_scene((120, 120), boxes[:count], heads=heads))


def assert_same(one: Batch, other: Batch) -> None:
    for name, part, same in zip(Batch._fields, one, other, strict=True):
        assert torch.equal(part, same), name


def test_the_split_is_by_name(tmp_path: Path, small: list[Recipe]) -> None:
    write_penn_fudan(tmp_path, [*TRAINING_NAMES, *VALIDATION_NAMES])
    write_rendered(tmp_path / "drawn")
    training, held_out = load_material(tmp_path, [tmp_path / "drawn"], silent)
    names = [
        {Path(one.scene.name).name for one in part.scenes["photos"]}
        for part in (training, held_out)
    ]
    assert names == [set(TRAINING_NAMES), set(VALIDATION_NAMES)]
    assert len(training.scenes["rendered"]) + len(held_out.scenes["rendered"]) == 1
    assert training.scenes["nuclei"] == held_out.scenes["nuclei"] == []
    # Two persons in each photo: those who are pasted are of the same part.
    assert len(training.ingredients.cutouts) == 2 * len(TRAINING_NAMES)
    assert len(held_out.ingredients.cutouts) == 2 * len(VALIDATION_NAMES)
    # Crowds are fixed for validation alone, and of both recipes.
    assert COMPOSED not in training.scenes
    assert [len(held_out.scenes[name]) for name in (COMPOSED, GROUPED)] == [1, 1]
    assert small == [ROWS, GROUPS]


def test_validation_crowds_are_always_the_same(tmp_path: Path) -> None:
    write_penn_fudan(tmp_path, [*TRAINING_NAMES, *VALIDATION_NAMES])
    one, again = (load_material(tmp_path, (), silent)[1] for _ in range(2))
    for name in (COMPOSED, GROUPED):
        assert np.array_equal(one.scenes[name][0].scene.image, again.scenes[name][0].scene.image)
    first, second = (one.scenes[name][0].scene.points_xy for name in (COMPOSED, GROUPED))
    assert not np.array_equal(first, second)


def test_every_source_is_read(tmp_path: Path) -> None:
    write_penn_fudan(tmp_path, TRAINING_NAMES)
    write_coco(tmp_path)
    write_nuclei(tmp_path)
    parts = load_material(tmp_path, (), silent)
    counts = {name: sum(len(part.scenes[name]) for part in parts) for name in parts[0].scenes}
    # A picture without a person has no prompt; it is only a ground for crowds.
    assert counts == {"nuclei": 1, "photos": 4, "things": 2, "rendered": 0}
    grounds = [photo.shape for part in parts for photo in part.ingredients.photos]
    assert (40, 60, 3) in grounds


def test_data_without_persons(tmp_path: Path) -> None:
    write_nuclei(tmp_path)
    with pytest.raises(UsageError, match="no scenes of persons") as caught:
        load_material(tmp_path, (), silent)
    assert str(tmp_path) in str(caught.value)


def test_data_for_validation_alone(tmp_path: Path) -> None:
    write_penn_fudan(tmp_path, VALIDATION_NAMES)
    with pytest.raises(UsageError, match="all its scenes are for validation"):
        load_material(tmp_path, (), silent)


def test_batches_depend_on_seed_and_step_alone() -> None:
    material = Material(persons(), {"photos": [scene_of(2)], "nuclei": [scene_of(3)]})
    one, same = (CropBatches(material, 2, 2, seed=5) for _ in range(2))
    in_order = [one[step] for step in range(4)]
    for step in (3, 1, 2, 0):
        assert_same(same[step], in_order[step])
    assert not torch.equal(in_order[0].images, in_order[1].images)
    assert not torch.equal(CropBatches(material, 2, 2, seed=6)[0].images, in_order[0].images)


def test_shapes_and_types_of_a_batch() -> None:
    material = Material(persons(), {"photos": [scene_of(2, heads=True)]})
    batch = CropBatches(material, 3, 2, seed=0)[0]
    cells = FRAME_PX // 2
    members = batch.points_xy.shape[2]
    kinds = {name: (tuple(part.shape), part.dtype) for name, part in batch._asdict().items()}
    assert kinds == {
        "images": ((3, FRAME_PX, FRAME_PX, 3), torch.uint8),
        "valid_hw": ((3, 2), torch.int64),
        "points_xy": ((3, 2, members, 2), torch.float32),
        "labels": ((3, 2, members), torch.int64),
        "visible": ((3, 2, cells, cells), torch.uint8),
        "head": ((3, 2, cells, cells), torch.uint8),
        "disc": ((3, 2, cells, cells), torch.uint8),
        "known": ((3, 3), torch.bool),
    }


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[PreparedScene]:
    """The scenes that crops were cut from, in order; the crops are all the same."""
    seen: list[PreparedScene] = []
    (crop,) = validation_crops([scene_of(2)], 1, 1, 0)

    def cut(scene: PreparedScene, *_: Any, **options: Any) -> Any:
        seen.append(scene)
        return crop

    monkeypatch.setattr(scenes, "sample_crop", cut)
    return seen


def test_sources_are_drawn_by_weight(drawn: list[PreparedScene]) -> None:
    sources = {"nuclei": scene_of(1), "photos": scene_of(2), "things": scene_of(3)}
    material = Material(
        Ingredients([], []), {name: [scene] for name, scene in sources.items()} | {"rendered": []}
    )
    batches = CropBatches(material, 400, 1, seed=0)
    for step in range(3):
        batches[step]
    total = sum(SOURCE_WEIGHTS[name] for name in sources)
    for name, scene in sources.items():
        part = sum(one is scene for one in drawn) / len(drawn)
        assert part == pytest.approx(SOURCE_WEIGHTS[name] / total, abs=0.05), name


def test_a_crowd_is_composed_for_so_many_crops(drawn: list[PreparedScene]) -> None:
    CropBatches(Material(persons()), 25, 1, seed=0)[0]
    crowds = list(dict.fromkeys(id(scene) for scene in drawn))
    assert [sum(id(scene) == crowd for scene in drawn) for crowd in crowds] == [10, 10, 5]
    assert all(len(scene.scene.points_xy) for scene in drawn)
    assert all(scene.scene.heads is not None for scene in drawn)


def test_neighbours_are_given_in_some_batches() -> None:
    """Most often none, sometimes as many as there may be; the same for a whole batch."""
    batches = CropBatches(Material(Ingredients([], []), {"photos": [scene_of(3)]}), 1, 1, seed=0)
    given = [batches[step].labels.shape[2] - 1 for step in range(60)]
    assert set(given) == {0, 1, 2, NEGATIVES}
    assert 0.2 < given.count(0) / len(given) < 0.6


def test_validation_crops_are_fixed() -> None:
    sources = [scene_of(2), scene_of(3)]
    one, same, other = (validation_crops(sources, 3, 2, seed, 2) for seed in (0, 0, 1))
    for crop, again in zip(one, same, strict=True):
        assert np.array_equal(crop.image, again.image)
        assert np.array_equal(crop.points_xy, again.points_xy)
        assert crop.points_xy.shape == (2, 3, 2)
    assert any(
        not np.array_equal(crop.points_xy, one_more.points_xy)
        for crop, one_more in zip(one, other, strict=True)
    )
