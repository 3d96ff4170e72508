"""What the tests of whole runs share: the command in this process, engines, small crowds."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from dpmo_cli.cli.app import main
from dpmo_cli.geometry.resize import Frame
from dpmo_cli.rps.locator import Locator, logit_map
from dpmo_cli.sam import models
from dpmo_cli.sam.calibration import Calibration
from dpmo_cli.sam.engine import Answer, Encoded, SamEngine


@dataclass(frozen=True)
class Outcome:
    """How a command ended and what it printed."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object that was all of stdout."""
        (line,) = self.stdout.splitlines()
        content = json.loads(line)
        assert isinstance(content, dict)
        return content

    @property
    def lines(self) -> list[str]:
        """What a person saw."""
        assert "Traceback" not in self.stderr
        return self.stderr.splitlines()

    @property
    def errors(self) -> list[str]:
        """The lines of stderr that report an error."""
        return [line for line in self.lines if line.startswith("dpmo: error: ")]


Dpmo = Callable[..., Outcome]


@pytest.fixture
def dpmo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dpmo:
    """Run the command in this process, in the test's own folder and without the user's settings."""
    for name in [name for name in os.environ if name.startswith("DPMO_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DPMO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str | Path) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["dpmo", *map(str, arguments)])
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        stdout, stderr = io.StringIO(), io.StringIO()
        try:
            with redirect_stdout(stdout), redirect_stderr(stderr):
                main()
            code: object = 0
        except SystemExit as end:
            code = end.code or 0
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        assert isinstance(code, int)
        return Outcome(code, stdout.getvalue(), stderr.getvalue())

    return run


@dataclass
class FakeEngine:
    """Answers every prompt with a disc whose size follows the crop's brightness.

    Attributes:
        loads: how often it was asked for.
        encoded: crops, prompted: prompts so far.
        on_encode: called before crops are encoded.
    """

    frame_px: int = 256
    cells: int = 64
    extents: tuple[str, ...] = ()
    calibration: Calibration | None = None
    batch: int = 64
    halvings: int = 0
    loads: int = 0
    encoded: int = 0
    prompted: int = 0
    on_encode: Callable[[], None] = field(default=lambda: None)

    def encode(self, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        self.on_encode()
        self.encoded += len(crops)
        return [
            Encoded(
                torch.full((1, 2, 4, 4), float(crop.mean())),
                Frame((crop.shape[0], crop.shape[1]), self.frame_px, self.cells),
            )
            for crop in crops
        ]

    def prompt(
        self,
        encoded: Encoded,
        points_xy: NDArray[np.float64],
        labels: NDArray[np.int64],
        extent: str | None = None,
        squares: NDArray[np.float64] | None = None,
    ) -> Iterator[Answer]:
        grid = torch.arange(self.cells, dtype=torch.float32)
        sizes = torch.tensor([2.0, 3.0, 5.0]) + encoded.embedding[0, 0, 0, 0] / 128
        for start in range(0, len(points_xy), self.batch):
            chunk = np.arange(start, min(start + self.batch, len(points_xy)))
            self.prompted += len(chunk)
            cells = torch.as_tensor(encoded.frame.to_cells(points_xy[chunk, 0]))
            x, y = cells.float().T
            distance = torch.sqrt(
                (grid[None, None, :] - x[:, None, None]) ** 2
                + (grid[None, :, None] - y[:, None, None]) ** 2
            )
            logits = 2 * (sizes[None, :, None, None] - distance[:, None])
            ious = torch.tensor([0.9, 0.8, 0.7]).repeat(len(x), 1)
            yield Answer(chunk, logits, ious, np.zeros((len(chunk), 2), dtype=np.int64))


@pytest.fixture
def fake_engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """Put an engine that costs nothing in the place of every network."""
    engine = FakeEngine()

    def load(spec: models.EngineSpec) -> FakeEngine:
        engine.loads += 1
        return engine

    monkeypatch.setattr(models, "load_engine", load)
    return engine


_load_once: Callable[[models.EngineSpec], SamEngine] = lru_cache(maxsize=1)(models.load_engine)


@pytest.fixture
def nano(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real network, loaded once for all tests."""
    monkeypatch.setattr(models, "load_engine", _load_once)


PointXY = tuple[float, float]


@dataclass
class Crowd:
    """A small csv dataset that a test can change: images of noise and the points in them."""

    root: Path
    points: dict[tuple[str, str], list[PointXY]] = field(default_factory=dict)

    def add(
        self,
        name: str,
        count: int = 4,
        split: str = "train",
        size_hw: tuple[int, int] = (48, 64),
        seed: int = 0,
    ) -> Path:
        """Write an image of noise with some points."""
        height, width = size_hw
        rng = np.random.default_rng((seed, len(self.points)))
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(path)
        spots = rng.uniform((0, 0), (width - 1, height - 1), (count, 2)).round(2)
        self.points[split, name] = [(x, y) for x, y in spots.tolist()]
        self.write()
        return path

    def write(self) -> None:
        """Write `points.csv`."""
        with (self.root / "points.csv").open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["image", "x", "y", "split"])
            for (split, name), points in self.points.items():
                table.writerows([name, x, y, split] for x, y in points or [("", "")])

    @property
    def total(self) -> int:
        """Number of points."""
        return sum(map(len, self.points.values()))


@pytest.fixture
def empty_crowd(tmp_path: Path) -> Crowd:
    """A csv dataset without images."""
    root = tmp_path / "data"
    root.mkdir()
    return Crowd(root)


@pytest.fixture
def crowd(empty_crowd: Crowd) -> Crowd:
    """A csv dataset of five images of train and two of test."""
    for number in range(5):
        empty_crowd.add(f"train/{number}.png", count=3 + number)
    for number in range(2):
        empty_crowd.add(f"test/{number}.png", split="test")
    return empty_crowd


def draw_people(number: int) -> NDArray[np.uint8]:
    """A small picture of some blocks before a noisy ground, (48, 64, 3) uint8."""
    rng = np.random.default_rng(number)
    image = rng.integers(90, 130, (48, 64, 3), dtype=np.uint8)
    for x, y in rng.integers(0, (56, 32), (4 + number, 2)):
        image[y : y + 14, x : x + 6] = rng.integers(0, 256, 3)
    return image


@pytest.fixture
def one_thread() -> Iterator[None]:
    """One thread: no waiting for each other over small tensors."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder of three photos."""
    for number, name in enumerate(("a.png", "b.png", "sub/c.png")):
        path = tmp_path / "album" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_people(number)).save(path)
    return tmp_path / "album"


@pytest.fixture(scope="session")
def locator_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a localiser that was never trained; it finds a few people in each photo."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Locator().eval()
    logits = np.stack([logit_map(draw_people(number), model) for number in range(3)])
    assert model.logit.bias is not None
    with torch.no_grad():
        model.logit.bias -= float(np.quantile(logits, 0.98))
    path = tmp_path_factory.mktemp("locator") / "locator.safetensors"
    save_file(model.state_dict(), path)
    return path


def tree(out: Path, *, without: Sequence[str] = ("run.json",)) -> dict[str, bytes]:
    """All files of a folder by their path in it; the lock's own file says nothing."""
    skipped = {*without, ".dpmo/lock"}
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(files.items()) if name not in skipped}


def moments(out: Path) -> dict[str, int]:
    """When each file and folder of a folder was last changed, ns."""
    everything = [out, *out.rglob("*")]
    return {
        str(path.relative_to(out)): path.stat().st_mtime_ns
        for path in everything
        if path.name != "lock"
    }


@pytest.fixture
def heard() -> Iterator[None]:
    """Let SIGINT be heard also where the tests run in the background of a shell."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
