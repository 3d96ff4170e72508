"""Scenes with true masks: points on their persons, the split by hash, and the readers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from dpmo_cli.errors import UsageError
from dpmo_cli.evaluation.truth import (
    MIN_PIXELS,
    TruthScene,
    coco_persons,
    coco_things,
    deepest_point,
    head_of,
    head_point,
    is_validation,
    labelled_scenes,
    nuclei,
    penn_fudan,
    scene_from_labels,
    snap_into,
)
from tests.training.worlds import (
    TRAINING_NAMES,
    VALIDATION_NAMES,
    blocks,
    colour_of,
    save,
    shared,
    write_coco,
    write_nuclei,
    write_penn_fudan,
    write_rendered,
)


def mask_of(*rows: str) -> NDArray[np.bool_]:
    return np.array([[cell == "#" for cell in row] for row in rows])


def assert_points_on_their_instances(scene: TruthScene) -> None:
    """A run rounds a point to a pixel: the instance must be visible there."""
    columns, rows = np.rint(scene.points_xy).astype(int).T
    assert (scene.labels[rows, columns] == scene.instance_ids).all()


@pytest.mark.parametrize(
    ("name", "validation"),
    [
        # printf NAME | sha1sum: 0x45cb...56c8, of which the remainder of 5 is 4.
        pytest.param("PennFudanPed/FudanPed00001.png", False, id="4"),
        pytest.param("PennFudanPed/0.png", True, id="0"),
        pytest.param("DSB2018/0.png", False, id="another dataset"),
    ],
)
def test_the_split_is_by_hash(name: str, validation: bool) -> None:
    assert is_validation(name) == validation


def test_about_a_fifth_is_for_validation() -> None:
    part = np.mean([is_validation(f"COCO_panoptic_100/{number:012d}.jpg") for number in range(999)])
    assert 0.15 < part < 0.25


@pytest.mark.parametrize(
    ("mask", "point", "expected"),
    [
        pytest.param(mask_of("###", "###"), (1.2, 0.9), (1.2, 0.9), id="stays inside"),
        pytest.param(mask_of("#.#", "..#"), (1.0, 0.0), (0.0, 0.0), id="nearest, first of equals"),
        pytest.param(mask_of("...#", "...."), (0.2, 1.0), (3.0, 0.0), id="far"),
        pytest.param(mask_of("##", "##"), (-4.0, 9.0), (-4.0, 9.0), id="rounds to the border"),
        # 0.5 rounds to 0 here, and to the column on the right in an image one pixel wider.
        pytest.param(mask_of("#.", "#."), (0.5, 0.0), (0.0, 0.0), id="half a pixel"),
        pytest.param(mask_of("##", ".."), (0.5, 0.0), (0.5, 0.0), id="half a pixel, both inside"),
        pytest.param(mask_of("##", "#."), (0.5, 0.5), (0.0, 0.0), id="half a pixel, both ways"),
    ],
)
def test_snaps(
    mask: NDArray[np.bool_], point: tuple[float, float], expected: tuple[float, float]
) -> None:
    assert snap_into(mask, point) == expected


def test_head_is_the_top_of_a_person() -> None:
    mask = np.zeros((120, 50), dtype=np.bool_)
    mask[10:110, 20:30] = True
    # 13 of its 100 rows.
    assert head_point(mask) == (24.5, 16.0)


def test_the_head_is_cut_at_a_row() -> None:
    mask = np.zeros((120, 50), dtype=np.bool_)
    mask[10:110, 20:30] = True
    head = head_of(mask)
    assert (head[10:23] == mask[10:23]).all()
    assert not head[23:].any()
    # Somebody of a few rows has a head of one or two.
    low = mask_of(*["##"] * 4)
    assert head_of(low).any(axis=1).tolist() == [True, False, False, False]


def test_scenes_know_the_heads_of_persons() -> None:
    labels = blocks((120, 60), [(2, 10, 20, 110), (30, 5, 50, 105)])
    image = np.zeros((120, 60, 3), dtype=np.uint8)
    scene = scene_from_labels("x", image, labels, heads=True)
    assert scene.heads is not None
    assert (scene.heads == (blocks((120, 60), [(2, 10, 20, 23), (30, 5, 50, 18)]) > 0)).all()
    assert scene_from_labels("x", image, labels, heads=False).heads is None


def test_head_of_a_bent_person_is_moved_onto_it() -> None:
    # The middle of its five upper rows lies in the gap.
    mask = mask_of(*["#..#"] * 6, *["####"] * 25)
    assert head_point(mask) == (0.0, 2.0)


def test_deepest_point() -> None:
    mask = np.zeros((40, 50), dtype=np.bool_)
    mask[0:11, 0:50] = True
    mask[0:21, 10:31] = True
    assert deepest_point(mask) == (20.0, 10.0)
    # The border of the picture is a border of the mask.
    assert deepest_point(np.ones((5, 5), dtype=np.bool_)) == (2.0, 2.0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 20), st.integers(0, 20), st.booleans())
def test_points_lie_on_their_instances(seed: int, left: int, top: int, heads: bool) -> None:
    """Ragged and thin instances, anywhere in the image."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((50, 40), dtype=np.int32)
    part = rng.choice(4, size=(rng.integers(1, 20), rng.integers(1, 10)), p=[0.3, 0.4, 0.2, 0.1])
    labels[top : top + len(part), left : left + part.shape[1]] = part
    image = np.zeros((50, 40, 3), dtype=np.uint8)
    scene = scene_from_labels("x", image, labels, heads=heads)
    assert_points_on_their_instances(scene)
    sizes = {index: int((labels == index).sum()) for index in (1, 2, 3)}
    assert scene.instance_ids.tolist() == [i for i, size in sizes.items() if size >= MIN_PIXELS]


def test_penn_fudan(tmp_path: Path) -> None:
    write_penn_fudan(tmp_path, TRAINING_NAMES)
    scenes = list(penn_fudan(tmp_path))
    assert [scene.name for scene in scenes] == [f"PennFudanPed/{name}" for name in TRAINING_NAMES]
    for scene in scenes:
        assert scene.image.shape == (110, 130, 3)
        assert scene.labels.shape == (110, 130)
        assert scene.instance_ids.tolist() == [1, 2]
        assert_points_on_their_instances(scene)
    # A head is near the top: the first person stands from row 20 to row 94.
    assert 20 <= scenes[0].points_xy[0, 1] <= 30


def test_the_names_of_the_tests_are_split_as_they_say() -> None:
    assert not any(is_validation(f"PennFudanPed/{name}") for name in TRAINING_NAMES)
    assert all(is_validation(f"PennFudanPed/{name}") for name in VALIDATION_NAMES)


def test_coco_persons(tmp_path: Path) -> None:
    write_coco(tmp_path)
    crowd, ground = coco_persons(tmp_path)
    assert crowd.name == "COCO_panoptic_100/000000000007.jpg"
    # Neither the dog nor the crowd; ids above 255 and 65535 are read whole.
    assert (crowd.labels == blocks((70, 50), [(2, 2, 12, 40), (20, 10, 30, 60)])).all()
    assert crowd.instance_ids.tolist() == [1, 2]
    assert_points_on_their_instances(crowd)
    assert crowd.image.shape == (70, 50, 3)
    assert len(ground.instance_ids) == len(ground.points_xy) == ground.labels.max() == 0


def test_coco_things(tmp_path: Path) -> None:
    """The dog of the first picture and the cow of the second: neither persons nor a crowd."""
    write_coco(tmp_path)
    dog, cow = coco_things(tmp_path)
    assert dog.name == "COCO_panoptic_100/000000000007.jpg"
    assert (dog.labels == blocks((70, 50), [(32, 0, 40, 70)])).all()
    assert (cow.labels == 1).all()
    for scene in (dog, cow):
        assert scene.instance_ids.tolist() == [1]
        assert scene.heads is None
        assert_points_on_their_instances(scene)


def test_coco_stuff_is_no_thing(tmp_path: Path) -> None:
    write_coco(tmp_path)
    listing = tmp_path / "COCO_panoptic_100/panoptic/panoptic_train2017.json"
    listing.write_text(listing.read_text().replace('"category_id": 20', '"category_id": 187'))
    _, field = coco_things(tmp_path)
    assert not field.labels.any()
    assert len(field.points_xy) == 0


def test_nuclei(tmp_path: Path) -> None:
    write_nuclei(tmp_path)
    (scene,) = nuclei(tmp_path)
    assert scene.name == "DSB2018/a1.png"
    assert scene.image.shape == (40, 40, 3)
    assert (scene.labels == blocks((40, 40), [(4, 4, 14, 30), (14, 8, 30, 20)])).all()
    assert_points_on_their_instances(scene)


def test_labelled_scenes(tmp_path: Path) -> None:
    labels = write_rendered(tmp_path / "drawn")
    (scene,) = labelled_scenes(tmp_path / "drawn")
    assert scene.name == "drawn/images/scene.png"
    assert (scene.labels == labels).all()
    assert scene.points_xy.tolist() == [[12, 10], [37, 15]]
    assert tuple(scene.image[10, 12]) == colour_of(1)
    assert_points_on_their_instances(scene)


def test_heads_of_rendered_scenes(tmp_path: Path) -> None:
    """From `truth/heads`, where there is a map; otherwise nobody knows."""
    labels = write_rendered(tmp_path)
    (scene,) = labelled_scenes(tmp_path)
    assert scene.heads is None
    heads = blocks((50, 60), [(5, 5, 20, 10), (30, 10, 45, 16)]) > 0
    save(tmp_path / "truth/heads/scene.png", (heads * 255).astype(np.uint8))
    (scene,) = labelled_scenes(tmp_path)
    assert scene.heads is not None
    assert scene.heads.dtype == np.bool_
    assert (scene.heads == heads).all()
    assert (scene.labels == labels).all()


def test_a_label_map_is_missing(tmp_path: Path) -> None:
    write_rendered(tmp_path)
    (tmp_path / "truth/scene.png").unlink()
    with pytest.raises(UsageError, match=r"truth/scene\.png: the label map of images/scene\.png"):
        list(labelled_scenes(tmp_path))


@pytest.mark.parametrize("reader", [penn_fudan, coco_persons, coco_things, nuclei])
def test_folders_without_the_data_give_nothing(
    reader: Callable[[Path], Iterator[TruthScene]], tmp_path: Path
) -> None:
    assert list(reader(tmp_path)) == []


@pytest.mark.parametrize(
    ("reader", "name"),
    [
        pytest.param(penn_fudan, "PennFudanPed/PedMasks/2_mask.png", id="penn_fudan, mask"),
        pytest.param(penn_fudan, "PennFudanPed/PNGImages/2.png", id="penn_fudan, photo"),
        pytest.param(
            coco_persons, "COCO_panoptic_100/images/train2017/000000000012.jpg", id="coco"
        ),
        pytest.param(nuclei, "DSB2018/stage1_train/a1/masks/m2.png", id="nuclei"),
    ],
)
def test_truncated_pictures(
    reader: Callable[[Path], Iterator[TruthScene]], name: str, tmp_path: Path
) -> None:
    write_penn_fudan(tmp_path, TRAINING_NAMES)
    write_coco(tmp_path)
    write_nuclei(tmp_path)
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UsageError, match="no whole picture") as caught:
        list(reader(tmp_path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("reader", "folder"),
    [(penn_fudan, "PennFudanPed"), (coco_persons, "COCO_panoptic_100"), (nuclei, "DSB2018")],
)
def test_real_data(reader: Callable[[Path], Iterator[TruthScene]], folder: str) -> None:
    data = shared(folder)
    scenes = list(islice(reader(data), 8))
    assert len(scenes) == 8
    assert any(len(scene.points_xy) for scene in scenes)
    for scene in scenes:
        assert scene.image.shape[:2] == scene.labels.shape
        assert_points_on_their_instances(scene)
