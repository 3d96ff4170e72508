"""The audit: drawn once, the same for the same seed, and what its judgements say."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpmo_cli.errors import DpmoError, InputError, UsageError
from dpmo_cli.outputs.corrections import Person
from dpmo_cli.outputs.findings import AUDIT_FILE
from dpmo_cli.outputs.records import record_path, write_record
from dpmo_cli.review.audit import SAMPLE, judge, open_audit
from dpmo_cli.review.decisions import Decision
from tests.outputs.samples import make_info, make_record, make_rows, write_run

PER_IMAGE = 120


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five images of 120 points, a twelfth of them without a mask; the scores tell the truth."""
    out = tmp_path_factory.mktemp("run") / "out"
    rng = np.random.default_rng(0)
    records = []
    for image_id in range(1, 6):
        info = make_info(image_id, "train" if image_id < 4 else "test", f"{image_id}.jpg")
        points = [(float(x), float(y)) for x, y in rng.uniform(0, (55, 39), (PER_IMAGE, 2))]
        statuses = dict.fromkeys(range(0, PER_IMAGE, 12), "empty")
        rows = make_rows(info, points, statuses=statuses, seed=image_id)
        for row in rows:
            row["radius_px"] = float(rng.uniform(2, 40)) if row["status"] == "ok" else None
        record = replace(make_record(info, rows), fingerprint=f"{image_id:08d}")
        records.append(record)
        write_record(record_path(out, info.split, image_id), record)
    return write_run(out, records)


@pytest.fixture
def out(run: Path, tmp_path: Path) -> Path:
    return shutil.copytree(run, tmp_path / "out")


def test_the_sample_is_of_masks_and_spread_over_the_strata(out: Path) -> None:
    audit = open_audit(out, 99, 5)
    assert audit.population == 5 * PER_IMAGE * 11 // 12
    assert [name for name, _ in audit.strata][::4] == [
        "low score, small disc",
        "middle score, middle disc",
        "high score, high disc".replace("high disc", "large disc"),
    ]
    counts = Counter(one.stratum for one in audit.drawn)
    assert sum(counts.values()) == 99
    assert all(counts[index] == pytest.approx(11, abs=1) for index in range(9))
    assert len({one.person for one in audit.drawn}) == 99
    assert all(one.person.point_id % 12 for one in audit.drawn)
    assert all(one.image == f"{one.person.image_id}.jpg" for one in audit.drawn)
    # In random order: the first ones are a sample too.
    assert len({one.stratum for one in audit.drawn[:20]}) > 4


def test_a_second_call_goes_on_with_the_same_sample(out: Path, run: Path, tmp_path: Path) -> None:
    first = open_audit(out)
    before = (out / AUDIT_FILE).read_bytes()
    assert first.sample == SAMPLE
    assert open_audit(out) == first
    assert open_audit(out, SAMPLE, 0) == first
    other = shutil.copytree(run, tmp_path / "other")
    assert open_audit(other) == first
    assert (other / AUDIT_FILE).read_bytes() == before
    (other / AUDIT_FILE).unlink()
    assert open_audit(other, seed=1).drawn != first.drawn


def test_small_populations_are_drawn_whole(out: Path) -> None:
    audit = open_audit(out, 10_000)
    assert len(audit.drawn) == audit.population


def test_a_few_of_each_stratum_are_drawn(out: Path) -> None:
    assert Counter(one.stratum for one in open_audit(out, 1).drawn) == dict.fromkeys(range(9), 2)


def other_fingerprint(out: Path) -> None:
    info = make_info(1, "train", "1.jpg")
    write_record(record_path(out, "train", 1), make_record(info, make_rows(info, [(3, 4)])))


REFUSED: dict[str, tuple[Callable[[Path], object], type[DpmoError], str]] = {
    "another size": (lambda out: open_audit(out, 50), UsageError, "was drawn with 40"),
    "another seed": (lambda out: open_audit(out, 40, 9), UsageError, "--seed 9"),
    "other masks": (other_fingerprint, UsageError, "from other masks"),
    "torn": (lambda out: (out / AUDIT_FILE).write_text("{"), InputError, "draw anew"),
    "no object": (lambda out: (out / AUDIT_FILE).write_text("[]"), InputError, "draw anew"),
    "a stratum that is none": (
        lambda out: (out / AUDIT_FILE).write_text(
            (out / AUDIT_FILE).read_text().replace('"stratum": 8', '"stratum": 9')
        ),
        InputError,
        "draw anew",
    ),
    "not finished": (lambda out: (out / "run.json").unlink(), UsageError, "no finished run"),
    "a table torn": (
        lambda out: (out / "points/train.parquet").write_text("x"),
        InputError,
        "points/train.parquet",
    ),
    "no record": (lambda out: shutil.rmtree(out / ".dpmo"), DpmoError, "is missing; see that"),
    "nested": (
        lambda out: (out / "review/audit.json").write_text("[" * 100_000),
        DpmoError,
        "no whole sample",
    ),
}


@pytest.mark.parametrize(("spoil", "kind", "why"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_go_on_is_refused(
    spoil: Callable[[Path], object], kind: type[DpmoError], why: str, out: Path
) -> None:
    open_audit(out, 40)

    def again() -> None:
        spoil(out)
        open_audit(out)

    with pytest.raises(kind, match=why):
        again()


def test_a_run_without_masks_has_nothing_to_judge(tmp_path: Path) -> None:
    info = make_info(1, "train", "1.jpg")
    record = make_record(info, make_rows(info, [(1, 1)], statuses={0: "empty"}))
    write_record(record_path(tmp_path, "train", 1), record)
    write_run(tmp_path, [record])
    with pytest.raises(UsageError, match="no masks to judge"):
        open_audit(tmp_path)


def test_what_the_decisions_say(out: Path) -> None:
    audit = open_audit(out, 99)
    verdicts = ["accepted"] * 60 + ["corrected", "rejected", "deleted"] * 7 + ["open"] * 5
    latest = {
        one.person: Decision(one.person, verdict, None, None, "ada", "grid")
        for one, verdict in zip(audit.drawn, verdicts, strict=False)
    }
    outsider = Person("train", 1, 0)
    latest[outsider] = Decision(outsider, "rejected", None, None, "ada", "page")
    found = judge(audit, latest)
    assert (found.judged, found.right) == (81, 60)
    assert [one.persons for one in found.strata] == [count for _, count in audit.strata]
    assert found.estimate.share == pytest.approx(60 / 81, abs=0.03)
    assert found.estimate.low < 60 / 81 < found.estimate.high
    nothing = judge(audit, {})
    assert (nothing.judged, np.isnan(nothing.estimate.share)) == (0, True)


def test_the_file_is_plain_json_for_the_page(out: Path) -> None:
    audit = open_audit(out, 20)
    document = json.loads((out / AUDIT_FILE).read_text())
    assert document["persons"][0] == {
        **vars(audit.drawn[0].person),
        "image": audit.drawn[0].image,
        "stratum": audit.drawn[0].stratum,
    }
