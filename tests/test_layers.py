"""The layers of the package, as import-linter's contracts in pyproject.toml state them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def lint_imports(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).with_name("lint-imports")
    return subprocess.run(
        [command, "--no-cache", *options],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_contracts_are_kept() -> None:
    done = lint_imports(ROOT)
    if done.returncode:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
    assert re.search(r"[1-9]\d* kept, 0 broken", done.stdout)


def test_a_broken_contract_is_found(tmp_path: Path) -> None:
    """The same linter on an import that walks the wrong way."""
    config = tmp_path / "contracts.ini"
    config.write_text(
        "[importlinter]\nroot_package = dpmo_cli\n"
        "[importlinter:contract:1]\nname = upside down\ntype = layers\n"
        "layers =\n    dpmo_cli.errors\n    dpmo_cli.cli\n"
    )
    done = lint_imports(ROOT, "--config", str(config))
    assert done.returncode == 1
    assert "upside down BROKEN" in done.stdout
