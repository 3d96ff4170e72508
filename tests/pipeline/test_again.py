"""Runs over what is there already: nothing twice, nothing stale, nothing of another run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from dpmo_cli.outputs.validate import validate_run
from tests.conftest import Crowd, Dpmo, FakeEngine, moments, tree
from tests.pipeline.test_convert import OUTPUTS, public_files


def test_second_run_does_nothing_and_says_so(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("convert", "--root", crowd.root, "--out", out)
    assert dpmo(*command).code == 0
    before, when = tree(out, without=()), moments(out)
    again = dpmo(*command, "--json")
    assert again.code == 0
    assert f"dpmo: {out}: up to date, nothing to do" in again.lines
    assert again.json["changed"] is False
    assert again.json["converted_images"] == 0
    assert again.json["counts"]["points"] == crowd.total
    assert moments(out) == when
    assert tree(out, without=()) == before
    assert fake_engine.loads == 1, "no network is loaded to do nothing"


def test_image_that_fails_again_changes_nothing(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    (crowd.root / "train/1.png").write_bytes(b"torn")
    command = ("convert", "--root", crowd.root, "--out", tmp_path / "out", "--json")
    assert dpmo(*command).code == 3
    when = moments(tmp_path / "out")
    again = dpmo(*command)
    assert (again.code, again.json["changed"]) == (3, False)
    assert moments(tmp_path / "out") == when


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--nnec-scale", "0.7"], id="scale"),
        pytest.param(["--tiles", "off"], id="tiles"),
        pytest.param(["--prompt-batch", "3"], id="batch"),
        pytest.param(["--dtype", "bf16"], id="dtype"),
        pytest.param(["--checkpoint", "mine.safetensors"], id="weights"),
    ],
)
def test_changed_settings_recompute_everything(
    options: list[str], dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    (tmp_path / "mine.safetensors").write_bytes(b"other weights")
    command = ("convert", "--root", crowd.root, "--json")
    dpmo(*command, "--out", "out")
    changed = dpmo(*command, "--out", "out", *options)
    assert changed.json["converted_images"] == 7
    assert validate_run(tmp_path / "out") == []
    dpmo(*command, "--out", "fresh", *options)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh"), "nothing of the first run is left"


def _recolour(crowd: Crowd) -> None:
    Image.new("RGB", (64, 48), (250, 250, 250)).save(crowd.root / "train/3.png")


def _move_a_point(crowd: Crowd) -> None:
    crowd.points["train", "train/3.png"][0] = (1.5, 2.5)
    crowd.write()


@pytest.mark.parametrize(
    "change", [pytest.param(_recolour, id="image"), pytest.param(_move_a_point, id="annotation")]
)
def test_changed_bytes_recompute_that_image_alone(
    change: Callable[[Crowd], None],
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    crowd: Crowd,
    tmp_path: Path,
) -> None:
    command = ("convert", "--root", crowd.root, "--json")
    dpmo(*command, "--out", "out")
    before, encoded = moments(tmp_path / "out"), fake_engine.encoded
    change(crowd)
    assert dpmo(*command, "--out", "out").json["converted_images"] == 1
    assert fake_engine.encoded == encoded + 1
    moved = {
        name
        for name, moment in moments(tmp_path / "out").items()
        if before.get(name) != moment and (tmp_path / "out" / name).is_file()
    }
    assert moved == {
        ".dpmo/records/train/00000004.parquet",
        ".dpmo/train.json",
        "annotations/train.json",
        "points/train.parquet",
        "review/queue.parquet",
        "run.json",
    }
    dpmo(*command, "--out", "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_same_bytes_saved_again_change_nothing(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    command = ("convert", "--root", crowd.root, "--out", tmp_path / "out", "--json")
    dpmo(*command)
    image = crowd.root / "train/0.png"
    image.write_bytes(image.read_bytes())
    crowd.write()
    assert dpmo(*command).json["changed"] is False


def test_moved_dataset_changes_nothing(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    dpmo("convert", "--root", crowd.root, "--out", tmp_path / "out")
    elsewhere = crowd.root.rename(tmp_path / "elsewhere")
    again = dpmo("convert", "--root", elsewhere, "--out", tmp_path / "out", "--json")
    assert again.json["changed"] is False


def test_new_image_moves_the_ids_of_those_behind_it(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    command = ("convert", "--root", crowd.root, "--json")
    dpmo(*command, "--out", "out")
    crowd.add("train/2b.png")
    assert dpmo(*command, "--out", "out").json["converted_images"] == 3
    dpmo(*command, "--out", "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_force_converts_again(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    command = ("convert", "--root", crowd.root, "--out", tmp_path / "out", "--json")
    dpmo(*command)
    before = tree(tmp_path / "out")
    forced = dpmo(*command, "--force")
    assert (forced.json["changed"], forced.json["converted_images"]) == (True, 7)
    assert tree(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(pytest.param(name, Path.unlink, id=f"no {name}") for name in sorted(OUTPUTS)),
        pytest.param("run.json", lambda path: path.write_bytes(b"{}"), id="empty run.json"),
        pytest.param("points/test.parquet", lambda path: path.write_bytes(b"{}"), id="no table"),
    ],
)
def test_lost_or_changed_outputs_are_made_again(
    name: str,
    damage: Callable[[Path], object],
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    crowd: Crowd,
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    command = ("convert", "--root", crowd.root, "--out", out, "--json")
    dpmo(*command)
    before = tree(out)
    damage(out / name)
    again = dpmo(*command)
    assert (again.json["changed"], again.json["converted_images"]) == (True, 0)
    assert tree(out) == before
    assert validate_run(out) == []


def test_lost_record_is_computed_again(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("convert", "--root", crowd.root, "--out", out, "--json")
    dpmo(*command)
    before = tree(out)
    (out / ".dpmo/records/train/00000002.parquet").write_bytes(b"PAR1 torn")
    assert dpmo(*command).json["converted_images"] == 1
    assert tree(out) == before


def test_record_with_damaged_pages_is_named(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("convert", "--root", crowd.root, "--out", out)
    dpmo(*command)
    record = out / ".dpmo/records/train/00000002.parquet"
    content = bytearray(record.read_bytes())
    content[60] ^= 0xFF
    record.write_bytes(content)
    (line,) = (damaged := dpmo(*command)).errors
    assert damaged.code == 1
    assert f"{record}: is no whole record; delete it" in line
    assert dpmo(*command, "--force").code == 0
    assert validate_run(out) == []


class TestSplits:
    """Splits that share a folder."""

    def test_split_with_equal_settings_is_added(
        self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
    ) -> None:
        command = ("convert", "--root", crowd.root, "--json", "--out")
        dpmo(*command, "out", "--split", "train")
        assert not (tmp_path / "out/points/test.parquet").exists()
        added = dpmo(*command, "out", "--split", "TEST")
        assert added.json["converted_images"] == 2
        assert sorted(added.json["splits"]) == ["test", "train"]
        assert added.json["counts"]["images"] == 7
        dpmo(*command, "together")
        assert tree(tmp_path / "out") == tree(tmp_path / "together")
        assert validate_run(tmp_path / "out") == []

    def test_other_settings_are_refused_and_nothing_is_touched(
        self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        dpmo("convert", "--root", crowd.root, "--out", out, "--split", "train")
        before, when = tree(out, without=()), moments(out)
        other = ("convert", "--root", crowd.root, "--out", out, "--tiles", "off")
        refused = dpmo(*other, "--split", "test")
        assert refused.code == 2
        (line,) = refused.errors
        assert f"--out {out}: also holds split 'train' made with other settings" in line
        assert "--force" in line
        assert tree(out, without=()) == before
        assert moments(out) == when

        assert dpmo(*other, "--split", "train", "--split", "test").code == 0
        assert validate_run(out) == []

    def test_force_replaces_what_has_other_settings(
        self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        dpmo("convert", "--root", crowd.root, "--out", out, "--split", "train")
        forced = dpmo(
            *("convert", "--root", crowd.root, "--out", out, "--split", "test"),
            *("--tiles", "off", "--force", "--json"),
        )
        assert sorted(forced.json["splits"]) == ["test"]
        assert public_files(out) == {name for name in OUTPUTS if "train" not in name}
        assert validate_run(out) == []

    def test_split_that_a_killed_run_left_half_replaced_is_refused(
        self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
    ) -> None:
        """Settings A, then B killed halfway: a run of A for another split must not mix them."""
        out = tmp_path / "out"
        command = ("convert", "--root", crowd.root, "--out", out)
        dpmo(*command)
        _stop_at(fake_engine, 3)
        assert dpmo(*command, "--tiles", "off").code == 130
        fake_engine.on_encode = lambda: None
        (line,) = (refused := dpmo(*command, "--split", "test", "--limit", "1")).errors
        assert refused.code == 2
        assert "also holds split 'train' of an interrupted run" in line
        assert dpmo(*command).code == 0
        dpmo("convert", "--root", crowd.root, "--out", "fresh")
        assert tree(out) == tree(tmp_path / "fresh")


def _stop_at(engine: FakeEngine, calls: int) -> None:
    """Interrupt the run before the engine encodes for the `calls`-th time from now."""
    left = [calls]

    def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt

    engine.on_encode = count


def test_changed_settings_are_named(dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd) -> None:
    command = ("convert", "--root", crowd.root, "--out", "out")
    assert dpmo(*command).code == 0
    again = dpmo(*command, "--nnec-scale", "0.5")
    assert again.code == 0
    told = "dpmo: out: other settings (nnec_scale 1.0, now 0.5); what is there is converted again"
    assert told in again.lines
    assert not any("other settings" in line for line in dpmo(*command, "--nnec-scale", "0.5").lines)
