"""A reviewer's hands: one works with the mouse, the other with the keys alone."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from tests.e2e.conftest import Page
from tests.e2e.expected import SPLITS, PlaceXY

_KEYS = {
    "accept": "a",
    "reject": "r",
    "reject the marked": "R",
    "remove": "x",
    "undo": "u",
    "next": "j",
    "mend": "m",
    "grid": "g",
    "plus": "2",
    "brush": "4",
    "eraser": "5",
    "add": "7",
}
_BUTTONS = {
    "grid": "#to-grid",
    "reject the marked": '#grid [data-do="reject"]',
    **{tool: f'[data-tool="{tool}"]' for tool in ("plus", "brush", "eraser", "add")},
}


class Hand(ABC):
    """What a reviewer does on the page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    def pixel(self) -> PlaceXY:
        """The pixel of the point of who is looked at."""
        seen = self.page.row(self.page.person())
        return math.floor(seen["x"] + 0.5), math.floor(seen["y"] + 0.5)

    @abstractmethod
    def press(self, action: str) -> None:
        """Decide, walk, choose a tool, or go to the grid."""

    @abstractmethod
    def draw(self, *places_xy: PlaceXY) -> None:
        """Use the tool on pixels side by side."""

    @abstractmethod
    def smallest_brush(self) -> None:
        """Have the brush and the eraser one pixel large."""

    @abstractmethod
    def mark(self, at: int) -> None:
        """Mark a crop of the grid."""

    @abstractmethod
    def choose(self, split: str) -> None:
        """Show the rows of a split that have a mask."""


class Mouse(Hand):
    """Presses the page's buttons, and draws on the photo."""

    def press(self, action: str) -> None:
        hidden = self.page.script("return document.getElementById('one').hidden")
        view = "#grid" if hidden else "#one"
        self._click(_BUTTONS.get(action, f'{view} [data-do="{action}"]'))

    def draw(self, *places_xy: PlaceXY) -> None:
        self.page.stroke(*places_xy)

    def smallest_brush(self) -> None:
        slider = self._found("#size")
        left = 2 - slider.size["width"] // 2
        chain = ActionChains(self.page.driver, duration=0)
        chain.move_to_element_with_offset(slider, left, 0).click().perform()

    def mark(self, at: int) -> None:
        self._click(f'.cell[data-at="{at}"]')

    def choose(self, split: str) -> None:
        self._click("#filter-button")
        self._click(f'[name="split"] option[value="{split}"]')
        self._click('[name="mask"] option[value="with"]')
        self._click('#filter [type="submit"]')

    def _click(self, selector: str) -> None:
        self._found(selector).click()

    def _found(self, selector: str) -> WebElement:
        return self.page.driver.find_element(By.CSS_SELECTOR, selector)


class Keyboard(Hand):
    """Never touches the mouse: the arrow keys move a cross."""

    _cross: PlaceXY | None = None

    def press(self, action: str) -> None:
        self.page.keys(_KEYS[action])
        if action not in _BUTTONS:
            # A decision is made: the cross starts at the next person's point.
            self._cross = None

    def draw(self, *places_xy: PlaceXY) -> None:
        for place in places_xy:
            from_xy = self._cross or self.pixel()
            across, down = place[0] - from_xy[0], place[1] - from_xy[1]
            self.page.keys(
                *[Keys.ARROW_RIGHT if across > 0 else Keys.ARROW_LEFT] * abs(across),
                *[Keys.ARROW_DOWN if down > 0 else Keys.ARROW_UP] * abs(down),
                " ",
            )
            self._cross = place

    def smallest_brush(self) -> None:
        self.page.keys(*"[" * 40)

    def mark(self, at: int) -> None:
        focused = self.page.script("return document.activeElement.dataset.at")
        # The first arrow goes to the first crop.
        steps = at + 1 if focused is None else at - int(focused)
        way = Keys.ARROW_RIGHT if steps > 0 else Keys.ARROW_LEFT
        self.page.keys(*[way] * abs(steps), " ")

    def choose(self, split: str) -> None:
        # Reason, decided, mask, split, name.
        mask = [Keys.TAB, Keys.TAB, Keys.HOME, Keys.ARROW_DOWN]
        of_split = [Keys.TAB, Keys.HOME, *[Keys.ARROW_DOWN] * (1 + SPLITS.index(split))]
        self.page.keys("f", *mask, *of_split, Keys.TAB, Keys.ENTER)
