"""Input that is wrong: one line that names the file and the mend; the rest of the run goes on."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dpmo_cli.outputs.atomic import TEMPORARY_SUFFIX
from dpmo_cli.outputs.validate import validate_run
from tests.conftest import Crowd, Dpmo, FakeEngine
from tests.datasets.conftest import Builder

PART = "part_A_final/train_data"


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _rewrite_mat(**variables: object) -> Callable[[Builder], None]:
    return lambda build: build.mat(f"{PART}/ground-truth/GT_IMG_1.mat", **variables) and None


def _link_out(build: Builder) -> None:
    target = build.root.parent / "elsewhere.jpg"
    image = build.root / PART / "images/IMG_1.jpg"
    image.rename(target)
    image.symlink_to(target)


@pytest.mark.parametrize(
    ("layout", "dataset", "spoil", "named"),
    [
        pytest.param(
            "shanghaitech", "sha", lambda b: (b.root / PART / "images/IMG_1.jpg").unlink(),
            "IMG_1.jpg", id="missing image",
        ),
        pytest.param(
            "shanghaitech", "sha", lambda b: _cut(b.root / PART / "images/IMG_1.jpg"),
            "IMG_1.jpg", id="truncated image",
        ),
        pytest.param(
            "shanghaitech", "sha",
            lambda b: (b.root / PART / "ground-truth/GT_IMG_1.mat").unlink(),
            "GT_IMG_1.mat", id="missing mat",
        ),
        pytest.param(
            "shanghaitech", "sha", lambda b: _cut(b.root / PART / "ground-truth/GT_IMG_1.mat"),
            "GT_IMG_1.mat", id="truncated mat",
        ),
        pytest.param(
            "shanghaitech", "sha", _rewrite_mat(points=np.zeros((2, 2))),
            "GT_IMG_1.mat", id="wrong variable",
        ),
        pytest.param(
            "shanghaitech", "sha",
            lambda b: b.gt(f"{PART}/ground-truth/GT_IMG_1.mat", np.zeros((4, 3))),
            "GT_IMG_1.mat", id="wrong shape",
        ),
        pytest.param("shanghaitech", "sha", _link_out, "IMG_1.jpg", id="symlink out of the root"),
        pytest.param(
            "nwpu", "nwpu", lambda b: (b.root / "NWPU-Crowd/jsons/0001.json").unlink(),
            "0001", id="missing JSON",
        ),
        pytest.param(
            "nwpu", "nwpu", lambda b: _cut(b.root / "NWPU-Crowd/jsons/0001.json"),
            "0001.json", id="truncated JSON",
        ),
        pytest.param(
            "jhu", "jhu", lambda b: (b.root / "jhu_crowd_v2.0/train/gt/0001.txt").unlink(),
            "0001", id="missing text",
        ),
        pytest.param(
            "jhu", "jhu", lambda b: b.text("jhu_crowd_v2.0/train/gt/0001.txt", "10 8 4\n"),
            "0001.txt", id="truncated text",
        ),
        pytest.param(
            "csv", "csv",
            lambda b: b.text("points.csv", "image,x,y\n../a.png,1,2\nphotos/b.png,1,2\n"),
            "../a.png", id="name with ..",
        ),
        pytest.param(
            "csv", "csv",
            lambda b: b.text("points.csv", "image,x,y\n/etc/a.png,1,2\nphotos/b.png,1,2\n"),
            "/etc/a.png", id="absolute name",
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("strict", [False, True], ids=["goes on", "strict"])
def test_bad_files(
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    native: Builder,
    tmp_path: Path,
    layout: str,
    dataset: str,
    spoil: Callable[[Builder], None],
    named: str,
    strict: bool,
) -> None:
    getattr(native, layout)()
    spoil(native)
    split = [] if layout == "csv" else ["--split", "train"]
    outcome = dpmo(
        "convert", "--dataset", dataset, "--root", native.root, "--out", tmp_path / "out",
        *split, *(["--strict"] if strict else []),
    )  # fmt: skip
    assert outcome.code == (1 if strict else 3)
    [error] = outcome.errors
    assert named in error
    assert "; " in error, "says what is wrong and how to mend it"
    if not strict:
        assert validate_run(tmp_path / "out") == []
        assert list((tmp_path / "out/annotations").glob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        pytest.param(["--root", "nowhere"], 2, "nowhere", id="missing root"),
        pytest.param(["--root", "data", "--out", "a-file"], 2, "a-file", id="output is a file"),
        pytest.param(["--root", "data", "--out", "a-file/out"], 1, "a-file/out", id="below a file"),
        pytest.param(["--root", "data", "--dataset", "sha2"], 2, "sha2", id="unknown dataset"),
        pytest.param(["--root", "data", "--split", "val"], 2, "val", id="unknown split"),
        pytest.param(["--root", "data", "--sam", "vit_b"], 2, "weights fetch vit_b", id="missing"),
        pytest.param(["--root", "data", "--sam", "vit_x"], 2, "vit_x", id="unknown network"),
        pytest.param(
            ["--root", "data", "--checkpoint", "gone.pt"], 2, "gone.pt", id="no such checkpoint"
        ),
        pytest.param(
            ["--root", "data", "--checkpoint", "junk.pt"], 2, "junk.pt", id="junk checkpoint"
        ),
        pytest.param(
            ["--root", "data", "--checkpoint", "other.pt"], 2, "other.pt", id="other weights"
        ),
        pytest.param(
            ["--root", "data", "--checkpoint", "code.pt"], 2, "code.pt", id="pickled code"
        ),
        pytest.param(["--root", "data", "--shard", "4/3"], 2, "4/3", id="shard"),
        pytest.param(["--root", "data", "--tiles", "some"], 2, "some", id="tiles"),
        pytest.param(["--root", "data", "--nnec-scale", "-1"], 2, "-1", id="scale"),
        pytest.param(["--root", "data", "--device", "tpu"], 2, "tpu", id="device"),
    ],
)
def test_what_ends_the_run_at_once(
    dpmo: Dpmo, crowd: Crowd, tmp_path: Path, arguments: list[str], code: int, named: str
) -> None:
    (tmp_path / "a-file").write_text("kept")
    (tmp_path / "junk.pt").write_bytes(b"junk")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pt")
    (tmp_path / "code.pt").write_bytes(pickle.dumps(_Code(str(tmp_path / "executed"))))
    out = [] if "--out" in arguments else ["--out", "out"]
    outcome = dpmo("convert", *arguments, *out)
    assert outcome.code == code
    [error] = outcome.errors
    assert named in error
    assert outcome.stdout == ""
    assert (tmp_path / "a-file").read_text() == "kept"
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "out/run.json").exists()


class _Code:
    """Writes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.path,)


def test_withheld_labels_of_nwpu(dpmo: Dpmo, native: Builder, tmp_path: Path) -> None:
    native.nwpu()
    outcome = dpmo(
        "convert", "--dataset", "nwpu", "--root", native.root, "--split", "test",
        "--out", tmp_path / "out",
    )  # fmt: skip
    assert outcome.code == 2
    [error] = outcome.errors
    assert "withheld" in error


@pytest.mark.parametrize("written", [0, 1, 4, 8])
def test_full_disk(
    dpmo: Dpmo,
    fake_engine: FakeEngine,
    crowd: Crowd,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    written: int,
) -> None:
    left = written
    replace = os.replace

    def full(source: str, target: str) -> None:
        nonlocal left
        if left == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left -= 1
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        outcome = dpmo("convert", "--root", crowd.root, "--out", tmp_path / "out")
    assert outcome.code == 1
    [error] = outcome.errors
    assert "No space left" in error
    assert list((tmp_path / "out").rglob(f"*{TEMPORARY_SUFFIX}")) == []
    assert dpmo("convert", "--root", crowd.root, "--out", tmp_path / "out").code == 0
    assert validate_run(tmp_path / "out") == []


def test_all_images_bad_fails(
    dpmo: Dpmo, fake_engine: FakeEngine, crowd: Crowd, tmp_path: Path
) -> None:
    for path in crowd.root.rglob("*.png"):
        path.write_bytes(b"no image")
    outcome = dpmo("convert", "--root", crowd.root, "--out", tmp_path / "out")
    assert outcome.code == 1
    assert len(outcome.errors) == len(crowd.points)
    assert validate_run(tmp_path / "out") == []
