"""`dpmo train locator`, `density` and `compare`: models that count, with masks or without."""

from __future__ import annotations

from collections.abc import Callable
from math import isfinite
from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.cli.console import say
from dpmo_cli.errors import UsageError

Masks = Annotated[
    list[Path] | None,
    typer.Option(help="Converted folder to train on, points and masks; may be repeated."),
]
MaskLoss = Annotated[
    list[str] | None,
    typer.Option(
        help="foreground, background, ownership, all for these three, none, or likelihood; "
        "may be repeated. Default: none."
    ),
]
MaskShape = Annotated[
    str, typer.Option(help="What stands for the masks: mask, disc, half-disc or gaussian.")
]
MaskWeight = Annotated[
    float | None,
    typer.Option(min=0.0, help="Factor on each mask loss. Default: what suits the model."),
]
CounterRoot = Annotated[
    Path | None,
    typer.Option(help="Folder that holds the datasets; with --masks that of the photos."),
]
Dataset = Annotated[
    list[str] | None,
    typer.Option(help="Dataset to train on; may be repeated; ShanghaiTech A and B if none."),
]
Out = Annotated[Path, typer.Option(help="Folder for checkpoints, log and weights.")]
Trunk = Annotated[str, typer.Option(help="lite0, lite1 or lite2.")]
Init = Annotated[
    Path | None, typer.Option(help="Weights to go on from, instead of an ImageNet trunk.")
]
Steps = Annotated[int, typer.Option(min=1, help="Steps in all.")]
Batch = Annotated[int, typer.Option(min=1, help="Crops per step.")]
Crop = Annotated[int, typer.Option(min=64, max=1024, help="Side of a crop, a multiple of 32 px.")]
Rate = Annotated[float, typer.Option(min=0.0, help="Factor on the learning rates.")]
ValidateEvery = Annotated[int, typer.Option(min=1, help="Steps between validations.")]
Workers = Annotated[
    int, typer.Option(min=0, help="Processes that make crops; 0: none of their own.")
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all chance.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def _train_counter(
    model: str,
    *,
    root: Path | None,
    out: Path,
    dataset: list[str] | None,
    masks: list[Path] | None,
    mask_loss: list[str] | None,
    mask_shape: str,
    mask_weight: float | None,
    trunk: str,
    init: Path | None,
    steps: int,
    batch: int,
    crop: int,
    rate: float,
    validate_every: int,
    workers: int,
    seed: int,
    device: str,
    quiet: bool,
) -> None:
    """Check the options of a model that counts, train it, and print where its weights are."""
    if root is not None and not root.is_dir():
        raise UsageError(f"--root {root}: no such folder; give the folder of the datasets")
    if root is None and not masks:
        raise UsageError("give --root, the folder of the datasets, or --masks")
    if dataset and masks:
        raise UsageError("--dataset is for --root alone: --masks names folders of one dataset each")
    check_places(out, init, "weights")
    _check_finite(mask_weight, rate)
    if crop % 32:
        raise UsageError(f"--crop {crop}: is no multiple of 32; use {round(crop / 32) * 32}")

    from dpmo_cli.sam.models import resolve_device
    from dpmo_cli.sam.trunk import TRUNKS
    from dpmo_cli.sam.weights import sha256_of
    from dpmo_cli.training.compare import TASKS, terms_of
    from dpmo_cli.training.counter import CounterTraining, train_counter
    from dpmo_cli.training.crowd_masks import MASK, SHAPES
    from dpmo_cli.training.crowds import load_crowds, load_masked_crowds, masks_fingerprint

    if trunk not in TRUNKS:
        raise UsageError(f"--trunk {trunk}: unknown; use one of {', '.join(TRUNKS)}")
    if mask_shape not in SHAPES:
        raise UsageError(f"--mask-shape {mask_shape}: unknown; use one of {', '.join(SHAPES)}")
    terms = terms_of(mask_loss or ())
    if terms and not masks:
        raise UsageError("--mask-loss needs --masks, a folder that `dpmo convert` wrote")
    if not terms and (mask_weight is not None or mask_shape != MASK):
        option = "--mask-weight" if mask_shape == MASK else "--mask-shape"
        raise UsageError(f"{option}: says nothing without --mask-loss")
    place = resolve_device(device)
    plain = CounterTraining()
    known = masks_fingerprint(masks or ())
    settings = CounterTraining(
        datasets=tuple(known or dataset or plain.datasets),
        trunk=trunk,
        steps=steps,
        batch=batch,
        crop=crop,
        rate_trunk=plain.rate_trunk * rate,
        rate_rest=plain.rate_rest * rate,
        seed=seed,
        mask_losses=terms,
        mask_weight=mask_weight,
        mask_shape=mask_shape,
        masks=tuple(known.values()),
        init=None if init is None else sha256_of(init),
    )
    tell = (lambda line: None) if quiet else say
    if masks:
        crowds = load_masked_crowds(masks, mask_shape, tell, root=root)
    else:
        assert root is not None
        crowds = load_crowds(root, settings.datasets, tell)
    path = train_counter(
        TASKS[model],
        crowds,
        out,
        settings,
        init=init,
        device=place,
        workers=workers,
        validate_every=validate_every,
        say=tell,
    )
    print(path)


def locator_command(
    out: Out,
    root: CounterRoot = None,
    dataset: Dataset = None,
    masks: Masks = None,
    mask_loss: MaskLoss = None,
    mask_shape: MaskShape = "mask",
    mask_weight: MaskWeight = None,
    trunk: Trunk = "lite0",
    init: Init = None,
    steps: Steps = 3000,
    batch: Batch = 8,
    crop: Crop = 256,
    rate: Rate = 1.0,
    validate_every: ValidateEvery = 1000,
    workers: Workers = 0,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train the localiser on annotated points; the same command goes on from its checkpoint."""
    _train_counter("locator", **locals())


def density_command(
    out: Out,
    root: CounterRoot = None,
    dataset: Dataset = None,
    masks: Masks = None,
    mask_loss: MaskLoss = None,
    mask_shape: MaskShape = "mask",
    mask_weight: MaskWeight = None,
    trunk: Trunk = "lite0",
    init: Init = None,
    steps: Steps = 3000,
    batch: Batch = 8,
    crop: Crop = 256,
    rate: Rate = 1.0,
    validate_every: ValidateEvery = 1000,
    workers: Workers = 0,
    seed: Seed = 0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train a network whose density map counts; the same command goes on from its checkpoint."""
    _train_counter("density", **locals())


def compare_command(
    masks: Annotated[
        list[Path], typer.Option(help="Converted folder to train on; may be repeated.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the runs and their results.")],
    root: Annotated[
        Path | None, typer.Option(help="Folder of the photos. Default: where the runs say.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="locator or density; may be repeated; both if none.")
    ] = None,
    mask_loss: Annotated[
        list[str] | None,
        typer.Option(
            help="As for `train locator`, a run each, or terms joined by +; may be repeated; "
            "if not given: the three terms, each alone, all, and none."
        ),
    ] = None,
    mask_shape: Annotated[
        list[str] | None,
        typer.Option(help="As for `train locator`, a run each; may be repeated; mask if none."),
    ] = None,
    mask_weight: MaskWeight = None,
    seed: Annotated[
        list[int] | None, typer.Option(min=0, help="A run each; may be repeated; 0, 1, 2 if none.")
    ] = None,
    trunk: Trunk = "lite0",
    init: Init = None,
    steps: Steps = 500,
    batch: Batch = 8,
    crop: Crop = 192,
    rate: Rate = 1.0,
    device: Device = "auto",
    quiet: Quiet = False,
) -> None:
    """Train with and without mask losses, run after run, and compare what validation counts.

    Finished runs are kept, and a killed one goes on; the table is that of `dpmo evaluate losses`.
    """
    check_places(out, init, "weights")
    _check_finite(mask_weight, rate)
    if crop % 32:
        raise UsageError(f"--crop {crop}: is no multiple of 32; use {round(crop / 32) * 32}")

    from dpmo_cli.cli.losses import print_losses
    from dpmo_cli.sam.models import resolve_device
    from dpmo_cli.sam.trunk import TRUNKS
    from dpmo_cli.sam.weights import sha256_of
    from dpmo_cli.training.compare import TASKS, plan_trials, run_trials
    from dpmo_cli.training.counter import ALL, NONE, TERMS, CounterTraining

    if trunk not in TRUNKS:
        raise UsageError(f"--trunk {trunk}: unknown; use one of {', '.join(TRUNKS)}")
    trials = plan_trials(
        model or list(TASKS), mask_loss or [*TERMS, ALL, NONE], mask_shape or ["mask"],
        seed or [0, 1, 2],
    )  # fmt: skip
    plain = CounterTraining()
    settings = CounterTraining(
        trunk=trunk,
        steps=steps,
        batch=batch,
        crop=crop,
        rate_trunk=plain.rate_trunk * rate,
        rate_rest=plain.rate_rest * rate,
        mask_weight=mask_weight,
        init=None if init is None else sha256_of(init),
    )
    tell: Callable[[str], None] = (
        (lambda line: None) if quiet else (lambda line: say(f"dpmo: {line}"))
    )
    results = run_trials(
        masks, out, trials, settings, root=root, init=init, device=resolve_device(device), say=tell
    )
    for path in results:
        tell(f"{path}: done")
    print_losses(out)


def _check_finite(mask_weight: float | None, rate: float) -> None:
    """Refuse factors that no loss stays finite with; NaN passes typer's least value, too."""
    for option, value in (("--mask-weight", mask_weight), ("--rate", rate)):
        if value is not None and not isfinite(value):
            raise UsageError(f"{option} {value}: must be a finite number")


def check_places(out: Path, init: Path | None, wanted: str) -> None:
    """Refuse what can't be a run's folder or its first weights, before anything is loaded."""
    if out.is_file():
        raise UsageError(f"--out {out}: is a file; name a folder")
    if init is not None and not init.is_file():
        raise UsageError(f"--init {init}: no such file; give {wanted}, or leave it out")
