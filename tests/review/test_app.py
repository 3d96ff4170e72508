"""Every address of the review page's server, as the page uses it."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dpmo_cli.outputs.corrections import Person
from dpmo_cli.review.decisions import Decisions
from dpmo_cli.review.desk import MASKS_SHOWN, Desk
from tests.review.conftest import Client, client_of
from tests.review.runs import SPACING_PX

RANK_WITH_MASK = 40
RANK_WITHOUT = 0


def ranks_of(client: Client, **query: object) -> list[int]:
    answer = client.http.get("/api/queue", params=query)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    return np.frombuffer(answer.content, "<i4").tolist()


def box(x: float, y: float, reach: int = 3) -> dict[str, Any]:
    side = 2 * reach + 1
    return {
        "x": int(x) - reach,
        "y": int(y) - reach,
        "w": side,
        "h": side,
        "runs": [0, side * side],
    }


def row_of(client: Client, rank: int) -> dict[str, Any]:
    (row,) = client.get("/api/rows", ranks=rank)["rows"]
    assert isinstance(row, dict)
    return row


def test_the_page_and_its_files_are_there(client: Client) -> None:
    page = client.http.get("/")
    assert page.status_code == 200
    assert "the token of this start" in page.text
    assert "{{" not in page.text
    names = set(re.findall(r'/page/([a-z.]+)"', page.text))
    assert {"style.css", "main.js", "icon.svg"} <= names
    for name in names | {"api.js", "canvas.js", "grid.js", "one.js", "keys.js", "scene.js"}:
        answer = client.http.get(f"/page/{name}")
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_nothing_is_asked_of_other_sites(client: Client) -> None:
    page = client.http.get("/")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for name in ("main.js", "api.js", "one.js", "grid.js", "style.css"):
        text = client.http.get(f"/page/{name}").text
        assert "http://" not in text
        assert "https://" not in text
    assert " style=" not in page.text
    assert " onclick" not in page.text


def test_the_run_is_described(client: Client) -> None:
    run = client.get("/api/run")
    assert (run["rows"], run["images"], run["splits"]) == (42, 2, ["test", "train"])
    assert run["reviewer"] == "Ann"
    assert [reason["name"] for reason in run["reasons"]] == ["low_score"]
    assert run["audit"] is None


def test_filters_reach_the_queue(client: Client) -> None:
    assert ranks_of(client) == list(range(42))
    assert ranks_of(client, mask="without") == list(range(6))
    assert len(ranks_of(client, split="train", mask="with")) == 18
    assert len(ranks_of(client, image="photo 2", score_min=0.0)) == 21
    assert ranks_of(client, verdict="accepted,corrected") == []
    assert ranks_of(client, audit=1) == []


@pytest.mark.parametrize(
    "query",
    [
        {"reason": "ugly"},
        {"split": "val"},
        {"verdict": "perfect"},
        {"mask": "maybe"},
        {"score_min": "low"},
        {"crowd_max": "nan"},
        {"crowd_min": "1e400"},
    ],
)
def test_filters_that_mean_nothing_are_told(client: Client, query: dict[str, str]) -> None:
    answer = client.http.get("/api/queue", params=query)
    assert answer.status_code == 400
    assert answer.json()["kind"] == "malformed"


def test_rows_hold_what_the_page_shows(client: Client) -> None:
    row = row_of(client, RANK_WITH_MASK)
    assert row["crowd"] == 21
    person = row["person"]
    assert (person["verdict"], person["decision"], person["origin"]) == ("open", None, "auto")
    assert sum(person["mask"]["runs"]) == person["mask"]["w"] * person["mask"]["h"]
    assert row_of(client, RANK_WITHOUT)["person"]["mask"] is None


@pytest.mark.parametrize(("ranks", "status"), [("", 400), ("x", 400), ("-1", 400), ("42", 404)])
def test_rows_that_are_none_are_told(client: Client, ranks: str, status: int) -> None:
    answer = client.http.get("/api/rows", params={"ranks": ranks})
    assert answer.status_code == status
    assert answer.json()["error"]


def test_people_of_a_window(client: Client) -> None:
    window = {"x0": 0, "y0": 0, "x1": SPACING_PX, "y1": SPACING_PX}
    answer = client.get("/api/people/train/1", **window)
    assert answer["detailed"]
    assert [one["id"] for one in answer["people"]] == [0]


def test_of_too_many_the_points_alone_are_sent(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MASKS_SHOWN > 20
    monkeypatch.setattr("dpmo_cli.review.desk.MASKS_SHOWN", 20)
    answer = client.get("/api/people/train/1", x0=0, y0=0, x1=999, y1=999)
    assert not answer["detailed"]
    assert answer["points"][0] == [0, 20.0, 20.0]
    assert len(answer["points"]) == 21


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/api/people/train/1?x0=5&x1=5&y0=0&y1=1", 400),
        ("/api/people/train/7?x1=5&y1=5", 404),
        ("/api/people/val/1?x1=5&y1=5", 404),
        ("/photo/train/1/0/9_0.jpg", 404),
        ("/photo/train/1/99/0_0.jpg", 404),
        ("/photo/train/7/0/0_0.jpg", 404),
        ("/crop/train/1.jpg?x=0&y=0&side=9999&size=64", 400),
        ("/crop/train/1.jpg?x=0&y=0&side=64&size=64000", 400),
        ("/crop/train/7.jpg?x=0&y=0&side=64&size=64", 404),
        ("/api/nothing", 404),
        ("/page/nothing.js", 404),
    ],
)
def test_what_is_not_there_is_told(client: Client, path: str, status: int) -> None:
    answer = client.http.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]


def test_pictures_are_jpegs_that_browsers_keep(client: Client) -> None:
    for path in ("/photo/train/1/0/0_0.jpg", "/crop/train/1.jpg?x=-9&y=0&side=40&size=64"):
        answer = client.http.get(path)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert Image.open(io.BytesIO(answer.content)).format == "JPEG"


def test_a_photo_that_is_gone_ends_one_request(client: Client, desk: Desk) -> None:
    path = "/photo/train/1/0/0_0.jpg"
    photo = desk.run.root / "images" / "photo 1.jpg"
    moved = photo.rename(photo.with_name("away"))
    try:
        answer = client.http.get(path)
        assert answer.status_code == 500
        assert "photo 1.jpg" in answer.json()["error"]
    finally:
        moved.rename(photo)
    assert client.http.get(path).status_code == 200


def test_accept_reject_delete_and_undo(client: Client, desk: Desk) -> None:
    for rank, verdict in ((40, "accepted"), (39, "rejected"), (38, "deleted")):
        person = client.person(rank)
        outcome = client.post("/api/decide", {**person, "verdict": verdict, "seconds": 1.5})
        assert outcome["decision"]["verdict"] == verdict
        assert outcome["decision"]["rank"] == rank
        seen = row_of(client, rank)["person"]
        assert (seen["verdict"], seen["reviewer"]) == (verdict, "Ann")
        assert (seen["mask"] is None) == (verdict != "accepted")
    assert ranks_of(client, verdict="rejected") == [39]
    assert 40 not in ranks_of(client, verdict="open")
    undone = client.post("/api/undo", client.person(39))
    assert undone["decision"]["verdict"] == "open"
    assert row_of(client, 39)["person"]["mask"] is not None
    with Decisions(desk.run.out) as decisions:
        assert [one.verdict for one in decisions.since(0)] == [
            "accepted",
            "rejected",
            "deleted",
            "open",
        ]
        assert decisions.since(0)[0].seconds == 1.5


def test_a_correction_changes_its_neighbours(client: Client) -> None:
    person = client.person(RANK_WITH_MASK)
    seen = row_of(client, RANK_WITH_MASK)["person"]
    mask = box(seen["x"], seen["y"], reach=14)
    outcome = client.post("/api/decide", {**person, "verdict": "corrected", "mask": mask})
    own = [one for one in outcome["people"] if one["id"] == person["point_id"]]
    assert own[0]["origin"] == "corrected"
    assert own[0]["mask"] == mask
    assert len(outcome["people"]) > 1
    again = client.post("/api/decide", {**client.person(RANK_WITH_MASK), "verdict": "accepted"})
    # What a person drew stays drawn when somebody accepts it.
    assert again["decision"]["verdict"] == "corrected"
    assert row_of(client, RANK_WITH_MASK)["person"]["mask"] == mask


def test_corrected_against_corrected_is_refused_with_the_reason(client: Client) -> None:
    body = {"split": "train", "image_id": 1, "expected": None, "verdict": "corrected"}
    client.post("/api/decide", {**body, "point_id": 0, "mask": box(20, 20, 12)})
    refused = client.post("/api/decide", {**body, "point_id": 1, "mask": box(40, 20, 12)}, 409)
    assert refused["kind"] == "overlap"
    assert refused["others"] == [0]
    client.post("/api/decide", {**body, "point_id": 1, "mask": box(40, 20, 7)})


def test_two_tabs_do_not_overwrite_each_other(client: Client) -> None:
    person = client.person(RANK_WITH_MASK)
    first = client.post("/api/decide", {**person, "verdict": "accepted"})
    refused = client.post("/api/decide", {**person, "verdict": "rejected"}, 409)
    assert refused["kind"] == "conflict"
    assert refused["current"] == first["decision"]["id"]
    assert refused["verdict"] == "accepted"
    assert "Ann" in refused["error"]


def test_two_servers_hear_of_each_other(client: Client, desk: Desk) -> None:
    with Decisions(desk.run.out) as decisions:
        other = client_of(Desk(desk.run, desk.index, decisions, "Bob"))
        seen = other.person(RANK_WITH_MASK)
        client.post("/api/decide", {**client.person(RANK_WITH_MASK), "verdict": "accepted"})
        (event,) = other.get("/api/events", since=0)["events"]
        assert (event["reviewer"], event["rank"]) == ("Ann", RANK_WITH_MASK)
        assert row_of(other, RANK_WITH_MASK)["person"]["verdict"] == "accepted"
        told = other.post("/api/decide", {**seen, "verdict": "rejected"}, 409)
        assert told["kind"] == "conflict"


def test_the_grid_decides_many_and_tells_of_each(client: Client) -> None:
    drawn = {"split": "train", "image_id": 1, "verdict": "corrected", "expected": None}
    client.post("/api/decide", {**drawn, "point_id": 6, "mask": box(140, 20)})
    items = [{**client.person(rank), "verdict": "accepted"} for rank in (38, 39, 40, 41)]
    items[2]["expected"] = 99
    items.append({**drawn, "point_id": 13, "mask": box(140, 30, 14)})
    items.append({**items[0], "image_id": 1, "split": "train", "point_id": 77})
    results = client.post("/api/decide_many", {"items": items, "source": "grid"})["results"]
    assert [one.get("kind", "written") for one in results] == [
        "written",
        "written",
        "conflict",
        "written",
        "overlap",
        "unknown",
    ]
    assert ranks_of(client, verdict="accepted") == [38, 39, 41]


def test_that_there_is_no_mask_can_be_right(client: Client) -> None:
    client.post("/api/decide", {**client.person(RANK_WITHOUT), "verdict": "accepted"})
    seen = row_of(client, RANK_WITHOUT)["person"]
    assert (seen["verdict"], seen["mask"]) == ("accepted", None)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"verdict": "corrected"}, 422),
        ({"verdict": "added"}, 422),
        ({"verdict": "open"}, 422),
        ({"verdict": "corrected", "mask": box(100, 60)}, 422),
        ({"verdict": "corrected", "mask": box(20, 20), "xy": [999, 999]}, 422),
        ({"verdict": "corrected", "mask": {"x": 0}}, 400),
        ({"verdict": 7}, 400),
        ({"verdict": "accepted", "point_id": 99}, 404),
        ({"verdict": "accepted", "point_id": 2**70}, 400),
        ({"verdict": "accepted", "image_id": 99}, 404),
        ({"verdict": "accepted", "split": "../train"}, 404),
        ({"verdict": "accepted", "source": "elsewhere"}, 400),
        ({"verdict": "accepted", "expected": "1"}, 400),
        ({"verdict": "accepted", "seconds": "long"}, 400),
        ({"verdict": "accepted", "xy": [1]}, 400),
    ],
)
def test_decisions_that_make_no_sense_are_refused(
    client: Client, changes: dict[str, object], status: int
) -> None:
    body = {"split": "train", "image_id": 1, "point_id": 0, "expected": None}
    assert client.post("/api/decide", body | changes, status)["error"]
    assert client.get("/api/progress")["done"] == 0


def test_moving_a_point_keeps_it_in_its_mask(client: Client) -> None:
    body = {"split": "train", "image_id": 1, "point_id": 0, "expected": None}
    body |= {"verdict": "corrected", "mask": box(24, 22), "xy": [23.5, 21.0]}
    outcome = client.post("/api/decide", body)
    (own,) = [one for one in outcome["people"] if one["id"] == 0]
    assert (own["x"], own["y"]) == (23.5, 21.0)


def test_add_a_person_and_take_it_back(client: Client) -> None:
    body = {"split": "train", "image_id": 1, "xy": [30, 30], "mask": box(30, 30, 2)}
    first = client.post("/api/add", body)["decision"]
    assert first["point_id"] == 500_000
    assert client.post("/api/add", body, 409)["kind"] == "overlap"
    undone = client.post("/api/undo", {**first, "expected": first["id"]})
    assert undone["decision"]["verdict"] == "open"
    # The number is not used again.
    second = client.post("/api/add", body)["decision"]
    assert second["point_id"] == 500_001
    window = {"x0": 29, "y0": 29, "x1": 31, "y1": 31}
    people = client.get("/api/people/train/1", **window)["people"]
    assert [(one["id"], one["origin"]) for one in people] == [(500_001, "added")]


def test_a_person_is_added_where_its_mask_is(client: Client) -> None:
    body = {"split": "train", "image_id": 1, "xy": [90, 30], "mask": box(30, 30, 2)}
    assert client.post("/api/add", body, 422)["kind"] == "unfit"
    assert client.post("/api/add", {**body, "xy": None}, 400)


def test_progress_is_of_the_filter(client: Client) -> None:
    assert client.get("/api/progress") == {"total": 42, "done": 0, "left": 42, "per_minute": 0.0}
    for rank in (40, 41):
        client.post("/api/decide", {**client.person(rank), "verdict": "accepted"})
    progress = client.get("/api/progress", mask="with")
    assert (progress["total"], progress["done"], progress["left"]) == (36, 2, 34)
    assert progress["per_minute"] > 0


@pytest.mark.parametrize("verdict", ["rejected", "deleted"])
def test_what_was_rejected_is_seen_and_accepted_after_all(
    client: Client, desk: Desk, verdict: str
) -> None:
    person = client.person(RANK_WITH_MASK)
    mask = row_of(client, RANK_WITH_MASK)["person"]["mask"]
    assert mask is not None
    client.post("/api/decide", {**person, "verdict": verdict})
    shown = row_of(client, RANK_WITH_MASK)["person"]
    assert (shown["mask"], shown["lost"]) == (None, mask)
    again = {**client.person(RANK_WITH_MASK), "verdict": "accepted"}
    client.post("/api/decide", again)
    shown = row_of(client, RANK_WITH_MASK)["person"]
    assert (shown["mask"], shown["lost"]) == (mask, None)
    decision = desk.events(0)[-1]
    assert decision.rle is not None
    assert decision.verdict == "accepted"


def test_the_audit_sample_is_a_filter(desk: Desk) -> None:
    sample = tuple(Person("train", 1, number) for number in (5, 0, 3))
    with Decisions(desk.run.out) as decisions:
        client = client_of(Desk(desk.run, desk.index, decisions, "Ann", sample))
        assert client.get("/api/run")["audit"] == 3
        # In the order of the sample, not worst first.
        ranks = ranks_of(client, audit=1)
        assert [desk.index.person(rank) for rank in ranks] == list(sample)
