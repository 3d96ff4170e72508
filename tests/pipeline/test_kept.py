"""Corrected records are made once for all outputs, and are those of the snapshot."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpmo_cli.outputs import corrected as overlays
from dpmo_cli.outputs.corrections import write_corrections
from dpmo_cli.pipeline import finish
from dpmo_cli.pipeline.apply import apply_corrections
from dpmo_cli.pipeline.kept import KeptRecords
from dpmo_cli.pipeline.store import Store
from tests.pipeline.test_apply import MADE, contents, one, out

__all__ = ["out"]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images whose corrections are laid over, as often as they are."""
    seen: list[str] = []
    lay_over = overlays.lay_over

    def count(record, fitting):
        if fitting:
            seen.append(record.info.file_name)
        return lay_over(record, fitting)

    for module in (overlays, finish):
        monkeypatch.setattr(module, "lay_over", count)
    return seen


def test_each_image_is_corrected_once(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = counted(monkeypatch)
    apply_corrections(out, MADE)
    assert seen == ["images/a b.jpg"]
    assert not (out / ".dpmo" / "reviewed").exists()


def test_the_bytes_are_those_of_records_that_were_not_kept(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply_corrections(out, MADE)
    kept = contents(out)
    apply_corrections(out, [])
    seen = counted(monkeypatch)
    monkeypatch.setattr(KeptRecords, "are_of", lambda *_: False)
    apply_corrections(out, MADE)
    assert len(seen) > 3
    assert contents(out) == kept


def test_records_of_another_snapshot_are_not_taken(out: Path, tmp_path: Path) -> None:
    apply_corrections(out, MADE)
    other = tmp_path / "other.parquet"
    write_corrections(other, [one(1, "rejected")])
    with Store(out) as store:
        finish.tally(store)
        assert store.kept.are_of(store.corrections)
        assert not store.kept.are_of(other)
        assert not store.kept.are_of(tmp_path / "none.parquet")
        assert store.kept.get("train", 1) is not None
        assert store.kept.get("train", 2) is None
        write_corrections(store.corrections, [one(1, "rejected")])
        rows = next(store.reviewed("train")()).rows.to_pylist()
        assert [row["status"] for row in rows[:3]] == ["ok", "unmasked", "ok"]


def test_what_a_killed_run_left_is_removed(out: Path) -> None:
    left = out / ".dpmo" / "reviewed" / "train" / "00000001.parquet"
    left.parent.mkdir(parents=True)
    left.write_text("half a record")
    with Store(out):
        assert not left.exists()
