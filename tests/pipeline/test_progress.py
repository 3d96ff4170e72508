"""What a run says on the way: a bar on a terminal, lines elsewhere, nothing when quiet."""

from __future__ import annotations

import io
import sys

import pytest

from dpmo_cli.pipeline import progress
from dpmo_cli.pipeline.progress import RunProgress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time of day as a list of one, for the test to move."""
    now = [100.0]
    monkeypatch.setattr(progress, "monotonic", lambda: now[0])
    return now


def test_lines_come_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress(9, quiet=False) as shown:
        for points in (20, 30):
            clock[0] += 1
            shown.advance(points, reused=False)
        assert capsys.readouterr().err == ""
        clock[0] += 8
        shown.advance(70, reused=False)
        assert capsys.readouterr().err == ("dpmo: 3 of 9 images, 12 points/s, about 27 s left\n")
        clock[0] += 1
        shown.advance(5, reused=False)
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == ""


def test_long_runs_count_minutes(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress(102, quiet=False) as shown:
        for _ in range(3):
            clock[0] += 60
            shown.advance(0, reused=False)
    assert "about 99 min left" in capsys.readouterr().err


def test_the_time_left_is_that_of_the_work(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """Loading is over, what was there already took no time, and a few images say nothing yet."""
    with RunProgress(1005, quiet=False) as shown:
        for _ in range(1000):
            shown.advance(9, reused=True)
        clock[0] += 60
        for _ in range(4):
            shown.advance(9, reused=False)
            clock[0] += 10
        shown.advance(9, reused=False)
    ends = [line.partition("points/s")[2] for line in capsys.readouterr().err.splitlines()]
    assert ends == ["", "", ", about 20 s left", ", about 10 s left", ""]


def test_reused_images_do_not_count_for_the_pace(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    with RunProgress(4, quiet=False) as shown:
        shown.advance(1_000_000, reused=True)
        clock[0] += 10
        shown.advance(50, reused=False)
    assert " 5 points/s" in capsys.readouterr().err


def test_quiet_shows_errors_alone(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with RunProgress(4, quiet=True) as shown:
        clock[0] += 100
        shown.advance(1, reused=False)
        shown.say("dpmo: error: a.jpg: is missing; copy it")
    assert capsys.readouterr().err == "dpmo: error: a.jpg: is missing; copy it\n"


@pytest.mark.parametrize("quiet", [False, True])
def test_terminal_has_a_bar(quiet: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with RunProgress(4, quiet=quiet) as shown:
        shown.advance(100, reused=False)
        shown.say("dpmo: warning: [bold]a.jpg[/]: odd")
    text = stream.getvalue()
    assert ("converting" in text) == ("images" in text) == (not quiet)
    assert "dpmo: warning: [bold]a.jpg[/]: odd\n" in text, "names are no markup"


def test_bar_goes_when_the_run_ends_badly(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt), RunProgress(4, quiet=False):
        raise KeyboardInterrupt
    assert "\x1b[?25h" in stream.getvalue(), "the cursor is shown again"
