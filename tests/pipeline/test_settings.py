"""What tells runs and records apart: each thing that changes masks changes the fingerprint."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmo_cli.datasets.base import Heads, ImageEntry
from dpmo_cli.pipeline.settings import Settings, image_fingerprint

SETTINGS = Settings(
    dataset="csv",
    extent="nnec",
    sam="nano",
    weights_sha256="0" * 64,
    device="cpu",
    dtype="fp32",
    prompt_batch=None,
    nnec_scale=1.0,
    tiles="auto",
    negatives=0,
    radii="nearest",
    ownership="logit",
)
ENTRY = ImageEntry("train", "a.jpg", Path("root/a.jpg"), None, {"weather": "fog"})
HEADS = Heads(np.array([[1.0, 2.0], [3.0, 4.0]]), external_ids=("a", "b"))


@pytest.mark.parametrize("name", [field.name for field in fields(Settings)])
def test_every_setting_counts(name: str) -> None:
    other: Any = {"prompt_batch": 8, "nnec_scale": 0.5}.get(name, "other")
    changed = replace(SETTINGS, **{name: other})
    assert changed != SETTINGS
    assert _fingerprint(settings=changed) != _fingerprint()


def test_settings_come_back_from_json() -> None:
    again = Settings.of_json(json.loads(json.dumps(SETTINGS.as_json())))
    assert again == SETTINGS
    assert _fingerprint(settings=again) == _fingerprint()


@pytest.mark.parametrize(
    "document", [None, [], {}, {**SETTINGS.as_json(), "colour": "red"}, {"dataset": "csv"}]
)
def test_other_json_is_no_settings(document: object) -> None:
    with pytest.raises(ValueError, match="settings"):
        Settings.of_json(document)


def _fingerprint(
    settings: Settings = SETTINGS,
    entry: ImageEntry = ENTRY,
    image_id: int = 1,
    image_sha256: str = "f" * 64,
    heads: Heads | None = HEADS,
) -> str:
    return image_fingerprint(settings, entry, image_id, image_sha256, heads)


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"image_sha256": "e" * 64}, id="image bytes"),
        pytest.param({"image_id": 2}, id="rank in the split"),
        pytest.param({"entry": replace(ENTRY, file_name="b.jpg")}, id="name"),
        pytest.param({"entry": replace(ENTRY, split="val")}, id="split"),
        pytest.param({"entry": replace(ENTRY, labels={})}, id="labels of the image"),
        pytest.param({"heads": None}, id="no annotation"),
        pytest.param({"heads": replace(HEADS, points_xy=HEADS.points_xy + 0.5)}, id="points"),
        pytest.param({"heads": replace(HEADS, points_xy=HEADS.points_xy[::-1])}, id="their order"),
        pytest.param({"heads": replace(HEADS, boxes_xyxy=np.zeros((2, 4)))}, id="boxes"),
        pytest.param({"heads": replace(HEADS, occlusion=np.ones(2, np.int8))}, id="occlusion"),
        pytest.param({"heads": replace(HEADS, blurred=np.ones(2, np.bool_))}, id="blur"),
        pytest.param({"heads": replace(HEADS, external_ids=("a", "c"))}, id="ids"),
        pytest.param({"heads": replace(HEADS, warnings=("odd",))}, id="warnings"),
    ],
)
def test_every_part_of_an_image_counts(changed: dict[str, Any]) -> None:
    assert _fingerprint(**changed) != _fingerprint()


def test_where_the_dataset_lies_does_not_count() -> None:
    moved = replace(ENTRY, image_path=Path("elsewhere/a.jpg"))
    assert _fingerprint(entry=moved) == _fingerprint()


def test_nan_points_have_a_steady_fingerprint() -> None:
    odd = replace(HEADS, points_xy=np.array([[np.nan, np.inf], [0.0, -0.0]]))
    assert _fingerprint(heads=odd) == _fingerprint(heads=odd)
