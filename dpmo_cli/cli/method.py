"""`dpmo evaluate method`: the method, its alternatives and the baselines on true masks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import print_json, say
from dpmo_cli.errors import UsageError

if TYPE_CHECKING:
    from dpmo_cli.trials.run import Result

SETS = ("composed", "groups", "nuclei", "pennfudan", "coco-persons")


def method_command(
    data: Annotated[
        Path, typer.Option(help="Folder with PennFudanPed, COCO_panoptic_100 and DSB2018.")
    ],
    truth_set: Annotated[
        list[str] | None,
        typer.Option("--set", help="Truth set; may be repeated; all but coco-things if none."),
    ] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(
            help="steps, alternatives, points, baselines or extents; may be repeated; all if none."
        ),
    ] = None,
    scenes: Annotated[
        int | None, typer.Option(min=1, help="Scenes of each set, spread over it. Default: all.")
    ] = None,
    sam: Annotated[str, typer.Option(help="nano, vit_b, vit_l or vit_h.")] = "nano",
    checkpoint: Annotated[Path | None, typer.Option(help="Your own weights for --sam.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    split: Annotated[str, typer.Option(help="validation or train.")] = "validation",
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, on Linux and CPUs; each has one thread.")
    ] = 1,
    samples: Annotated[
        int,
        typer.Option(
            min=0, max=100_000, help="Resamples of the images for the 95 % intervals; 0: none."
        ),
    ] = 1000,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure the method on true masks: step by step, its alternatives, and the trivial baselines.

    Truth is cut by the discs at scale 1, whatever a variant uses, unless a table says otherwise.
    Prints tables in Markdown.
    """
    from dpmo_cli.cli.truth import SPLITS, require_data
    from dpmo_cli.evaluation.baselines import require_trials
    from dpmo_cli.evaluation.truth_sets import TRUTH_SETS, load_set
    from dpmo_cli.trials.variants import ALTERNATIVES, GROUPS, TRIVIAL

    sets, groups = truth_set or list(SETS), group or list(GROUPS)
    for option, wanted, known in (
        ("--set", sets, TRUTH_SETS),
        ("--group", groups, GROUPS),
        ("--split", [split], SPLITS),
    ):
        for name in wanted:
            if name not in known:
                raise UsageError(f"{option} {name}: unknown; use one of {', '.join(known)}")
    if {ALTERNATIVES, TRIVIAL} & set(groups):
        require_trials()
    if workers > 1 and (sys.platform != "linux" or device != "cpu"):
        raise UsageError("--workers: needs Linux and --device cpu; leave it out")
    require_data(data)

    from dpmo_cli.masks.method import default_method
    from dpmo_cli.sam.models import load_engine, resolve_engine
    from dpmo_cli.trials.run import run_variants
    from dpmo_cli.trials.table import as_json, report
    from dpmo_cli.trials.variants import variants_of

    spec = resolve_engine(sam, checkpoint=checkpoint, device=device)
    engine = load_engine(spec)
    method = default_method(spec.name)
    loaded = {
        name: load_set(name, data, validation=split == "validation", limit=scenes) for name in sets
    }

    def done(result: Result) -> None:
        if not quiet:
            say(
                f"dpmo: {result.truth_set}: {result.variant.name}: "
                f"{result.figures.iou_per_point.value:.3f}, "
                f"{1000 * result.seconds_per_point:.1f} ms a point"
            )

    variants = [v for v in variants_of(engine, method) if v.group in groups]
    results = run_variants(loaded, variants, samples=samples, workers=workers, done=done)
    if json:
        about = {"sam": spec.name, "weights_sha256": spec.weights_sha256, "device": spec.device}
        print_json("evaluate-method", about | {"split": split, "results": as_json(results)})
        return
    print(f"{spec.name}, SHA-256 {spec.weights_sha256}, {spec.device}, {split}")
    for line in report(results):
        print(line)
