"""Persons as they stand: what decisions change, and whose pixels are whose."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from dpmo_cli.errors import DpmoError
from dpmo_cli.outputs.corrected import corrected
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.records import ImageRecord
from dpmo_cli.review.decision import Decision
from dpmo_cli.review.people import People, pixel_of
from dpmo_cli.review.placed import PlacedMask
from tests.outputs.samples import make_info, make_record
from tests.review.runs import draw_record

RECORD = draw_record("train", 1, people=21, columns=7, seed=0)
SIZE_HW = (80, 160)
numbers = count(1)


def decided(
    point_id: int,
    verdict: str,
    mask: PlacedMask | None = None,
    xy: tuple[float, float] | None = None,
) -> Decision:
    person = Person("train", 1, point_id)
    return Decision(
        person=person,
        verdict=verdict,
        rle=None if mask is None else mask.rle(SIZE_HW),
        point_xy=xy,
        reviewer="Ann",
        source="page",
        image=RECORD.info.file_name,
        seen_xy=None if person.is_added else place_of(point_id),
        id=next(numbers),
    )


def place_of(point_id: int) -> tuple[float, float]:
    return 20.0 * (point_id % 7 + 1), 20.0 * (point_id // 7 + 1)


def square(x0: int, y0: int, x1: int, y1: int) -> PlacedMask:
    return PlacedMask(np.ones((y1 - y0, x1 - x0), dtype=np.bool_), (x0, y0, x1, y1))


def frame(mask: PlacedMask | None) -> NDArray[np.bool_]:
    pixels = np.zeros(SIZE_HW, dtype=np.bool_)
    if mask is not None:
        x0, y0, x1, y1 = mask.window_xyxy
        pixels[y0:y1, x0:x1] = mask.pixels
    return pixels


def test_without_decisions_the_record_stands() -> None:
    people = People(RECORD, [])
    assert (people.info.height, people.info.width) == SIZE_HW
    for row in RECORD.rows.to_pylist():
        shown = people.show(row["point_id"])
        assert shown is not None
        assert (shown.status, shown.verdict) == (row["status"], "open")
        assert shown.origin == (None if row["rle"] is None else "auto")
        assert (shown.mask is None) == (row["rle"] is None)
        if shown.mask is not None:
            assert shown.mask.rle(SIZE_HW) == row["rle"]


def test_a_drawn_mask_takes_pixels_and_gives_them_back() -> None:
    people = People(RECORD, [])
    before = frame(people.mask(1))
    drawn = square(10, 10, 40, 30)
    changed = people.update([decided(0, "corrected", drawn)])
    assert changed == {0, 1}
    assert np.array_equal(frame(people.mask(0)), frame(drawn))
    # Point 1 is at (40, 20): what is left of its disc of radius 8 holds it.
    assert np.array_equal(frame(people.mask(1)), before & ~frame(drawn))
    shown = people.show(0)
    assert shown is not None
    assert (shown.origin, shown.verdict) == ("corrected", "corrected")
    assert people.update([decided(0, "open")]) == {0, 1}
    assert np.array_equal(frame(people.mask(1)), before)


def test_of_what_is_left_the_part_with_the_point_stays() -> None:
    people = People(RECORD, [decided(0, "corrected", square(36, 8, 39, 34))])
    left = frame(people.mask(1))
    assert left[20, 40]
    assert not left[:, :39].any()


def test_a_neighbour_that_loses_its_point_has_no_mask() -> None:
    people = People(RECORD, [decided(0, "corrected", square(30, 10, 45, 30))])
    assert people.mask(1) is None
    shown = people.show(1)
    assert shown is not None
    assert shown.origin is None


@pytest.mark.parametrize("verdict", ["rejected", "deleted"])
def test_a_refused_mask_is_gone(verdict: str) -> None:
    people = People(RECORD, [decided(2, verdict)])
    shown = people.show(2)
    assert shown is not None
    assert (shown.mask, shown.verdict) == (None, verdict)
    assert people.automatic(2) is not None


def test_added_persons_come_and_go() -> None:
    people = People(RECORD, [])
    mask = square(50, 30, 53, 33)
    people.update([decided(500_000, "added", mask, xy=(51.0, 31.0))])
    shown = people.show(500_000)
    assert shown is not None
    assert (shown.xy, shown.origin, shown.status) == ((51.0, 31.0), "added", "added")
    assert 500_000 in people.meeting((52, 32, 53, 33))
    people.update([decided(500_000, "open")])
    assert people.show(500_000) is None


def test_an_older_decision_changes_nothing() -> None:
    old, new = decided(2, "rejected"), decided(2, "open")
    people = People(RECORD, [new])
    assert people.update([old]) == set()
    assert people.mask(2) is not None


@pytest.mark.parametrize("point_id", [-1, 21, 500_000])
def test_nobody_is_there(point_id: int) -> None:
    assert People(RECORD, []).show(point_id) is None


def test_persons_of_a_window_are_those_that_reach_into_it() -> None:
    people = People(RECORD, [])
    assert people.meeting((28, 20, 29, 21)) == [0]
    assert people.meeting((29, 20, 32, 21)) == []
    # Point 6 has no mask, but a point.
    assert people.meeting((140, 20, 141, 21)) == [6]
    assert people.meeting((0, 0, *SIZE_HW[::-1])) == list(range(21))


def test_a_moved_point_is_found_where_it_is() -> None:
    moved = decided(6, "corrected", square(1, 60, 4, 64), xy=(2.0, 62.0))
    people = People(RECORD, [moved])
    shown = people.show(6)
    assert shown is not None
    assert shown.xy == (2.0, 62.0)
    assert people.meeting((2, 62, 3, 63)) == [6]


def test_an_unreadable_photo_is_one_clear_error() -> None:
    record: ImageRecord = make_record(make_info(size_hw=None), [])
    with pytest.raises(DpmoError, match="could not be read"):
        People(record, [])


@pytest.mark.parametrize(
    ("xy", "pixel"),
    [((0.5, 1.5), (0, 2)), ((-0.4, 9.7), (0, 9)), ((3.2, 4.8), (3, 5)), ((99, -9), (9, 0))],
)
def test_points_round_as_sites_do(xy: tuple[float, float], pixel: tuple[int, int]) -> None:
    assert pixel_of(xy, (10, 10)) == pixel


@st.composite
def decided_lists(draw: st.DrawFn) -> list[Decision]:
    """Decisions about the record, of which no two drawn masks overlap.

    Some accept a mask that the record no longer has: it was made with other settings since.
    """
    drawn: list[NDArray[np.bool_]] = []
    decisions = []
    for point_id in draw(st.lists(st.integers(0, 20), unique=True, max_size=6)):
        verdict = draw(st.sampled_from(["accepted", "rejected", "deleted", "corrected", "pinned"]))
        x, y = draw(st.integers(0, 150)), draw(st.integers(0, 70))
        mask = square(x, y, x + draw(st.integers(1, 10)), y + draw(st.integers(1, 10)))
        if verdict == "pinned":
            near_xy = (np.array(place_of(point_id)) - draw(st.integers(1, 9))).astype(int)
            mask = square(*near_xy, *(near_xy + draw(st.integers(10, 30)))) if x % 2 else mask
            x0, y0, x1, y1 = mask.window_xyxy
            mask = square(int(x0), int(y0), min(int(x1), 160), min(int(y1), 80))
            decisions.append(decided(point_id, "accepted", mask))
        elif verdict == "corrected":
            if any((frame(mask) & other).any() for other in drawn):
                continue
            drawn.append(frame(mask))
            decisions.append(decided(point_id, verdict, mask))
        else:
            mask_now = People(RECORD, decisions).mask(point_id)
            accepted = mask_now if verdict == "accepted" else None
            decisions.append(decided(point_id, verdict, accepted))
    return decisions


@settings(max_examples=100, deadline=None)
@given(decided_lists())
def test_the_page_shows_what_apply_will_write(decisions: list[Decision]) -> None:
    people = People(RECORD, [])
    for decision in decisions:
        before = {point_id: people.mask(point_id) for point_id in range(21)}
        changed = people.update([decision])
        for point_id in before.keys() - changed:
            assert people.mask(point_id) is before[point_id]
    corrections = sorted((one.as_correction() for one in decisions), key=lambda one: one.person)
    for row in corrected(RECORD, corrections).rows.to_pylist():
        shown = people.show(row["point_id"])
        assert shown is not None
        assert (shown.mask and shown.mask.rle(SIZE_HW)) == row["rle"], row["point_id"]


def test_an_accepted_mask_of_other_settings_takes_pixels_and_gives_them_back() -> None:
    people = People(RECORD, [])
    before = frame(people.mask(1))
    pinned = square(12, 12, 36, 28)
    assert {0, 1} <= people.update([decided(0, "accepted", pinned)])
    assert (frame(people.mask(0)) == frame(pinned)).all()
    assert (frame(people.mask(1)) == before & ~frame(pinned)).all()
    # A mask that somebody draws comes before it, and one accepted of a later point after it.
    people.update([decided(7, "corrected", square(12, 26, 30, 44))])
    assert not (frame(people.mask(0)) & frame(people.mask(7))).any()
    people.update([decided(1, "accepted", square(30, 12, 50, 28))])
    assert not (frame(people.mask(1)) & frame(people.mask(0))).any()
    assert {0, 1} <= people.update([decided(0, "open")])
    assert (frame(people.mask(1)) == frame(square(30, 12, 50, 28))).all()


def test_a_shared_mask_follows_its_owner() -> None:
    rows = RECORD.rows.to_pylist()
    rows[8] |= {name: rows[0][name] for name in ("x", "y", "rle", "bbox", "area", "annotation_id")}
    rows[8]["status"] = "shared"
    record = make_record(RECORD.info, rows)
    drawn = square(12, 12, 25, 25)
    for decision in (decided(0, "corrected", drawn), decided(0, "rejected"), decided(0, "deleted")):
        people = People(record, [])
        before = frame(people.mask(8))
        assert before.any()
        assert 8 in people.update([decision])
        (row,) = [
            row
            for row in corrected(record, [decision.as_correction()]).rows.to_pylist()
            if row["point_id"] == 8
        ]
        mask = people.mask(8)
        assert (mask and mask.rle(SIZE_HW)) == row["rle"], decision.verdict
