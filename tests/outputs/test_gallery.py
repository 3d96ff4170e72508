from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.outputs.finished import RunImage
from dpmo_cli.outputs.gallery import (
    find_image,
    images_of,
    read_people,
    sample_images,
    worst_masks,
)
from tests.outputs.samples import pixels_of, sample_records, write_run

NAMES = ("a/IMG_1.jpg", "a/IMG_2.jpg", "b/IMG_2.jpg", "b/IMG_3.png", "b/IMG_3.jpg")
IMAGES = [RunImage("train", 1, name, (4, 4)) for name in NAMES]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), sample_records())


def test_the_images_that_could_be_read(out: Path) -> None:
    assert [(image.split, image.file_name, image.size_hw) for image in images_of(out)] == [
        ("test", "images/f.jpg", (64, 30)),
        ("train", "images/a b.jpg", (40, 56)),
        ("train", "images/c,ä.jpg", (33, 47)),
        ("train", "images/d.jpg", (5, 4)),
    ]
    assert [image.file_name for image in images_of(out, "test")] == ["images/f.jpg"]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("a/IMG_2.jpg", "a/IMG_2.jpg"),
        ("IMG_1.jpg", "a/IMG_1.jpg"),
        ("IMG_1", "a/IMG_1.jpg"),
        ("IMG_3.png", "b/IMG_3.png"),
    ],
)
def test_an_image_is_found(name: str, found: str) -> None:
    assert find_image(IMAGES, name).file_name == found


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("IMG_2.jpg", r"IMG_2\.jpg fits 2 images: a/IMG_2\.jpg \(train\), b/IMG_2\.jpg"),
        ("IMG_3", "IMG_3 fits 2 images"),
        ("IMG_11.jpg", r"no image .* near it are IMG_1\.jpg"),
        ("zzzzzz", r"no image of the run is named zzzzzz$"),
    ],
)
def test_an_image_is_not_found(name: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        find_image(IMAGES, name)


def test_a_sample_is_the_same_for_the_same_seed() -> None:
    images = [RunImage("train", 1, f"{index}.jpg", (1, 1)) for index in range(50)]
    first = sample_images(images, 5, seed=1)
    assert first == sample_images(images, 5, seed=1) != sample_images(images, 5, seed=2)
    assert len(set(first)) == 5
    assert first == sorted(first, key=images.index)
    assert sample_images(images, 99, seed=1) == images
    assert sample_images([], 3, seed=1) == []


def test_people_are_the_rows(out: Path) -> None:
    images = {image.file_name: image for image in images_of(out)}
    record = sample_records()[0]
    people = read_people(out, images["images/a b.jpg"])
    assert people.counts == "6 people, 4 masks, 4 to review", "one is outside"
    by_point = {person.point_xy: person for person in people.persons if person.mask is not None}
    for row in record.rows.to_pylist():
        if row["status"] == "ok":
            person = by_point[row["x"], row["y"]]
            assert person.mask is not None
            assert person.window_xyxy is not None
            x0, y0, x1, y1 = person.window_xyxy
            frame = np.zeros((40, 56), bool)
            frame[y0:y1, x0:x1] = person.mask
            assert (frame == pixels_of(row)).all()
    with_mask = [person.has_mask for person in people.persons]
    assert (sum(with_mask), len(with_mask)) == (5, 7)


@pytest.mark.parametrize(
    ("name", "counts", "persons"),
    [
        ("images/c,ä.jpg", "3 people, 3 masks, 2 to review", 3),
        ("images/d.jpg", "0 people, 0 masks, 0 to review", 0),
    ],
    ids=["nan", "nobody"],
)
def test_points_that_cannot_be_drawn_are_to_review(
    out: Path, name: str, counts: str, persons: int
) -> None:
    people = read_people(out, RunImage("train", 1, name, (1, 1)))
    assert (people.counts, len(people.persons)) == (counts, persons)


def test_the_worst_masks_are_the_head_of_the_queue(out: Path) -> None:
    rows = [
        row
        for record in sample_records()
        for row in record.rows.to_pylist()
        if row["status"] == "ok"
    ]
    rows.sort(key=lambda row: row["score"])
    found = worst_masks(out, 4)
    assert [(one.image.file_name, one.point_id) for one in found] == [
        (row["image"], row["point_id"]) for row in rows[:4]
    ]
    first = found[0]
    sizes = {image.file_name: image.size_hw for image in images_of(out)}
    assert first.image.size_hw == sizes[first.image.file_name]
    assert (first.point_xy, list(first.bbox_xywh)) == (
        (rows[0]["x"], rows[0]["y"]),
        rows[0]["bbox"],
    )
    assert (first.score, list(first.reasons)) == (rows[0]["score"], rows[0]["reasons"])
    assert len(worst_masks(out, 99)) == len(rows)
    assert worst_masks(out, 0) == []


def test_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="dpmo convert"):
        images_of(tmp_path)


def test_no_split(out: Path) -> None:
    with pytest.raises(UsageError, match="no split val; it has test, train"):
        images_of(out, "val")


@pytest.mark.parametrize("text", ["", "[]", '{"images":[3]}', '{"images":[{"id":1}]}', "[" * 9999])
def test_broken_annotations(tmp_path: Path, text: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(text)
    with pytest.raises(InputError, match=r"train\.json"):
        images_of(tmp_path)


@pytest.mark.parametrize("data", [None, b"", b"PAR1" * 9])
def test_a_broken_queue(tmp_path: Path, data: bytes | None) -> None:
    (tmp_path / "review").mkdir()
    if data is not None:
        (tmp_path / "review" / "queue.parquet").write_bytes(data)
    with pytest.raises(InputError, match=r"queue\.parquet"):
        read_people(tmp_path, IMAGES[0])
    with pytest.raises(InputError, match=r"queue\.parquet"):
        worst_masks(tmp_path, 1)


@pytest.mark.parametrize("x", [1e300, float("inf"), 2.0**32])
def test_points_far_away_are_not_drawn(x: float, tmp_path: Path) -> None:
    out = write_run(tmp_path, sample_records())
    path = out / "review" / "queue.parquet"
    rows = pq.read_table(path, partitioning=None)
    image = images_of(out)[0]
    before = read_people(out, image)
    first = rows.to_pylist()
    at = next(
        n
        for n, row in enumerate(first)
        if row["image"] == image.file_name and row["status"] == "ok"
    )
    first[at]["x"] = x
    pq.write_table(pa.Table.from_pylist(first, schema=rows.schema), path)
    people = read_people(out, image)
    assert people.people == before.people
    assert len(people.persons) == len(before.persons) - 1
