"""`dpmo train nano`: train the network from true masks, or fine-tune it on corrections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import say, warn
from dpmo_cli.cli.train_counters import check_places
from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.findings import CORRECTIONS_FILE, DECISIONS_FILE

if TYPE_CHECKING:
    from dpmo_cli.training.nano import NanoTraining

_STEPS, _TUNING_STEPS = 1500, 600
_VALIDATE_EVERY, _TUNING_VALIDATE_EVERY = 500, 25


def nano_command(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, log and weights.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder with PennFudanPed, COCO_panoptic_100 and DSB2018.")
    ] = None,
    from_corrections: Annotated[
        list[Path] | None,
        typer.Option(
            help="A finished run: fine-tune on its corrected and accepted masks; may be repeated. "
            "With --data every other crop is of its scenes, against forgetting."
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(help="Folder of the corrected photos, where it is not the run's own."),
    ] = None,
    rendered: Annotated[
        list[Path] | None,
        typer.Option(help="A csv dataset of rendered scenes with truth/; may be repeated."),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Weights to go on from, instead of an ImageNet trunk, or with "
            "--from-corrections of the embedded ones."
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Steps in all. Default: {_STEPS}, from corrections {_TUNING_STEPS} at most.",
        ),
    ] = None,
    crops: Annotated[int, typer.Option(min=1, help="Crops per step.")] = 4,
    prompts: Annotated[int, typer.Option(min=1, help="Prompts per crop.")] = 8,
    rate: Annotated[
        float,
        typer.Option(
            min=0.0, help="Factor on the learning rates, which are a tenth for corrections."
        ),
    ] = 1.0,
    validate_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Steps between validations. Default: {_VALIDATE_EVERY}, from corrections "
            f"{_TUNING_VALIDATE_EVERY}.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that make crops; 0: none of their own.")
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all chance.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Train nano on true masks; the same command goes on from its last checkpoint.

    With --from-corrections it is fine-tuned on what people corrected, and stops where the
    validation no longer gains.
    """
    if data is None and not from_corrections:
        raise UsageError("nothing to learn from; give --data, --from-corrections or both")
    if data is None and rendered:
        raise UsageError("--rendered goes with --data; give the folder of the scenes too")
    if root is not None and not from_corrections:
        raise UsageError("--root goes with --from-corrections; leave it out")
    if data is not None and not data.is_dir():
        raise UsageError(f"--data {data}: no such folder; give the folder of the scenes")
    check_places(out, init, "weights of nano")
    for folder in rendered or ():
        if not folder.is_dir():
            raise UsageError(f"--rendered {folder}: no such folder; render scenes first")

    from dpmo_cli.sam.models import resolve_device
    from dpmo_cli.training.nano import NanoTraining, train_nano

    plain = NanoTraining()
    settings = NanoTraining(
        steps=steps or (_TUNING_STEPS if from_corrections else _STEPS),
        crops=crops,
        prompts=prompts,
        rate_trunk=plain.rate_trunk * rate,
        rate_rest=plain.rate_rest * rate,
        seed=seed,
    )
    tell: Callable[[str], None] = (lambda line: None) if quiet else say
    if from_corrections:
        _tune(
            from_corrections,
            root,
            out,
            settings,
            init=init,
            data=data,
            rendered=rendered or (),
            validate_every=validate_every or _TUNING_VALIDATE_EVERY,
            device=resolve_device(device),
            workers=workers,
            tell=tell,
        )
        return
    assert data is not None
    path = train_nano(
        data,
        out,
        settings,
        rendered=rendered or (),
        init=init,
        device=resolve_device(device),
        workers=workers,
        validate_every=validate_every or _VALIDATE_EVERY,
        say=tell,
    )
    print(path)


def _tune(
    runs: Sequence[Path],
    root: Path | None,
    out: Path,
    settings: NanoTraining,
    *,
    init: Path | None,
    data: Path | None,
    rendered: Sequence[Path],
    validate_every: int,
    device: str,
    workers: int,
    tell: Callable[[str], None],
) -> None:
    """Fine-tune, print where the weights are, and say what to do with them."""
    from dpmo_cli.sam.weights import find
    from dpmo_cli.training.judged import read_judged
    from dpmo_cli.training.tuning import RATE_FACTOR, NanoTuning, tune_nano

    for run in runs:
        _require_applied(run)
    settings = replace(
        settings,
        rate_trunk=settings.rate_trunk * RATE_FACTOR,
        rate_rest=settings.rate_rest * RATE_FACTOR,
    )
    tuned = tune_nano(
        [image for run in runs for image in read_judged(run, root)],
        out,
        NanoTuning(settings, validate_every),
        init=init or find("nano"),
        data=data,
        rendered=rendered,
        device=device,
        workers=workers,
        say=tell,
    )
    if tuned.step:
        tell(
            f"dpmo: at step {tuned.step} mean IoU of the held-out corrections "
            f"{_from_to(tuned.corrected)}, of the masks that nobody judged "
            f"{_from_to(tuned.unjudged)}; use the weights with `--checkpoint {tuned.weights}`, and "
            "fit their scores with `dpmo review calibrate`"
        )
    else:
        warn(
            "nothing learnt: no step was better on the held-out images than the weights that "
            f"it began with (mean IoU {tuned.corrected[0]:.3f}), which are written again; correct "
            "more of them"
        )
    print(tuned.weights)


def _from_to(figures: tuple[float, float]) -> str:
    return f"{figures[0]:.3f} to {figures[1]:.3f}"


def _require_applied(run: Path) -> None:
    """See that what was decided about a run stands in its outputs, or say that it does not.

    Raises:
        UsageError: nothing was applied.
    """
    from dpmo_cli.outputs.corrections import read_corrections
    from dpmo_cli.outputs.run_file import Run
    from dpmo_cli.review.decisions import Decisions, DecisionsError

    Run.of(run)
    snapshot = run / CORRECTIONS_FILE
    if not snapshot.exists():
        raise UsageError(
            f"--from-corrections {run}: no corrections have been applied; decide with `dpmo "
            f"review serve`, then run `dpmo review apply {run}`"
        )
    if not (run / DECISIONS_FILE).exists():
        return
    # Where nobody may write, the log can't be opened; what was applied is learnt all the same.
    with suppress(DecisionsError), Decisions(run) as decisions:
        pairs = zip_longest(decisions.corrections(), read_corrections(snapshot))
        if any(one != other for one, other in pairs):
            warn(f"{run}: what was decided since `dpmo review apply` is left out")
