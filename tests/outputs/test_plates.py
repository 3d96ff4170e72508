"""The pictures of a report: what they show, in what order, and how large they may be."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dpmo_cli.errors import InputError
from dpmo_cli.outputs import plates
from dpmo_cli.outputs.finished import RunImage
from dpmo_cli.outputs.gallery import WorstMask, images_of, worst_masks
from dpmo_cli.outputs.overlay import Picture
from dpmo_cli.outputs.plates import Plate, crop_round, draw_plates
from tests.outputs.samples import make_info, make_record, make_rows, sample_records, write_run


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("run"), sample_records())


def gray(image: RunImage) -> Picture:
    return np.full((*image.size_hw, 3), 90, np.uint8)


def pixels_of(plate: Plate) -> Picture:
    head, _, data = plate.source.partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (plate.width, plate.height)
        return np.array(picture)


def mask_at(
    bbox_xywh: tuple[float, float, float, float],
    size_hw: tuple[int, int] = (400, 600),
    radius_px: float | None = 5.0,
) -> WorstMask:
    point_xy = (bbox_xywh[0], bbox_xywh[1])
    return WorstMask(RunImage("train", 1, "a", size_hw), 0, point_xy, radius_px, bbox_xywh, 0.1, ())


@pytest.mark.parametrize(
    ("mask", "crop_xyxy"),
    [
        pytest.param(mask_at((296, 196, 8, 8)), (268, 168, 332, 232), id="small"),
        pytest.param(mask_at((250, 150, 100, 20)), (220, 80, 380, 240), id="wide"),
        pytest.param(
            mask_at((298, 198, 4, 4), radius_px=50.0), (190, 90, 410, 310), id="large disc"
        ),
        pytest.param(mask_at((0, 0, 4, 4)), (0, 0, 64, 64), id="corner"),
        pytest.param(mask_at((596, 396, 4, 4)), (536, 336, 600, 400), id="other corner"),
        pytest.param(
            mask_at((4, 4, 4, 4), (20, 300), None), (0, 0, 64, 20), id="low photo, no disc"
        ),
    ],
)
def test_crop(mask: WorstMask, crop_xyxy: tuple[int, int, int, int]) -> None:
    assert crop_round(mask) == crop_xyxy


def test_plates_come_in_the_order_asked_for_and_read_each_photo_once(out: Path) -> None:
    read: list[str] = []

    def photo(image: RunImage) -> Picture:
        read.append(image.file_name)
        return gray(image)

    worst, sample = worst_masks(out, 6), images_of(out)
    drawn = draw_plates(out, photo, worst, sample)
    assert [plate.worst for plate in drawn.worst] == worst
    assert [plate.image for plate in drawn.sample] == sample
    assert len(read) == len(set(read)) == len(sample)
    assert drawn.problems == []
    counts = {plate.image.file_name: plate.counts for plate in drawn.sample}
    assert counts["images/a b.jpg"] == "6 people, 4 masks, 4 to review"
    for plate in (*drawn.worst, *drawn.sample):
        picture = pixels_of(plate)
        if plate.image.file_name != "images/d.jpg":
            assert np.abs(picture.astype(int) - 90).max() > 60


def test_a_crop_shows_the_disc_of_its_mask_alone(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings: list[tuple[float, float] | None] = []
    draw = plates.draw_overlay

    def spy(picture: Picture, people: plates.Sequence[plates.Person], **options: Any) -> Picture:
        rings.extend(one.point_xy for one in people if one.radius_px is not None)
        return draw(picture, people, **options)

    monkeypatch.setattr(plates, "draw_overlay", spy)
    worst = [one for one in worst_masks(out, 9) if one.image.file_name == "images/f.jpg"]
    draw_plates(out, gray, worst, [])
    assert rings == [one.point_xy for one in worst]


@pytest.mark.parametrize(
    ("others_xy", "drawn"),
    [
        pytest.param([(300, 40)], 1, id="far to the right"),
        pytest.param([(40, 300)], 1, id="far below"),
        pytest.param([(80, 40)], 2, id="a mask that reaches in"),
        pytest.param([(60, 60), (20, 20)], 3, id="inside"),
    ],
)
def test_only_people_who_reach_into_a_crop_are_drawn(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    others_xy: list[tuple[float, float]],
    drawn: int,
) -> None:
    people: list[int] = []
    draw = plates.draw_overlay

    def spy(picture: Picture, persons: plates.Sequence[plates.Person], **options: Any) -> Picture:
        people.append(len(persons))
        return draw(picture, persons, **options)

    monkeypatch.setattr(plates, "draw_overlay", spy)
    info = make_info(1, "train", "a.jpg", (400, 400))
    out = write_run(tmp_path, [make_record(info, make_rows(info, [(40, 40), *others_xy]))])
    (worst,) = [one for one in worst_masks(out, 9) if one.point_id == 0]
    draw_plates(out, gray, [worst], [])
    assert people == [drawn]


def test_photos_that_cannot_be_read_are_problems(out: Path) -> None:
    def photo(image: RunImage) -> Picture:
        if image.file_name.startswith("images/a"):
            raise InputError(image.file_name, "is missing", "copy it")
        return gray(image)

    worst = worst_masks(out, 9)
    drawn = draw_plates(out, photo, worst, images_of(out, "train"))
    assert drawn.problems == ["images/a b.jpg: is missing; copy it"]
    assert [plate.worst for plate in drawn.worst] == [
        one for one in worst if one.image.file_name != "images/a b.jpg"
    ]
    assert [plate.image.file_name for plate in drawn.sample] == ["images/c,ä.jpg", "images/d.jpg"]


def test_many_images_are_drawn_smaller(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def noise(image: RunImage) -> Picture:
        return np.random.default_rng(0).integers(0, 256, (*image.size_hw, 3), dtype=np.uint8)

    sample = images_of(out, "train")[:1]
    large = draw_plates(out, noise, [], sample).sample[0]
    assert large.width > 200
    monkeypatch.setattr(plates, "_SAMPLE_BYTES", len(large.source) // 4)
    monkeypatch.setattr(plates, "_LEAST_SAMPLE_SIDE", 16)
    small = draw_plates(out, noise, [], sample).sample[0]
    assert len(small.source) * 3 // 4 <= len(large.source) // 4 + 32
    assert pixels_of(small).shape[1] < large.width
