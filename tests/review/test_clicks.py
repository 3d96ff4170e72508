"""Clicks that the server is asked to answer with a mask."""

from __future__ import annotations

import pytest

from tests.review.conftest import Client


def test_clicks_need_the_weights_of_the_run(client: Client) -> None:
    body = {"split": "train", "image_id": 1, "point_id": 0, "clicks": [[21, 20, 1]]}
    refused = client.post("/api/prompt", body, 503)
    assert refused["kind"] == "no_clicks"
    assert "nano" in refused["error"]
    assert client.post("/api/prepare", body, 503)["kind"] == "no_clicks"
    # All else works on.
    client.post("/api/decide", {**client.person(40), "verdict": "accepted"})


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"clicks": [[1, 2]]}, 400),
        ({"clicks": [[1, 2, 1]] * 65}, 400),
        ({"clicks": [[1, 2, "on"]]}, 400),
        ({"clicks": [[-5, 2, 1]]}, 422),
        ({"point_id": 99}, 404),
        ({"point_id": None}, 400),
        ({"point_id": None, "xy": [999, 1]}, 422),
    ],
)
def test_clicks_that_make_no_sense_are_refused(
    client: Client, changes: dict[str, object], status: int
) -> None:
    body = {"split": "train", "image_id": 1, "point_id": 0, "clicks": []}
    assert client.post("/api/prompt", body | changes, status)["error"]
