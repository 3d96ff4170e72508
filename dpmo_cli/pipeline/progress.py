"""Progress of a run on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 10.0
FEWEST = 3
"""Images after which the time left is told: a worker's first ones say little."""


class RunProgress:
    """Shows images, points per second and time left; lines for a person go above the bar.

    Args:
        images: how many images the run looks at.
        quiet: show nothing but warnings and errors.
        verb: what is being done, beside the bar.
    """

    def __init__(self, images: int, *, quiet: bool, verb: str = "converting") -> None:
        self.images = images
        self.quiet = quiet
        self.done = 0
        self.points = 0
        self._started = self._spoken = self._first = monotonic()
        self._converted = 0
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        if not quiet and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("images  {task.fields[pace]} points/s "),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._task = self._bar.add_task(verb, total=images, pace="-")

    def __enter__(self) -> RunProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, points: int, *, reused: bool) -> None:
        """One image is done; the points of a reused one do not count for the pace."""
        now = monotonic()
        self.done += 1
        if not reused:
            self.points += points
            self._converted += 1
            # Before the first one networks were loaded and workers started.
            self._first = now if self._converted == 1 else self._first
        pace = self.points / max(now - self._started, 1e-6)
        if self._bar is not None:
            self._bar.update(self._task, completed=self.done, pace=f"{pace:.0f}")
        elif not self.quiet and now - self._spoken >= LINE_EVERY_S:
            self._spoken = now
            self.say(
                f"dpmo: {self.done} of {self.images} images, {pace:.0f} points/s{self._left()}"
            )

    def _left(self) -> str:
        """How long the rest takes, as the images since the first one did; nothing before these."""
        if self._converted < FEWEST or self.done == self.images:
            return ""
        of_image = (self._spoken - self._first) / (self._converted - 1)
        return f", about {_minutes(of_image * (self.images - self.done))} left"

    def say(self, line: str) -> None:
        """Print a line on stderr without disturbing the bar."""
        if self._bar is not None:
            self._console.print(line, markup=False)
        else:
            print(line, file=sys.stderr, flush=True)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
