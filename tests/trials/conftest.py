"""What the tests of the trials share."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.sam.models import load_engine, resolve_engine


@pytest.fixture(scope="session")
def nano() -> SamEngine:
    """The embedded network without its calibration: the tests give it their own."""
    return replace(load_engine(resolve_engine("nano", device="cpu")), calibration=None)
