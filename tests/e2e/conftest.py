"""A run of the example scenes, its server as a process, and Chromium before the page."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.webdriver import WebDriver

import dpmo_cli
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.review.decision import Decision
from dpmo_cli.review.decisions import Decisions

SCENES = Path(dpmo_cli.__file__).parent / "trials" / "scenes"
SIZE = (1366, 768)
"""Of a laptop's screen, px."""
PATIENCE_S = 30.0


def run_dpmo(*arguments: str | Path) -> str:
    """Run the command, which must succeed; what it printed on stdout."""
    done = subprocess.run(
        [sys.executable, "-m", "dpmo_cli.cli.app", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def scenes_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of nano on one example scene of each split."""
    out = tmp_path_factory.mktemp("scenes") / "out"
    run_dpmo(
        "convert", "--dataset", "csv", "--root", SCENES, "--out", out, "--limit", "1", "--quiet"
    )
    return out


@pytest.fixture(scope="session")
def driver() -> Iterator[WebDriver]:
    """Chromium without a window, of a laptop's size."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    helper = shutil.which("chromedriver")
    if chromium is None or helper is None:
        pytest.skip("Chromium and chromedriver are not installed; `make test-e2e` installs them")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(helper))
    screen_of(browser)
    yield browser
    browser.quit()


def screen_of(browser: WebDriver) -> None:
    """Give a tab the size of a laptop's screen."""
    width, height = SIZE
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False},
    )


@dataclass
class Page:
    """The review page in Chromium, and what is on disk behind it."""

    driver: WebDriver
    out: Path
    address: str

    def open(self) -> None:
        """Load the page, as a reload does."""
        self.driver.get(self.address)
        self.wait(lambda: self.state("ready") == "1", "the page is ready")

    def fresh(self) -> None:
        """Load the page as a new tab does: nothing is kept."""
        self.driver.get(self.address)
        self.script("sessionStorage.clear()")
        self.open()

    def leave(self) -> None:
        """Leave the page, which asks its server for news while it is open."""
        self.driver.get("about:blank")

    def wait(self, done: Callable[[], object], what: str) -> None:
        end = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > end:
                shown = self.script("return document.body.innerText")
                pytest.fail(f"waited in vain for {what}; the page says: {shown}")
            time.sleep(0.02)

    def script(self, code: str, *arguments: object) -> Any:
        return self.driver.execute_script(code, *arguments)

    def state(self, name: str) -> str | None:
        """What the page tells tests of itself."""
        found: str | None = self.script("return document.body?.dataset[arguments[0]]", name)
        return found

    def text(self, selector: str) -> str:
        return str(self.script("return document.querySelector(arguments[0]).innerText", selector))

    def keys(self, *keys: str) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver, duration=0).send_keys(*keys).perform()

    def person(self) -> Person:
        """Who is looked at."""
        split, image_id, point_id = (self.state("person") or "//").split("/")
        return Person(split, int(image_id or -1), int(point_id or -1))

    def people(self, person: Person) -> list[dict[str, Any]]:
        """All persons of somebody's image, as the server shows them."""
        window = "x0=0&y0=0&x1=9999&y1=9999"
        answer = self.api(f"/api/people/{person.split}/{person.image_id}?{window}")
        people: list[dict[str, Any]] = answer["people"]
        return people

    def row(self, person: Person) -> dict[str, Any]:
        """The person as the server shows it."""
        (found,) = [one for one in self.people(person) if one["id"] == person.point_id]
        return found

    def api(self, path: str) -> Any:
        return self.driver.execute_async_script(
            "const done = arguments[1]; fetch(arguments[0]).then((r) => r.json()).then(done)", path
        )

    def decisions(self) -> list[Decision]:
        """All that is on disk."""
        with Decisions(self.out) as decisions:
            return decisions.since(0)

    def decided(self, count: int) -> list[Decision]:
        """Wait until so many decisions are on disk, and see that there are no more."""
        self.wait(lambda: len(self.decisions()) >= count, f"{count} decisions")
        found = self.decisions()
        assert len(found) == count
        return found

    def screen(self, x: float, y: float) -> tuple[int, int]:
        """Where the middle of a photo's pixel is on the screen."""
        view = self.script("return {...document.getElementById('canvas').dataset}")
        left, top = self.script(
            "const box = document.getElementById('canvas').getBoundingClientRect();"
            "return [box.left, box.top]"
        )
        scale = float(view["scale"])
        return (
            round(left + (x + 0.5 - float(view["x"])) * scale),
            round(top + (y + 0.5 - float(view["y"])) * scale),
        )

    def stroke(self, *places_xy: tuple[float, float], shift: bool = False) -> None:
        """Press the mouse at a pixel of the photo, and draw to others."""
        from selenium.webdriver.common.action_chains import ActionChains
        from selenium.webdriver.common.keys import Keys

        if shift:
            ActionChains(self.driver, duration=0).key_down(Keys.SHIFT).perform()
        chain = ActionChains(self.driver, duration=20)
        pointer = chain.w3c_actions.pointer_action
        first, *others = (self.screen(*place) for place in places_xy)
        pointer.move_to_location(*first)
        pointer.pointer_down()
        for place in others:
            pointer.move_to_location(*place)
        pointer.pointer_up()
        chain.w3c_actions.perform()
        if shift:
            ActionChains(self.driver, duration=0).key_up(Keys.SHIFT).perform()

    def answered(self, count: int) -> None:
        """Wait until the network has answered so many questions of the page."""
        self.wait(lambda: int(self.state("prompts") or 0) >= count, f"answer {count}")

    def drafted(self) -> None:
        """Wait for a draft that may be saved."""
        self.wait(lambda: self.text("#verdict") == "not saved", "a draft")
        self.wait(lambda: "drawing" not in self.text("#hint"), "the network")

    def filter(self, **fields: str) -> None:
        """Choose rows by the filter's form."""
        self.keys("f")
        for name, value in fields.items():
            self.script(
                "document.getElementById('filter').elements[arguments[0]].value = arguments[1]",
                name,
                value,
            )
        self.script("document.getElementById('filter').requestSubmit()")
        self.wait(lambda: self.script("return document.getElementById('filter').hidden"), "filter")

    def problems(self) -> list[str]:
        """What the console of the browser holds, but the refusals that the page tells."""
        logged = (str(entry["message"]) for entry in self.driver.get_log("browser"))
        return [line for line in logged if "responded with a status of 4" not in line]


def start_server(out: Path, reviewer: str) -> tuple[subprocess.Popen[str], str]:
    """A server, and its address."""
    command = [sys.executable, "-m", "dpmo_cli.cli.app", "review", "serve", str(out)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--reviewer", reviewer],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.fixture
def page(driver: WebDriver, scenes_run: Path, tmp_path: Path) -> Iterator[Page]:
    """The page on a copy of the run that nobody has decided about."""
    out = tmp_path / "out"
    shutil.copytree(scenes_run, out)
    process, address = start_server(out, "Ann")
    opened = Page(driver, out, address)
    try:
        opened.fresh()
        yield opened
        assert opened.problems() == []
    finally:
        opened.leave()
        process.kill()
        process.communicate()


def annotations_of(out: Path, split: str) -> dict[int, dict[str, Any]]:
    """The annotations of a split by id."""
    text = (out / "annotations" / f"{split}.json").read_text(encoding="utf-8")
    return {one["id"]: one for one in json.loads(text)["annotations"]}
