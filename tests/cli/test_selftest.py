"""`dpmo selftest`: its scenes, what it prints and keeps, and what later runs say of the weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dpmo_cli.sam.validation import EMBEDDED, UNVALIDATED, validation_of, write_validation
from dpmo_cli.sam.weights import lookup
from dpmo_cli.trials import selftest
from tests.conftest import Dpmo

NANO = lookup("nano").sha256
OTHER = "0" * 64


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPMO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def one_scene(monkeypatch: pytest.MonkeyPatch) -> None:
    (first, *_) = selftest.load_scenes()
    monkeypatch.setattr(selftest, "load_scenes", lambda: [first])


def test_the_package_carries_scenes_with_truth() -> None:
    scenes = selftest.load_scenes()
    assert len(scenes) == 4
    for scene in scenes:
        assert scene.heads is not None
        assert len(scene.points_xy) > 50
        columns, rows = np.rint(scene.points_xy).astype(int).T
        on_own = scene.labels[rows, columns] == scene.instance_ids
        assert on_own.mean() > 0.95
        assert set(scene.instance_ids.tolist()) <= set(np.unique(scene.labels).tolist())


@pytest.mark.usefixtures("one_scene")
def test_the_table_and_what_is_kept(dpmo: Dpmo, home: Path) -> None:
    found = dpmo("selftest", "--device", "cpu", "--json")
    assert found.code == 0
    kept = json.loads((home / "selftest" / f"{NANO}.json").read_text())
    printed = found.json
    assert printed["weights_sha256"] == NANO
    assert printed["results"] == kept["results"]
    by_name = {result["variant"]: result for result in kept["results"]}
    method, disc = by_name["the method"], by_name["disc"]
    # Far above what needs no network.
    assert method["iou_per_point"] > disc["iou_per_point"] + 0.2
    assert {"voronoi", "SAM's argmax, whole image", "head, head"} <= set(by_name)
    assert validation_of(NANO) == kept


@pytest.mark.usefixtures("one_scene")
def test_for_a_person(dpmo: Dpmo) -> None:
    found = dpmo("selftest", "--device", "cpu", "-q")
    about, heading, _, method, *_ = found.stdout.splitlines()
    assert about.startswith(f"nano, SHA-256 {NANO}")
    assert method.startswith("| the method | in the disc | 0.")
    assert method.count("|") == heading.count("|")
    assert not found.stderr


def test_what_is_known_of_weights(home: Path) -> None:
    assert validation_of(NANO) == EMBEDDED
    assert validation_of(OTHER) == UNVALIDATED
    path = write_validation(OTHER, {"iou": 0.5})
    assert path.is_relative_to(home)
    assert validation_of(OTHER) == {"iou": 0.5}
    path.write_text("{")
    assert validation_of(OTHER) == UNVALIDATED


def test_wrong_weights(dpmo: Dpmo, tmp_path: Path, home: Path) -> None:
    rubbish = tmp_path / "x.safetensors"
    rubbish.write_bytes(b"x" * 40)
    found = dpmo("selftest", "--checkpoint", str(rubbish))
    assert found.code == 2
    assert len(found.errors) == 1
    assert not home.exists()


@pytest.mark.parametrize("damage", ['{"x": NaN}', '{"x": 1e999}', '{"a":' * 3000, "[]"])
def test_a_damaged_cache_says_nothing(home: Path, damage: str) -> None:
    path = write_validation(OTHER, {"iou": 0.5})
    path.write_text(damage)
    assert validation_of(OTHER) == UNVALIDATED
