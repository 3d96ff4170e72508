"""`dpmo review`: what people decided about masks, brought into the outputs of a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dpmo_cli.cli.console import counted, print_json, say, warn
from dpmo_cli.cli.review_exchange import export, import_
from dpmo_cli.cli.review_serve import serve
from dpmo_cli.errors import EXIT_PARTIAL, UsageError
from dpmo_cli.outputs.findings import CALIBRATION_FILE, CORRECTIONS_FILE, DECISIONS_FILE

if TYPE_CHECKING:
    from dpmo_cli.outputs.corrected import Unfit
    from dpmo_cli.outputs.corrections import Correction, Person
    from dpmo_cli.pipeline.apply import Applied
    from dpmo_cli.review.decision import Decision

NAMED = 3
"""Persons that are named for each reason why decisions were not applied."""

app = typer.Typer(
    help="Look at masks and correct them; bring the decisions into the outputs.",
    no_args_is_help=True,
)

app.command()(serve)
app.command()(export)
app.command("import")(import_)

Out = Annotated[Path, typer.Argument(help="The folder that a run has written.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def apply(out: Out, json: Json = False) -> None:
    """Write the outputs of a run again with what has been decided.

    Corrected masks take their pixels from automatic neighbours; ids stay. The automatic masks are
    kept: `dpmo convert --discard-corrections` brings them back, this command the corrections.
    Decisions that no longer go with the dataset are reported and kept (exit code 3). A second
    call changes nothing.
    """
    applied = bring_home(out)
    finished = applied.finished
    say_unfit(finished.unfit)
    state = "" if applied.changed else "up to date; "
    by_verdict = ", ".join(f"{n} {verdict}" for verdict, n in sorted(finished.corrections.items()))
    say(
        f"dpmo: {out}: {state}{by_verdict or 'nothing decided'}; {finished.counts.masks} masks, "
        f"{finished.counts.flagged} to review"
    )
    if json:
        print_json(
            "review-apply",
            {
                "out": str(out),
                "changed": applied.changed,
                **finished.corrections_as_json(),
                "counts": finished.counts.as_json(),
                "left": [{**vars(one.person), "why": one.why} for one in finished.unfit],
            },
        )
    if finished.unfit:
        raise typer.Exit(EXIT_PARTIAL)


@app.command()
def audit(
    out: Out,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Masks to draw, at the first call. Default: 200.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, help="Of the draw, at the first call. Default: 0.")
    ] = None,
    json: Json = False,
) -> None:
    """Draw masks at random to judge, and tell from the judged ones what part of all is right.

    The sample is stratified by score and, within each third, by the size of the discs; it is kept
    in OUT/review/audit.json, and a later call goes on with it. Accepted masks count as right;
    corrected, rejected and deleted ones as wrong. The figure is about the automatic masks.
    """
    from dpmo_cli.review.audit import judge, open_audit

    drawn = open_audit(out, sample, seed)
    found = judge(drawn, _latest(out))
    estimate = found.estimate
    if json:
        share, low, high = vars(estimate).values() if found.tells_rate else (None,) * 3
        print_json(
            "review-audit",
            {
                "out": str(out),
                "seed": drawn.seed,
                "masks": drawn.population,
                "drawn": len(drawn.drawn),
                "judged": found.judged,
                "right": found.right,
                "acceptance": share,
                "low": low,
                "high": high,
                "strata": [
                    {"name": name, **vars(one)}
                    for (name, _), one in zip(drawn.strata, found.strata, strict=True)
                ],
            },
        )
        return
    print(
        f"{counted(len(drawn.drawn), 'mask')} drawn of {drawn.population:,}, "
        f"{found.judged:,} of them judged"
    )
    for (name, _), one in zip(drawn.strata, found.strata, strict=True):
        print(f"{name:<26}{one.persons:>10,} masks{one.right:>6} of {one.judged} right")
    if found.tells_rate:
        print(
            f"acceptance rate {estimate.share:.1%}, 95 % interval {estimate.low:.1%} to "
            f"{estimate.high:.1%}"
        )
    else:
        print(f"too few judged for a rate: {found.judged} of the {found.needed} that it needs")
        say(f"dpmo: {out}: judge more of the sample; see `dpmo review serve`")


@app.command()
def calibrate(
    out: Out,
    to: Annotated[
        Path | None,
        typer.Option("--to", help="File to write. Default: OUT/review/calibration.json."),
    ] = None,
    json: Json = False,
) -> None:
    """Fit the scores to the decisions: what share of a mask is right, from what is known of it.

    For any network. `dpmo convert --calibration FILE` with the same weights and extent then orders
    the queue by the new scores. The figures are of masks that the fit did not see.
    """
    from dpmo_cli.outputs.atomic import write_text
    from dpmo_cli.outputs.corrections import OPEN
    from dpmo_cli.review.calibrate import calibrate as fit_scores
    from dpmo_cli.sam.calibration import as_json

    path = out / CALIBRATION_FILE if to is None else to
    if path.is_dir():
        raise UsageError(f"--to {path}: is a folder; name a file")
    decided = {person: one.as_correction() for person, one in _latest(out).items()}
    found = fit_scores(out, {p: one for p, one in decided.items() if one.verdict != OPEN})
    write_text(path, as_json(found.calibration))
    both = {"raw": (found.raw, found.raw_error), "fitted": (found.fitted, found.fitted_error)}
    if json:
        print_json(
            "review-calibrate",
            {
                "out": str(out),
                "file": str(path),
                "judged": found.judged,
                "mean_iou": found.mean_iou,
                **{
                    name: {
                        "error": error,
                        "bad": ranking.bad,
                        "found": ranking.found,
                        "of_perfect": ranking.of_perfect,
                        "of_random": ranking.of_random,
                    }
                    for name, (ranking, error) in both.items()
                },
            },
        )
        return
    print(f"{counted(found.judged, 'mask')} judged, mean IoU {found.mean_iou:.3f}")
    for name, (ranking, error) in both.items():
        print(
            f"{name} score: off by {error:.3f} (root mean square); its worst tenth holds "
            f"{ranking.found} of {ranking.bad} bad masks, {ranking.of_perfect:.0%} of what could be"
        )
    say(f"dpmo: {path}: written; use it with `dpmo convert --calibration`")


@app.command()
def simulate(
    out: Out,
    truth: Annotated[str, typer.Option(help="COCO JSON, or folder of label maps or of masks.")],
    part: Annotated[
        float, typer.Option(min=0.0001, max=1.0, help="Part of the masks to correct.")
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="Of the random choice.")] = 0,
    json: Json = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Measure what a review is worth: correct masks by the truth, in a copy of a run.

    Corrects the worst part of the queue, the truly worst ones, and as many at random, each by way
    of decisions and `apply`, and prints by how much the mean IoU of all masks rises.
    """
    from dpmo_cli.review.simulate import QUEUE, RANDOM, WORST
    from dpmo_cli.review.simulate import simulate as run

    def tell(line: str) -> None:
        if not quiet:
            say(f"dpmo: {line}")

    found = run(out, truth, part=part, seed=seed, apply=bring_home, say=tell)
    if json:
        shares = {"of_worst": found.of_worst, "of_random": found.of_random}
        print_json(
            "review-simulate",
            {
                "out": str(out),
                "part": part,
                "seed": seed,
                "masks": found.subjects,
                "mean_iou": found.mean_iou,
                "arms": [vars(arm) for arm in found.arms],
                **{name: None if isnan(value) else value for name, value in shares.items()},
            },
        )
        return
    print(f"{counted(found.subjects, 'person')} with a truth, mean IoU {found.mean_iou:.4f}")
    for arm in found.arms:
        print(
            f"{arm.corrected:,} corrected, {arm.chosen}: mean IoU {arm.mean_iou:.4f} "
            f"(+{found.gain(arm.chosen):.4f})"
        )
    print(
        f"{QUEUE}: {found.of_worst:.1%} of the gain of the {WORST}, {found.of_random:.2f} times "
        f"that of {RANDOM} ones"
    )


def _latest(out: Path) -> dict[Person, Decision]:
    """The latest decisions on a run; none where nobody has decided."""
    from dpmo_cli.review.decisions import Decisions

    if not (out / DECISIONS_FILE).exists():
        return {}
    with Decisions(out) as decisions:
        return decisions.latest()


def bring_home(out: Path) -> Applied:
    """Apply what stands in the log of a run."""
    from dpmo_cli.pipeline.apply import apply_corrections

    with _corrections(out) as corrections:
        return apply_corrections(out, corrections)


@contextmanager
def _corrections(out: Path) -> Iterator[Iterator[Correction]]:
    """What stands in the log of a run; nothing where nobody has decided.

    Raises:
        UsageError: the log, or a part of it that has been applied, is gone.
    """
    from dpmo_cli.review.decisions import Decisions

    require_log(out)
    if (out / DECISIONS_FILE).exists():
        with Decisions(out) as decisions:
            yield decisions.corrections()
    else:
        yield iter(())


def require_log(out: Path) -> None:
    """See that the log of a run holds all that has been applied to it.

    Raises:
        UsageError: it does not.
    """
    from dpmo_cli.outputs.corrections import CorrectionsError, persons_of
    from dpmo_cli.review.decisions import Decisions

    path, snapshot = out / DECISIONS_FILE, out / CORRECTIONS_FILE
    if not snapshot.exists():
        return
    mend = f"restore the log from a copy, or run `dpmo convert --discard-corrections` for {out}"
    if not path.exists():
        raise UsageError(f"{path}: is missing, but decisions of it have been applied; {mend}")
    # A damaged snapshot is made again; only what it names can be missed.
    with Decisions(out) as decisions, suppress(CorrectionsError):
        lost = decisions.lacks(persons_of(snapshot))
        if lost is not None:
            raise UsageError(f"{path}: lacks {lost}, which has been applied; {mend}")


def say_unfit(unfit: Sequence[Unfit]) -> None:
    """Say how many decisions were not applied for which reason, and name the first ones."""
    for why, count in sorted(Counter(one.why for one in unfit).items()):
        first = [str(one.person) for one in unfit if one.why == why][:NAMED]
        rest = f" and {count - NAMED} more" if count > NAMED else ""
        warn(f"not applied, {why}: {'; '.join(first)}{rest}")
