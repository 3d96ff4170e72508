"""`dpmo bench` with the small network: what it prints, and what it refuses."""

from __future__ import annotations

import pytest

from tests.conftest import Dpmo


def test_one_object(dpmo: Dpmo) -> None:
    found = dpmo("bench", "--sam", "nano", "--device", "cpu", "--json")
    assert found.code == 0
    (nano,) = found.json["networks"]
    assert (nano["sam"], nano["frame_px"]) == ("nano", 256)
    assert nano["parameters"] * 4 / 1e6 == pytest.approx(nano["weights_mb"])
    assert 3e6 < nano["parameters"] < 5e6
    assert nano["encode_s"] > 0
    assert nano["prompt_ms"] > 0
    assert found.lines == ["dpmo: timing nano on cpu"]


def test_a_table(dpmo: Dpmo) -> None:
    found = dpmo("bench", "--sam", "nano", "--device", "cpu", "-q")
    heading, rule, nano = found.stdout.splitlines()
    assert heading.count("|") == rule.count("|") == nano.count("|")
    assert nano.startswith("| nano | 3.")
    assert not found.stderr


@pytest.mark.parametrize(
    "arguments", [["--sam", "vit_z"], ["--device", "gpu"]], ids=["network", "device"]
)
def test_wrong_use(dpmo: Dpmo, arguments: list[str]) -> None:
    found = dpmo("bench", *arguments)
    assert found.code == 2
    assert len(found.errors) == 1
