"""`dpmo review import`: what a team drew becomes decisions, and everything else is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from dpmo_cli.datasets.paths import resolve_inside
from dpmo_cli.errors import DpmoError, InputError, UsageError
from dpmo_cli.outputs.corrections import DELETED, REJECTED, Person
from dpmo_cli.outputs.records import record_path
from dpmo_cli.outputs.run_file import Run
from dpmo_cli.review.decisions import Decision, Decisions, OverlapError, RefusedError
from dpmo_cli.review.exchange import cvat, label_studio, labelme
from dpmo_cli.review.exchange.changes import Change, ImageChanges, Terms
from dpmo_cli.review.exchange.exports import latest_decisions
from dpmo_cli.review.exchange.files import MANIFEST_FILE, Document, documents
from dpmo_cli.review.exchange.manifest import Manifest, Tile, read_manifest
from dpmo_cli.review.exchange.report import BROKEN, CHANGES, CONFLICT, NOTE, OVERLAP, Line, Report
from dpmo_cli.review.exchange.shapes import Answers
from dpmo_cli.review.people import load_people

AUTO = "auto"
COCO = "coco"
_READERS: dict[str, tuple[Callable[[object], bool],
                          Callable[[Iterable[Document], Manifest], Answers]]] = {
    cvat.NAME: (cvat.fits, cvat.read),
    label_studio.NAME: (label_studio.fits, label_studio.read),
    labelme.NAME: (labelme.fits, labelme.read),
}  # fmt: skip
FORMATS = (AUTO, *_READERS, COCO)
ABSENCES = (DELETED, REJECTED)
_LEVELS = 3
"""How far above a tool's file the manifest is looked for."""


@dataclass(frozen=True)
class Import:
    """What is to be imported.

    Attributes:
        path: a file, an archive or a folder that the tool wrote.
        reviewer: who decided.
        format: one of FORMATS.
        deleted: one of ABSENCES; None to report gone shapes and do nothing.
        manifest: of the export; None to look beside and above `path`.
        dry_run: whether to report alone.
    """

    path: Path
    reviewer: str
    format: str = AUTO
    deleted: str | None = None
    manifest: Path | None = None
    dry_run: bool = False


def import_tasks(out: Path, wanted: Import) -> tuple[str, Report]:
    """Turn differences from the export into decisions.

    Args:
        out: the folder of the run.
        wanted: what to import, and how.

    Returns:
        The format, and what was found. Decisions that are reported stand on disk, unless it was
        a dry run.

    Raises:
        UsageError: no run, no reviewer, no such file, no manifest, an unknown format.
        InputError: a file can't be read at all.
        DecisionsError: the decisions can't be read or written.
    """
    if not wanted.reviewer.strip():
        raise UsageError("--reviewer is empty; give a name")
    Run.of(out)
    if not wanted.path.exists():
        raise UsageError(f"{wanted.path}: does not exist; give what the tool has exported")
    manifest = read_manifest(wanted.manifest or _find_manifest(wanted.path))
    format_, answers = _read(wanted, manifest)
    report = Report()
    for fault in answers.faults:
        report.add(BROKEN, str(fault))
    for note in answers.notes:
        report.add(NOTE, note)
    terms = Terms(wanted.reviewer.strip(), f"import:{format_}", wanted.deleted)
    changes = list(_changes(out, manifest, answers, terms, report))
    if changes and not wanted.dry_run:
        with Decisions(out) as decisions:
            refused = _write(decisions, changes)
        _retract(report, refused)
    return format_, report


def _find_manifest(path: Path) -> Path:
    folder = path if path.is_dir() else path.parent
    for one in [folder, *folder.absolute().parents][: _LEVELS + 1]:
        if (one / MANIFEST_FILE).is_file():
            return one / MANIFEST_FILE
    raise UsageError(
        f"{path}: {MANIFEST_FILE} is neither there nor above; name the export's with --manifest"
    )


def _read(wanted: Import, manifest: Manifest) -> tuple[str, Answers]:
    """Read all documents in the format that is asked for, or that fits them."""
    format_ = wanted.format if wanted.format != AUTO else _detect(wanted.path, manifest)
    reader = cvat.NAME if format_ == COCO else format_
    return format_, _READERS[reader][1](_documents(wanted.path), manifest)


def _documents(path: Path) -> Iterator[Document]:
    return (one for one in documents(path) if Path(one[0]).name != cvat.LABELS_FILE)


def _detect(path: Path, manifest: Manifest) -> str:
    """The format of a document, that of the export if one has it."""
    found, error = None, None
    for _, content in _documents(path):
        fitting = [name for name, (fits, _) in _READERS.items() if fits(content)]
        if manifest.format in fitting:
            return manifest.format
        found = found or next(iter(fitting), None)
        error = error or (content if isinstance(content, InputError) else None)
    if found is not None:
        return found
    if error is not None:
        raise error
    names = ", ".join(FORMATS[1:])
    raise UsageError(f"{path}: fits no format; export as JSON, or give --format ({names})")


def _changes(
    out: Path, manifest: Manifest, answers: Answers, terms: Terms, report: Report
) -> Iterator[Change]:
    """Yield the changes of image after image."""
    decided: dict[tuple[str, int], dict[Person, Decision]] = {}
    for person, decision in latest_decisions(out).items():
        decided.setdefault((person.split, person.image_id), {})[person] = decision
    tiles = [manifest.tiles[name] for name in answers.tiles]
    tiles.sort(key=lambda tile: (_image(tile), tile.name))
    converted = stale = 0
    for key, group in groupby(tiles, _image):
        latest = decided.get(key, {})
        try:
            # The split is a word in the manifest, which may be anybody's.
            resolve_inside(out, record_path(Path(), *key).as_posix())
            people = load_people(out, *key, latest.values())
        except DpmoError as error:
            report.add(BROKEN, f"{key[0]}, image {key[1]}: {error}")
            continue
        image = ImageChanges(people, latest, manifest, terms, report)
        for tile in group:
            if (people.info.file_name, people.size_hw) == (tile.file_name, tile.image_hw):
                image.take(tile, answers)
            else:
                problem = f"image {key[1]} of {key[0]} is {people.info.file_name} now"
                text = f"{manifest.path}, {tile.name}: {problem}, not {tile.file_name}"
                report.add(BROKEN, f"{text}; export again")
        yield from image.disjoint()
        converted, stale = converted + image.converted, stale + image.stale
    if converted:
        text = f"{converted} masks came back as polygons, which are not their pixels; left"
        mend = "switch off the tool's conversion of masks, or export with --shapes polygons"
        report.add(BROKEN, f"{manifest.path}: {text}; {mend}")
    if stale:
        report.add(NOTE, f"{stale} masks of the run that are replaced changed since the export")


def _image(tile: Tile) -> tuple[str, int]:
    return tile.split, tile.image_id


def _write(decisions: Decisions, changes: Sequence[Change]) -> dict[Person, RefusedError]:
    """Write decisions, and return those that were refused.

    A mask may need pixels that another of them gives up: what is refused for an overlap is tried
    again as long as others were written.
    """
    refused: dict[Person, RefusedError] = {}
    for _, group in groupby(changes, lambda one: (one.person.split, one.person.image_id)):
        waiting = list(group)
        while waiting:
            answers = decisions.decide_many([(one.decision, one.expected) for one in waiting])
            again = []
            for change, answer in zip(waiting, answers, strict=True):
                if isinstance(answer, OverlapError):
                    again.append(change)
                if isinstance(answer, RefusedError):
                    refused[change.person] = answer
                else:
                    refused.pop(change.person, None)
            if len(again) == len(waiting):
                break
            waiting = again
    return refused


def _retract(report: Report, refused: dict[Person, RefusedError]) -> None:
    """Replace the lines of decisions that were refused when they were to be written."""
    for rank, line in enumerate(report.lines):
        error = None if line.person is None else refused.get(line.person)
        if error is not None and line.kind in CHANGES:
            kind = OVERLAP if isinstance(error, OverlapError) else CONFLICT
            report.lines[rank] = Line(kind, line.person, f"{line.text}: {error}")
