"""What several tests of the pipeline begin with."""

from __future__ import annotations

import pytest

from dpmo_cli.sam.models import EngineSpec, resolve_engine


@pytest.fixture
def spec() -> EngineSpec:
    return resolve_engine("nano", device="cpu")
