"""The stock path and ours in turn, in one process, from embedding to run lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from time import perf_counter

import torch

from dpmo_cli.masks.claims import Claims, Seconds
from dpmo_cli.masks.method import default_method
from dpmo_cli.masks.segment import segment_image
from dpmo_cli.masks.settle import SegmentedImage
from dpmo_cli.trials.agreement import compare, likeness, our_claims
from dpmo_cli.trials.crowd import Crowd, drawn_crowd, prompts_of_tiles, some_of
from dpmo_cli.trials.flops import counted, matmul_peak, stock_flops
from dpmo_cli.trials.memory import OURS, STOCK, Load, fixed_output, measure
from dpmo_cli.trials.networks import Remembering, copy_of, engine_of
from dpmo_cli.trials.outcome import BF16, FP32, Case, Half, Outcome, Race, Side
from dpmo_cli.trials.stock import Prompts, Stock, StockSeconds, count_of


@dataclass
class _Rounds:
    """The seconds of one path by stage, round by round."""

    stages: list[Mapping[str, float]] = field(default_factory=list)

    def add(self, spent: Mapping[str, float], elapsed: float, factor: float = 1.0) -> None:
        """Add a round, times a factor; what its stages leave of the time is the `rest`."""
        whole = {**spent, "rest": elapsed - sum(spent.values()), "total": elapsed}
        self.stages.append({name: factor * seconds for name, seconds in whole.items()})

    def medians(self) -> dict[str, float]:
        """The median of each."""
        return {name: median(stage[name] for stage in self.stages) for name in self.stages[0]}


def run_race(race: Race, say: Callable[[str], None] = lambda line: None) -> Outcome:
    """Time both paths in turn, compare their masks, and count their work.

    Args:
        race: what to compare.
        say: told what is going on.

    Raises:
        UsageError: the weights are not there, or not that network's.
        DpmoError: memory does not hold it.
    """
    engine, weights = engine_of(race.sam, race.checkpoint, race.device, race.prompt_batch)
    method = replace(default_method(race.sam), tiles=race.tiles)
    crowd = drawn_crowd(race.points, race.size_hw, method, engine.frame_px)
    stock = Stock(copy_of(engine.model, race.sam), fixed_output(engine, method.extent))
    ours = {FP32: Remembering(engine)}
    if race.dtype == BF16:
        ours[BF16] = Remembering(replace(engine, bf16=True))

    say(f"encoding: tiles {len(crowd.tiles)}, then one as segment-anything does")
    encode_s = {name: _encode_seconds(crowd, one) for name, one in ours.items()}
    chosen = some_of(crowd.tiles, min(race.stock_points or crowd.prompts, crowd.prompts))
    parts = prompts_of_tiles(crowd, chosen, ours[FP32])
    encode_s[STOCK] = stock.encode_seconds(crowd.crop(chosen[0]))

    say("looking for the stock path's best chunk")
    chunk, tried = stock.best_chunk(max(parts, key=lambda part: len(part.sites)), race.size_hw)

    say(f"comparing masks, and counting operations: prompts {count_of(parts)}")
    flops: dict[str, float] = {STOCK: stock_flops(stock, parts)}
    claims: dict[str, Claims] = {}

    def claim(name: str) -> None:
        claims[name] = our_claims(crowd, crowd.tiles, ours[name])

    for name in ours:
        # All prompts: what those of a tile share is computed once for all of them.
        flops[name] = counted(partial(claim, name)) / crowd.prompts
    agreement = compare(crowd, claims[FP32], parts, stock)

    rounds = {name: _Rounds() for name in (STOCK, *ours)}
    masks: dict[str, SegmentedImage] = {}
    for number in range(race.repeats):
        say(f"round {number + 1} of {race.repeats}")
        _stock_round(rounds[STOCK], stock, parts, crowd, chunk)
        for name, one in ours.items():
            masks[name] = _our_round(rounds[name], one, crowd)

    say("measuring memory, each path in a process of its own")
    load = Load(OURS, race.sam, race.points, race.size_hw, race.device, race.prompt_batch)
    held = {
        STOCK: measure(replace(load, path=STOCK, points=chunk)).bytes,
        race.dtype: measure(load).bytes,
    }
    peak = matmul_peak(engine.device)

    def side(name: str) -> Side:
        seconds = rounds[name].medians()
        return Side(
            seconds=seconds,
            prompts_per_s=crowd.prompts / seconds["total"],
            encode_s_per_tile=encode_s[name],
            seconds_per_image=seconds["total"] + len(crowd.tiles) * encode_s[name],
            flop_per_prompt=round(flops[name]),
            share_of_matmul_peak=flops[name] * crowd.prompts / seconds["prompt"] / peak,
            memory_bytes=held[name],
        )

    half = None
    if race.dtype == BF16:
        totals = {name: rounds[name].medians()["total"] for name in ours}
        half = Half(
            gain=totals[FP32] / totals[BF16],
            encode_gain=encode_s[FP32] / encode_s[BF16],
            masks=likeness(masks[BF16], masks[FP32]),
        )
    case = Case(
        weights=weights,
        threads=torch.get_num_threads(),
        prompts=crowd.prompts,
        tiles=len(crowd.tiles),
        stock_prompts=count_of(parts),
        stock_chunk=chunk,
        stock_seconds_by_chunk=tried,
        matmul_flop_per_s=peak,
        our_masks=sum(mask is not None for mask in masks[race.dtype].masks),
    )
    return Outcome(race, case, side(STOCK), side(race.dtype), agreement, half)


def _encode_seconds(crowd: Crowd, engine: Remembering) -> float:
    """Seconds per tile, all tiles of the image together."""
    begin = perf_counter()
    engine.encode([crowd.crop(tile) for tile in crowd.tiles])
    return (perf_counter() - begin) / len(crowd.tiles)


def _stock_round(
    rounds: _Rounds, stock: Stock, parts: Sequence[Prompts], crowd: Crowd, chunk: int
) -> None:
    seconds = StockSeconds()
    begin = perf_counter()
    for part in parts:
        stock.masks(part, crowd.size_hw, chunk, seconds)
    elapsed = perf_counter() - begin
    rounds.add(vars(seconds), elapsed, crowd.prompts / count_of(parts))


def _our_round(rounds: _Rounds, engine: Remembering, crowd: Crowd) -> SegmentedImage:
    """The method as a run carries it out, but for the encoder, whose answers are known."""
    seconds = Seconds()
    begin = perf_counter()
    found = segment_image(crowd.image, crowd.points_xy, engine, crowd.method, seconds=seconds)
    elapsed = perf_counter() - begin
    stages = {name: spent for name, spent in vars(seconds).items() if name != "encode"}
    rounds.add(stages, elapsed - seconds.encode)
    return found
