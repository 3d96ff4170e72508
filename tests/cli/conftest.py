"""What the tests of the commands share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.datasets.conftest import Builder


@pytest.fixture
def native(tmp_path: Path) -> Builder:
    """Builds datasets in their native layouts, in a folder beside the outputs."""
    root = tmp_path / "native"
    root.mkdir()
    return Builder(root)
