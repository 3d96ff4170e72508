"""The folder of records: manifests, the lock, and the run record that goes before any change."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dpmo_cli.errors import EXIT_FAILED, EXIT_USAGE, UsageError
from dpmo_cli.outputs.atomic import TEMPORARY_SUFFIX, OutputError
from dpmo_cli.outputs.records import ImageRecord
from dpmo_cli.pipeline.plan import Shard
from dpmo_cli.pipeline.store import Manifest, Store
from tests.outputs.samples import sample_records
from tests.pipeline.test_settings import SETTINGS

MANIFEST = Manifest(SETTINGS, 5, Shard(1, 3), "5e", {12: "b", 7: "a"})


@pytest.fixture
def record() -> ImageRecord:
    return sample_records()[0]


def _run_record(out: Path) -> Path:
    out.mkdir(exist_ok=True)
    path = out / "run.json"
    path.write_text("{}")
    return path


@pytest.mark.parametrize(
    "manifest",
    [
        pytest.param(MANIFEST, id="shard"),
        pytest.param(Manifest(SETTINGS, None, None, "", {}), id="whole, empty"),
        pytest.param(replace(MANIFEST, settings=replace(SETTINGS, prompt_batch=3)), id="batch"),
    ],
)
def test_manifest_comes_back(manifest: Manifest) -> None:
    text = manifest.dumps()
    assert Manifest.loads(text) == manifest
    assert Manifest.loads(text).dumps() == text


def test_manifest_does_not_show_the_order_of_work() -> None:
    backwards = replace(MANIFEST, records=dict(reversed(MANIFEST.records.items())))
    assert backwards.dumps() == MANIFEST.dumps()


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{}", id="no keys"),
        pytest.param("[]", id="a list"),
        pytest.param(MANIFEST.dumps()[:-20], id="torn"),
        pytest.param(MANIFEST.dumps().replace('"sam"', '"sum"'), id="unknown setting"),
        pytest.param("\xff", id="not JSON"),
    ],
)
def test_manifest_that_cant_be_read_is_none(text: str, tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        (store.folder / "train.json").write_text(text)
        assert store.splits() == ["train"]
        assert store.manifest("train") is None
        assert list(store.records("train")()) == []


def test_store_makes_its_folder_and_sweeps_what_killed_runs_left(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    stale = out / "points" / f".0123{TEMPORARY_SUFFIX}"
    stale.parent.mkdir(parents=True)
    stale.write_bytes(b"half")
    with Store(out) as store:
        assert store.folder.is_dir()
        assert not stale.exists()


def test_lock_keeps_a_second_run_out(tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        stale = tmp_path / f".live{TEMPORARY_SUFFIX}"
        stale.write_bytes(b"being written")
        with (
            pytest.raises(UsageError, match="another run is writing there") as caught,
            Store(tmp_path),
        ):
            pass
        assert caught.value.exit_code == EXIT_USAGE
        assert stale.exists(), "files of the run that holds the lock are left alone"
        assert store.splits() == []
    with (
        Store(tmp_path),
        (tmp_path / ".dpmo" / "lock").open("rb+") as file,
        pytest.raises(BlockingIOError),  # for other processes too
    ):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_lock_is_free_after_an_exception(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Store(tmp_path):
        raise KeyboardInterrupt
    with Store(tmp_path):
        pass


@pytest.mark.parametrize(
    ("out", "error", "code"),
    [
        pytest.param("file", UsageError, EXIT_USAGE, id="a file"),
        pytest.param("file/below", OutputError, EXIT_FAILED, id="below a file"),
    ],
)
def test_folder_that_cant_be_made(
    out: str, error: type[Exception], code: int, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(error, match=out) as caught, Store(tmp_path / out):
        pass
    assert caught.value.exit_code == code


def test_record_comes_back(record: ImageRecord, tmp_path: Path) -> None:
    with Store(tmp_path) as store:
        split, image_id = record.info.split, record.info.image_id
        assert not store.has(split, image_id, record.fingerprint)
        store.write_record(record)
        assert store.has(split, image_id, record.fingerprint)
        assert not store.has(split, image_id, "other")
        manifest = Manifest(SETTINGS, None, None, "", {image_id: record.fingerprint})
        store.write_manifest(split, manifest)
        (read,) = store.records(split)()
        assert read.rows.equals(record.rows)
        assert (read.info, read.fingerprint) == (record.info, record.fingerprint)


def test_store_holds_what_a_manifest_says(record: ImageRecord, tmp_path: Path) -> None:
    split, image_id = record.info.split, record.info.image_id
    with Store(tmp_path) as store:
        store.write_record(record)
        there = {image_id: record.fingerprint}
        assert store.holds(split, replace(MANIFEST, records=there))
        assert store.holds(split, replace(MANIFEST, records={}))
        assert not store.holds(split, replace(MANIFEST, records={image_id: "older"}))
        assert not store.holds(split, replace(MANIFEST, records={**there, 99: "gone"}))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda store, record: store.write_record(record), id="a record"),
        pytest.param(lambda store, _: store.write_manifest("train", MANIFEST), id="a manifest"),
        pytest.param(lambda store, _: store.forget("train"), id="a split that goes"),
    ],
)
def test_a_change_takes_the_run_record_away_first(
    change: Callable[[Store, ImageRecord], None], record: ImageRecord, tmp_path: Path
) -> None:
    run_record = _run_record(tmp_path)
    with Store(tmp_path) as store:
        change(store, record)
    assert not run_record.exists()


def test_the_same_again_leaves_the_run_record(record: ImageRecord, tmp_path: Path) -> None:
    split, image_id = record.info.split, record.info.image_id
    with Store(tmp_path / "a") as source, Store(tmp_path / "b") as store:
        source.write_record(record)
        assert store.write_manifest(split, MANIFEST)
        store.copy_record(source, split, image_id, record.fingerprint)
        run_record = _run_record(tmp_path / "b")
        assert not store.write_manifest(split, MANIFEST)
        store.copy_record(source, split, image_id, record.fingerprint)
        assert run_record.exists()
        path = store.record_path(split, image_id)
        assert path.read_bytes() == source.record_path(split, image_id).read_bytes()


def test_forgetting_a_split_leaves_the_others(tmp_path: Path) -> None:
    gone = [tmp_path / "annotations" / "val.json", tmp_path / "points" / "val.parquet"]
    kept = [tmp_path / "annotations" / "train.json", tmp_path / "points" / "train.parquet"]
    with Store(tmp_path) as store:
        for split in ("train", "val"):
            store.write_manifest(split, MANIFEST)
        for path in (*gone, *kept):
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"")
        store.forget("val")
        assert store.splits() == ["train"]
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in kept)


def test_run_record_that_cant_be_removed_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.json").mkdir()
    with Store(tmp_path) as store, pytest.raises(OutputError, match=r"run\.json: can't be written"):
        store.write_manifest("train", MANIFEST)
