"""Live clicks with nano: the run's own masks again, and what clicks may and may not do."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import dpmo_cli
from dpmo_cli.geometry.nnec import disc_mask
from dpmo_cli.review import prompts
from dpmo_cli.review.decisions import Decisions
from dpmo_cli.review.desk import Desk
from dpmo_cli.review.people import ShownPerson
from dpmo_cli.review.placed import PlacedMask
from dpmo_cli.review.prompts import NoClicksError, Prompter
from dpmo_cli.review.run_index import ShownPhoto, open_run
from dpmo_cli.review.wishes import UnfitError, Wish
from tests.conftest import Dpmo

SCENES = Path(dpmo_cli.__file__).parent / "trials" / "scenes"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the run is kept between the tests of this file."""
    return tmp_path_factory.mktemp("scene") / "out"


@pytest.fixture
def nano_desk(converted: Path, dpmo: Dpmo, tmp_path: Path) -> Iterator[Desk]:
    """A desk on a run of nano on one example scene."""
    if not converted.exists():
        options = ("--split", "val", "--limit", "1", "--quiet")
        assert dpmo("convert", "--root", SCENES, "--out", converted, *options).code == 0
    shutil.copytree(converted, tmp_path / "out")
    run, index = open_run(tmp_path / "out")
    with Decisions(tmp_path / "out") as decisions:
        yield Desk(run, index, decisions, "Ann")


def frame(desk: Desk, mask: PlacedMask | None) -> NDArray[np.bool_]:
    pixels = np.zeros(desk.photo("val", 1).shape[:2], dtype=np.bool_)
    if mask is not None:
        x0, y0, x1, y1 = mask.window_xyxy
        pixels[y0:y1, x0:x1] = mask.pixels
    return pixels


def draw(desk: Desk, shown: ShownPerson, *clicks: tuple[float, float, bool]) -> NDArray[np.bool_]:
    """What clicks on a person give."""
    photo = desk.index.images[0]
    return frame(desk, desk.ask(photo, shown.person.point_id, None, clicks).result(60).mask)


def test_without_clicks_the_run_is_repeated(nano_desk: Desk) -> None:
    overlaps = []
    for rank in range(0, len(nano_desk.index), 4):
        _, shown = nano_desk.row(rank)
        ours, theirs = draw(nano_desk, shown), frame(nano_desk, shown.mask)
        overlaps.append((ours & theirs).sum() / (ours | theirs).sum())
    assert np.mean(overlaps) > 0.98
    assert min(overlaps) > 0.8


def test_clicks_lead_the_mask(nano_desk: Desk) -> None:
    _, shown = nano_desk.row(len(nano_desk.index) // 2)
    plain = draw(nano_desk, shown)
    x, y = shown.xy
    assert shown.radius_px is not None
    disc = disc_mask(np.array([x, y]), shown.radius_px, (0, 0, plain.shape[1], plain.shape[0]))
    assert not (plain & ~disc).any()
    # The farthest pixel that the mask has is said not to be the person's.
    rows, columns = np.nonzero(plain)
    far = np.hypot(columns - x, rows - y).argmax()
    fewer = draw(nano_desk, shown, (float(columns[far]), float(rows[far]), False))
    assert fewer.sum() < plain.sum()
    # A click outside the disc widens it, and no farther than it has to.
    reach = 1.5 * shown.radius_px
    wider = draw(nano_desk, shown, (x, y + reach, True))
    allowed = disc_mask(np.array([x, y]), 1.25 * reach + 1, (0, 0, *plain.shape[::-1]))
    assert not (wider & ~allowed).any()


def test_drawn_pixels_of_others_are_never_taken(nano_desk: Desk) -> None:
    photo, shown = nano_desk.row(len(nano_desk.index) // 2)
    plain = draw(nano_desk, shown)
    others = [nano_desk.row(rank)[1] for rank in range(len(nano_desk.index))]
    others = [one for one in others if one.person != shown.person]
    near = min(others, key=lambda one: np.hypot(*np.subtract(one.xy, shown.xy)))
    rows, columns = np.nonzero(plain)
    half = columns > np.median(columns)
    taken = np.zeros_like(plain)
    taken[rows[half], columns[half]] = True
    taken |= frame(nano_desk, near.mask)
    taken[round(shown.xy[1]), round(shown.xy[0])] = False
    mask = PlacedMask.of_pixels(taken, (0, 0, *plain.shape[::-1]))
    assert mask is not None
    nano_desk.decide(Wish(near.person, "corrected", None, mask), "page")
    again = draw(nano_desk, shown)
    assert not (again & taken).any()
    assert isinstance(photo, ShownPhoto)


def test_a_new_person_is_drawn_at_a_point(nano_desk: Desk) -> None:
    photo, shown = nano_desk.row(0)
    place = (shown.xy[0] + 2.0, shown.xy[1] + 2.0)
    mask = nano_desk.ask(photo, None, place, ()).result(60).mask
    assert mask is None or mask.pixels.any()
    with pytest.raises(UnfitError, match="outside"):
        nano_desk.ask(photo, None, (-1.0, 3.0), ())


def test_large_weights_are_not_loaded_unasked(
    nano_desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, shown = nano_desk.row(0)
    monkeypatch.setattr(prompts, "UNASKED_BYTES", 1)
    assert not nano_desk.prepare(photo, shown.person.point_id, unasked=True).result(60)
    assert nano_desk._prompter._engine is None
    assert nano_desk.prepare(photo, shown.person.point_id).result(60)
    # What is loaded is used.
    assert nano_desk.prepare(photo, shown.person.point_id, unasked=True).result(60)


def test_the_same_tile_is_encoded_once(nano_desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    _, shown = nano_desk.row(3)
    photo = nano_desk.index.images[0]
    nano_desk.prepare(photo, shown.person.point_id).result(60)
    engine = nano_desk._prompter._engine
    assert engine is not None

    def fail(*_: object) -> None:
        raise AssertionError("encoded again")

    monkeypatch.setattr(engine, "encode", fail)
    assert draw(nano_desk, shown).any()
    assert draw(nano_desk, shown, (*shown.xy, True)).any()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weights_sha256": "0" * 64}, "are not here"),
        ({"sam": "vit_h"}, "no clicks"),
        ({"sam": "unheard-of"}, "no clicks"),
    ],
)
def test_other_weights_answer_no_clicks(
    nano_desk: Desk, settings: dict[str, str], words: str
) -> None:
    run = replace(nano_desk.run, settings={**nano_desk.run.settings, **settings}, checkpoint=None)
    photo, shown = nano_desk.row(0)
    asked = nano_desk._asked(photo, shown.person.point_id, None, ())
    with pytest.raises(NoClicksError, match=words):
        Prompter(run).ask(asked).result(60)
