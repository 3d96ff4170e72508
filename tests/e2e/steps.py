"""What the tests of the page do again and again."""

from __future__ import annotations

from dpmo_cli.outputs.corrections import Person
from dpmo_cli.review.decision import Decision
from dpmo_cli.review.placed import PlacedMask
from tests.e2e.conftest import Page


def mask_of(decision: Decision) -> PlacedMask:
    assert decision.rle is not None
    mask = PlacedMask.of_rle(decision.rle)
    assert mask is not None
    return mask


def verdicts(page: Page) -> list[str]:
    return [one.verdict for one in page.decisions()]


def next_person(page: Page, before: Person) -> Person:
    page.wait(lambda: page.state("person") and page.person() != before, "the next person")
    return page.person()


def cells(page: Page) -> list[str]:
    """The persons of the grid, once it stands."""
    page.wait(lambda: page.state("page"), "the grid")
    found: list[str] = page.script(
        "return [...document.querySelectorAll('.cell')].map((cell) => cell.dataset.person)"
    )
    return found


def click_cell(page: Page, at: int) -> None:
    page.script("document.querySelectorAll('.cell')[arguments[0]].click()", at)
