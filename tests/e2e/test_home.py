"""A whole review in a real browser: what was clicked is what the exports hold, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.schema import ACCEPTED, ADDED, ADDED_FROM, CORRECTED
from tests.e2e.conftest import Page
from tests.e2e.expected import Expected, Pixels, PlaceXY, compare, line, pixels_of
from tests.e2e.hands import Hand, Keyboard, Mouse
from tests.e2e.steps import cells, next_person

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(480),
    # pycocotools hands numpy its masks in the old way.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

_LISTEN = """
const ask = window.fetch;
window.fetch = async (...asked) => {
  const answer = await ask(...asked);
  if (asked[0] === "/api/prompt") window.drawn = (await answer.clone().json()).mask;
  return answer;
};
"""
"""The page's script goes on as it is; what the network draws is seen by the test too."""


class Review:
    """A review by one hand, and what is to come of it."""

    def __init__(self, page: Page, hand: Hand) -> None:
        self.page, self.hand = page, hand
        self.expected = Expected(page.out)
        self.sources: dict[Person, str] = {}
        self.page.script(_LISTEN)

    def choose(self, split: str) -> None:
        self.hand.choose(split)
        self.page.wait(lambda: (self.page.state("person") or "").startswith(split), "the split")

    def press(self, action: str) -> Person:
        """Decide about who is looked at, and wait for the next one."""
        person, count = self.page.person(), len(self.page.decisions())
        self.hand.press(action)
        self.page.decided(count + 1)
        next_person(self.page, person)
        return person

    def accept(self) -> Person:
        person = self.press("accept")
        self.sources[person] = ACCEPTED
        return person

    def remove(self, action: str) -> None:
        self.expected.gone(self.press(action))

    def click(self) -> None:
        """Have the network draw a mask."""
        x, y = self.hand.pixel()
        person = self.page.person()
        self.hand.press("plus")
        mask = self._asked((x + 1, y), self.expected.blank(person))
        assert mask[y, x]
        assert (mask != self.expected.standing(person)).any()
        self._corrected(person, mask)

    def paint(self) -> None:
        """Draw a line with the brush, and take a pixel of it away with the eraser."""
        person = self.page.person()
        places = self._free_line(self.hand.pixel())
        self.hand.press("brush")
        self.hand.smallest_brush()
        self.hand.draw(*places)
        self.hand.press("eraser")
        self.hand.draw(places[3])
        mask = line(places, self.expected.standing(person))
        self._corrected(person, line(places[3:4], mask, on=False))

    def add(self) -> Person:
        """Add a person beside one, drawn by the network and by hand."""
        near, count = self.page.person(), len(self.page.decisions())
        x, y = self.hand.pixel()
        places = self._free_line((x + 3, y - 4))
        self.hand.press("add")
        mask = self._asked(places[0], self.expected.blank(near))
        self.hand.press("brush")
        self.hand.smallest_brush()
        self.hand.draw(*places)
        self.hand.press("accept")
        person = self.page.decided(count + 1)[-1].person
        assert person == Person(near.split, near.image_id, ADDED_FROM)
        self.expected.drawn(person, line(places, mask))
        self.sources[person] = ADDED
        return near

    def undo(self, person: Person) -> None:
        """Take the last decision back, about a person who is shown then, and go on."""
        count = len(self.page.decisions())
        self.hand.press("undo")
        self.page.decided(count + 1)
        self.page.wait(lambda: self.page.person() == person, "the person undone")
        self.page.wait(lambda: self.page.text("#verdict") == "open", "the state")
        self.go_on()

    def go_on(self) -> None:
        person = self.page.person()
        self.hand.press("next")
        next_person(self.page, person)

    def _asked(self, place: PlaceXY, blank: Pixels) -> Pixels:
        """What the network draws where the tool was used."""
        count = int(self.page.state("prompts") or 0)
        self.hand.draw(place)
        self.page.answered(count + 1)
        self.page.drafted()
        shown: dict[str, Any] | None = self.page.script("return window.drawn")
        return pixels_of(shown, blank)

    def _corrected(self, person: Person, mask: Pixels) -> None:
        assert self.press("accept") == person
        self.expected.drawn(person, mask)
        self.sources[person] = CORRECTED

    def _free_line(self, start: PlaceXY) -> list[PlaceXY]:
        """Seven pixels in a row that nobody has drawn."""
        x, y = start
        taken = self.expected.drawn_by_others(self.page.person())
        for across, down in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            places = [(x + step * across, y + step * down) for step in range(7)]
            if not any(taken[place[1], place[0]] for place in places):
                return places
        raise AssertionError("no room to draw")


@pytest.mark.parametrize("kind", [Mouse, Keyboard], ids=["mouse", "keys"])
def test_what_was_clicked_is_what_is_exported(page: Page, tmp_path: Path, kind: type[Hand]) -> None:
    hand = kind(page)
    review = Review(page, hand)
    review.choose("train")
    review.accept()
    review.remove("reject")
    review.click()
    review.paint()
    review.remove("remove")
    review.undo(review.press("reject"))
    # A corrected mask that is taken back gives its neighbours their pixels again.
    person = page.person()
    review.paint()
    review.undo(person)
    review.expected.undrawn(person)
    del review.sources[person]
    review.add()
    review.go_on()
    review.choose("val")
    review.accept()
    page.open()
    page.wait(lambda: (page.state("person") or "").startswith("val"), "the list again")
    review.remove("reject")
    _grid(review)
    compare(page.out, tmp_path, review.expected, review.sources)


def _grid(review: Review) -> None:
    """Take back a page of the grid; then mark two, and mend these."""
    page, hand = review.page, review.hand
    hand.press("grid")
    shown = cells(page)
    count = len(page.decisions())
    hand.mark(5)
    hand.press("reject the marked")
    page.decided(count + len(shown))
    page.wait(lambda: cells(page) != shown, "the next page")
    hand.press("undo")
    page.decided(count + 2 * len(shown))
    page.wait(lambda: cells(page) == shown, "the page undone")
    hand.mark(3)
    hand.mark(11)
    hand.press("accept")
    page.decided(count + 3 * len(shown) - 2)
    marked = {_person(shown[3]), _person(shown[11])}
    review.sources |= {one: ACCEPTED for one in map(_person, shown) if one not in marked}
    page.wait(lambda: "Mend list (2)" in page.text(".foot"), "the mend list")
    hand.press("mend")
    page.wait(lambda: page.text("#place") == "1 of 2", "the mend list")
    assert page.person() in marked
    review.remove("reject")
    assert page.person() in marked
    person, count = page.person(), len(page.decisions())
    hand.press("remove")
    page.decided(count + 1)
    review.expected.gone(person)


def _person(name: str) -> Person:
    split, image_id, point_id = name.split("/")
    return Person(split, int(image_id), int(point_id))
