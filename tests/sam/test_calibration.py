"""Calibrations: by hand, as files, and the one that the package ships."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpmo_cli.errors import InputError
from dpmo_cli.geometry.extents import EXTENTS
from dpmo_cli.masks.score import FEATURES
from dpmo_cli.sam.calibration import Calibration, as_json, load_calibration
from dpmo_cli.sam.models import CALIBRATION, load_engine, resolve_engine

ONE = Calibration("abc", ("a", "b"), {"nnec": (0.5, 1.0, -2.0), "head": (0.0, 0.0, 0.0)})


@pytest.mark.parametrize(
    ("extent", "features", "expected"),
    [
        pytest.param("nnec", (0, 0), 1 / (1 + np.exp(-0.5)), id="intercept"),
        pytest.param("nnec", (1.5, 1), 0.5, id="middle"),
        pytest.param("nnec", (2, 0.5), 1 / (1 + np.exp(-1.5)), id="both weights"),
        pytest.param("head", (9, -9), 0.5, id="another extent"),
        pytest.param("nnec", (-2000, 0), 0.0, id="far below"),
        pytest.param("nnec", (2000, 0), 1.0, id="far above"),
    ],
)
def test_expected_iou_by_hand(extent: str, features: tuple[float, ...], expected: float) -> None:
    found = ONE.expected_iou(np.array([features, (0.0, 0.0)]), extent)
    assert found.shape == (2,)
    assert found[0] == pytest.approx(expected, abs=1e-15)


def test_nothing_to_expect() -> None:
    assert ONE.expected_iou(np.zeros((0, 2)), "nnec").shape == (0,)


@given(
    st.dictionaries(
        st.sampled_from(EXTENTS),
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 3),
    )
)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, curves: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("calibration") / "a.json"
    written = Calibration("abc", ("predicted IoU", "b"), curves)
    path.write_text(as_json(written))
    assert load_calibration(path, "abc") == written
    assert load_calibration(path, "abd") is None


def test_no_file(tmp_path: Path) -> None:
    assert load_calibration(tmp_path / "none.json", "abc") is None


PLAIN = json.loads(as_json(ONE))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("", id="empty"),
        pytest.param(as_json(ONE)[:-9], id="torn"),
        pytest.param(b"\xff\xfe", id="no text"),
        pytest.param("[]", id="no object"),
        pytest.param("null", id="null"),
        *(
            pytest.param(json.dumps({k: v for k, v in PLAIN.items() if k != key}), id=f"no {key}")
            for key in PLAIN
        ),
        pytest.param(json.dumps(PLAIN | {"curves": [1, 2, 3]}), id="curves are a list"),
        pytest.param(json.dumps(PLAIN | {"curves": {"nnec": 3}}), id="curve is a number"),
        pytest.param(json.dumps(PLAIN | {"curves": {"nnec": ["x", 1, 2]}}), id="curve of text"),
        pytest.param(json.dumps(PLAIN | {"curves": {"nnec": [1, 2]}}), id="a weight is missing"),
        pytest.param(json.dumps(PLAIN | {"curves": {"nnec": [1, 2, 3, 4]}}), id="a weight more"),
        pytest.param(json.dumps(PLAIN | {"curves": {"nnec": [1, 2, None]}}), id="null weight"),
        pytest.param(json.dumps(PLAIN | {"curves": {"nnec": [1, 2, np.nan]}}), id="NaN weight"),
        pytest.param(json.dumps(PLAIN | {"features": 7}), id="features are a number"),
    ],
)
def test_damaged_files(tmp_path: Path, content: str | bytes) -> None:
    path = tmp_path / "damaged.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=f"^{path}: is no calibration; install dpmo-cli again$"):
        load_calibration(path, "abc")


def test_the_engine_takes_the_calibration_of_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = resolve_engine("nano", device="cpu")
    path = tmp_path / "nano.calibration.json"
    monkeypatch.setattr("dpmo_cli.sam.models.CALIBRATION", path)
    assert load_engine(spec).calibration is None
    own = Calibration(spec.weights_sha256, ("a",), {"nnec": (0.0, 1.0)})
    path.write_text(as_json(own))
    assert load_engine(spec).calibration == own
    path.write_text(as_json(ONE))
    assert load_engine(spec).calibration is None
    mine = tmp_path / "mine.json"
    mine.write_text(as_json(own))
    assert load_engine(replace(spec, calibration=mine)).calibration == own


def test_the_embedded_calibration_fits() -> None:
    spec = resolve_engine("nano", device="cpu")
    found = load_calibration(CALIBRATION, spec.weights_sha256)
    assert found is not None
    assert found.features == FEATURES
    assert tuple(found.curves) == EXTENTS
    # Whatever else is known, a mask that is surer of itself is not worse.
    assert all(curve[1] > 0 or curve[2] > 0 for curve in found.curves.values())
