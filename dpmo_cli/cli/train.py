"""`dpmo train`: train the networks that the package ships."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dpmo_cli.cli.console import say
from dpmo_cli.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Train the networks that the package ships.")


@app.callback()
def _group() -> None:
    """Train the networks that the package ships."""


def _check_places(out: Path, init: Path | None, wanted: str) -> None:
    """Refuse what can't be a run's folder or its first weights, before anything is loaded."""
    if out.is_file():
        raise UsageError(f"--out {out}: is a file; name a folder")
    if init is not None and not init.is_file():
        raise UsageError(f"--init {init}: no such file; give {wanted}, or leave it out")


@app.command()
def nano(
    data: Annotated[
        Path, typer.Option(help="Folder with PennFudanPed, COCO_panoptic_100 and DSB2018.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, log and weights.")],
    rendered: Annotated[
        list[Path] | None,
        typer.Option(help="A csv dataset of rendered scenes with truth/; may be repeated."),
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Weights to go on from, instead of an ImageNet trunk.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps in all.")] = 1500,
    crops: Annotated[int, typer.Option(min=1, help="Crops per step.")] = 4,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts per crop.")] = 8,
    rate: Annotated[float, typer.Option(min=0.0, help="Factor on the learning rates.")] = 1.0,
    validate_every: Annotated[int, typer.Option(min=1, help="Steps between validations.")] = 500,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that make crops; 0: none of their own.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all chance.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train nano on scenes with true masks; the same command goes on from its last checkpoint."""
    if not data.is_dir():
        raise UsageError(f"--data {data}: no such folder; give the folder of the scenes")
    _check_places(out, init, "weights of nano")
    for root in rendered or ():
        if not root.is_dir():
            raise UsageError(f"--rendered {root}: no such folder; render scenes first")

    from dpmo_cli.sam.models import resolve_device
    from dpmo_cli.training.nano import NanoTraining, train_nano

    plain = NanoTraining()
    settings = NanoTraining(
        steps=steps,
        crops=crops,
        prompts=prompts,
        rate_trunk=plain.rate_trunk * rate,
        rate_rest=plain.rate_rest * rate,
        seed=seed,
    )
    path = train_nano(
        data,
        out,
        settings,
        rendered=rendered or (),
        init=init,
        device=resolve_device(device),
        workers=workers,
        validate_every=validate_every,
        say=(lambda line: None) if quiet else say,
    )
    print(path)


Masks = Annotated[
    list[Path] | None,
    typer.Option(help="Converted folder to train on, points and masks; may be repeated."),
]
MaskLoss = Annotated[
    list[str] | None,
    typer.Option(help="foreground, background, ownership, all or none; may be repeated."),
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
    if not masks and any(name != "none" for name in mask_loss or ()):
        raise UsageError("--mask-loss needs --masks, a folder that `dpmo convert` wrote")
    _check_places(out, init, "weights")
    if crop % 32:
        raise UsageError(f"--crop {crop}: is no multiple of 32; use {round(crop / 32) * 32}")

    from dpmo_cli.sam.models import resolve_device
    from dpmo_cli.sam.trunk import TRUNKS
    from dpmo_cli.training.compare import TASKS, terms_of
    from dpmo_cli.training.counter import CounterTraining, train_counter
    from dpmo_cli.training.crowd_masks import SHAPES
    from dpmo_cli.training.crowds import load_crowds, load_masked_crowds, masks_fingerprint

    if trunk not in TRUNKS:
        raise UsageError(f"--trunk {trunk}: unknown; use one of {', '.join(TRUNKS)}")
    if mask_shape not in SHAPES:
        raise UsageError(f"--mask-shape {mask_shape}: unknown; use one of {', '.join(SHAPES)}")
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
        mask_losses=terms_of(mask_loss or ()),
        mask_weight=mask_weight,
        mask_shape=mask_shape,
        masks=tuple(known.values()),
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
        device=resolve_device(device),
        workers=workers,
        validate_every=validate_every,
        say=tell,
    )
    print(path)


@app.command()
def locator(
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


@app.command()
def density(
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


@app.command()
def compare(
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
        typer.Option(help="As for `train locator`, a run each; may be repeated; all five if none."),
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
    _check_places(out, init, "weights")
    if crop % 32:
        raise UsageError(f"--crop {crop}: is no multiple of 32; use {round(crop / 32) * 32}")

    from dpmo_cli.cli.losses import print_losses
    from dpmo_cli.sam.models import resolve_device
    from dpmo_cli.sam.trunk import TRUNKS
    from dpmo_cli.sam.weights import sha256_of
    from dpmo_cli.training.compare import TASKS, plan_trials, run_trials
    from dpmo_cli.training.counter import MASK_LOSSES, CounterTraining

    if trunk not in TRUNKS:
        raise UsageError(f"--trunk {trunk}: unknown; use one of {', '.join(TRUNKS)}")
    trials = plan_trials(
        model or list(TASKS), mask_loss or list(MASK_LOSSES), mask_shape or ["mask"],
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
    tell = (lambda line: None) if quiet else (lambda line: say(f"dpmo: {line}"))
    results = run_trials(
        masks, out, trials, settings, root=root, init=init, device=resolve_device(device), say=tell
    )
    for path in results:
        tell(f"{path}: done")
    print_losses(out)


@app.command()
def rps(
    data: Annotated[Path, typer.Option(help="Folder with PennFudanPed and COCO_panoptic_100.")],
    root: Annotated[Path, typer.Option(help="Folder that holds the datasets of real crowds.")],
    out: Annotated[Path, typer.Option(help="Folder for states, curves and weights.")],
    dataset: Annotated[
        list[str] | None,
        typer.Option(help="Dataset of real crowds; may be repeated; ShanghaiTech A and B if none."),
    ] = None,
    crowds: Annotated[int, typer.Option(min=1, help="Composed crowds to train on.")] = 16,
    photos: Annotated[
        int, typer.Option(min=0, help="Real crowds to train on, of each dataset.")
    ] = 6,
    checks: Annotated[int, typer.Option(min=1, help="Scenes of each validation set.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Steps of each training.")] = 400,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each way.")] = 3,
    extent: Annotated[
        str, typer.Option(help="nnec, head or visible: what masks are rewarded for.")
    ] = "nnec",
    sam: Annotated[str, typer.Option(help="nano, vit_b, vit_l or vit_h.")] = "nano",
    checkpoint: Annotated[Path | None, typer.Option(help="Your own weights for --sam.")] = None,
    locator: Annotated[Path | None, typer.Option(help="Your own localiser.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train the selection of points with GRPO, beside its rivals; prints how all of them do.

    What was found of a scene is kept in the folder, and not made again.
    """
    from dpmo_cli.cli.truth import require_data
    from dpmo_cli.geometry.extents import EXTENTS

    if extent not in EXTENTS:
        raise UsageError(f"--extent {extent}: unknown; use one of {', '.join(EXTENTS)}")
    require_data(data)
    _check_places(out, None, "weights")

    from dataclasses import replace
    from hashlib import sha256

    from dpmo_cli.masks.method import default_method
    from dpmo_cli.rps.locator import load_locator
    from dpmo_cli.rps.weights import find_weights
    from dpmo_cli.sam.models import load_engine, resolve_engine
    from dpmo_cli.sam.weights import sha256_of
    from dpmo_cli.training.checkpoint import make_folder
    from dpmo_cli.training.policies import PolicyTraining
    from dpmo_cli.training.rps import rivals_lines, train_rps
    from dpmo_cli.training.sources import gather

    tell = (lambda line: None) if quiet else (lambda line: say(f"dpmo: {line}"))
    make_folder(out)
    spec = resolve_engine(sam, checkpoint=checkpoint, device=device)
    engine = load_engine(spec)
    method = replace(default_method(spec.name), extent=extent)
    locator_path = find_weights("locator", locator)
    # States of another network, localiser or extent are others.
    made_with = f"{spec.weights_sha256} {sha256_of(locator_path)} {extent}"
    training, sets = gather(
        data,
        root,
        out / "states" / sha256(made_with.encode()).hexdigest()[:12],
        load_locator(locator_path, spec.device),
        engine,
        method,
        crowds=crowds,
        photos=photos,
        checks=checks,
        datasets=dataset or ("shanghaitech-a", "shanghaitech-b"),
        say=tell,
    )
    table = train_rps(
        training,
        sets,
        out,
        engine,
        method,
        spec.weights_sha256,
        PolicyTraining(rounds=rounds),
        seeds,
        tell,
    )
    for line in rivals_lines(table):
        print(line)


@app.command()
def calibration(
    data: Annotated[
        Path, typer.Option(help="Folder with PennFudanPed, COCO_panoptic_100 and DSB2018.")
    ],
    out: Annotated[Path, typer.Option(help="JSON file to write.")],
    sam: Annotated[str, typer.Option(help="nano, vit_b, vit_l or vit_h.")] = "nano",
    checkpoint: Annotated[Path | None, typer.Option(help="Your own weights for --sam.")] = None,
    truth_set: Annotated[
        list[str] | None,
        typer.Option("--set", help="Truth set; may be repeated; all but coco-things if none."),
    ] = None,
    scenes: Annotated[
        int | None, typer.Option(min=1, help="Scenes of each set, spread over it. Default: all.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Fit the review score to the IoU on validation scenes; prints what a review would find.

    The table tests every scene with curves that were fitted on others; the file holds the curves
    that were fitted on all.
    """
    from dpmo_cli.cli.method import SETS
    from dpmo_cli.cli.truth import require_data
    from dpmo_cli.evaluation.truth_sets import TRUTH_SETS, load_set

    names = truth_set or list(SETS)
    for name in names:
        if name not in TRUTH_SETS:
            raise UsageError(f"--set {name}: unknown; use one of {', '.join(TRUTH_SETS)}")
    require_data(data)
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file")

    from dpmo_cli.masks.method import default_method
    from dpmo_cli.outputs.atomic import write_text
    from dpmo_cli.sam.calibration import as_json
    from dpmo_cli.sam.models import load_engine, resolve_engine
    from dpmo_cli.trials.calibration import calibrate
    from dpmo_cli.trials.table import calibration_lines

    spec = resolve_engine(sam, checkpoint=checkpoint, device=device)
    sets = {name: load_set(name, data, limit=scenes) for name in names}
    found, checks = calibrate(
        load_engine(spec),
        default_method(spec.name),
        spec.weights_sha256,
        sets,
        (lambda line: None) if quiet else (lambda line: say(f"dpmo: {line}")),
    )
    for line in calibration_lines(checks):
        print(line)
    write_text(out, as_json(found))
