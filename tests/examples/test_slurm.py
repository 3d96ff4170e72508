"""The job script for Slurm, as its array tasks and its last job run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Crowd, Dpmo, tree

SCRIPT = Path(__file__).parents[2] / "examples" / "slurm.sh"


def _job(crowd: Crowd, out: Path, *options: str, **variables: str) -> int:
    return subprocess.run(
        ["bash", str(SCRIPT), str(crowd.root), str(out), *options],
        env={
            **os.environ,
            "DPMO": f"{sys.executable} -m dpmo_cli.cli.app",
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **variables,
        },
        check=False,
    ).returncode


@pytest.mark.slow
def test_array_tasks_and_their_merge_are_one_run(dpmo: Dpmo, crowd: Crowd, tmp_path: Path) -> None:
    (crowd.root / "train/1.png").write_bytes(b"torn")
    out = tmp_path / "cluster"
    for task in ("1", "2", "3"):
        variables = {"SLURM_ARRAY_TASK_ID": task, "SLURM_ARRAY_TASK_COUNT": "3"}
        assert _job(crowd, out, "--dataset", "csv", **variables) == 0, "a failed image ends none"
    assert _job(crowd, out) == 3
    assert dpmo("convert", "--root", crowd.root, "--out", "alone").code == 3
    assert tree(out / "merged") == tree(tmp_path / "alone")


def test_a_task_that_fails_says_so(crowd: Crowd, tmp_path: Path) -> None:
    variables = {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_COUNT": "1", "DPMO": "false"}
    assert _job(crowd, tmp_path / "out", **variables) == 1
