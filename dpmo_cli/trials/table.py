"""Results of trials as Markdown tables and as JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from dpmo_cli.evaluation.summary import DISTANCE_EDGES_PX, Figure
from dpmo_cli.trials.calibration import Check
from dpmo_cli.trials.run import Result
from dpmo_cli.trials.variants import GROUPS, STEPS

Cell = Callable[[Result], Figure]
NOTHING = ""


def report(results: Sequence[Result]) -> Iterator[str]:
    """All tables of some results, with a line before each that says what it shows."""
    for group in GROUPS:
        if not any(result.variant.group == group for result in results):
            continue
        yield f"\n{group}: IoU per point ± half of its 95 % interval"
        yield from rows_by_sets(results, group, lambda result: result.figures.iou_per_point)
        if group == STEPS:
            yield f"\n{group}: PQ"
            yield from rows_by_sets(results, group, lambda result: result.figures.pq)
            for truth_set in dict.fromkeys(result.truth_set for result in results):
                own = [r for r in results if (r.variant.group, r.truth_set) == (STEPS, truth_set)]
                yield f"\n{truth_set}: by the distance to the nearest neighbour, px"
                yield from rows_by_distance(own[0], own[-1])


def rows_by_sets(results: Sequence[Result], group: str, cell: Cell) -> list[str]:
    """One line for each variant of a group and one column for each truth set."""
    own = [result for result in results if result.variant.group == group]
    sets = list(dict.fromkeys(result.truth_set for result in own))
    lines = [_line([group, *sets]), _line(["---", *["---:"] * len(sets)])]
    for name in dict.fromkeys(result.variant.name for result in own):
        of_set = {r.truth_set: r for r in own if r.variant.name == name}
        lines.append(
            _line([name, *(_shown(cell(of_set[s])) if s in of_set else NOTHING for s in sets)])
        )
    return lines


def rows_by_distance(before: Result, after: Result) -> list[str]:
    """Two variants on one truth set by the distance to the nearest neighbour."""
    heading = ["distance", "points"]
    for what in ("IoU", "PQ"):
        heading += [f"{what}, {before.variant.name}", f"{what}, {after.variant.name}", "gain"]
    lines = [_line(heading), _line(["---", *["---:"] * (len(heading) - 1)])]
    parts = zip(
        DISTANCE_EDGES_PX,
        DISTANCE_EDGES_PX[1:],
        before.by_distance,
        after.by_distance,
        strict=False,
    )
    for low, high, first, second in parts:
        if first is None or second is None:
            continue
        span = (
            f"{low:.0f} px and more" if high == DISTANCE_EDGES_PX[-1] else f"{low:.0f} - {high:.0f}"
        )
        cells = [span, str(first.points_with_truth)]
        for name in ("iou_per_point", "pq"):
            old = getattr(first.cut.figures, name).value
            new = getattr(second.cut.figures, name).value
            cells += [f"{old:.3f}", f"{new:.3f}", f"{new - old:+.3f}"]
        lines.append(_line(cells))
    return lines


def calibration_lines(checks: Sequence[Check]) -> Iterator[str]:
    """What a review of the worst tenth finds, by extent and truth set."""
    heading = ["extent", "truth set", "points", "mean IoU", "mean score", "IoU below 0.5"]
    yield _line([*heading, "found, raw score", "found, calibrated", "times a random order"])
    yield _line(["---", "---", *["---:"] * 7])
    for check in checks:
        of_random = check.calibrated.of_random
        yield _line(
            [
                check.extent,
                check.truth_set,
                str(check.raw.points),
                f"{check.mean_iou:.3f}",
                f"{check.mean_score:.3f}",
                str(check.raw.bad),
                _percent(check.raw.of_perfect),
                _percent(check.calibrated.of_perfect),
                "-" if math.isnan(of_random) else f"{of_random:.1f}",
            ]
        )


def as_json(results: Sequence[Result]) -> list[dict[str, object]]:
    """Everything that was measured."""
    return [
        {
            "group": result.variant.group,
            "variant": result.variant.name,
            "truth_set": result.truth_set,
            "seconds_per_point": result.seconds_per_point,
            "summary": result.summary.as_json(),
            "by_distance": [
                None if part is None else part.as_json() for part in result.by_distance
            ],
        }
        for result in results
    ]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100 * share:.0f} %"


def _shown(figure: Figure) -> str:
    """A value, and half of its 95 % interval where there is one."""
    half = (figure.high - figure.low) / 2
    return f"{figure.value:.3f}" + (f" ± {half:.3f}" if not math.isnan(half) else "")
