"""`dpmo train rps` and `rejection`: which candidate a located point is prompted at, or none."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from dpmo_cli.cli.console import say
from dpmo_cli.cli.train_counters import check_places
from dpmo_cli.errors import UsageError

if TYPE_CHECKING:
    from dpmo_cli.sam.models import EngineSpec
    from dpmo_cli.training.sources import Gatherer

Data = Annotated[Path, typer.Option(help="Folder with PennFudanPed and COCO_panoptic_100.")]
Root = Annotated[Path, typer.Option(help="Folder that holds the datasets of real crowds.")]
Dataset = Annotated[
    list[str] | None,
    typer.Option(help="Dataset of real crowds; may be repeated; ShanghaiTech A and B if none."),
]
Extent = Annotated[str, typer.Option(help="nnec, head or visible: what masks are rewarded for.")]
Sam = Annotated[str, typer.Option(help="nano, vit_b, vit_l or vit_h.")]
Checkpoint = Annotated[Path | None, typer.Option(help="Your own weights for --sam.")]
Locator = Annotated[Path | None, typer.Option(help="Your own localiser.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


class Ready(NamedTuple):
    """What both commands begin with."""

    gatherer: Gatherer
    spec: EngineSpec


def rps_command(
    data: Data,
    root: Root,
    out: Annotated[Path, typer.Option(help="Folder for states, curves and weights.")],
    dataset: Dataset = None,
    crowds: Annotated[int, typer.Option(min=1, help="Composed crowds to train on.")] = 16,
    photos: Annotated[
        int, typer.Option(min=0, help="Real crowds to train on, of each dataset.")
    ] = 6,
    checks: Annotated[int, typer.Option(min=1, help="Scenes of each validation set.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each way.")] = 3,
    extent: Extent = "nnec",
    sam: Sam = "nano",
    checkpoint: Checkpoint = None,
    locator: Locator = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train the selection of points with GRPO, beside its rivals; prints how all of them do.

    What was found of a scene is kept in the folder, and not made again.
    """
    ready = _prepare(
        data, root, out, dataset, extent=extent, sam=sam, checkpoint=checkpoint, locator=locator,
        device=device, quiet=quiet,
    )  # fmt: skip

    from dpmo_cli.training.policies import PolicyTraining
    from dpmo_cli.training.rps import rivals_lines, train_rps

    gatherer = ready.gatherer
    training, sets = gatherer.to_train(crowds, photos), gatherer.to_check(checks)
    table = train_rps(
        training,
        sets,
        out,
        gatherer.engine,
        gatherer.method,
        ready.spec.weights_sha256,
        PolicyTraining(rounds=rounds),
        seeds,
        gatherer.say,
    )
    for line in rivals_lines(table):
        print(line)


def rejection_command(
    policy: Annotated[Path, typer.Option(help="Policy to fit, of `dpmo train rps`.")],
    data: Data,
    root: Root,
    out: Annotated[Path, typer.Option(help="Folder for states and the fitted policy.")],
    dataset: Dataset = None,
    crowds: Annotated[int, typer.Option(min=1, help="Composed crowds to fit on.")] = 8,
    photos: Annotated[
        int, typer.Option(min=0, help="Real crowds to fit on, of each dataset.")
    ] = 16,
    checks: Annotated[int, typer.Option(min=1, help="Crowds of each validation set.")] = 4,
    extent: Extent = "nnec",
    sam: Sam = "nano",
    checkpoint: Checkpoint = None,
    locator: Locator = None,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Teach what `predict --reject` drops; prints what that changes on validation.

    Which candidates the policy chooses stays. What was found of a scene is kept in the folder.
    """
    if not policy.is_file():
        raise UsageError(f"--policy {policy}: no such file; give a policy of `dpmo train rps`")
    ready = _prepare(
        data, root, out, dataset, extent=extent, sam=sam, checkpoint=checkpoint, locator=locator,
        device=device, quiet=quiet,
    )  # fmt: skip

    from dpmo_cli.evaluation.truth_sets import COMPOSED, GROUPED
    from dpmo_cli.rps.policy import load_policy
    from dpmo_cli.training.rejection import (
        RejectionTraining,
        compare_rejection,
        fit_rejection,
        rejection_lines,
    )
    from dpmo_cli.training.rps import write_policy

    gatherer, network = ready.gatherer, ready.spec.weights_sha256
    plain = load_policy(policy, network)
    # Without photos there are no scenes of theirs.
    scenes = {name: of_set for name, of_set in gatherer.to_fit(crowds, photos).items() if of_set}
    real = [name for name in scenes if name != COMPOSED]
    fitted = fit_rejection(plain, scenes, real, RejectionTraining())
    rows = [
        compare_rejection(
            fitted, name, of_set, gatherer.engine, gatherer.method,
            true_masks=name in (COMPOSED, GROUPED),
        )
        for name, of_set in gatherer.to_check_fit(checks, photos).items()
        if of_set
    ]  # fmt: skip
    path = out / policy.name
    write_policy(fitted, path, network)
    for line in rejection_lines(rows):
        print(line)
    print(path)


def _prepare(
    data: Path,
    root: Path,
    out: Path,
    dataset: list[str] | None,
    *,
    extent: str,
    sam: str,
    checkpoint: Path | None,
    locator: Path | None,
    device: str,
    quiet: bool,
) -> Ready:
    """Check what both commands are given, and load the networks."""
    from dpmo_cli.cli.truth import require_data
    from dpmo_cli.geometry.extents import EXTENTS

    if extent not in EXTENTS:
        raise UsageError(f"--extent {extent}: unknown; use one of {', '.join(EXTENTS)}")
    require_data(data)
    check_places(out, None, "weights")

    from dataclasses import replace
    from hashlib import sha256

    from dpmo_cli.masks.method import default_method
    from dpmo_cli.rps.locator import load_locator
    from dpmo_cli.rps.weights import find_weights
    from dpmo_cli.sam.models import load_engine, resolve_engine
    from dpmo_cli.sam.weights import sha256_of
    from dpmo_cli.training.checkpoint import make_folder
    from dpmo_cli.training.sources import Gatherer

    make_folder(out)
    spec = resolve_engine(sam, checkpoint=checkpoint, device=device)
    locator_path = find_weights("locator", locator)
    # States of another network, localiser or extent are others.
    made_with = f"{spec.weights_sha256} {sha256_of(locator_path)} {extent}"
    gatherer = Gatherer(
        data,
        root,
        dataset or ("shanghaitech-a", "shanghaitech-b"),
        out / "states" / sha256(made_with.encode()).hexdigest()[:12],
        load_locator(locator_path, spec.device),
        load_engine(spec),
        replace(default_method(spec.name), extent=extent),
        (lambda line: None) if quiet else (lambda line: say(f"dpmo: {line}")),
    )
    return Ready(gatherer, spec)
