"""The plain loop over SamPredictor makes the masks of a run, and how the two are compared."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dpmo_cli.geometry.rle import frame_rle
from examples import compare_plain
from examples.compare_plain import compare, dpmo_masks, plain_masks
from examples.plain_loop import main as plain_loop
from examples.render import main as render
from tests.conftest import Dpmo

SIZE_HW = (20, 30)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scenes")
    arguments = ["--dataset", "shanghaitech-a", "--scenes", "1", "--seed", "7"]
    assert render([str(root), *arguments, "--size", "240x180", "--people", "25"]) == 0
    return root / "shanghaitech-a"


def test_the_masks_are_those_of_a_run(scenes: Path, dpmo: Dpmo, tmp_path: Path) -> None:
    job = ["--dataset", "shanghaitech-a", "--root", str(scenes), "--split", "train"]
    assert plain_loop([*job, "--out", str(tmp_path / "plain.json"), "--chunk", "7"]) == 0
    assert dpmo("convert", *job, "--out", "out", "-q", "--device", "cpu").code == 0
    plain = plain_masks(tmp_path / "plain.json")
    ours = dpmo_masks(tmp_path / "out" / "annotations" / "train.json")
    every, same, agreeing, one_sided, least = compare(plain, ours)
    assert every >= 20
    assert agreeing == every
    assert same >= 0.9 * every
    assert one_sided == 0
    assert least > 0.9


def mask(*boxes: tuple[int, int, int, int]):
    window = np.zeros(SIZE_HW, dtype=bool)
    for x0, y0, x1, y1 in boxes:
        window[y0:y1, x0:x1] = True
    return frame_rle(window, (0, 0, SIZE_HW[1], SIZE_HW[0]), SIZE_HW)


def test_compare() -> None:
    square = mask((2, 2, 12, 12))
    plain = {("a", 0): square, ("a", 1): square, ("b", 0): square, ("b", 1): square}
    ours = {
        ("a", 0): square,
        ("a", 1): mask((2, 2, 12, 12), (12, 4, 13, 7)),
        ("b", 0): mask((2, 2, 12, 7)),
        ("c", 0): square,
    }
    assert compare(plain, ours) == (5, 1, 2, 2, 0.5)


def test_both_are_run(scenes: Path, monkeypatch, capsys) -> None:
    asked: list[list[str]] = []

    def seconds(arguments):
        asked.append(list(arguments))
        if arguments[0] == "examples.plain_loop":
            chunk = int(arguments[arguments.index("--chunk") + 1])
            return {4: 9.0, 8: 6.0}[chunk]
        return 2.0

    square = {("a", 0): mask((2, 2, 12, 12))}
    monkeypatch.setattr(compare_plain, "_seconds", seconds)
    monkeypatch.setattr(compare_plain, "plain_masks", lambda path: square)
    monkeypatch.setattr(compare_plain, "dpmo_masks", lambda path: square)
    compare_plain.main(
        ["--dataset", "sha", "--root", str(scenes), "--chunks", "4", "8", "--rounds", "2"]
    )
    tried, timed = asked[:2], asked[2:]
    assert all(arguments[-2:] == ["--limit", "1"] for arguments in tried)
    assert [arguments[0] for arguments in timed] == ["examples.plain_loop", "dpmo_cli.cli.app"] * 2
    assert "8 prompts a call: 6.0 s; dpmo convert: 2.0 s; ratio 3.00" in capsys.readouterr().out


def test_a_wrong_root(tmp_path: Path, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        plain_loop(["--dataset", "sha", "--root", str(tmp_path), "--out", str(tmp_path / "x")])
    assert caught.value.code == 2
    assert str(tmp_path) in capsys.readouterr().err
