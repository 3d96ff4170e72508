"""A person reviews a run of the example scenes, in a real browser."""

from __future__ import annotations

from collections import Counter

import pytest
from selenium.webdriver.common.keys import Keys

from tests.e2e.conftest import SIZE, Page, run_dpmo, screen_of, start_server
from tests.e2e.steps import cells, click_cell, mask_of, next_person, verdicts

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def test_accept_reject_nobody_and_undo(page: Page) -> None:
    persons = [page.person()]
    for count, key in enumerate("arx", start=1):
        page.keys(key)
        page.decided(count)
        persons.append(next_person(page, persons[-1]))
    found = page.decisions()
    assert [one.person for one in found] == persons[:3]
    assert verdicts(page) == ["accepted", "rejected", "deleted"]
    assert all(one.reviewer == "Ann" and one.seconds is not None for one in found)
    page.wait(lambda: page.text("#progress-words").startswith("3 done"), "the progress")
    for number, person in enumerate(reversed(persons[:3]), start=4):
        page.keys("u")
        page.decided(number)
        page.wait(lambda person=person: page.person() == person, "the person undone")
    assert verdicts(page)[3:] == ["open"] * 3
    page.wait(lambda: page.text("#verdict") == "open", "the state")


def test_walk_there_and_back(page: Page) -> None:
    first = page.person()
    page.keys("j")
    second = next_person(page, first)
    page.keys(Keys.ARROW_RIGHT)
    third = next_person(page, second)
    page.keys("k")
    next_person(page, third)
    page.keys(Keys.ARROW_LEFT)
    page.wait(lambda: page.person() == first, "the first person")
    assert page.text("#place").startswith("1 of ")
    assert page.decisions() == []


def test_the_grid_fits_the_screen_and_accepts_all_but_the_marked(page: Page) -> None:
    page.keys("g")
    shown = cells(page)
    assert len(shown) == 50
    assert page.script("return document.documentElement.scrollHeight") <= SIZE[1]
    lowest = page.script(
        "return Math.max(...[...document.querySelectorAll('.cell')]"
        ".map((cell) => cell.getBoundingClientRect().bottom))"
    )
    foot = page.script("return document.querySelector('.foot').getBoundingClientRect().top")
    assert lowest <= foot
    for at in (3, 17, 44, 44):
        click_cell(page, at)
    page.keys("a")
    found = page.decided(48)
    marked = {shown[3], shown[17]}
    decided = {f"{d.person.split}/{d.person.image_id}/{d.person.point_id}" for d in found}
    assert decided == set(shown) - marked
    assert {(one.verdict, one.source) for one in found} == {("accepted", "grid")}
    # The marked wait in the mend list, which is worked off one by one.
    page.wait(lambda: "Mend list (2)" in page.text(".foot"), "the mend list")
    page.keys("m")
    page.wait(lambda: page.text("#place") == "1 of 2", "the mend list")
    assert page.state("person") in marked
    page.keys("r")
    page.decided(49)
    page.wait(lambda: page.text("#place") == "2 of 2", "the other one")
    assert page.state("person") in marked


def test_the_grid_rejects_the_marked_and_takes_a_page_back(page: Page) -> None:
    page.keys("g")
    shown = cells(page)
    click_cell(page, 7)
    page.keys("R")
    found = page.decided(50)
    assert Counter(one.verdict for one in found) == {"accepted": 49, "rejected": 1}
    (rejected,) = [one.person for one in found if one.verdict == "rejected"]
    assert f"{rejected.split}/{rejected.image_id}/{rejected.point_id}" == shown[7]
    page.wait(lambda: not (page.state("page") or "").startswith("0:"), "the next page")
    page.keys("u")
    page.decided(100)
    assert Counter(verdicts(page)[50:]) == {"open": 50}


def test_a_late_answer_moves_nobody_who_has_walked_on(page: Page) -> None:
    page.script(
        "const ask = window.fetch; window.fetch = async (...asked) => {"
        " if (asked[0] === '/api/decide') await new Promise((done) => setTimeout(done, 1000));"
        " return ask(...asked); };"
    )
    first = page.person()
    page.keys("a", "j")
    second = next_person(page, first)
    page.decided(1)
    page.wait(lambda: page.text("#progress-words").startswith("1 done"), "the progress")
    assert page.person() == second


def test_a_reload_loses_nothing(page: Page) -> None:
    first = page.person()
    page.keys("a")
    page.decided(1)
    second = next_person(page, first)
    page.open()
    page.wait(lambda: page.state("person"), "a person")
    assert page.person() == second
    page.filter(verdict="accepted")
    page.wait(lambda: page.person() == first, "the accepted one")
    # The filter is kept too.
    page.open()
    page.wait(lambda: page.state("person"), "a person")
    assert page.person() == first
    assert "accepted" in page.text("#filter-words")


def test_filters_choose(page: Page) -> None:
    reason = page.api("/api/run")["reasons"][0]
    page.filter(reason=reason["name"])
    page.wait(lambda: page.text("#place") == f"1 of {reason['count']}", "the reason")
    assert reason["name"].replace("_", " ") in page.text("#reasons")
    page.filter(reason="", split="val")
    page.wait(lambda: (page.state("person") or "").startswith("val/"), "the split")
    page.filter(split="", image="scene_0001")
    page.wait(lambda: "scene_0001" in page.text("#image-name"), "the image")
    page.filter(image="", score_min="0.9")
    page.wait(lambda: "score 0.9" in page.text("#facts"), "the score")
    page.filter(score_min="", image="no such image")
    page.wait(lambda: "No mask fits" in page.text("#empty-one"), "nothing")
    # Where nobody is, no key decides.
    page.keys(*"arxjkug")
    page.keys("a")
    assert page.decisions() == []


def test_without_a_mouse(page: Page) -> None:
    """Help, look, mend, decide, filter and grid with keys alone."""
    person = page.person()
    seen = page.row(person)
    page.keys("?")
    page.wait(lambda: page.script("return document.getElementById('help').open"), "the help")
    assert "Brush" in page.text("#help-keys")
    page.keys(Keys.ESCAPE)
    page.wait(lambda: not page.script("return document.getElementById('help').open"), "no help")
    page.keys(*"od+-0")
    page.keys("4", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, " ")
    page.drafted()
    page.keys(Keys.ENTER)
    (found,) = page.decided(1)
    assert (found.person, found.verdict) == (person, "corrected")
    assert mask_of(found).holds(round(seen["x"]) + 2, round(seen["y"]) + 1)
    second = next_person(page, person)
    page.keys("2", Keys.ARROW_UP, " ")
    page.answered(1)
    page.keys(Keys.ESCAPE, "1")
    page.keys("f")
    page.keys(Keys.TAB * 4, "scene_0001", Keys.ENTER)
    page.wait(lambda: page.script("return document.getElementById('filter').hidden"), "no filter")
    page.wait(lambda: page.text("#place").startswith("1 of "), "the filtered list")
    assert "scene_0001" in page.text("#image-name")
    third = page.person()
    page.keys("r")
    assert page.decided(2)[1].person == third
    page.keys("f")
    page.keys(Keys.TAB * 4, Keys.CONTROL + "a" + Keys.NULL, Keys.DELETE, Keys.ENTER)
    page.wait(lambda: page.person() == second, "the whole list")
    page.keys("g")
    assert len(cells(page)) == 50
    page.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_DOWN, " ")
    pressed = "return document.querySelector('.cell[aria-pressed=\"true\"]').dataset.at"
    assert page.script(pressed) == "11"
    assert page.script("return document.activeElement.dataset.at") == "11"
    page.keys("a")
    assert Counter(one.source for one in page.decided(51)) == {"page": 2, "grid": 49}


def test_a_button_that_nobody_sees_takes_no_keys(page: Page) -> None:
    """Between the help's end and the next frame the focus is still on its button."""
    page.keys("4")
    took = page.script(
        "const help = document.getElementById('help'); help.showModal(); help.close();"
        "const button = document.activeElement;"
        "button.dispatchEvent(new KeyboardEvent('keydown', {key: ' ', bubbles: true}));"
        "return button.textContent"
    )
    assert took == "Close"
    page.drafted()


def test_all_that_can_be_pressed_has_a_name(page: Page) -> None:
    page.keys("g")
    cells(page)
    nameless = page.script(
        "return [...document.querySelectorAll('button, input, select, canvas[tabindex], [role]')]"
        ".filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim()"
        " || one.labels?.length || one.getAttribute('role') === 'status'))"
        ".map((one) => one.outerHTML)"
    )
    assert nameless == []


def test_two_reviewers_do_not_overwrite_each_other(page: Page) -> None:
    process, address = start_server(page.out, "Bob")
    tab = page.driver.current_window_handle
    try:
        page.driver.switch_to.new_window("tab")
        screen_of(page.driver)
        other = Page(page.driver, page.out, address)
        other.open()
        person = other.person()
        page.driver.switch_to.window(tab)
        assert page.person() == person
        page.keys("a")
        page.decided(1)
        page.driver.switch_to.window(page.driver.window_handles[-1])
        other.keys("r")
        other.wait(lambda: "Ann" in other.text("#toasts"), "the news")
        other.wait(lambda: other.text("#verdict") == "accepted by Ann", "the state")
        assert verdicts(page) == ["accepted"]
        assert other.problems() == []
    finally:
        page.driver.close()
        page.driver.switch_to.window(tab)
        process.kill()
        process.communicate()


def test_a_server_of_an_applied_run_shows_what_was_decided(page: Page) -> None:
    corrected = page.person()
    seen = page.row(corrected)
    page.keys("4")
    page.stroke((seen["x"], seen["y"]), (seen["x"] + 9, seen["y"]))
    page.drafted()
    page.keys("a")
    rejected = next_person(page, corrected)
    page.keys("r")
    deleted = next_person(page, rejected)
    page.keys("x")
    drawn, *_ = page.decided(3)
    run_dpmo("review", "apply", page.out)
    process, address = start_server(page.out, "Bob")
    again = Page(page.driver, page.out, address)
    try:
        again.fresh()
        again.filter(verdict="corrected")
        again.wait(lambda: again.state("person") and again.person() == corrected, "the corrected")
        assert again.text("#verdict") == "corrected by Ann"
        assert again.row(corrected)["mask"] == mask_of(drawn).as_json()
        for person in (rejected, deleted):
            assert again.row(person)["mask"] is None
    finally:
        again.leave()
        process.kill()
        process.communicate()


def test_the_page_says_when_the_server_is_gone(page: Page) -> None:
    process, address = start_server(page.out, "Ann")
    lost = Page(page.driver, page.out, address)
    lost.open()
    process.kill()
    process.communicate()
    lost.keys("a")
    lost.wait(lambda: "does not answer" in lost.text("#gone"), "the news")
    assert lost.decisions() == []
    # Chromium logs the lost connection.
    lost.leave()
    page.driver.get_log("browser")
