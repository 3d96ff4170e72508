"""`dpmo bench`: what networks cost, and our path beside segment-anything's own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli import options
from dpmo_cli.cli.console import print_json, say
from dpmo_cli.errors import EXIT_FAILED, UsageError

if TYPE_CHECKING:
    from dpmo_cli.trials.outcome import Race

RACE_SIZE, MEMORY_SIZE = (768, 1024), (2000, 3000)
"""Height and width of the image where none is given, px."""
STOCK_POINTS = 64


def bench(
    sam: Annotated[
        list[str] | None,
        typer.Option(
            help="nano, vit_b, vit_l or vit_h; may be repeated; nano and vit_b if none. With "
            "--points or --memory one, nano if none."
        ),
    ] = None,
    points: Annotated[
        int | None,
        typer.Option(min=2, max=500_000, help="Compare our path with the stock one on so many."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="WxH of the image, px. Default: 1024x768; memory: 3000x2000.")
    ] = None,
    tiles: Annotated[
        str, typer.Option(help="off (the image is one tile), or auto (tiles as a run cuts them).")
    ] = "off",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "fp32",
    prompt_batch: options.PromptBatch = None,
    repeats: Annotated[int, typer.Option(min=1, max=100, help="Rounds of each path.")] = 3,
    stock_points: Annotated[
        int,
        typer.Option(min=0, help="Prompts of the stock path, scaled up to all; 0 for all of them."),
    ] = STOCK_POINTS,
    memory: Annotated[
        bool, typer.Option("--memory", help="Peak memory, and time per point, by their number.")
    ] = False,
    flops: Annotated[
        bool, typer.Option("--flops", help="Operations of a tile and of a prompt.")
    ] = False,
    run: Annotated[
        Path | None, typer.Option(help="What a finished run's points took beside the network.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Time networks; with --points, our path and segment-anything's on the same prompts.

    Nothing has to be fetched: without --checkpoint, SAM's networks have random weights, which
    change neither their time nor their memory. The comparison ends with exit code 1 where our
    masks in fp32 are not the stock path's.
    """
    modes = [flag for flag, on in (("--memory", memory), ("--flops", flops), ("--run", run)) if on]
    if len(modes) > 1:
        raise UsageError(f"{' and '.join(modes)}: give one of them")
    if flops or run or not (points or memory):
        given = [name for name, on in (("--size", size), ("--checkpoint", checkpoint)) if on]
        if given:
            raise UsageError(f"{given[0]}: says nothing without --points or --memory")
    if run is not None:
        _overhead(run, json=json)
        return
    if flops and points:
        raise UsageError("--points: says nothing with --flops")
    size_hw = _size_hw(size, MEMORY_SIZE if memory else RACE_SIZE)

    from dpmo_cli.sam.weights import lookup

    names = [lookup(name).name for name in dict.fromkeys(sam or ["nano", "vit_b"])]
    if sam is not None and len(names) > 1 and (memory or points):
        raise UsageError("--sam: give one network with --points or --memory")

    from dpmo_cli.sam.models import DTYPES, resolve_device

    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: unknown; use one of {', '.join(DTYPES)}")
    if tiles not in ("auto", "off"):
        raise UsageError(f"--tiles {tiles}: unknown; use auto or off")
    place = resolve_device(device)
    if flops:
        _flops(names, json=json, quiet=quiet)
        return
    if not (memory or points):
        _networks(names, place, json=json, quiet=quiet)
        return
    name = names[0]
    if memory:
        _memory(name, points, size_hw, place, prompt_batch, json=json, quiet=quiet)
        return

    from dpmo_cli.trials.outcome import Race

    assert points is not None
    race = Race(
        sam=name,
        points=points,
        size_hw=size_hw,
        tiles=tiles == "auto",
        checkpoint=checkpoint,
        device=place,
        dtype=dtype,
        prompt_batch=prompt_batch,
        repeats=repeats,
        stock_points=stock_points or None,
    )
    _race(race, json=json, quiet=quiet)


def _size_hw(text: str | None, default: tuple[int, int]) -> tuple[int, int]:
    if text is None:
        return default
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if match is None or not int(match[1]) or not int(match[2]):
        raise UsageError(f"--size {text}: give WxH in px, e.g. 1024x768")
    return int(match[2]), int(match[1])


def _networks(names: Sequence[str], device: str, *, json: bool, quiet: bool) -> None:
    from dpmo_cli.trials.speed import Speed, measure_speed, speed_lines

    speeds: list[Speed] = []
    for name in names:
        if not quiet:
            say(f"dpmo: timing {name} on {device}")
        speeds.append(measure_speed(name, device))
    if json:
        print_json("bench", {"device": device, "networks": [speed.as_json() for speed in speeds]})
        return
    for line in speed_lines(speeds):
        print(line)


def _race(race: Race, *, json: bool, quiet: bool) -> None:
    from dpmo_cli.trials.outcome import outcome_lines
    from dpmo_cli.trials.race import run_race

    outcome = run_race(race, lambda line: None if quiet else say(f"dpmo: {race.sam}: {line}"))
    if json:
        print_json("race", outcome.as_json())
    else:
        for line in outcome_lines(outcome):
            print(line)
    if not outcome.agreement.equal:
        raise typer.Exit(EXIT_FAILED)


def _memory(
    name: str,
    points: int | None,
    size_hw: tuple[int, int],
    device: str,
    prompt_batch: int | None,
    *,
    json: bool,
    quiet: bool,
) -> None:
    from dpmo_cli.trials.memory import LADDER, Need, loads_of, measure, need_lines, needs_as_json

    counts = LADDER if points is None else (points,)
    needs: list[Need] = []
    for load in loads_of(name, counts, size_hw, device, prompt_batch):
        if not quiet:
            say(f"dpmo: {name}: {load.path}, {load.points} points")
        needs.append(measure(load))
    if json:
        print_json("memory", needs_as_json(name, size_hw, device, needs))
        return
    for line in need_lines(needs):
        print(line)


def _flops(names: Sequence[str], *, json: bool, quiet: bool) -> None:
    from dpmo_cli.trials.flops import Costs, cost_lines, costs_as_json, costs_of

    costs: list[Costs] = []
    for name in names:
        if not quiet:
            say(f"dpmo: counting {name}")
        costs.append(costs_of(name))
    if json:
        print_json("flops", {"networks": costs_as_json(costs)})
        return
    for line in cost_lines(costs):
        print(line)


def _overhead(out: Path, *, json: bool) -> None:
    from dpmo_cli.trials.overhead import overhead_ms

    found = overhead_ms(out)
    if json:
        print_json("overhead", {"out": str(out), "ms_per_point": found})
        return
    for stage, milliseconds in found.items():
        print(f"{stage:7} {milliseconds:.3f} ms per point")
