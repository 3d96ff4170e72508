"""Photos without points: they are listed, and people can be added to them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpmo_cli.outputs.schema import ADDED_FROM
from dpmo_cli.review.decisions import Decisions
from dpmo_cli.review.desk import Desk
from dpmo_cli.review.run_index import open_run
from tests.review.conftest import client_of
from tests.review.runs import draw_run
from tests.review.test_app import box


@pytest.mark.parametrize("images", [0, 2])
def test_images_without_points_are_known(images: int, tmp_path: Path) -> None:
    """After those with points; where there are none, alone."""
    out, _ = draw_run(tmp_path, images=images, bare=2)
    index = open_run(out)[1]
    names = {one.file_name for one in index.unmarked}
    assert names == {f"images/photo {number}.jpg" for number in (images + 1, images + 2)}
    assert all(one.size_hw == (20, 160) for one in index.unmarked)
    assert [one.file_name for one in index.images[images:]] == [n.file_name for n in index.unmarked]
    assert index.crowd.tolist() == [21] * images + [0, 0]
    assert index.photo(index.unmarked[0].split, index.unmarked[0].image_id) is not None
    assert len(index) == 21 * images


def test_a_person_is_added_to_a_photo_without_points(tmp_path: Path) -> None:
    out, _ = draw_run(tmp_path, bare=1)
    run, index = open_run(out)
    with Decisions(out) as decisions:
        client = client_of(Desk(run, index, decisions, "Ann"))
        (photo,) = client.get("/api/run")["unmarked"]
        assert photo == {
            "split": "train", "image_id": 3, "image": "images/photo 3.jpg", "width": 160,
            "height": 20,
        }  # fmt: skip
        where = f"/api/people/{photo['split']}/{photo['image_id']}"
        window = {"x0": 0, "y0": 0, "x1": 160, "y1": 20}
        assert client.get(where, **window) == {"detailed": True, "people": []}
        body = {"split": "train", "image_id": 3, "xy": [50, 9], "mask": box(50, 9)}
        outcome = client.post("/api/add", body)
        assert outcome["decision"]["rank"] is None
        (shown,) = client.get(where, **window)["people"]
        assert (shown["id"], shown["verdict"]) == (ADDED_FROM, "added")
        # The photo stays on the list of those without a point of their own.
        assert client.get("/api/run")["unmarked"] == [photo]
