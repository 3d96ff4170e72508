"""`dpmo predict`: find and segment the people of photos that nobody annotated."""

from __future__ import annotations

import io
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.cli import options
from dpmo_cli.cli.console import say
from dpmo_cli.cli.convert import report
from dpmo_cli.errors import EXIT_FAILED, EXIT_OK, EXIT_PARTIAL, UsageError

STDIN = "-"


def predict(
    photos: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH...",
            help="Photos, folders with all below them, or patterns; - reads a list from stdin.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(envvar="DPMO_OUT", help="Folder for the results.")],
    selector: Annotated[
        str | None,
        typer.Option(
            envvar="DPMO_SELECTOR",
            help="Where each person is prompted: rps or rank (policies), head (the middle of the "
            "head), score (SAM's own), or first (where located). Default: rps; --points: first.",
        ),
    ] = None,
    reject: Annotated[
        bool,
        typer.Option(
            "--reject/--keep-all",
            envvar="DPMO_REJECT",
            help="Whether the policy may drop points that it takes for nobody's.",
        ),
    ] = False,
    min_score: Annotated[
        float | None,
        typer.Option(
            envvar="DPMO_MIN_SCORE",
            help="People located with a lower score are left out, 0 to 1. Default: 0.5, and with "
            "--reject the policy may take those above 0.27 for people too.",
        ),
    ] = None,
    points: Annotated[
        Path | None,
        typer.Option(
            envvar="DPMO_POINTS",
            help="Points of another localiser, instead of ours: a CSV (image,x,y[,score]), NWPU's "
            "submission lines, or a folder of text files.",
        ),
    ] = None,
    locator: Annotated[
        Path | None,
        typer.Option(envvar="DPMO_LOCATOR", help="Your own localiser, of `dpmo train locator`."),
    ] = None,
    policy: Annotated[
        Path | None,
        typer.Option(envvar="DPMO_POLICY", help="Your own policy, of `dpmo train rps`."),
    ] = None,
    sam: options.Sam = "nano",
    checkpoint: options.Checkpoint = None,
    device: options.Device = "auto",
    dtype: options.Dtype = "fp32",
    prompt_batch: options.PromptBatch = None,
    cache: options.Cache = None,
    cache_size: options.CacheSize = 20.0,
    calibration: options.CalibrationFile = None,
    nnec_scale: options.NnecScale = 1.0,
    tiles: options.Tiles = "auto",
    extent: options.Extent = "nnec",
    negatives: options.Negatives = None,
    radii: options.Radii = "nearest",
    ownership: options.Ownership = "logit",
    limit: Annotated[
        int | None, typer.Option(envvar="DPMO_LIMIT", min=1, help="Only the first photos.")
    ] = None,
    shard: options.ShardOption = None,
    workers: options.Workers = 1,
    engine: options.HandedOutBy = "local",
    discard_corrections: options.DiscardCorrections = False,
    force: options.Force = False,
    strict: options.Strict = False,
    max_failure_rate: options.MaxFailureRate = 1.0,
    json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Find and segment the people of photos; the outputs are those of `convert`, and counts.csv.

    Interrupted runs go on where they stopped. Nobody found is a result. Exit codes: 0 done, 1
    failed, 2 wrong usage, 3 done but some photos failed, 130 interrupted.
    """
    method = options.method_of(
        sam,
        nnec_scale=nnec_scale,
        tiles=tiles,
        extent=extent,
        negatives=negatives,
        radii=radii,
        ownership=ownership,
    )
    options.check_out(out)
    if min_score is not None and points is not None:
        raise UsageError("--min-score is for our localiser; leave it out, or --points")
    if min_score is not None and not 0 < min_score < 1:
        raise UsageError(f"--min-score {min_score}: must lie between 0 and 1")

    from dpmo_cli.datasets.photos import PREDICTIONS, Photos
    from dpmo_cli.datasets.point_files import read_point_file
    from dpmo_cli.pipeline.plan import Selection, Shard

    opened = Photos(_listed(photos), None if points is None else read_point_file(points))
    for name in opened.unclaimed:
        say(f"dpmo: error: {points}: names {name}, which is none of the photos; mend the name")
    if opened.unclaimed and strict:
        raise typer.Exit(EXIT_FAILED)
    selection = Selection((PREDICTIONS,), limit, None if shard is None else Shard.parse(shard))
    options.check_engine(engine)

    from dpmo_cli.pipeline.convert import run_job
    from dpmo_cli.pipeline.predict import resolve_finder
    from dpmo_cli.rps.selection import FIRST, RPS
    from dpmo_cli.sam.models import resolve_engine

    spec = resolve_engine(
        sam, checkpoint=checkpoint, device=device, dtype=dtype, prompt_batch=prompt_batch
    )
    spec = options.with_calibration(spec, calibration, method)
    finder = resolve_finder(
        spec,
        method,
        # Who gives points means these, unless a policy is asked for.
        selector=selector or (RPS if points is None or policy or reject else FIRST),
        reject=reject,
        min_score=min_score,
        points_given=points is not None,
        locator=locator,
        policy=policy,
    )
    about = {
        "photos": len(opened.entries(PREDICTIONS)),
        "root": str(opened.root),
        "out": str(out),
        "points": None if points is None else str(points),
        **finder.config,
    }
    job = options.job_of(
        opened,
        out,
        selection,
        spec,
        method,
        about,
        prompt_batch=prompt_batch,
        limit=limit,
        shard=shard,
        discard_corrections=discard_corrections,
        force=force,
        strict=strict,
        max_failure_rate=max_failure_rate,
        quiet=quiet,
        workers=workers,
        engine=engine,
        cache=options.open_cache(cache, cache_size),
        finder=finder,
    )
    if spec.name == "nano" and not quiet:
        say("dpmo: using nano, the small embedded network; vit_h is the paper's choice (--sam)")
    summary = run_job(job)
    partial = EXIT_PARTIAL if opened.unclaimed else EXIT_OK
    summary = replace(summary, exit_code=summary.exit_code or partial)
    report(summary, out, json=json, quiet=quiet, kind="predict")
    raise typer.Exit(summary.exit_code)


def _listed(photos: list[str]) -> list[str]:
    """The arguments, with the lines of stdin in the place of "-"."""
    names: list[str] = []
    for given in photos:
        if given == STDIN:
            if isinstance(sys.stdin, io.TextIOWrapper):
                # As the arguments are read: a name may be no UTF-8.
                sys.stdin.reconfigure(errors="surrogateescape")
            names += [line.rstrip("\r\n") for line in sys.stdin if line.strip()]
        else:
            names.append(given)
    return names
