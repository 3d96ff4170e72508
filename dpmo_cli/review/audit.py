"""The audit: a stratified random sample of a run's masks, and what judging it tells of them all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.outputs.atomic import write_text
from dpmo_cli.outputs.corrections import OPEN, Person
from dpmo_cli.outputs.findings import AUDIT_FILE
from dpmo_cli.outputs.schema import ACCEPTED, OK
from dpmo_cli.review.decisions import Decision
from dpmo_cli.review.estimate import Estimate, Stratum, estimate_share
from dpmo_cli.review.run import automatic_records

VERSION = 1
SAMPLE = 200
THIRDS = ("low", "middle", "high")
SIZES = ("small", "middle", "large")
LEAST_DRAWN = 2
"""So many are drawn of each stratum that has them: fewer tell nothing of its spread."""
LEAST_JUDGED = 10
"""Of fewer judged masks no rate is told: its interval would hold nearly everything."""


@dataclass(frozen=True)
class DrawnPerson:
    """A person of the sample: its stratum's index, and the file name of its image."""

    person: Person
    image: str
    stratum: int


@dataclass(frozen=True)
class Audit:
    """A sample of the automatic masks of a run, which may be judged in any order.

    Attributes:
        seed, sample: that it was drawn with, and how many were asked for.
        masks_sha256: of the records that it was drawn from.
        strata: name of each, and its masks.
        drawn: in random order: the first ones are a sample themselves.
    """

    seed: int
    sample: int
    masks_sha256: str
    strata: tuple[tuple[str, int], ...]
    drawn: tuple[DrawnPerson, ...]

    @property
    def population(self) -> int:
        """Number of masks that the sample stands for."""
        return sum(count for _, count in self.strata)


@dataclass(frozen=True)
class Judged:
    """What the decisions say of a sample so far."""

    audit: Audit
    strata: tuple[Stratum, ...]
    estimate: Estimate

    @property
    def judged(self) -> int:
        """How many of the sample were judged."""
        return sum(one.judged for one in self.strata)

    @property
    def needed(self) -> int:
        """How many must be judged before a rate is told: a smaller sample to its end."""
        return max(1, min(LEAST_JUDGED, len(self.audit.drawn)))

    @property
    def tells_rate(self) -> bool:
        """Whether enough were judged for a rate."""
        return self.judged >= self.needed

    @property
    def right(self) -> int:
        """How many of these were accepted."""
        return sum(one.right for one in self.strata)


def open_audit(out: Path, sample: int | None = None, seed: int | None = None) -> Audit:
    """Return the sample of a run, drawn at the first call and kept in `OUT/review/audit.json`.

    Args:
        out: folder of a finished run.
        sample: how many masks to draw; None for SAMPLE, or however many the sample has.
        seed: of the draw; None for 0, or that of the sample.

    Raises:
        UsageError: the sample that is there was drawn otherwise, or from other masks; or the
            folder holds no finished run, or no masks.
        InputError: the file of the sample is damaged.
    """
    path = out / AUDIT_FILE
    masks = _Masks.of(out)
    if path.exists():
        audit = read_audit(path)
        for name, asked, drawn in (("sample", sample, audit.sample), ("seed", seed, audit.seed)):
            if asked is not None and asked != drawn:
                raise UsageError(
                    f"--{name} {asked}: {path} was drawn with {drawn}; leave the option out, or "
                    "remove the file to draw anew"
                )
        if audit.masks_sha256 != masks.sha256:
            raise UsageError(
                f"{path}: was drawn from other masks than the run has now; remove it to draw anew"
            )
        return audit
    if not len(masks.scores):
        raise UsageError(f"{out}: has no masks to judge")
    audit = _draw(masks, SAMPLE if sample is None else sample, seed or 0)
    write_text(path, _dumps(audit))
    return audit


def judge(audit: Audit, latest: Mapping[Person, Decision]) -> Judged:
    """Say what part of the automatic masks is right, from what was decided about the sample.

    Accepted masks are right; corrected, rejected and deleted ones are wrong. The interval is for
    a sample that was judged in its order, or to its end.
    """
    counts = [[0, 0] for _ in audit.strata]
    for one in audit.drawn:
        decision = latest.get(one.person)
        if decision is not None and decision.verdict != OPEN:
            counts[one.stratum][0] += 1
            counts[one.stratum][1] += decision.verdict == ACCEPTED
    strata = tuple(
        Stratum(persons, judged, right)
        for (_, persons), (judged, right) in zip(audit.strata, counts, strict=True)
    )
    return Judged(audit, strata, estimate_share(strata))


@dataclass(frozen=True)
class _Masks:
    """The keys of all masks of a run, in the order of its records."""

    splits: list[str]
    images: list[str]
    image: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    point_ids: NDArray[np.int64]
    scores: NDArray[np.float64]
    radii_px: NDArray[np.float64]
    sha256: str

    @classmethod
    def of(cls, out: Path) -> _Masks:
        splits, images = list[str](), list[str]()
        parts: list[NDArray[np.float64]] = [np.zeros((0, 5))]
        digest = hashlib.sha256()
        for record in automatic_records(out):
            info = record.info
            digest.update(f"{info.split}/{info.image_id}/{record.fingerprint}\n".encode())
            rows = record.rows.select(["point_id", "score", "radius_px", "status"]).to_pydict()
            of_image = [
                (len(images), info.image_id, point, score if score is not None else np.nan, radius)
                for point, score, radius, status in zip(*rows.values(), strict=True)
                if status == OK
            ]
            parts.append(np.array(of_image, np.float64).reshape(-1, 5))
            splits.append(info.split)
            images.append(info.file_name)
        *keys, scores, radii = np.concatenate(parts).T
        image, image_ids, point_ids = (column.astype(np.int64) for column in keys)
        return cls(splits, images, image, image_ids, point_ids, scores, radii, digest.hexdigest())

    def person(self, index: int) -> Person:
        split = self.splits[self.image[index]]
        return Person(split, int(self.image_ids[index]), int(self.point_ids[index]))


def _draw(masks: _Masks, sample: int, seed: int) -> Audit:
    """Draw from strata by score and, within each, by the disc's radius: how dense the crowd is."""
    rng = np.random.default_rng(seed)
    by_score = _thirds(np.nan_to_num(masks.scores, nan=-np.inf), np.ones(len(masks.scores), bool))
    stratum = np.zeros(len(by_score), np.int64)
    for third in range(3):
        members = by_score == third
        stratum[members] = 3 * third + _thirds(masks.radii_px, members)[members]
    sizes = np.bincount(stratum, minlength=9)
    drawn: list[DrawnPerson] = []
    for number, count in enumerate(_allocate(sizes, sample)):
        for index in rng.choice(np.flatnonzero(stratum == number), count, replace=False):
            image = masks.images[masks.image[index]]
            drawn.append(DrawnPerson(masks.person(index), image, number))
    names = [f"{score} score, {size} disc" for score in THIRDS for size in SIZES]
    strata = tuple(zip(names, sizes.tolist(), strict=True))
    order = rng.permutation(len(drawn))
    return Audit(seed, sample, masks.sha256, strata, tuple(drawn[at] for at in order))


def _thirds(values: NDArray[np.float64], members: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The third, 0 to 2, that each member's value lies in; 0 for all others."""
    found = np.zeros(len(values), np.int64)
    places = np.flatnonzero(members)
    order = places[np.argsort(values[places], kind="stable")]
    found[order] = np.arange(len(order)) * 3 // max(1, len(order))
    return found


def _allocate(sizes: NDArray[np.int64], sample: int) -> list[int]:
    """How many to draw of each stratum: in proportion to its size, but LEAST_DRAWN at least."""
    share = sample * sizes / sizes.sum()
    counts = np.floor(share).astype(np.int64)
    rest = np.argsort(counts - share, kind="stable")[: sample - counts.sum()]
    counts[rest] += 1
    return [int(n) for n in np.minimum(sizes, np.maximum(counts, LEAST_DRAWN))]


def _dumps(audit: Audit) -> str:
    document = {
        "version": VERSION,
        "seed": audit.seed,
        "sample": audit.sample,
        "masks_sha256": audit.masks_sha256,
        "strata": [{"name": name, "masks": masks} for name, masks in audit.strata],
        "persons": [
            {**asdict(one.person), "image": one.image, "stratum": one.stratum}
            for one in audit.drawn
        ],
    }
    return json.dumps(document, indent=1) + "\n"


def read_audit(path: Path) -> Audit:
    """Read a sample that was drawn.

    Raises:
        InputError: the file is damaged.
    """
    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if document["version"] != VERSION:
            raise ValueError("of another version")
        strata = tuple((str(one["name"]), int(one["masks"])) for one in document["strata"])
        drawn = tuple(
            DrawnPerson(
                Person(str(one["split"]), int(one["image_id"]), int(one["point_id"])),
                str(one["image"]),
                range(len(strata))[one["stratum"]],
            )
            for one in document["persons"]
        )
        return Audit(
            int(document["seed"]),
            int(document["sample"]),
            str(document["masks_sha256"]),
            strata,
            drawn,
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        mend = "remove it to draw anew"
        raise InputError(path, "is no whole sample of an audit", mend) from error
