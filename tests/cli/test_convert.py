"""`dpmo convert`: what its options do, what it prints where, and how it exits."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import Crowd, Dpmo, FakeEngine, Outcome, tree


def _break(crowd: Crowd, count: int) -> None:
    """Truncate the first images."""
    for _, name in list(crowd.points)[:count]:
        (crowd.root / name).write_bytes((crowd.root / name).read_bytes()[:60])


def _usage(outcome: Outcome, *says: str) -> None:
    assert outcome.code == 2
    assert outcome.stdout == ""
    (line,) = outcome.lines
    assert line.startswith("dpmo: error: ")
    for part in says:
        assert part in line


@pytest.mark.parametrize(
    ("broken", "options", "code"),
    [
        pytest.param(0, [], 0, id="all went well"),
        pytest.param(0, ["--max-failure-rate", "0"], 0, id="all went well, none may fail"),
        pytest.param(1, [], 3, id="one failed"),
        pytest.param(2, ["--max-failure-rate", "0.5"], 3, id="fewer than may fail"),
        pytest.param(2, ["--max-failure-rate", "0.2"], 1, id="more than may fail"),
        pytest.param(7, [], 1, id="all failed"),
        pytest.param(1, ["--strict"], 1, id="strict"),
    ],
)
def test_exit_codes(
    broken: int,
    options: list[str],
    code: int,
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    crowd: Crowd,
) -> None:
    _break(crowd, broken)
    command = ("convert", "--root", crowd.root, "--out", "out", *options)
    outcome = dpmo(*command)
    assert outcome.code == code
    assert len(outcome.errors) == broken
    again = dpmo(*command)
    assert again.code == code, "also when there is nothing new to do"
    assert again.errors == outcome.errors, "failed images are tried again"


def test_strict_ends_at_the_first_bad_file(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    (crowd.root / "train/2.png").write_bytes(b"torn")
    (crowd.root / "train/3.png").write_bytes(b"torn")
    outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--strict", "--json")
    assert outcome.code == 1
    assert outcome.stdout == ""
    assert "train/2.png: is no image" in outcome.lines[-1]
    assert fake_engine.encoded == 2, "nothing is done behind it"
    assert not (tmp_path / "out/run.json").exists()


def test_mended_image_is_converted_by_the_next_run(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    image = crowd.root / "train/2.png"
    whole = image.read_bytes()
    image.write_bytes(whole[:60])
    command = ("convert", "--root", crowd.root, "--json")
    assert dpmo(*command, "--out", "out").code == 3
    image.write_bytes(whole)
    mended = dpmo(*command, "--out", "out")
    assert (mended.code, mended.json["converted_images"]) == (0, 1)
    dpmo(*command, "--out", "fresh")
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_json_is_all_of_stdout(dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd) -> None:
    _break(crowd, 1)
    outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--json")
    summary = outcome.json
    assert (summary["version"], summary["kind"], summary["out"]) == (1, "convert", "out")
    assert (summary["changed"], summary["converted_images"]) == (True, 6)
    assert summary["counts"]["images"] == 7
    assert summary["counts"]["failed_images"] == 1
    assert summary["counts"]["points"] == crowd.total
    assert summary["counts"]["by_status"] == {"failed": 3, "ok": crowd.total - 3}
    assert set(summary["splits"]) == {"train", "test"}
    (failure,) = summary["failures"]
    assert outcome.errors == [f"dpmo: error: {failure}"]
    assert summary["warnings"] == 0
    assert summary["seconds"] >= 0
    assert summary["exit_code"] == outcome.code == 3


def test_without_json_stdout_is_empty(dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd) -> None:
    outcome = dpmo("convert", "--root", crowd.root, "--out", "out")
    assert outcome.stdout == ""
    assert outcome.lines[-1].startswith(
        f"dpmo: out: {crowd.total} masks for {crowd.total} points in 7 images, "
    )


def test_warnings_are_printed_and_counted(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd
) -> None:
    crowd.points["train", "train/0.png"].append((float("nan"), 3.0))
    crowd.write()
    outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--json")
    assert outcome.code == 0
    assert "dpmo: warning: train/0.png: 1 points are NaN or infinite" in outcome.lines
    assert outcome.json["warnings"] == 1


class TestQuiet:
    """`--quiet`: nothing but what is wrong."""

    @pytest.mark.parametrize("flag", ["--quiet", "-q"])
    def test_success_is_silent(
        self, flag: str, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd
    ) -> None:
        command = ("convert", "--root", crowd.root, "--out", "out", flag)
        for _ in range(2):
            outcome = dpmo(*command)
            assert (outcome.code, outcome.stdout, outcome.stderr) == (0, "", "")
        assert dpmo(*command, "--json").json["changed"] is False

    def test_failures_are_not(self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd) -> None:
        _break(crowd, 1)
        outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--quiet")
        assert outcome.code == 3
        error, warning = outcome.lines
        assert error.startswith("dpmo: error: ")
        assert warning == "dpmo: warning: 1 of 7 images failed; mend what is named and run again"


class TestDryRun:
    """`--dry-run`: the plan, and nothing else."""

    def test_nothing_is_written(
        self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
    ) -> None:
        before = sorted(path.name for path in tmp_path.iterdir())
        outcome = dpmo("convert", "--root", crowd.root, "--out", "a/out", "--dry-run")
        assert outcome.code == 0
        assert outcome.stderr.startswith("dpmo: planning, and timing some tiles with nano")
        assert outcome.stderr.count("\n") == 1
        assert outcome.stdout.splitlines()[0].split() == ["images", "7"]
        assert sorted(path.name for path in tmp_path.iterdir()) == before

    def test_json(self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd) -> None:
        outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--dry-run", "--json")
        plan = outcome.json
        assert (plan["version"], plan["kind"]) == (1, "plan")
        assert set(plan) - {"version", "kind"} == {
            "images",
            "converted",
            "points",
            "tiles",
            "prompts",
            "unreadable",
            "seconds",
            "memory_bytes",
            "changes",
        }

    def test_finished_run_is_not_touched(
        self, dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
    ) -> None:
        command = ("convert", "--root", crowd.root, "--out", "out")
        dpmo(*command)
        before = tree(tmp_path / "out", without=())
        plan = dpmo(*command, "--dry-run", "--json").json
        assert (plan["converted"], plan["prompts"], plan["seconds"]) == (plan["images"], 0, 0)
        assert dpmo(*command, "--dry-run", "--force", "--nnec-scale", "2").code == 0
        assert tree(tmp_path / "out", without=()) == before


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--tiles", "on"], "--tiles on: unknown; use auto or off"),
        (["--nnec-scale", "0"], "--nnec-scale 0.0: must be a positive number"),
        (["--nnec-scale", "-1"], "--nnec-scale -1.0: must be a positive number"),
        (["--nnec-scale", "nan"], "--nnec-scale nan: must be a positive number"),
        (["--nnec-scale", "inf"], "--nnec-scale inf: must be a positive number"),
        (["--shard", "4/3"], "--shard 4/3: give i/n"),
        (["--dtype", "fp16"], "--dtype fp16: unknown; use one of fp32, bf16"),
        (["--device", "tpu"], "--device tpu: unknown; use auto, cpu, cuda, cuda:N or mps"),
        (["--sam", "nanno"], "unknown weights 'nanno'; did you mean nano?"),
        (["--split", "val"], "no labelled split 'val'"),
        (["--dataset", "cvs"], "unknown dataset 'cvs'; did you mean csv?"),
        (["--dataset", "jhu"], "holds no jhu"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options_are_one_line(
    options: list[str], says: str, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
) -> None:
    _usage(dpmo("convert", "--root", crowd.root, "--out", "out", *options), says)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_device_that_is_not_there_is_no_silent_fall_back(dpmo: Dpmo, crowd: Crowd) -> None:
    outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--device", "cuda")
    _usage(outcome, "--device cuda: this machine has 0 CUDA devices; use --device cpu")


def test_splits_may_be_given_in_many_ways(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd
) -> None:
    for options in (["--split", "TEST", "--split", "train"], ["--split", "test,train"], []):
        outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--json", *options)
        assert set(outcome.json["splits"]) == {"train", "test"}


def test_without_a_split_column_all_is_one_split(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    (crowd.root / "points.csv").write_text("image,x,y\ntrain/0.png,3,4\n")
    assert dpmo("convert", "--root", crowd.root, "--out", "out").code == 0
    assert (tmp_path / "out/annotations/all.json").is_file()


class TestWeights:
    """Weights that are missing, wrong or carry code end the run at once."""

    def test_missing_ones_say_how_to_get_them(
        self, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
    ) -> None:
        outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--sam", "vit_b")
        _usage(outcome, "dpmo weights fetch vit_b", "--from FILE", str(tmp_path / "home"))
        assert not (tmp_path / "out").exists(), "and nothing was fetched or made"
        assert not (tmp_path / "home").exists()

    @pytest.mark.parametrize(
        ("content", "says"),
        [
            pytest.param(b"no weights at all", "is no checkpoint, or damaged", id="text"),
            pytest.param(b"", "is no checkpoint, or damaged", id="empty"),
            pytest.param(b"PK\x03\x04 torn", "is no checkpoint, or damaged", id="torn archive"),
            pytest.param(b"\x80\x04.", "is a bare pickle, which may carry code", id="bare pickle"),
        ],
    )
    def test_unreadable_ones_are_named(
        self, content: bytes, says: str, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
    ) -> None:
        (tmp_path / "w.pth").write_bytes(content)
        command = ("convert", "--root", crowd.root, "--out", "out", "--checkpoint", "w.pth")
        outcome = dpmo(*command, "--quiet")
        _usage(outcome, f"w.pth: {says}")

    def test_ones_of_another_network_are_named(
        self, dpmo: Dpmo, crowd: Crowd, tmp_path: Path
    ) -> None:
        save_file({"weight": torch.zeros(3)}, tmp_path / "w.safetensors")
        command = ("convert", "--root", crowd.root, "--out", "out", "-q")
        outcome = dpmo(*command, "--checkpoint", "w.safetensors")
        _usage(outcome, "w.safetensors: does not hold nano weights; give the right file")

    def test_no_such_file(self, dpmo: Dpmo, crowd: Crowd) -> None:
        command = ("convert", "--root", crowd.root, "--out", "out", "--checkpoint", "w.pth")
        _usage(dpmo(*command), "w.pth: no such file")

    def test_pickled_code_is_never_executed(self, dpmo: Dpmo, crowd: Crowd, tmp_path: Path) -> None:
        torch.save({"weight": torch.zeros(3), "trap": _Trap()}, tmp_path / "w.pth")
        command = ("convert", "--root", crowd.root, "--out", "out", "--checkpoint", "w.pth")
        outcome = dpmo(*command, "--quiet")
        _usage(outcome, "w.pth: carries pickled Python objects", "were not executed")
        assert not hasattr(sys, "trapped")
        # The trap is a real one.
        torch.load(tmp_path / "w.pth", weights_only=False)
        assert sys.__dict__.pop("trapped") is True


class _Trap:
    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("import sys; sys.trapped = True",)


def test_root_that_is_no_utf8(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    name = b"d\xfft".decode(sys.getfilesystemencoding(), "surrogateescape")
    try:
        root = crowd.root.rename(tmp_path / name)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    (root / "train/0.png").write_bytes(b"torn")
    outcome = dpmo("convert", "--root", root, "--out", "out", "--json")
    assert outcome.code == 3
    assert outcome.stdout.isascii()
    assert outcome.json["failures"][0].startswith(str(root))
    record = json.loads((tmp_path / "out/run.json").read_text())
    assert record["root"] == str(root)
