"""How fast the review page is, and what it costs: `make bench-review` prints the table.

10,000 rows, two images of 5,000 masks each. All figures are of the machine that runs it, the
browser included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from dpmo_cli.sam.weights import find, sha256_of
from tests.e2e.conftest import Page, start_server
from tests.review.runs import SPACING_PX, draw_run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

PEOPLE, COLUMNS = 5000, 80
STARTS, WALKS, DECIDED, PAGES, CLICKS = 3, 40, 100, 20, 12
FIRST_MS, NEXT_MS, CLICK_MS = 2000, 150, 300
"""What is promised: the first picture, the next one, and a click after the first."""
FIRST_CLICK_MS = 1000

_WORK = """
const [key, count, name, done] = arguments;
const wait = (before) => new Promise((resolve) => {
  const seen = new MutationObserver(() => {
    if (document.body.dataset[name] !== before) { seen.disconnect(); resolve(); }
  });
  seen.observe(document.body, { attributes: true });
});
(async () => {
  const times = [];
  const start = performance.now();
  for (let k = 0; k < count; k++) {
    const began = performance.now();
    const changed = wait(document.body.dataset[name]);
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    await changed;
    times.push(performance.now() - began);
    // A decision ends after its picture has begun to come.
    await new Promise((resolve) => setTimeout(resolve));
  }
  done([times, performance.now() - start]);
})();
"""


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 10,000 people in two photos, of the weights that are at hand."""
    out, _ = draw_run(tmp_path_factory.mktemp("large"), people=PEOPLE, columns=COLUMNS)
    path = out / "run.json"
    run = json.loads(path.read_text(encoding="utf-8"))
    run["settings"]["weights_sha256"] = sha256_of(find("nano"))
    path.write_text(json.dumps(run), encoding="utf-8")
    return out


@pytest.fixture(scope="module")
def table() -> Iterator[list[tuple[str, str]]]:
    """Lines of the table, printed at the end."""
    lines: list[tuple[str, str]] = []
    yield lines
    width = max(len(name) for name, _ in lines)
    print("\n" + "\n".join(f"{name:<{width}}  {value}" for name, value in lines))


@pytest.fixture
def served(driver: WebDriver, large: Path) -> Iterator[tuple[Page, int]]:
    """The page on the run, not yet opened, and its server's process id."""
    process, address = start_server(large, "Ann")
    page = Page(driver, large, address)
    try:
        yield page, process.pid
        assert page.problems() == []
    finally:
        page.leave()
        process.kill()
        process.communicate()


def work(page: Page, key: str, count: int, name: str) -> tuple[list[float], float]:
    """Press a key so many times, each once the page's word `name` has changed.

    Returns:
        How long each took, ms, and all of them together.
    """
    page.driver.set_script_timeout(300)
    times, total = page.driver.execute_async_script(_WORK, key, count, name)
    return times, total


def megabytes(pid: int) -> float:
    """What a process holds, MB of resident memory; NaN where /proc does not say."""
    path = Path(f"/proc/{pid}/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", path.read_text() if path.exists() else "")
    return float(found[1]) / 1024 if found else float("nan")


def page_megabytes(page: Page) -> float:
    """What the largest process of the browser that shows pages holds, MB; NaN without /proc."""
    assert page.driver.service.process is not None
    family = {page.driver.service.process.pid}
    found = [float("nan")]
    for path in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with suppress(OSError):
            # Parents have smaller numbers, but for numbers that come round again.
            parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
            if parent in family:
                family.add(int(path.name))
                if "--type=renderer" in (path / "cmdline").read_text():
                    found.append(megabytes(int(path.name)))
    return max(found[1:], default=found[0])


def spread(times: Sequence[float]) -> str:
    return f"median {median(times):.0f} ms, worst {max(times):.0f} ms of {len(times)}"


def test_pictures_come_quickly(served: tuple[Page, int], table: list[tuple[str, str]]) -> None:
    page, pid = served
    table.append(("rows of the queue, masks of an image", f"{2 * PEOPLE:,}, {PEOPLE:,}"))
    firsts = []
    for _ in range(STARTS):
        page.driver.get("about:blank")
        page.fresh()
        page.wait(lambda: page.state("first"), "the first picture")
        firsts.append(float(page.state("first") or "inf"))
    table.append(("first picture, from the address on", spread(firsts)))
    nexts = []
    for _ in range(WALKS):
        before = page.state("shown")
        page.keys("j")
        page.wait(lambda before=before: page.state("shown") != before, "the next picture")
        nexts.append(float((page.state("shown") or ":inf").split(":")[1]))
    table.append(("next picture, masks drawn", spread(nexts)))
    page.keys("0", *"-" * 12)
    page.wait(lambda: page.script("return document.getElementById('canvas').dataset.scale"), "")
    table.append(("memory of the server", f"{megabytes(pid):.0f} MB"))
    table.append(("memory of the page's process", f"{page_megabytes(page):.0f} MB"))
    assert max(firsts) < FIRST_MS
    assert median(nexts) < NEXT_MS


def test_masks_per_minute(served: tuple[Page, int], table: list[tuple[str, str]]) -> None:
    """Of the machine: the page's own keys, pressed as soon as it has gone on."""
    page, _ = served
    page.fresh()
    page.wait(lambda: page.state("person"), "a person")
    before = len(page.decisions())
    single, total = work(page, "a", DECIDED, "person")
    page.decided(before + DECIDED)
    table.append(("one mask: decided, written, next", spread(single)))
    table.append(("one mask: masks per minute", f"{60_000 * DECIDED / total:,.0f}"))
    page.keys("g")
    page.wait(lambda: page.state("page"), "the grid")
    grid, total = work(page, "a", PAGES, "page")
    decided = 50 * PAGES
    page.decided(before + DECIDED + decided)
    table.append(("grid: a page of 50 decided, written, next", spread(grid)))
    table.append(("grid: masks per minute", f"{60_000 * decided / total:,.0f}"))


def test_clicks(served: tuple[Page, int], table: list[tuple[str, str]]) -> None:
    page, pid = served
    page.fresh()
    page.wait(lambda: page.state("person"), "a person")
    page.wait(lambda: page.state("prepared"), "the network")
    loaded = float(page.state("prepared") or "inf")
    table.append(("the network is loaded unasked, from the address on", f"{loaded:.0f} ms"))
    point_id = page.person().point_id
    x, y = (SPACING_PX * (at + 1) for at in (point_id % COLUMNS, point_id // COLUMNS))
    page.keys("2")
    times = []
    for number in range(1, CLICKS + 2):
        page.stroke((x + number % 3 - 1, y + number // 3 % 3 - 1))
        page.answered(number)
        times.append(float(page.state("click") or "inf"))
    table.append(("a click, the first from then on", f"{times[0]:.0f} ms"))
    table.append(("a click after the first", spread(times[1:])))
    table.append(("memory of the server with the network", f"{megabytes(pid):.0f} MB"))
    assert times[0] < FIRST_CLICK_MS
    assert median(times[1:]) < CLICK_MS
