"""A good run has no findings, and every planted defect is found by its code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dpmo_cli.outputs.findings import CODES
from dpmo_cli.outputs.validate import validate_run
from tests.outputs.defects import COCO, DEFECTS, POINTS, QUEUE, Plant, set_pixel
from tests.outputs.samples import (
    make_info,
    make_record,
    make_rows,
    sample_records,
    write_run,
)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("good") / "out", sample_records())


@pytest.fixture
def out(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "out")


def test_a_good_run_is_clean(good: Path) -> None:
    assert validate_run(good) == []


@pytest.mark.parametrize(("plant", "codes"), DEFECTS.values(), ids=list(DEFECTS))
def test_a_planted_defect_is_found_by_its_code(out: Path, plant: Plant, codes: str) -> None:
    plant(out)
    findings = validate_run(out)
    assert {finding.code for finding in findings} == {f"DPMO-{code}" for code in codes.split()}
    for finding in findings:
        assert "\n" not in str(finding)
        files = (COCO, POINTS, QUEUE, "run.json", "review/corrections.parquet")
        assert finding.file in files or finding.code == "DPMO-V003"


def test_every_code_has_a_defect() -> None:
    assert {f"DPMO-{code}" for _, codes in DEFECTS.values() for code in codes.split()} == set(CODES)


@pytest.mark.parametrize("name", [COCO, POINTS, QUEUE, "run.json"])
def test_an_empty_file_is_a_finding(out: Path, name: str) -> None:
    (out / name).write_bytes(b"")
    assert [finding.file for finding in validate_run(out)] == [name]


def test_an_empty_folder(tmp_path: Path) -> None:
    assert [finding.file for finding in validate_run(tmp_path)] == ["run.json", QUEUE]


def test_hidden_files_do_not_count(out: Path) -> None:
    (out / "annotations" / ".0123456789abcdef.dpmo-tmp").touch()
    (out / ".dpmo").mkdir()
    (out / ".dpmo" / "lock").touch()
    (out / "picture.png").touch()
    assert validate_run(out) == []


def test_other_extents_are_not_bound_to_the_disc(tmp_path: Path) -> None:
    records = sample_records()
    rows = records[0].rows.to_pylist()
    set_pixel(rows, 2, 20, 39)
    records[0] = make_record(records[0].info, rows)
    assert validate_run(write_run(tmp_path, records, extent="visible")) == []


def test_the_sites_own_pixel_may_lie_outside_its_disc(tmp_path: Path) -> None:
    # A lone point in a tiny image: the disc's radius is below half a pixel.
    info = make_info(size_hw=(1, 1))
    rows = make_rows(info, [(0.45, 0.4)], radius_px=0.25)
    assert validate_run(write_run(tmp_path, [make_record(info, rows)])) == []


def test_a_run_without_images(tmp_path: Path) -> None:
    info = make_info()
    assert validate_run(write_run(tmp_path, [make_record(info, [])])) == []
