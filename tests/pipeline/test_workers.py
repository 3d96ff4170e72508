"""Runs in several processes: the same files, whatever becomes of a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dpmo_cli.datasets.base import ImageEntry
from dpmo_cli.datasets.registry import open_dataset
from dpmo_cli.errors import DpmoError, InputError, UsageError
from dpmo_cli.masks.method import Method
from dpmo_cli.outputs import atomic
from dpmo_cli.outputs.atomic import OutputError
from dpmo_cli.outputs.validate import validate_run
from dpmo_cli.pipeline.convert import run_job
from dpmo_cli.pipeline.job import Done, Job
from dpmo_cli.pipeline.plan import Selection, Task
from dpmo_cli.pipeline.settings import Settings
from dpmo_cli.pipeline.workers import Trouble, in_order
from dpmo_cli.sam.engine import Encoded, SamEngine
from tests.conftest import Crowd, Dpmo, FakeEngine, tree


def _done(number: int) -> Done:
    task = Task(ImageEntry("train", f"{number}.png", Path(), None), number)
    return SimpleNamespace(task=task)


@pytest.mark.parametrize(
    "arriving",
    [
        pytest.param([1, 2, 3, 4], id="in order"),
        pytest.param([4, 3, 2, 1], id="turned round"),
        pytest.param([2, 1, 4, 3], id="in pairs"),
        pytest.param([], id="none"),
    ],
)
def test_results_come_in_the_order_of_the_tasks(arriving: list[int]) -> None:
    tasks = [_done(number).task for number in sorted(arriving)]
    found = [done.task.image_id for done in in_order(map(_done, arriving), tasks)]
    assert found == sorted(arriving)


def test_a_result_does_not_wait_for_later_ones() -> None:
    taken = []

    def arriving() -> Iterator[Done]:
        for number in (1, 2):
            taken.append(number)
            yield _done(number)

    results = in_order(arriving(), [_done(1).task, _done(2).task])
    assert next(results).task.image_id == 1
    assert taken == [1]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        pytest.param(UsageError("no such file"), UsageError, id="usage"),
        pytest.param(OutputError(Path("a"), OSError(28, "No space")), DpmoError, id="output"),
        pytest.param(InputError("a", "is torn", "copy it"), DpmoError, id="input"),
        pytest.param(KeyError("x"), RuntimeError, id="unexpected"),
    ],
)
def test_troubles_arrive_as_they_were(error: Exception, kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        Trouble.of(error).raise_again()
    assert str(error) in str(caught.value)
    assert getattr(caught.value, "exit_code", None) == getattr(error, "exit_code", None)


def test_two_workers_write_the_same_files(dpmo: Dpmo, crowd: Crowd, tmp_path: Path) -> None:
    """By the real network, whose last bits depend on the number of its threads."""
    (crowd.root / "train/1.png").write_bytes(b"torn")
    command = ("convert", "--root", crowd.root, "--json")
    alone = dpmo(*command, "--out", "alone")
    together = dpmo(*command, "--out", "together", "--workers", "2")
    assert (alone.code, together.code) == (3, 3)
    assert together.errors == alone.errors
    assert tree(tmp_path / "together") == tree(tmp_path / "alone")
    assert validate_run(tmp_path / "together") == []
    document = json.loads((tmp_path / "together/run.json").read_text())
    assert document["converted_images"] == 6
    assert document["config"]["workers"] == 2
    assert document["network_streams"] >= 2
    assert 0 < document["network_busy"] <= 1


def test_wrong_engine(dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd) -> None:
    command = ("convert", "--root", crowd.root, "--out", "out")
    outcome = dpmo(*command, "--engine", "spark")
    assert (outcome.code, outcome.stdout) == (2, "")
    (line,) = outcome.errors
    assert "--engine spark: unknown; use one of local, ray" in line
    assert not Path("out").exists()


@dataclass
class DeadlyEngine(FakeEngine):
    """Does not survive black images; where a file is named, only the first of them."""

    grave: Path | None = None

    def encode(self, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        if not any(crop.any() for crop in crops) and not (self.grave and self.grave.exists()):
            if self.grave is not None:
                self.grave.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().encode(crops)


def _load_deadly(grave: Path | None) -> SamEngine:
    return DeadlyEngine(grave=grave)


@pytest.fixture
def deadly(crowd: Crowd, tmp_path: Path) -> Job:
    """A run over seven images in two workers, one of them black."""
    Image.new("RGB", (64, 48)).save(crowd.root / "train/1.png")
    settings = Settings(
        "csv", "nnec", "nano", "0" * 64, "cpu", "fp32", None, 1.0, "auto", 0, "nearest", "logit"
    )
    return Job(
        dataset=open_dataset("csv", crowd.root),
        out=tmp_path / "out",
        settings=settings,
        method=Method(),
        selection=Selection(("train", "test"), None, None),
        load_engine=partial(_load_deadly, None),
        workers=2,
    )


@pytest.mark.slow
def test_an_image_that_no_worker_survives_is_reported(
    deadly: Job, crowd: Crowd, capsys: pytest.CaptureFixture[str]
) -> None:
    summary = run_job(deadly)
    assert (summary.exit_code, summary.converted) == (3, 6)
    (failure,) = summary.finished.failures
    assert f"{crowd.root}/train/1.png: its worker was ended by SIGKILL" in failure
    assert "2 times; free memory, or use fewer --workers" in failure
    assert f"dpmo: error: {failure}\n" in capsys.readouterr().err
    assert summary.finished.counts.by_status["failed"] == 4
    assert validate_run(deadly.out) == []
    with pytest.raises(DpmoError, match="its worker was ended by SIGKILL"):
        run_job(replace(deadly, strict=True))


@pytest.mark.slow
def test_an_image_whose_worker_died_is_tried_again(deadly: Job, tmp_path: Path) -> None:
    grave = tmp_path / "grave"
    summary = run_job(replace(deadly, load_engine=partial(_load_deadly, grave)))
    assert grave.exists()
    assert (summary.exit_code, summary.converted) == (0, 7)


def _children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(one) for one in found]


def _gone(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def _wait_for(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.usefixtures("heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_run(number: signal.Signals, crowd: Crowd, tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "dpmo_cli.cli.app", "convert", "--root", str(crowd.root)]
    process = subprocess.Popen(
        [*command, "--out", str(out), "--workers", "2"],
        stderr=subprocess.PIPE,
        text=True,
        # A group of its own, which hears a signal as that of a terminal.
        start_new_session=True,
    )
    _wait_for(lambda: bool(list((out / ".dpmo/records").rglob("*.parquet"))))
    workers = _children(process.pid)
    assert len(workers) >= 2
    if number == signal.SIGINT:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    stderr = process.communicate()[1]
    assert "Traceback" not in stderr
    _wait_for(lambda: all(map(_gone, workers)))
    if number != signal.SIGKILL:
        assert process.returncode == 130
        assert stderr.splitlines()[-1] == "dpmo: interrupted; the same command goes on from here"
        assert not list(out.rglob(f"*{atomic.TEMPORARY_SUFFIX}"))
    assert not (out / "run.json").exists()
    assert subprocess.run([*command, "--out", str(out), "-q"], check=False).returncode == 0
    assert validate_run(out) == []
