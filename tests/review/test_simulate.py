"""What a review is worth: corrected by the truth through decisions and apply."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpmo_cli.cli.review import bring_home
from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.corrections import Person, write_corrections
from dpmo_cli.outputs.findings import CORRECTIONS_FILE
from dpmo_cli.pipeline.finish import tally, write_outputs, write_run_record
from dpmo_cli.pipeline.store import Manifest, Store
from dpmo_cli.review.decisions import Decision, Decisions
from dpmo_cli.review.simulate import QUEUE, RANDOM, WORST, simulate
from tests.conftest import Dpmo
from tests.outputs.samples import make_info, make_record, make_rows, mask_columns, pixels_of
from tests.pipeline.test_settings import SETTINGS

PEOPLE = 40
WRONG = (3, 14, 25, 36)


@pytest.fixture
def crowd(tmp_path: Path) -> tuple[Path, Path]:
    """A run of 40 people, four masks of which are a single pixel, and its truth.

    The scores name two of the four, and two that are right.
    """
    points = [(10.0 * column + 6, 10.0 * row + 6) for row in range(5) for column in range(8)]
    info = make_info(1, "train", "1.jpg", (56, 92))
    rows = make_rows(info, points, radius_px=4.0)
    truth = np.zeros((56, 92), np.uint16)
    for point, row in enumerate(rows):
        truth[pixels_of(row)] = point + 1
        row["annotation_id"] = 1_000_000 + point
        row["score"] = 0.2 if point in (3, 14, 20, 21) else 0.9
        if point in WRONG:
            pixel = np.zeros((56, 92), np.bool_)
            pixel[int(row["y"]), int(row["x"])] = True
            row.update(mask_columns(pixel))
    out = tmp_path / "out"
    with Store(out) as store:
        record = replace(make_record(info, rows), fingerprint="f" * 8)
        store.write_record(record)
        store.write_manifest("train", Manifest(SETTINGS, None, None, "", {1: record.fingerprint}))
        write_outputs(store, SETTINGS)
        write_run_record(store, SETTINGS, tally(store), root="data", config={}, measured={})
    (tmp_path / "truth").mkdir()
    Image.fromarray(truth).save(tmp_path / "truth" / "1.png")
    return out, tmp_path / "truth"


def test_the_gains_are_those_of_the_masks_that_were_corrected(crowd: tuple[Path, Path]) -> None:
    out, truth = crowd
    before = sorted((path, path.read_bytes()) for path in out.rglob("*") if path.is_file())
    found = simulate(out, str(truth), part=0.1, seed=0, apply=bring_home)
    assert found.subjects == PEOPLE
    assert [(arm.chosen, arm.corrected, arm.refused) for arm in found.arms] == [
        (QUEUE, 4, 0),
        (WORST, 4, 0),
        (RANDOM, 4, 0),
    ]
    assert found.arms[1].mean_iou == pytest.approx(1)
    assert found.of_worst == pytest.approx(0.5, abs=0.02)
    assert found.gain(RANDOM) < found.gain(QUEUE)
    assert sorted((p, p.read_bytes()) for p in out.rglob("*") if p.is_file()) == before


def test_all_corrected_is_all_right_whatever_was_decided_before(crowd: tuple[Path, Path]) -> None:
    out, truth = crowd
    with Decisions(out) as decisions:
        one = Decision(
            Person("train", 1, 0), "deleted", None, None, "ada", "page", None, "1.jpg", (6.0, 6.0)
        )
        decisions.decide(one, expected=None)
    found = simulate(out, str(truth), part=1.0, seed=0, apply=bring_home)
    assert [arm.mean_iou for arm in found.arms] == pytest.approx([1, 1, 1])
    assert (found.of_worst, found.of_random) == pytest.approx((1, 1))


def test_a_run_with_corrections_is_refused(crowd: tuple[Path, Path]) -> None:
    out, truth = crowd
    write_corrections(out / CORRECTIONS_FILE, [])
    with pytest.raises(UsageError, match="holds corrections"):
        simulate(out, str(truth), part=0.1, seed=0, apply=bring_home)


def test_command(crowd: tuple[Path, Path], dpmo: Dpmo) -> None:
    outcome = dpmo("review", "simulate", "out", "--truth", "truth", "--json", "--quiet")
    document = outcome.json
    assert (outcome.stderr.count("correcting"), document["kind"]) == (0, "review-simulate")
    assert document["masks"] == PEOPLE
    assert document["of_worst"] == pytest.approx(0.5, abs=0.02)
    outcome = dpmo("review", "simulate", "out", "--truth", "truth")
    assert outcome.stdout.splitlines()[-1].startswith("queue: ")


@pytest.mark.slow
def test_correcting_the_queue_pays_on_rendered_crowds(dpmo: Dpmo, tmp_path: Path) -> None:
    """Whole runs of nano on scenes with exact masks."""
    from examples.render import main as render

    render([str(tmp_path / "data"), "--dataset", "shanghaitech-a", "--scenes", "2", "--seed", "7"])
    root = tmp_path / "data" / "shanghaitech-a"
    dpmo("convert", "--dataset", "shanghaitech-a", "--root", root, "--out", "out")
    document = dpmo(
        "review", "simulate", "out", "--truth", root / "truth", "--json", "--quiet"
    ).json
    assert document["of_worst"] >= 0.6
    assert document["of_random"] > 1.5
