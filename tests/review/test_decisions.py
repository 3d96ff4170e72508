"""The log of decisions: nothing acknowledged is lost, nobody is overwritten unseen."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmo_cli.errors import DpmoError
from dpmo_cli.geometry.rle import Rle, frame_rle
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.schema import ADDED_FROM
from dpmo_cli.review.decisions import (
    ConflictError,
    Decision,
    Decisions,
    DecisionsError,
    OverlapError,
)

PERSON = Person("train", 3, 7)
OTHER = Person("train", 3, 8)
NEW = Person("train", 3, ADDED_FROM)


def box(x0: int, y0: int, x1: int, y1: int, size_hw: tuple[int, int] = (40, 60)) -> Rle:
    return frame_rle(np.ones((y1 - y0, x1 - x0), np.bool_), (x0, y0, x1, y1), size_hw)


def decision(person: Person = PERSON, verdict: str = "accepted", **values: Any) -> Decision:
    usual: dict[str, Any] = {
        "rle": None,
        "point_xy": None,
        "reviewer": "ada",
        "source": "page",
        "image": "images/a.jpg",
        "seen_xy": None if person.is_added else (5.0, 6.5),
    }
    return Decision(person=person, verdict=verdict, **{**usual, **values})


def corrected(person: Person = PERSON, *window: int, **values: Any) -> Decision:
    return decision(person, "corrected", rle=box(*(window or (2, 3, 9, 8))), **values)


def added(person: Person, *window: int) -> Decision:
    rle = box(*window)
    return decision(person, "added", rle=rle, point_xy=(window[0] + 0.5, window[1] + 0.25))


EACH_KIND = {
    "accepted": decision(seconds=1.5),
    "accepted as it was seen": decision(rle=box(2, 3, 9, 8)),
    "rejected": decision(verdict="rejected"),
    "corrected": corrected(),
    "corrected and moved": corrected(point_xy=(3.25, 4.125)),
    "deleted": decision(verdict="deleted"),
    "added": added(NEW, 20, 20, 25, 30),
    "added, without a mask": decision(NEW, "rejected", point_xy=(20.5, 3.0)),
    "open": decision(verdict="open"),
    "of an infinite point": decision(verdict="deleted", seen_xy=(math.inf, -math.inf)),
    "names that are no ASCII": decision(reviewer="Zoë; DROP TABLE", image="b/ä'\".jpg"),
}


@pytest.mark.parametrize("given", EACH_KIND.values(), ids=EACH_KIND)
def test_a_decision_is_read_back_as_it_was_made(given: Decision, tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        written = decisions.decide(given, expected=None)
    assert (written.id, written.replaces) == (1, None)
    assert written.time.endswith("+00:00")
    assert replace(written, id=0, time="") == given
    with Decisions(tmp_path) as decisions:
        assert decisions.history(given.person) == [written]
        assert decisions.latest() == {given.person: written}


def test_the_point_of_an_invalid_row_stays_nan(tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        written = decisions.decide(decision(seen_xy=(math.nan, 2.0)), expected=None)
        (again,) = decisions.history(written.person)
    assert again.seen_xy is not None
    assert math.isnan(again.seen_xy[0])
    assert again.seen_xy[1] == 2.0


IMPOSSIBLE = {
    "unknown verdict": (decision(verdict="fine"), "no verdict"),
    "nobody decided": (decision(reviewer=""), "reviewer"),
    "no image": (decision(image=""), "image"),
    "corrected by nothing": (decision(verdict="corrected"), "needs a mask"),
    "added without mask": (decision(NEW, "added", point_xy=(1, 1)), "needs a mask"),
    "added without point": (decision(NEW, "added", rle=box(1, 1, 3, 3)), "needs the point"),
    "added with an id of the dataset": (
        decision(PERSON, "added", rle=box(1, 1, 3, 3), point_xy=(1, 1)),
        "point ids from",
    ),
    "mask of a deleted person": (decision(verdict="deleted", rle=box(1, 1, 3, 3)), "has no mask"),
    "empty mask": (corrected(PERSON, 4, 4, 4, 4), "no pixels"),
    "broken mask": (decision(verdict="corrected", rle={"size": [9, 9], "counts": "1"}), "add up"),
    "not a code": (decision(verdict="corrected", rle={"size": [9, 9], "counts": "é"}), "not comp"),
    "moved to nowhere": (corrected(point_xy=(math.nan, 1.0)), "not finite"),
    "nothing seen": (decision(seen_xy=None), "seen_xy"),
}


@pytest.mark.parametrize(("given", "why"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_can_not_be_meant_is_not_written(given: Decision, why: str, tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        with pytest.raises(ValueError, match=why):
            decisions.decide_many([(decision(OTHER), None), (given, None)])
        assert decisions.since(0) == []


def test_who_has_not_seen_the_latest_decision_is_told(tmp_path: Path) -> None:
    with Decisions(tmp_path) as ours, Decisions(tmp_path) as theirs:
        first = theirs.decide(decision(reviewer="bob"), expected=None)
        with pytest.raises(ConflictError, match="was accepted by bob in the meantime") as caught:
            ours.decide(decision(verdict="rejected"), expected=None)
        assert caught.value.current == first
        with pytest.raises(ConflictError, match="is open"):
            ours.decide(decision(OTHER), expected=first.id)
        second = ours.decide(decision(verdict="rejected"), expected=first.id)
        assert second.replaces == first.id
        assert theirs.history(PERSON) == [first, second]
        assert theirs.latest()[PERSON] == second


def test_of_many_decisions_only_the_conflicting_ones_are_not_written(tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        first = decisions.decide(decision(OTHER), expected=None)
        third = Person("train", 4, 0)
        found = decisions.decide_many(
            [(decision(), None), (decision(OTHER, "rejected"), None), (decision(third), None)]
        )
        assert isinstance(found[1], ConflictError)
        assert found[1].current == first
        assert decisions.since(first.id) == [found[0], found[2]]


def test_drawn_masks_of_an_image_never_overlap(tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        first = decisions.decide(corrected(PERSON, 2, 3, 9, 8), expected=None)
        with pytest.raises(OverlapError, match="point 7") as caught:
            decisions.decide(corrected(OTHER, 8, 7, 12, 12), expected=None)
        assert caught.value.others == (PERSON,)
        with pytest.raises(OverlapError):
            decisions.decide(added(NEW, 0, 0, 20, 20), expected=None)
        # Beside it, in another image, or as an automatic mask that will yield: all well.
        decisions.decide(corrected(OTHER, 9, 3, 12, 8), expected=None)
        decisions.decide(corrected(Person("train", 4, 7), 2, 3, 9, 8), expected=None)
        decisions.decide(decision(Person("train", 3, 9), rle=box(2, 3, 9, 8)), expected=None)
        # The person's own mask may change, and once it is gone its pixels are free.
        second = decisions.decide(corrected(PERSON, 2, 3, 8, 8), expected=first.id)
        decisions.decide(decision(verdict="rejected"), expected=second.id)
        decisions.decide(added(NEW, 2, 3, 9, 8), expected=None)


def test_boxes_that_meet_are_no_overlap(tmp_path: Path) -> None:
    corner = np.tri(5, 5, -1, dtype=np.bool_)
    lower, upper = (frame_rle(m, (2, 2, 7, 7), (40, 60)) for m in (corner, corner.T))
    with Decisions(tmp_path) as decisions:
        decisions.decide(decision(verdict="corrected", rle=lower), expected=None)
        decisions.decide(decision(OTHER, "corrected", rle=upper), expected=None)


def test_undo_goes_back_one_state_after_another(tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        first = decisions.decide(corrected(), expected=None)
        second = decisions.decide(decision(verdict="rejected"), expected=first.id)
        third = decisions.decide(decision(verdict="deleted"), expected=second.id)
        with pytest.raises(ConflictError):
            decisions.undo(PERSON, expected=second.id, reviewer="bob")
        back = decisions.undo(PERSON, expected=third.id, reviewer="bob")
        assert (back.verdict, back.reviewer, back.source) == ("rejected", "bob", "undo")
        back = decisions.undo(PERSON, expected=back.id, reviewer="bob")
        assert (back.verdict, back.rle) == ("corrected", first.rle)
        back = decisions.undo(PERSON, expected=back.id, reviewer="bob")
        assert (back.verdict, back.rle) == ("open", None)
        with pytest.raises(DpmoError, match="nothing is left to undo"):
            decisions.undo(PERSON, expected=back.id, reviewer="bob")
        assert len(decisions.history(PERSON)) == 6
        again = decisions.decide(decision(), expected=back.id)
        assert decisions.undo(PERSON, expected=again.id, reviewer="bob").verdict == "open"


def test_undo_brings_no_mask_back_over_a_drawn_one(tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        first = decisions.decide(corrected(), expected=None)
        second = decisions.decide(decision(verdict="rejected"), expected=first.id)
        decisions.decide(corrected(OTHER), expected=None)
        with pytest.raises(OverlapError):
            decisions.undo(PERSON, expected=second.id, reviewer="ada")


def test_ids_of_added_persons_are_used_once(tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        decisions.decide(decision(), expected=None)
        assert decisions.next_point_id("train", 3) == ADDED_FROM
        first = decisions.decide(added(NEW, 1, 1, 4, 4), expected=None)
        assert decisions.undo(NEW, expected=first.id, reviewer="ada").verdict == "open"
        assert decisions.next_point_id("train", 3) == ADDED_FROM + 1
        assert decisions.next_point_id("train", 4) == ADDED_FROM


def test_latest_and_since_pick(tmp_path: Path) -> None:
    people = [Person("b", 2, 1), Person("a", 1, 0), Person("b", 1, 4), Person("b", 2, 0)]
    with Decisions(tmp_path) as decisions:
        for person in people:
            decisions.decide(decision(person), expected=None)
        assert list(decisions.latest()) == sorted(people)
        assert list(decisions.latest("b")) == sorted(people)[1:]
        assert list(decisions.latest("b", 2)) == [people[3], people[0]]
        assert [one.person for one in decisions.since(2)] == people[2:]


def test_threads_share_one_object(tmp_path: Path) -> None:
    """Each person is decided by the first of eight threads; the others are told."""
    people = [Person("train", 1, point) for point in range(12)]
    told: list[Person] = []
    with Decisions(tmp_path) as decisions:

        def decide(name: str) -> None:
            for person in people:
                try:
                    decisions.decide(decision(person, reviewer=name), expected=None)
                except ConflictError as error:
                    told.append(error.person)

        threads = [threading.Thread(target=decide, args=(f"r{i}",)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(decisions.latest()) == people
        assert len(decisions.since(0)) == len(people)
    assert sorted(told) == sorted(people * 7)


_WRITER = """
import json, sys
from pathlib import Path
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.review.decisions import ConflictError, Decision, Decisions
out, name, first, count = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with Decisions(out) as decisions:
    for point in range(first, first + count):
        person = Person("train", 1, point)
        mine = Decision(person, "accepted", None, None, name, "page", None, "a.jpg", (1.0, 2.0))
        try:
            print(decisions.decide(mine, expected=None).id, point, flush=True)
        except ConflictError as error:
            print("conflict", point, flush=True)
"""


def writer(out: Path, name: str, first: int, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(out), name, str(first), str(count)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_processes_share_the_file_from_its_first_moment(tmp_path: Path) -> None:
    both = [writer(tmp_path, name, 0, 60) for name in ("ada", "bob")]
    lines = [process.communicate(timeout=60)[0].splitlines() for process in both]
    assert [process.returncode for process in both] == [0, 0]
    conflicts = sum(line.startswith("conflict") for part in lines for line in part)
    with Decisions(tmp_path) as decisions:
        assert (len(decisions.since(0)), conflicts) == (60, 60)
        for name, part in zip(("ada", "bob"), lines, strict=True):
            for line in part:
                number, point = line.split()
                if number != "conflict":
                    (one,) = decisions.history(Person("train", 1, int(point)))
                    assert (one.id, one.reviewer) == (int(number), name)


@pytest.mark.parametrize("after", [1, 7, 40])
def test_a_killed_writer_loses_nothing_that_it_acknowledged(after: int, tmp_path: Path) -> None:
    process = writer(tmp_path, "ada", 0, 100_000)
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(after)]
    process.send_signal(signal.SIGKILL)
    lines += process.stdout.readlines()
    process.wait(timeout=60)
    process.stdout.close()
    acknowledged = [int(line.split()[0]) for line in lines if line.endswith("\n")]
    with Decisions(tmp_path) as decisions:
        there = [one.id for one in decisions.since(0)]
        assert there[: len(acknowledged)] == acknowledged
        # At most the one decision that was written and not yet acknowledged.
        assert len(there) - len(acknowledged) in (0, 1)
        decisions.decide(decision(), expected=None)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param("mask = 'zz'", "run lengths", id="no run lengths"),
        pytest.param("mask = ''", "run lengths", id="an empty mask"),
        pytest.param("height = -5", "", id="a height below zero"),
        pytest.param("height = NULL", "", id="no height"),
        pytest.param("verdict = 'eaten'", "no verdict", id="an unknown verdict"),
        pytest.param("image_id = 'abc'", "image_id is 'abc'", id="an id of letters"),
        pytest.param("point_id = 1 << 40", "point_id", id="an id too large"),
        pytest.param("reviewer = x'ff00'", "reviewer is b", id="a reviewer of bytes"),
    ],
)
def test_a_damaged_decision_is_one_clear_line(change: str, why: str, tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        decisions.decide(corrected(), expected=None)
    with sqlite3.connect(decisions.path) as connection:
        connection.execute(f"UPDATE decisions SET {change}")
    connection.close()
    with Decisions(tmp_path) as decisions:
        for read in (decisions.latest, lambda: list(decisions.corrections())):
            with pytest.raises(DecisionsError, match=rf"decision 1 is damaged \(.*{why}") as caught:
                read()
            assert str(caught.value).startswith(f"{decisions.path}: ")


def test_undo_to_a_decision_that_is_gone_is_one_clear_line(tmp_path: Path) -> None:
    with Decisions(tmp_path) as decisions:
        first = decisions.decide(corrected(), expected=None)
        second = decisions.decide(decision(verdict="rejected"), expected=first.id)
        with sqlite3.connect(decisions.path) as connection:
            connection.execute("DELETE FROM decisions WHERE id = 1")
        connection.close()
        with pytest.raises(DecisionsError, match="decision 1 is missing"):
            decisions.undo(PERSON, expected=second.id, reviewer="ada")
