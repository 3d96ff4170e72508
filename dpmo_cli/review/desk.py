"""What a reviewer works at: the queue, the persons as they stand, photos, clicks and decisions."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import RLock
from time import monotonic

import numpy as np

from dpmo_cli.geometry.rle import WindowXYXY
from dpmo_cli.outputs.corrections import OPEN, Person
from dpmo_cli.outputs.records import record_path
from dpmo_cli.outputs.schema import ADDED
from dpmo_cli.review.clicks import Asked, Click
from dpmo_cli.review.decision import ConflictError, Decision, RefusedError
from dpmo_cli.review.decisions import Decisions
from dpmo_cli.review.people import People, ShownPerson, load_people
from dpmo_cli.review.photos import Photo, Photos, Recent
from dpmo_cli.review.placed import PlacedMask
from dpmo_cli.review.prompts import Drawn, Prompter
from dpmo_cli.review.run_index import QueueFilter, Ranks, RunIndex, RunInfo, ShownPhoto
from dpmo_cli.review.wishes import (
    Outcome,
    UnfitError,
    UnknownError,
    Wish,
    decision_of,
    require_point,
)

IMAGES_HELD = 24
MASKS_SHOWN = 2000
"""Persons of a view that are sent with masks; of more, the points alone."""
RATE_S = 300.0
"""Over how long the rate of decisions is taken."""
_TRIES = 8


@dataclass(frozen=True)
class Progress:
    """How far a review has come.

    Attributes:
        total: rows of the queue that are meant.
        done: those with a decision.
        per_minute: decisions of this server's reviewer, over the last minutes; 0 without any.
    """

    total: int
    done: int
    per_minute: float


class Desk:
    """All that the page shows and does, without HTTP. Threads may share it.

    Args:
        run: what is reviewed.
        index: its queue.
        decisions: the open log.
        reviewer: who decides here.
        audit: the persons of the audit's sample, in its order; None where none was drawn.
    """

    def __init__(
        self,
        run: RunInfo,
        index: RunIndex,
        decisions: Decisions,
        reviewer: str,
        audit: tuple[Person, ...] | None = None,
    ) -> None:
        self.run, self.index, self.reviewer, self.audit = run, index, reviewer, audit
        self._decisions = decisions
        self._photos = Photos(run.root)
        self._prompter = Prompter(run)
        self._people: Recent[tuple[str, int], tuple[People, tuple[int, int]]] = Recent(
            IMAGES_HELD, lambda _: 1
        )
        self._lock = RLock()
        self._last = 0
        self._verdicts = np.full(len(index), OPEN, dtype=object)
        self._decided_at: deque[float] = deque()
        self.refresh()

    def refresh(self) -> int:
        """Take in what others decided; the id of the latest decision of all."""
        with self._lock:
            for decision in self._decisions.since(self._last):
                self._last = decision.id
                self._take_in(decision)
            return self._last

    def choose(self, wanted: QueueFilter) -> Ranks:
        """The rows of the queue that a filter lets through, worst first."""
        self.refresh()
        return self.index.choose(wanted, self._verdicts)

    def progress(self, wanted: QueueFilter) -> Progress:
        """How many of a filter's rows are decided."""
        ranks = self.choose(wanted)
        done = int((self._verdicts[ranks] != OPEN).sum())
        with self._lock:
            now = monotonic()
            while self._decided_at and now - self._decided_at[0] > RATE_S:
                self._decided_at.popleft()
            count = len(self._decided_at)
            # Of a single decision no rate is known.
            spent = now - self._decided_at[0] if count > 1 else 0.0
        return Progress(len(ranks), done, 60 * count / max(spent, 5.0) if spent else 0.0)

    def row(self, rank: int) -> tuple[ShownPhoto, ShownPerson]:
        """A row of the queue with its person as it stands.

        Raises:
            UnknownError: there is no such row.
        """
        if not 0 <= rank < len(self.index):
            raise UnknownError(f"the queue has no row {rank}")
        person = self.index.person(rank)
        photo = self.index.images[self.index.image[rank]]
        people = self.people(person.split, person.image_id)
        with people.lock:
            shown = people.show(person.point_id)
        if shown is None:
            raise UnknownError(f"{person}: the record does not hold it; convert again")
        return photo, shown

    def people(self, split: str, image_id: int) -> People:
        """The persons of an image.

        Raises:
            UnknownError: the run has no such image.
            DpmoError: its record can't be read.
        """
        self.refresh()
        if self.index.photo(split, image_id) is None:
            raise UnknownError(f"the run has no image {image_id} in split {split!r}")
        with self._lock:
            stamp = self._stamp(split, image_id)
            held = self._people.get((split, image_id))
            # A record that `convert` wrote meanwhile is read again.
            if held is not None and held[1] == stamp:
                return held[0]
            latest = self._decisions.latest(split, image_id).values()
            people = load_people(self.run.out, split, image_id, latest)
            self._people.put((split, image_id), (people, stamp))
            return people

    def visible(
        self, split: str, image_id: int, window: WindowXYXY
    ) -> tuple[People, list[ShownPerson], bool]:
        """The persons in a window, and whether they are few enough to show their masks."""
        people = self.people(split, image_id)
        with people.lock:
            found = people.meeting(window)
            detailed = len(found) <= MASKS_SHOWN
            shown = [people.show(one) for one in found] if detailed else []
            return people, [one for one in shown if one is not None], detailed

    def photo(self, split: str, image_id: int) -> Photo:
        """The photo of an image of the run, (H, W, 3) RGB.

        Raises:
            UnknownError: the run has no such image.
            InputError: the photo is not there, not in the root, or of another size than its masks.
        """
        people = self.people(split, image_id)
        return self._photos.read(people.info.file_name, people.size_hw)

    def decide(self, wish: Wish, source: str) -> Outcome:
        """Write one decision.

        Raises:
            UnknownError, UnfitError: there is no such person; it makes no sense.
            ConflictError, OverlapError: somebody was faster; the mask takes a drawn one's pixels.
        """
        with self._lock:
            people = self.people(wish.person.split, wish.person.image_id)
            with people.lock:
                decision = decision_of(people, wish, reviewer=self.reviewer, source=source)
            written = self._decisions.decide(decision, expected=wish.expected)
            return self._outcome(people, written)

    def decide_many(
        self, wishes: Sequence[Wish], source: str
    ) -> list[Outcome | RefusedError | UnknownError]:
        """Write several decisions in one transaction; those that can't be are told one by one."""
        results: list[RefusedError | UnknownError | None] = []
        asked: list[tuple[Decision, int | None]] = []
        images: list[People] = []
        with self._lock:
            for wish in wishes:
                try:
                    people = self.people(wish.person.split, wish.person.image_id)
                    with people.lock:
                        decision = decision_of(people, wish, reviewer=self.reviewer, source=source)
                    asked.append((decision, wish.expected))
                except (RefusedError, UnknownError) as error:
                    results.append(error)
                else:
                    results.append(None)
                    images.append(people)
            answers = iter(zip(self._decisions.decide_many(asked), images, strict=True))
            told: list[Outcome | RefusedError | UnknownError] = []
            for refused in results:
                if refused is not None:
                    told.append(refused)
                    continue
                written, people = next(answers)
                if isinstance(written, RefusedError):
                    told.append(written)
                else:
                    told.append(self._outcome(people, written))
        return told

    def add(
        self,
        photo: ShownPhoto,
        xy: tuple[float, float],
        mask: PlacedMask,
        seconds: float | None,
        source: str,
    ) -> Outcome:
        """Add a person whom nobody had marked.

        Raises:
            UnfitError, OverlapError: as for `decide`.
        """
        with self._lock:
            people = self.people(photo.split, photo.image_id)
            require_point(mask, xy, people.size_hw)
            for left in reversed(range(_TRIES)):
                number = self._decisions.next_point_id(photo.split, photo.image_id)
                decision = Decision(
                    person=Person(photo.split, photo.image_id, number),
                    verdict=ADDED,
                    rle=mask.rle(people.size_hw),
                    point_xy=xy,
                    reviewer=self.reviewer,
                    source=source,
                    seconds=seconds,
                    image=photo.file_name,
                )
                try:
                    written = self._decisions.decide(decision, expected=None)
                    return self._outcome(people, written)
                except ConflictError:
                    # Another process has just taken the number.
                    if not left:
                        raise
        raise AssertionError("unreachable")

    def undo(self, person: Person, expected: int) -> Outcome:
        """Go back to the state before a person's latest decision.

        Raises:
            ConflictError, OverlapError, DpmoError: as of `Decisions.undo`.
        """
        with self._lock:
            people = self.people(person.split, person.image_id)
            written = self._decisions.undo(person, expected=expected, reviewer=self.reviewer)
            return self._outcome(people, written, counts=False)

    def events(self, since: int) -> list[Decision]:
        """All decisions after one, of whomever."""
        self.refresh()
        return self._decisions.since(since)

    def ask(
        self, photo: ShownPhoto, point_id: int | None, xy: tuple[float, float] | None,
        clicks: Sequence[Click],
    ) -> Future[Drawn]:  # fmt: skip
        """What the network draws for a person, or for a new one at a point."""
        return self._prompter.ask(self._asked(photo, point_id, xy, clicks))

    def prepare(self, photo: ShownPhoto, point_id: int, *, unasked: bool = False) -> Future[bool]:
        """Make the first click on a person quick; the future tells whether it is."""
        return self._prompter.prepare(self._asked(photo, point_id, None, ()), unasked=unasked)

    def _asked(
        self, photo: ShownPhoto, point_id: int | None, xy: tuple[float, float] | None,
        clicks: Sequence[Click],
    ) -> Asked:  # fmt: skip
        people = self.people(photo.split, photo.image_id)
        if point_id is not None:
            with people.lock:
                shown = people.show(point_id)
            if shown is None:
                raise UnknownError(f"{photo.file_name}: there is no point {point_id}")
            xy = xy or shown.xy
        if xy is None:
            raise ValueError("xy: a new person needs a point")
        height, width = people.size_hw
        for x, y in (xy, *((x, y) for x, y, _ in clicks)):
            if not (0 <= x < width and 0 <= y < height):
                raise UnfitError(f"the point {x:.0f}, {y:.0f} lies outside the photo; move it in")
        picture = self.photo(photo.split, photo.image_id)
        return Asked(picture, people, point_id, xy, tuple(clicks))

    def _outcome(self, people: People, written: Decision, *, counts: bool = True) -> Outcome:
        """What a decision changed, here and for the other views."""
        with people.lock:
            changed = people.update([written])
            self._take_in(written)
            shown = [people.show(one) for one in sorted(changed)]
        if counts:
            self._decided_at.append(monotonic())
        return Outcome(written, tuple(one for one in shown if one is not None))

    def _take_in(self, decision: Decision) -> None:
        """Bring the verdicts and the persons that are held up to date."""
        rank = self.index.rank(decision.person)
        if rank is not None:
            self._verdicts[rank] = decision.verdict
        held = self._people.get((decision.person.split, decision.person.image_id))
        if held is not None:
            with held[0].lock:
                held[0].update([decision])

    def _stamp(self, split: str, image_id: int) -> tuple[int, int]:
        """What changes when the record of an image is written again."""
        try:
            stat = record_path(self.run.out, split, image_id).stat()
        except OSError:
            return 0, 0
        return stat.st_mtime_ns, stat.st_size
