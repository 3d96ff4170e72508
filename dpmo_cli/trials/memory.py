"""What prompting needs of memory, each time in a fresh process, and the time of a point there."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter

import torch

from dpmo_cli.errors import DpmoError
from dpmo_cli.masks.method import default_method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.trials.crowd import Crowd, drawn_crowd, prompts_of_tiles
from dpmo_cli.trials.networks import (
    EMBEDDED,
    Remembering,
    finish,
    prompting_engine,
    random_embedding,
)
from dpmo_cli.trials.stock import CHUNKS, Stock, StockSeconds

OURS, STOCK, PLAIN = "ours", "stock", "predict_torch"
"""Our method from embedding to run lengths; a chunk of the stock path, which upsamples one mask of
each prompt; and the same chunk by `predict_torch` as it is, which upsamples three."""
LADDER = (100, 1_000, 5_000, 12_865, 20_000)
SHORT_POINTS = 2_000
"""Runs of fewer points are repeated for their time."""
MOST_RUNS = 5
STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(frozen=True)
class Load:
    """What a fresh process is to do.

    Attributes:
        path: OURS, STOCK or PLAIN.
        sam: the network; its encoder is not run.
        points: prompts; one chunk of them for the stock paths.
        size_hw: height and width of the image, px, which is one tile.
        device: where to compute.
        prompt_batch: of ours; None as in a run.
    """

    path: str
    sam: str
    points: int
    size_hw: tuple[int, int]
    device: str
    prompt_batch: int | None = None


@dataclass(frozen=True)
class Need:
    """What that took.

    Attributes:
        path, points: as of the load.
        bytes: peak of the memory above what was held before the first prompt: resident memory on
            a CPU, that of the device elsewhere.
        seconds_per_point: from embedding to run lengths, the median after a first run where there
            are few points; of the stock paths, too, after a first run.
        masks: that came out.
    """

    path: str
    points: int
    bytes: int
    seconds_per_point: float
    masks: int


def measure(load: Load) -> Need:
    """Carry out a load in a process of its own.

    Raises:
        DpmoError: it failed; where memory ran out, a process dies without a word.
    """
    command = [sys.executable, "-m", "dpmo_cli.trials.memory", json.dumps(asdict(load))]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        why = (ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"])[-1]
        raise DpmoError(
            f"{load.path} with {load.points} points of {load.size_hw[1]}x{load.size_hw[0]}: "
            f"the measuring process failed ({why}); use fewer points or a smaller --size"
        )
    return Need(**json.loads(ended.stdout))


def loads_of(
    sam: str,
    counts: Sequence[int],
    size_hw: tuple[int, int],
    device: str,
    prompt_batch: int | None,
) -> list[Load]:
    """Ours with each number of points, and the stock paths with one chunk of the best size."""
    engine = prompting_engine(sam, device)
    method = replace(default_method(sam), tiles=False)
    crowd = drawn_crowd(max(CHUNKS), size_hw, method, engine.frame_px)
    known = Remembering(engine)
    known.know(crowd.image, random_embedding(engine, size_hw))
    (part,) = prompts_of_tiles(crowd, crowd.tiles, known)
    chunk, _ = Stock(engine.model, fixed_output(engine, method.extent)).best_chunk(part, size_hw)
    ours = [Load(OURS, sam, count, size_hw, device, prompt_batch) for count in counts]
    return [*ours, *(Load(path, sam, chunk, size_hw, device) for path in (STOCK, PLAIN))]


def carry_out(load: Load) -> Need:
    """Carry out a load in this process."""
    engine = prompting_engine(load.sam, load.device, load.prompt_batch)
    method = replace(default_method(load.sam), tiles=False)
    crowd = drawn_crowd(load.points, load.size_hw, method, engine.frame_px)
    known = Remembering(engine)
    # The encoder's own memory, which the process may keep, would hide that of the prompts.
    if load.sam != EMBEDDED:
        known.know(crowd.image, random_embedding(engine, crowd.size_hw))
    known.encode([crowd.image])
    work = _ours(crowd, known) if load.path == OURS else _stock(crowd, known, load.path)
    seconds: list[float] = []
    before = _start(engine.device)
    masks = 0
    needed = 0
    runs = min(MOST_RUNS, 1 + SHORT_POINTS // load.points)
    for run in range(runs):
        begin = perf_counter()
        masks = work()
        finish(engine.device)
        seconds.append(perf_counter() - begin)
        if not run:
            needed = _peak(engine.device) - before
    timed = median(seconds[1:] or seconds)
    return Need(load.path, load.points, max(0, needed), timed / load.points, masks)


def _ours(crowd: Crowd, known: Remembering) -> Callable[[], int]:
    def work() -> int:
        found = segment_image(crowd.image, crowd.points_xy, known, crowd.method)
        return sum(mask is not None for mask in found.masks)

    return work


def _stock(crowd: Crowd, known: Remembering, path: str) -> Callable[[], int]:
    stock = Stock(known.engine.model, fixed_output(known.engine, crowd.method.extent))
    (part,) = prompts_of_tiles(crowd, crowd.tiles, known)

    def work() -> int:
        if path == PLAIN:
            return len(stock.plain_masks(part, crowd.size_hw))
        return len(stock.masks(part, crowd.size_hw, len(part.sites), StockSeconds()))

    return work


def fixed_output(engine: SamEngine, extent: str) -> int | None:
    """Which of `predict_torch`'s masks a network makes for an extent; None where it knows none."""
    return engine.extents.index(extent) if extent in engine.extents else None


def _start(device: torch.device) -> int:
    """What is held now, bytes; where the system lets us, the peak begins anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return int(torch.cuda.memory_allocated(device))
    try:
        CLEAR.write_text("5")
        return _status("VmRSS")
    except (OSError, LookupError):
        return _largest()


def _peak(device: torch.device) -> int:
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        # Not that of getrusage, which a process takes over from the one that started it.
        return _status("VmHWM")
    except (OSError, LookupError):
        return _largest()


def _largest() -> int:
    """Where there is no /proc: the largest resident memory so far, in which smaller peaks hide."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _status(name: str) -> int:
    """A line of what Linux says of this process, bytes."""
    fields = dict(line.split(":", 1) for line in STATUS.read_text().splitlines())
    return 1024 * int(fields[name].split()[0])


def needs_as_json(
    sam: str, size_hw: tuple[int, int], device: str, needs: Sequence[Need]
) -> dict[str, object]:
    """As a plain object."""
    height, width = size_hw
    each = [asdict(need) for need in needs]
    return {"sam": sam, "width": width, "height": height, "device": device, "needs": each}


def need_lines(needs: Sequence[Need]) -> list[str]:
    """A Markdown table, and what the stock path would take for all of the most points."""
    lines = [
        "| path | points | MB above what was held before | ms per point | masks |",
        "|---|---:|---:|---:|---:|",
    ]
    for need in needs:
        lines.append(
            f"| {need.path} | {need.points:,} | {need.bytes / 1e6:,.0f} | "
            f"{1000 * need.seconds_per_point:.2f} | {need.masks:,} |"
        )
    ours = [need for need in needs if need.path == OURS]
    fewest, most = ours[0], ours[-1]
    if most.points > fewest.points:
        ratio = most.seconds_per_point / fewest.seconds_per_point
        lines.append(
            f"time per point at {most.points:,} points: {ratio:.2f} times that at {fewest.points:,}"
        )
    for need in needs:
        if need.path == PLAIN:
            whole = need.bytes / need.points * most.points
            lines.append(
                f"{PLAIN} with all {most.points:,} prompts in one call, extrapolated from the "
                f"chunk: {whole / 1e9:,.0f} GB"
            )
    return lines


def main() -> None:
    """Carry out the load that is given as JSON, and print what it took."""
    given = json.loads(sys.argv[1])
    load = Load(**{**given, "size_hw": tuple(given["size_hw"])})
    print(json.dumps(asdict(carry_out(load))))


if __name__ == "__main__":
    main()
