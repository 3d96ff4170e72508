"""Scores fitted to decisions: they learn what the run's score does not say."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.geometry.rle import frame_rle
from dpmo_cli.masks.score import FEATURES
from dpmo_cli.outputs.corrections import Correction, Person
from dpmo_cli.outputs.records import record_path, write_record
from dpmo_cli.review.calibrate import calibrate
from tests.outputs.samples import Row, make_info, make_record, make_rows, write_run

WEIGHTS = "7" * 64
IMAGES, PER_IMAGE = 8, 40
SIZE_HW = (80, 100)


def rows_of(image_id: int) -> tuple[Any, list[Row]]:
    """Masks whose stability tells how good they are, and whose score tells nothing."""
    info = make_info(image_id, "train", f"{image_id}.jpg", SIZE_HW)
    points = [(10.0 * (n % 8) + 8, 15.0 * (n // 8) + 8) for n in range(PER_IMAGE)]
    rows = make_rows(info, points, radius_px=4.0, seed=image_id)
    for row in rows:
        row["annotation_id"] = image_id * 10**6 + row["point_id"]
    return info, rows


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    records = []
    for image_id in range(1, IMAGES + 1):
        info, rows = rows_of(image_id)
        record = replace(make_record(info, rows), fingerprint=f"{image_id:08d}")
        records.append(record)
        write_record(record_path(out, "train", image_id), record)
    write_run(out, records)
    run = json.loads((out / "run.json").read_text())
    (out / "run.json").write_text(json.dumps(run | {"settings": {"weights_sha256": WEIGHTS}}))
    return out


def decisions(judge: Callable[[Row], str | None]) -> Iterator[Correction]:
    for image_id in range(1, IMAGES + 1):
        info, rows = rows_of(image_id)
        for row in rows:
            verdict = judge(row)
            if verdict is not None:
                rle = row["rle"] if verdict == "accepted" else None
                person = Person("train", image_id, row["point_id"])
                seen = (row["x"], row["y"])
                yield Correction(person, verdict, rle, None, "ada", info.file_name, seen)


def by_stability(row: Row) -> str:
    return "accepted" if row["stability"] > 0.4 else ["rejected", "deleted"][row["point_id"] % 2]


def decided(judge: Callable[[Row], str | None] = by_stability) -> dict[Person, Correction]:
    return {one.person: one for one in decisions(judge)}


def test_the_fit_finds_what_tells_good_from_bad(out: Path) -> None:
    found = calibrate(out, decided())
    assert found.judged == IMAGES * PER_IMAGE
    assert found.calibration.weights_sha256 == WEIGHTS
    assert found.calibration.features == FEATURES
    (curve,) = found.calibration.curves.values()
    assert list(found.calibration.curves) == ["nnec"]
    _, predicted_iou, stability, part_of_disc, part_kept = curve
    assert stability > 2 * abs(part_of_disc)
    assert stability > 20 * abs(predicted_iou)
    assert part_kept == 0
    assert found.fitted.of_perfect == 1
    assert found.raw.of_perfect < 0.7
    assert found.fitted_error < 0.25 < found.raw_error
    assert found.mean_iou == pytest.approx(0.6, abs=0.1)


def test_the_figure_is_of_masks_that_the_fit_did_not_see(out: Path) -> None:
    """Verdicts that nothing tells of: a score that had seen them would do better than chance."""
    rng = np.random.default_rng(5)
    found = calibrate(out, decided(lambda row: "accepted" if rng.random() < 0.5 else "rejected"))
    assert found.fitted_error > 0.49
    assert found.fitted.of_random < 1.5


def test_a_corrected_mask_counts_by_how_much_was_right(out: Path) -> None:
    rows = {row["point_id"]: row for row in rows_of(1)[1]}
    whole = decided(lambda row: by_stability(row) if row["image_id"] > 1 else None)
    before = calibrate(out, whole)
    one = rows[4]
    x0, y0, w, h = (int(side) for side in one["bbox"])
    box = frame_rle(np.ones((h, w), np.bool_), (x0, y0, x0 + w, y0 + h), SIZE_HW)
    person = Person("train", 1, 4)
    drawn = Correction(person, "corrected", box, None, "ada", "1.jpg", (one["x"], one["y"]))
    after = calibrate(out, whole | {person: drawn})
    assert after.judged == before.judged + 1
    iou = after.mean_iou * after.judged - before.mean_iou * before.judged
    assert iou == pytest.approx(one["area"] / (w * h))


def test_decisions_that_do_not_fit_the_run_do_not_count(out: Path) -> None:
    whole = decided()
    person = Person("train", 1, 4)
    moved = whole | {person: replace(whole[person], seen_xy=(0.0, 0.0))}
    assert calibrate(out, moved).judged == len(whole) - 1
    added = Correction(Person("train", 1, 500_000), "deleted", None, None, "ada", "1.jpg", None)
    assert calibrate(out, whole | {added.person: added}).judged == len(whole)


TOO_FEW: dict[str, tuple[Callable[[Row], str | None], str]] = {
    "nothing": (lambda row: None, "0 masks are judged, 0 good and 0 bad"),
    "too few": (lambda row: by_stability(row) if row["image_id"] < 3 else None, "80 masks"),
    "all good": (lambda row: "accepted", "320 good and 0 bad"),
    "hardly a good one": (
        lambda row: "accepted" if row["point_id"] == 2 else "rejected",
        "8 good and 312 bad",
    ),
}


@pytest.mark.parametrize(("judge", "why"), TOO_FEW.values(), ids=TOO_FEW)
def test_too_few_decisions_are_refused(
    judge: Callable[[Row], str | None], why: str, out: Path
) -> None:
    with pytest.raises(UsageError, match=why) as caught:
        calibrate(out, decided(judge))
    assert "review more" in str(caught.value)


def test_few_images_are_split_by_masks(out: Path) -> None:
    found = calibrate(out, decided(lambda row: by_stability(row) if row["image_id"] < 4 else None))
    assert (found.judged, found.fitted.of_perfect) == (120, 1)


def test_a_folder_without_a_run_record(out: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no finished run"):
        calibrate(tmp_path, {})
    (tmp_path / "run.json").write_text('{"settings": {}}')
    with pytest.raises(InputError, match=r"run\.json"):
        calibrate(tmp_path, {})
