"""Corrections laid over automatic rows: whose pixels, whose ids, and which decisions fit."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

from dpmo_cli.geometry.rle import Rle, frame_rle
from dpmo_cli.outputs.corrected import Unfit, corrected, fit, join, overlay
from dpmo_cli.outputs.corrections import (
    Correction,
    CorrectionsError,
    Person,
    corrections_of,
    splits_of,
    write_corrections,
)
from dpmo_cli.outputs.records import ImageRecord
from dpmo_cli.outputs.schema import ADDED_FROM
from dpmo_cli.outputs.yielding import DrawnOverlapError
from tests.outputs.samples import Row, make_info, make_record, make_rows, pixels_of

SIZE_HW = (40, 56)
INFO = make_info(7, "train", "images/a.jpg", SIZE_HW)
POINTS = [(10.0, 10.0), (17.0, 10.0), (30.0, 30.0), (17.0, 10.2), (50.0, -3.0), (40.0, 12.0)]
LONE, EMPTY = 2, 5
SCORES = ("predicted_iou", "stability", "retained", "score")


def record(points: Sequence[tuple[float, float]] = POINTS) -> ImageRecord:
    """Neighbours 0 and 1, 3 shares the mask of 1, 2 alone, 4 outside, 5 empty."""
    rows = make_rows(INFO, points, statuses={4: "outside", 5: "empty"}, shares={3: 1})
    for row in rows:
        if row["annotation_id"] is not None:
            row["annotation_id"] = 7_000_000 + {3: 1}.get(row["point_id"], row["point_id"])
        row["reasons"] = ["duplicate"] if row["status"] == "shared" else row["reasons"]
    rows[3] |= {name: rows[1][name] for name in SCORES}
    return make_record(INFO, rows)


RECORD = record()
ROWS: list[Row] = RECORD.rows.to_pylist()


def rectangle(x0: int, y0: int, x1: int, y1: int) -> Rle:
    return frame_rle(np.ones((y1 - y0, x1 - x0), np.bool_), (x0, y0, x1, y1), SIZE_HW)


def correction(point_id: int, verdict: str, rle: Rle | None = None, **values: Any) -> Correction:
    added = point_id >= ADDED_FROM
    usual: dict[str, Any] = {
        "point_xy": None,
        "reviewer": f"reviewer of {point_id}",
        "image": INFO.file_name,
        "seen_xy": None if added else POINTS[point_id],
    }
    return Correction(Person("train", 7, point_id), verdict, rle, **{**usual, **values})


def after(*corrections: Correction, of: ImageRecord = RECORD) -> dict[int, Row]:
    rows = corrected(of, corrections).rows.to_pylist()
    assert [row["point_id"] for row in rows] == sorted(row["point_id"] for row in rows)
    return {row["point_id"]: row for row in rows}


def pixels(row: Row) -> NDArray[np.bool_]:
    return pixels_of(row)


def test_without_corrections_the_record_is_the_same() -> None:
    assert corrected(RECORD, []) is RECORD
    assert corrected(RECORD, [correction(0, "deleted", image="images/b.jpg")]) is RECORD


def test_a_corrected_mask_may_leave_its_disc_and_the_neighbour_yields() -> None:
    mask = rectangle(4, 2, 16, 20)
    rows = after(correction(0, "corrected", mask, point_xy=(9.5, 8.25)))
    mine, theirs = rows[0], rows[1]
    assert mine["rle"] == mask
    assert (mine["x"], mine["y"], mine["annotation_id"]) == (9.5, 8.25, 7_000_000)
    assert (mine["source"], mine["reviewer"]) == ("corrected", "reviewer of 0")
    assert (mine["status"], mine["flagged"], mine["reasons"], mine["score"]) == ("ok", False, [], 1)
    assert mine["predicted_iou"] is None
    assert (mine["area"], mine["bbox"]) == (12 * 18, [4, 2, 12, 18])
    before, now = pixels(ROWS[1]), pixels(theirs)
    assert before[2:20, 4:16].any()
    assert not now[2:20, 4:16].any()
    assert not (now & ~before).any()
    assert now[10, 17]
    assert (theirs["area"], theirs["source"]) == (int(now.sum()), "auto")
    assert theirs["score"] == ROWS[1]["score"]
    # Whoever shares a mask shares what has become of it; nobody else is touched.
    assert rows[3]["rle"] == theirs["rle"]
    assert rows[3]["area"] == theirs["area"]
    assert {n: rows[n] for n in (2, 4, 5)} == {n: ROWS[n] for n in (2, 4, 5)}


def test_only_the_part_with_the_point_stays() -> None:
    rows = after(correction(0, "corrected", rectangle(15, 0, 16, 40)))
    now = pixels(rows[1])
    assert pixels(ROWS[1])[:, 12:15].any()
    assert not now[:, :16].any()
    assert now.any()


def test_a_mask_whose_point_is_taken_is_empty_and_named() -> None:
    rows = after(correction(0, "corrected", rectangle(4, 2, 19, 20)))
    for point, reasons in ((1, ["tiny", "yielded"]), (3, ["duplicate", "yielded"])):
        row = rows[point]
        assert (row["status"], row["flagged"], row["reasons"]) == ("empty", True, reasons)
        nothing = [row[n] for n in ("annotation_id", "rle", "bbox", "area", "source", "score")]
        assert nothing == [None] * 6
        assert row["predicted_iou"] == ROWS[1]["predicted_iou"]


def test_an_accepted_mask_keeps_its_pixels_but_for_drawn_ones() -> None:
    """Pinned as it was seen: a run with other settings would give another one."""
    seen = rectangle(5, 6, 15, 15)
    rows = after(correction(0, "accepted", seen))
    assert rows[0]["rle"] == seen
    assert (rows[0]["source"], rows[0]["flagged"], rows[0]["score"]) == ("accepted", False, 1.0)
    assert rows[0]["reasons"] == ROWS[0]["reasons"]
    assert rows[0]["predicted_iou"] == ROWS[0]["predicted_iou"]
    assert not (pixels(rows[1]) & pixels(rows[0])).any()
    rows = after(
        correction(0, "accepted", seen), correction(2, "corrected", rectangle(12, 6, 15, 15))
    )
    assert rows[2]["rle"] == rectangle(12, 6, 15, 15)
    assert rows[0]["rle"] == rectangle(5, 6, 12, 15)
    assert rows[0]["source"] == "accepted"


def test_an_accepted_automatic_mask_changes_nobody() -> None:
    rows = after(correction(1, "accepted", ROWS[1]["rle"]))
    for point, row in rows.items():
        same = {name: row[name] for name in ("rle", "area", "bbox", "annotation_id", "status")}
        assert same == {name: ROWS[point][name] for name in same}
    assert [rows[n]["source"] for n in (0, 1, 3)] == ["auto", "accepted", "accepted"]


def test_accepting_that_there_is_no_mask_ends_the_question() -> None:
    row = after(correction(EMPTY, "accepted"))[EMPTY]
    assert (row["status"], row["flagged"], row["reviewer"]) == ("empty", False, "reviewer of 5")


@pytest.mark.parametrize(("verdict", "status"), [("rejected", "unmasked"), ("deleted", "deleted")])
@pytest.mark.parametrize("point", [0, LONE, EMPTY, 4])
def test_a_mask_is_taken_away(point: int, verdict: str, status: str) -> None:
    rows = after(correction(point, verdict))
    row = rows.pop(point)
    assert (row["status"], row["reviewer"]) == (status, f"reviewer of {point}")
    assert (row["flagged"], row["reasons"], row["rle"], row["source"]) == (False, [], None, None)
    assert (row["x"], row["y"]) == POINTS[point]
    assert rows == {n: row for n, row in enumerate(ROWS) if n != point}


def test_a_deleted_double_click_hands_its_mask_on() -> None:
    rows = after(correction(1, "deleted"))
    heir = rows[3]
    assert (heir["status"], heir["annotation_id"], heir["rle"]) == ("ok", 7_000_003, ROWS[1]["rle"])
    assert (heir["reasons"], heir["source"], heir["flagged"]) == ([], "auto", False)


SHARING: dict[str, tuple[list[Correction], dict[int, tuple[str, str | None]]]] = {
    "the owner's wrong mask is wrong for both": (
        [correction(1, "rejected")],
        {1: ("unmasked", None), 3: ("unmasked", None)},
    ),
    "unless the other's was found right": (
        [correction(1, "rejected"), correction(3, "accepted", ROWS[1]["rle"])],
        {1: ("unmasked", None), 3: ("ok", "accepted")},
    ),
    "the other alone": ([correction(3, "deleted")], {1: ("ok", "auto"), 3: ("deleted", None)}),
    "accepted as the other's": (
        [correction(3, "accepted", ROWS[1]["rle"])],
        {1: ("ok", "accepted"), 3: ("shared", "accepted")},
    ),
    "the owner's corrected mask is both's": (
        [correction(1, "corrected", rectangle(15, 8, 22, 20))],
        {1: ("ok", "corrected"), 3: ("shared", "corrected")},
    ),
    "both drawn": (
        [
            correction(1, "corrected", rectangle(15, 8, 18, 20)),
            correction(3, "corrected", rectangle(18, 8, 22, 20)),
        ],
        {1: ("ok", "corrected"), 3: ("ok", "corrected")},
    ),
    "the other takes the owner's very mask": (
        [correction(3, "corrected", ROWS[1]["rle"])],
        {1: ("empty", None), 3: ("ok", "corrected")},
    ),
    "deleted both": (
        [correction(1, "deleted"), correction(3, "deleted")],
        {1: ("deleted", None), 3: ("deleted", None)},
    ),
}


@pytest.mark.parametrize(("made", "expected"), SHARING.values(), ids=SHARING)
def test_points_that_share_a_mask(
    made: list[Correction], expected: dict[int, tuple[str, str | None]]
) -> None:
    rows = after(*made)
    assert {n: (rows[n]["status"], rows[n]["source"]) for n in expected} == expected
    for point in expected:
        row = rows[point]
        shared = rows[1]["annotation_id"] if row["status"] == "shared" else 7_000_000 + point
        assert row["annotation_id"] == (shared if row["source"] else None)
        assert (row["reviewer"] is None) == (row["source"] == "auto" or row["status"] == "empty")
    assert rows[0] == ROWS[0]


def test_an_added_person_gets_a_row_at_the_end() -> None:
    new = correction(ADDED_FROM + 2, "added", rectangle(44, 20, 50, 30), point_xy=(46.5, 22.0))
    row = after(new)[ADDED_FROM + 2]
    assert (row["x"], row["y"], row["status"], row["source"]) == (46.5, 22.0, "ok", "added")
    assert (row["annotation_id"], row["image"]) == (7_000_000 + ADDED_FROM + 2, INFO.file_name)
    assert row["radius_px"] is None
    gone = correction(ADDED_FROM, "deleted")
    maskless = correction(ADDED_FROM + 1, "rejected", point_xy=(5.0, 5.0))
    rows = after(gone, maskless)
    assert ADDED_FROM not in rows
    assert (rows[ADDED_FROM + 1]["status"], rows[ADDED_FROM + 1]["rle"]) == ("unmasked", None)


def test_drawn_masks_that_overlap_are_refused_by_name() -> None:
    with pytest.raises(DrawnOverlapError, match=r"train, image 7: .* points 0 and 2 overlap"):
        after(
            correction(0, "corrected", rectangle(4, 2, 16, 20)),
            correction(2, "corrected", rectangle(15, 19, 30, 30)),
        )


NOT_FITTING: dict[str, tuple[Correction, str]] = {
    "another image": (correction(0, "deleted", image="images/b.jpg"), "its image is another now"),
    "no such point": (correction(0, "deleted", seen_xy=(1.0, 1.0)), "its point moved"),
    "a point that is gone": (
        Correction(Person("train", 7, 99), "deleted", None, None, "ada", INFO.file_name, (1, 1)),
        "no such point",
    ),
    "another size": (
        correction(0, "accepted", {"size": [41, 56], "counts": "o"}),
        "its image has another size now",
    ),
    "a mask that nobody saw": (
        correction(0, "accepted"),
        "it had no mask when accepted, and has one now",
    ),
    "a point that became finite": (
        correction(0, "deleted", seen_xy=(math.nan, 10.0)),
        "its point moved",
    ),
}


@pytest.mark.parametrize(("one", "why"), NOT_FITTING.values(), ids=NOT_FITTING)
def test_a_decision_that_does_not_fit_is_said_and_left_out(one: Correction, why: str) -> None:
    right = correction(LONE, "deleted")
    fitting, unfit = fit(RECORD, [one, right])
    assert (fitting, unfit) == ([right], [Unfit(one.person, why)])
    assert after(one, right) == after(right)


def test_a_point_that_moved_a_little_is_the_same_person() -> None:
    fitting, _ = fit(RECORD, [correction(0, "deleted", seen_xy=(10.4, 9.5))])
    assert len(fitting) == 1
    rows = [row | ({"x": math.nan, "y": 1.0} if not row["point_id"] else {}) for row in ROWS]
    invalid = make_record(INFO, rows)
    fitting, _ = fit(invalid, [correction(0, "deleted", seen_xy=(math.nan, 1.0))])
    assert len(fitting) == 1


def test_nothing_fits_an_image_that_could_not_be_read() -> None:
    failed = make_record(make_info(7, "train", INFO.file_name, None), [], "torn")
    _, unfit = fit(failed, [correction(0, "deleted")])
    assert [one.why for one in unfit] == ["its image could not be read"]


@st.composite
def some_corrections(draw: st.DrawFn) -> list[Correction]:
    """Decisions of all kinds about some persons; drawn masks lie in columns of their own."""
    made: list[Correction] = []
    edges = sorted(draw(st.lists(st.integers(0, 56), min_size=2, max_size=12, unique=True)))
    columns = list(pairwise(edges))
    for point in (*range(len(POINTS)), ADDED_FROM, ADDED_FROM + 3):
        verdicts = ["open", "accepted", "rejected", "corrected", "deleted"]
        verdict = draw(st.sampled_from(verdicts if point < ADDED_FROM else ["open", "added"]))
        if verdict in ("corrected", "added"):
            if not columns:
                continue
            x0, x1 = columns.pop(draw(st.integers(0, len(columns) - 1)))
            y0 = draw(st.integers(0, 39))
            mask = rectangle(x0, y0, x1, draw(st.integers(y0 + 1, 40)))
            spot = (draw(st.integers(0, 55)) + 0.25, 3.0) if point >= ADDED_FROM else None
            made.append(correction(point, verdict, mask, point_xy=spot))
        elif verdict == "accepted":
            seen = ROWS[point]["rle"]
            if seen is not None and draw(st.booleans()):
                x0, y0 = draw(st.integers(0, 50)), draw(st.integers(0, 30))
                seen = rectangle(x0, y0, x0 + 6, y0 + 9)
            made.append(correction(point, verdict, seen))
        elif verdict != "open":
            made.append(correction(point, verdict))
    return made


@given(some_corrections())
@settings(deadline=None, max_examples=150)
def test_masks_stay_disjoint_drawn_ones_whole_and_ids_their_points(made: list[Correction]) -> None:
    rows = after(*made)
    owners = [row for row in rows.values() if row["status"] == "ok"]
    covered = np.zeros(SIZE_HW, np.int64)
    for row in owners:
        mask = pixels(row)
        covered += mask
        ys, xs = np.nonzero(mask)
        box = [xs.min(), ys.min(), np.ptp(xs) + 1, np.ptp(ys) + 1]
        assert (row["area"], row["bbox"]) == (mask.sum(), box)
        assert row["annotation_id"] == 7_000_000 + row["point_id"]
        if row["source"] == "auto":
            x, y = (round(row[name]) for name in ("x", "y"))
            assert mask[y, x]
            own = ROWS[row["point_id"]]
            assert not (mask & ~pixels(own)).any()
    assert covered.max(initial=0) <= 1
    for one in made:
        row = rows[one.person.point_id]
        if one.is_drawn:
            assert row["rle"] == one.rle
        assert row["reviewer"] == one.reviewer
    decided = {one.person.point_id for one in made}
    for point, row in rows.items():
        if point not in decided and not {1, 3} & {point}:
            assert row["source"] in ("auto", None)
    assert set(rows) - set(range(len(POINTS))) <= decided


def test_a_snapshot_is_read_back_by_image(tmp_path: Path) -> None:
    path = tmp_path / "review" / "corrections.parquet"
    made = [
        Correction(Person(split, image, point), "deleted", None, None, "ada", "a.jpg", (1.0, 2.0))
        for split in ("a", "b")
        for image in range(1, 40)
        for point in range(60)
    ]
    made[7] = correction(0, "corrected", rectangle(1, 2, 3, 4), point_xy=(1.5, 2.5))
    made[7] = Correction(**{**vars(made[7]), "person": Person("a", 1, 7)})
    assert write_corrections(path, made) == len(made)
    before = path.read_bytes()
    assert write_corrections(path, iter(made)) == len(made)
    assert path.read_bytes() == before
    assert splits_of(path) == ["a", "b"]
    found = dict(corrections_of(path, "a"))
    assert list(found) == list(range(1, 40))
    assert [one for of_image in found.values() for one in of_image] == made[: 39 * 60]
    assert list(corrections_of(path, "c")) == []
    assert list(corrections_of(tmp_path / "none", "a")) == []


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[:-9],
    "text": lambda data: b"decisions",
    "empty": lambda data: b"",
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_damaged_snapshot_is_one_clear_line(
    spoil: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "corrections.parquet"
    write_corrections(path, [correction(0, "deleted")])
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(CorrectionsError, match="run `dpmo review apply` again"):
        splits_of(path)


def test_records_and_corrections_are_joined_in_order(tmp_path: Path) -> None:
    records = [make_record(make_info(n, "train", f"{n}.jpg"), []) for n in (2, 3, 7, 9)]
    of = {n: [correction(0, "deleted")] for n in (1, 3, 4, 5, 9, 12)}
    found = [(r and r.info.image_id, c) for r, c in join(records, iter(of.items()))]
    one = of[1]
    expected = [(None, one), (2, []), (3, one), (None, one), (None, one), (7, []), (9, one)]
    assert found == [*expected, (None, one)]
    path = tmp_path / "c.parquet"
    write_corrections(path, [correction(0, "deleted")])
    (shown,) = overlay(lambda: iter([RECORD]), path, "train")()
    assert shown.rows["status"][0].as_py() == "deleted"
    (other,) = overlay(lambda: iter([RECORD]), path, "test")()
    assert other is RECORD
