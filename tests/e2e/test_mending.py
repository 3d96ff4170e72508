"""A person mends masks, points and people on the page, in a real browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from dpmo_cli.outputs.corrections import Person
from dpmo_cli.review.placed import parse_mask
from tests.e2e.conftest import SCENES, Page, annotations_of, run_dpmo, start_server
from tests.e2e.steps import mask_of, next_person

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_clicks_ask_the_network_again(page: Page) -> None:
    person = page.person()
    before = page.row(person)
    page.keys("2")
    page.stroke((before["x"] + 1, before["y"]))
    page.answered(1)
    page.drafted()
    # A click on what is not the person, and back to one click.
    page.stroke((before["x"], before["y"] + before["r"] * 0.8), shift=True)
    page.answered(2)
    page.keys("u")
    page.drafted()
    page.keys("a")
    (found,) = page.decided(1)
    assert (found.person, found.verdict) == (person, "corrected")
    assert mask_of(found).holds(round(before["x"]), round(before["y"]))
    next_person(page, person)
    page.keys("k")
    page.wait(lambda: page.person() == person, "back")
    assert page.text("#verdict") == "corrected"
    assert page.row(person)["origin"] == "corrected"


def test_a_click_answers_quickly(page: Page) -> None:
    seen = page.row(page.person())
    page.keys("2")
    for number, (dx, dy) in enumerate(((0, 0), (1, 0), (0, 1), (-1, 0)), start=1):
        page.stroke((seen["x"] + dx, seen["y"] + dy))
        page.answered(number)
    # On an idle machine it takes about 60 ms; the limit is for a busy one.
    assert float(page.state("click") or "inf") < 1500


def test_an_answer_that_comes_late_is_not_the_next_person_s(page: Page) -> None:
    page.script(
        "const ask = window.fetch; window.fetch = async (...asked) => {"
        " if (asked[0] === '/api/prompt') await new Promise((done) => setTimeout(done, 1000));"
        " return ask(...asked); };"
    )
    first = page.person()
    seen = page.row(first)
    page.keys("2")
    page.stroke((seen["x"], seen["y"]))
    page.keys("j")
    second = next_person(page, first)
    seen = page.row(second)
    page.keys("4")
    page.stroke((seen["x"], seen["y"]), (seen["x"] + 4, seen["y"]))
    page.answered(1)
    page.keys("a")
    (found,) = page.decided(1)
    assert found.person == second
    x, y = round(seen["x"]), round(seen["y"])
    assert all(mask_of(found).holds(x + step, y) for step in range(4))


def test_the_brush_fits_the_person_until_somebody_chooses_one(page: Page) -> None:
    first = page.person()
    fitting = round(0.3 * page.row(first)["r"])
    assert page.text("#size-words") == f"{2 * fitting + 1} px"
    page.keys("]")
    page.keys("j")
    next_person(page, first)
    assert page.text("#size-words") == f"{2 * fitting + 3} px"


def test_who_would_keep_no_mask_is_named(page: Page) -> None:
    person = page.person()
    x, y = (round(page.row(person)[name]) for name in "xy")
    others = [one for one in page.people(person) if one["id"] != person.point_id]
    masked = [one for one in others if one["mask"] and one["drawn"]]
    near = min(masked, key=lambda one: (one["x"] - x) ** 2 + (one["y"] - y) ** 2)
    page.keys("4")
    page.stroke((x, y), (near["x"], near["y"]))
    page.wait(lambda: "no mask" in page.text("#hint"), "the warning")
    page.keys("a")
    page.decided(1)
    assert page.row(Person(person.split, person.image_id, near["id"]))["mask"] is None


def test_brush_and_eraser_draw_what_is_saved(page: Page) -> None:
    person = page.person()
    seen = page.row(person)
    x, y, reach = round(seen["x"]), round(seen["y"]), max(6, round(seen["r"]))
    page.keys("4")
    page.stroke((x, y), (x + reach, y))
    page.drafted()
    page.keys("5", *"[[[[[[")
    page.stroke((x + reach, y))
    page.keys("a")
    (found,) = page.decided(1)
    mask = mask_of(found)
    assert found.verdict == "corrected"
    assert all(mask.holds(x + step, y) for step in range(reach))
    assert not mask.holds(x + reach, y)
    next_person(page, person)
    # The neighbours have yielded: nobody else has one of its pixels.
    size_hw = (found.rle or {"size": [0, 0]})["size"]
    for other in page.people(person):
        if other["id"] != person.point_id and other["mask"]:
            theirs = parse_mask(other["mask"], (size_hw[0], size_hw[1]))
            assert mask.within(theirs) is None


def test_a_drawn_mask_is_not_painted_over(page: Page) -> None:
    first = page.person()
    seen = page.row(first)
    x, y = round(seen["x"]), round(seen["y"])
    page.keys("4")
    page.stroke((x, y), (x + 8, y))
    page.keys("a")
    page.decided(1)
    next_person(page, first)
    page.keys("k")
    page.wait(lambda: page.person() == first, "back")
    others = [one for one in page.people(first) if one["id"] != first.point_id]
    near = min(others, key=lambda one: (one["x"] - x) ** 2 + (one["y"] - y) ** 2)
    # A click on a neighbour's point goes there.
    page.keys("1")
    page.stroke((near["x"], near["y"]))
    page.wait(lambda: page.person().point_id == near["id"], "the neighbour")
    page.keys("4")
    page.stroke((near["x"], near["y"]), (x + 2, y))
    page.wait(lambda: "a person drew" in page.text("#hint"), "the warning")
    page.keys("a")
    page.wait(lambda: "overlaps" in page.text("#hint"), "the refusal")
    assert len(page.decisions()) == 1
    page.keys(Keys.ESCAPE)
    page.wait(lambda: page.text("#verdict") == "open", "no draft")


def test_move_a_point(page: Page) -> None:
    seen = page.row(page.person())
    place = (round(seen["x"]) + 2, round(seen["y"]) + 1)
    page.keys("6")
    page.stroke(place)
    page.drafted()
    page.keys("4")
    page.stroke(place)
    page.keys("a")
    (found,) = page.decided(1)
    assert found.verdict == "corrected"
    assert found.point_xy == pytest.approx(place, abs=0.6)
    assert found.seen_xy == pytest.approx((seen["x"], seen["y"]))


def test_add_a_person_and_take_it_back(page: Page) -> None:
    person = page.person()
    seen = page.row(person)
    place = (round(seen["x"]) + 6, round(seen["y"]) - 6)
    page.keys("7")
    page.stroke(place)
    page.answered(1)
    page.keys("4")
    page.stroke(place)
    page.keys("a")
    (found,) = page.decided(1)
    assert (found.verdict, found.person.point_id) == ("added", 500_000)
    assert found.point_xy == pytest.approx(place, abs=0.6)
    assert mask_of(found).holds(*place)
    assert page.person() == person
    page.keys("u")
    assert page.decided(2)[1].verdict == "open"
    page.wait(lambda: all(one["id"] < 500_000 for one in page.people(person)), "nobody added")


def test_add_a_person_to_a_photo_without_points(page: Page, tmp_path: Path) -> None:
    root, out = tmp_path / "root", tmp_path / "bare"
    (root / "images").mkdir(parents=True)
    for name in ("scene_0001.jpg", "scene_0002.jpg"):
        shutil.copy(SCENES / "images" / name, root / "images" / name)
    (root / "points.csv").write_text(
        "image,x,y\nimages/scene_0001.jpg,200,200\nimages/scene_0002.jpg,,\n"
    )
    run_dpmo("convert", "--dataset", "csv", "--root", root, "--out", out, "--quiet")
    process, address = start_server(out, "Ann")
    bare = Page(page.driver, out, address)
    try:
        bare.fresh()
        bare.keys("f")
        assert "scene_0002" in bare.text("#unmarked")
        bare.script("document.getElementById('unmarked').selectedIndex = 1")
        bare.script("document.getElementById('filter').requestSubmit()")
        bare.wait(lambda: "scene_0002" in bare.text("#image-name"), "the photo")
        # Nobody is here to decide about.
        bare.keys(*"arx4")
        bare.stroke((250, 180))
        bare.wait(lambda: "add a person first" in bare.text("#hint"), "the hint")
        assert bare.decisions() == []
        bare.keys("7")
        bare.stroke((250, 180))
        bare.answered(1)
        bare.keys("4")
        bare.stroke((250, 180), (256, 180))
        bare.keys("a")
        (found,) = bare.decided(1)
        assert (found.verdict, found.image) == ("added", "images/scene_0002.jpg")
        bare.keys("u")
        assert bare.decided(2)[1].verdict == "open"
        bare.keys("7")
        bare.stroke((250, 180))
        bare.answered(2)
        bare.keys("4")
        bare.stroke((250, 180), (256, 180))
        bare.keys("a")
        last = bare.decided(3)[2]
        bare.keys("j")
        bare.wait(lambda: "scene_0001" in bare.text("#image-name"), "the list again")
        assert bare.problems() == []
    finally:
        bare.leave()
        process.kill()
        process.communicate()
    run_dpmo("review", "apply", out)
    run_dpmo("validate", out)
    made = [one for one in annotations_of(out, "all").values() if "source" in one["attributes"]]
    assert [one["segmentation"] for one in made if one["image_id"] == 2] == [last.rle]
