"""`dpmo selftest`: what the user's weights are worth, measured on scenes of the package."""

from __future__ import annotations

from typing import Annotated

import typer

from dpmo_cli.cli import options
from dpmo_cli.cli.console import print_json, say


def selftest(
    sam: options.Sam = "nano",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure weights on four rendered crowds with true masks, and remember it.

    The run.json of later runs with these weights holds the figures, and says `unvalidated` before.
    """
    from dpmo_cli.masks.method import default_method
    from dpmo_cli.sam.models import load_engine, resolve_engine
    from dpmo_cli.sam.validation import write_validation
    from dpmo_cli.trials.run import Result
    from dpmo_cli.trials.selftest import as_validation, load_scenes, run_selftest, selftest_lines

    spec = resolve_engine(sam, checkpoint=checkpoint, device=device)

    def done(result: Result) -> None:
        if not quiet:
            say(f"dpmo: {result.variant.name}: {result.figures.iou_per_point.value:.3f}")

    results = run_selftest(load_engine(spec), default_method(spec.name), load_scenes(), done)
    validation = as_validation(spec.name, spec.device, results)
    if json:
        print_json("selftest", {"weights_sha256": spec.weights_sha256, **validation})
    else:
        print(f"{spec.name}, SHA-256 {spec.weights_sha256}, {spec.device}")
        for line in selftest_lines(results):
            print(line)
    # Last, so that a cache folder that can't be written loses nobody the figures.
    path = write_validation(spec.weights_sha256, validation)
    if not quiet and not json:
        say(f"dpmo: kept in {path}")
