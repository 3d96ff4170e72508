"""Runs by Ray Data: the same files as in one process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpmo_cli.cli import options
from tests.conftest import Crowd, Dpmo, FakeEngine, tree


def test_without_ray_one_line_says_how_to_get_it(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "find_spec", lambda name: None)
    outcome = dpmo("convert", "--root", crowd.root, "--out", "out", "--engine", "ray")
    assert (outcome.code, outcome.stdout) == (2, "")
    (line,) = outcome.errors
    assert "--engine ray: Ray is not installed; pip install 'dpmo-cli[ray]'" in line
    assert not Path("out").exists()


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_ray_writes_the_same_files(dpmo: Dpmo, crowd: Crowd, tmp_path: Path) -> None:
    (crowd.root / "train/1.png").write_bytes(b"torn")
    alone = dpmo("convert", "--root", crowd.root, "--out", "alone")
    found = subprocess.run(
        [
            *(sys.executable, "-m", "dpmo_cli.cli.app", "convert", "--root", str(crowd.root)),
            *("--out", "rayed", "--engine", "ray", "--workers", "2"),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (alone.code, found.returncode, found.stdout) == (3, 3, "")
    assert "Traceback" not in found.stderr
    errors = [line for line in found.stderr.splitlines() if line.startswith("dpmo: error")]
    assert errors == alone.errors
    assert tree(tmp_path / "rayed") == tree(tmp_path / "alone")
