"""The last step of a run: records become COCO files, tables, the queue and the run record."""

from __future__ import annotations

import json
import platform
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from time import perf_counter
from typing import Any

from dpmo_cli.datasets.count_files import COUNTS_FILE
from dpmo_cli.datasets.photos import PREDICTIONS
from dpmo_cli.errors import EXIT_FAILED, EXIT_OK, EXIT_PARTIAL
from dpmo_cli.outputs.atomic import sha256_file, write_text
from dpmo_cli.outputs.coco import write_coco
from dpmo_cli.outputs.corrected import NO_IMAGE, Unfit, fit, join, lay_over
from dpmo_cli.outputs.corrections import corrections_of, splits_of
from dpmo_cli.outputs.counts import write_counts
from dpmo_cli.outputs.parquet import write_points, write_queue
from dpmo_cli.outputs.records import ImageRecord
from dpmo_cli.outputs.schema import OK, SCHEMA_VERSION
from dpmo_cli.pipeline.settings import Settings
from dpmo_cli.pipeline.store import Store
from dpmo_cli.sam.validation import validation_of
from dpmo_cli.version import VERSION

COMPUTED = ("version", "counts", "splits", "failures", "warnings", "corrections", "files")
"""What the run record says of the files beside it; the rest says how they came about."""
LIBRARIES = ("torch", "torchvision", "segment-anything", "timm", "numpy", "scipy", "pyarrow",
             "pycocotools", "pillow")  # fmt: skip


@dataclass
class Counts:
    """What a run or one of its splits holds; `points` by status are in `by_status`."""

    images: int = 0
    failed_images: int = 0
    points: int = 0
    masks: int = 0
    flagged: int = 0
    by_status: Counter[str] = field(default_factory=Counter)

    def add(self, record: ImageRecord) -> None:
        """Count one image."""
        statuses = Counter(record.rows["status"].to_pylist())
        self.images += 1
        self.failed_images += record.error is not None
        self.points += len(record.rows)
        self.masks += statuses[OK]
        self.flagged += sum(record.rows["flagged"].to_pylist())
        self.by_status += statuses

    def include(self, other: Counts) -> None:
        """Add what another split holds."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    @classmethod
    def of_json(cls, plain: Mapping[str, Any]) -> Counts:
        """Read what `as_json` gave. Raises TypeError for anything else."""
        return cls(**{**plain, "by_status": Counter(plain["by_status"])})

    def as_json(self) -> dict[str, object]:
        """As a plain object with stable order."""
        plain = {name: value for name, value in vars(self).items() if name != "by_status"}
        return plain | {"by_status": dict(sorted(self.by_status.items()))}


@dataclass(frozen=True)
class Finished:
    """What stands in the output folder, overall and by split.

    Attributes:
        counts, splits: of the rows as they are written, corrections included.
        failures: why images failed.
        warnings: oddities, each with its image.
        corrections: applied ones by verdict.
        unfit: those that do not go with the run as it is now.
    """

    counts: Counts
    splits: dict[str, Counts]
    failures: list[str]
    warnings: list[str]
    corrections: Counter[str] = field(default_factory=Counter)
    unfit: list[Unfit] = field(default_factory=list)

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Finished | None:
        """What the run record of a finished folder tells without a look at its records.

        Returns:
            None where it does not tell all: it counts the corrections that do not go with the run,
            and does not name them.
        """
        try:
            if document["corrections"]["not_applied"]:
                return None
            splits = {
                split: Counts.of_json(one["counts"]) for split, one in document["splits"].items()
            }
            return cls(
                Counts.of_json(document["counts"]),
                splits,
                list(document["failures"]),
                list(document["warnings"]),
                Counter(document["corrections"]["applied"]),
            )
        except (KeyError, TypeError, AttributeError):
            return None

    def corrections_as_json(self) -> dict[str, object]:
        """As a plain object with stable order."""
        why = Counter(one.why for one in self.unfit)
        return {
            "applied": dict(sorted(self.corrections.items())),
            "not_applied": dict(sorted(why.items())),
        }

    def exit_code(self, max_failure_rate: float) -> int:
        """0 done, 3 some images failed, 1 all or more than that part of them."""
        failed, images = self.counts.failed_images, self.counts.images
        if not failed:
            return EXIT_OK
        too_many = failed == images or failed / images > max_failure_rate
        return EXIT_FAILED if too_many else EXIT_PARTIAL


@dataclass(frozen=True)
class Summary:
    """How a run ended: `changed` is false when there was nothing to do."""

    finished: Finished
    converted: int
    changed: bool
    seconds: float
    exit_code: int


def tally(store: Store, snapshot: Path | None = None) -> Finished:
    """Count what the records of all manifests hold, and the corrections of them.

    The corrected records are kept in the store for `write_outputs`.

    Args:
        store: the folder.
        snapshot: of the corrections; None for that which has been applied.

    Raises:
        DpmoError: what `Store.reviewed` raises.
    """
    total = Counts()
    splits: dict[str, Counts] = {}
    failures: list[str] = []
    warnings: list[str] = []
    applied: Counter[str] = Counter()
    unfit: list[Unfit] = []
    snapshot = snapshot or store.corrections
    store.kept.clear()
    for split in sorted({*store.splits(), *splits_of(snapshot)}):
        part = Counts()
        corrections = corrections_of(snapshot, split)
        for record, of_image in join(store.records(split)(), corrections):
            if record is None:
                unfit += (Unfit(one.person, NO_IMAGE) for one in of_image)
                continue
            fitting, others = fit(record, of_image)
            applied.update(one.verdict for one in fitting)
            unfit += others
            standing = lay_over(record, fitting)
            if fitting:
                store.kept.put(standing)
            part.add(standing)
            warnings += [f"{record.info.file_name}: {warning}" for warning in record.warnings]
            if record.error is not None:
                failures.append(record.error)
        if split in store.splits():
            splits[split] = part
            total.include(part)
    store.kept.complete(snapshot)
    return Finished(total, splits, failures, warnings, applied, unfit)


def write_outputs(store: Store, settings: Settings) -> None:
    """Write all files but the run record from the records, each atomically."""
    splits = store.splits()
    for split in splits:
        records = store.reviewed(split)
        write_coco(
            store.out / "annotations" / f"{split}.json",
            records,
            store.infos(split),
            dataset=settings.dataset,
            split=split,
            extent=settings.extent,
        )
        write_points(store.out / "points" / f"{split}.parquet", records)
        if split == PREDICTIONS:
            write_counts(store.out / COUNTS_FILE, records)

    def everything() -> Iterator[ImageRecord]:
        for split in splits:
            yield from store.reviewed(split)()

    write_queue(store.out / "review" / "queue.parquet", everything, settings.dataset)


def output_files(store: Store) -> list[Path]:
    """The files that a finished run has beside its run record."""
    files = [store.out / "review" / "queue.parquet"]
    if store.corrections.exists():
        files.append(store.corrections)
    for split in store.splits():
        files.append(store.out / "annotations" / f"{split}.json")
        files.append(store.out / "points" / f"{split}.parquet")
        if split == PREDICTIONS:
            files.append(store.out / COUNTS_FILE)
    return sorted(files)


def hashes(store: Store) -> dict[str, str]:
    """SHA-256 of the output files, by their path in the folder."""
    return {
        path.relative_to(store.out).as_posix(): sha256_file(path) for path in output_files(store)
    }


def is_finished(store: Store, settings: Settings) -> bool:
    """Whether the run record is of this version and these settings, and its files are there."""
    try:
        document = json.loads(store.run_file.read_text(encoding="utf-8"))
        return bool(
            document["version"] == SCHEMA_VERSION
            and document["settings"] == settings.as_json()
            and document["files"] == hashes(store)
        )
    except (OSError, ValueError, KeyError, TypeError):
        return False


def finish(
    store: Store,
    settings: Settings,
    *,
    root: str,
    config: Mapping[str, object],
    measured: Callable[[float], Mapping[str, object]],
) -> tuple[Finished, bool]:
    """Bring the outputs of a folder in line with its records.

    Args:
        store: the folder; whatever changed its records has taken its run record away.
        settings: of the run.
        root: the dataset's root.
        config: the resolved options.
        measured: given the seconds that writing took, says what the run has cost.

    Returns:
        What stands in the folder, and false where there was nothing to do.
    """
    finished = tally(store)
    if is_finished(store, settings):
        return finished, False
    store.unfinish()
    begin = perf_counter()
    write_outputs(store, settings)
    cost = measured(perf_counter() - begin)
    write_run_record(store, settings, finished, root=root, config=config, measured=cost)
    return finished, True


def write_run_record(
    store: Store,
    settings: Settings,
    finished: Finished,
    *,
    root: str,
    config: Mapping[str, object],
    measured: Mapping[str, object],
) -> None:
    """Write `run.json`, last of all: a folder without it holds no finished run."""
    about = {
        "dpmo_version": VERSION,
        "dataset": settings.dataset,
        "root": root,
        "extent": settings.extent,
        "settings": settings.as_json(),
        "config": dict(config),
        "validation": validation_of(settings.weights_sha256),
        **measured,
        "versions": {name: metadata.version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    write_run_document(store, finished, about)


def write_run_document(store: Store, finished: Finished, about: Mapping[str, object]) -> None:
    """Write `run.json` of what stands in the folder, and of what is known of how it came about."""
    split_documents = {}
    for split, counts in finished.splits.items():
        manifest = store.manifest(split)
        shard = None if manifest is None or manifest.shard is None else str(manifest.shard)
        split_documents[split] = {
            "counts": counts.as_json(),
            "limit": None if manifest is None else manifest.limit,
            "shard": shard,
        }
    document = {
        "version": SCHEMA_VERSION,
        **about,
        "counts": finished.counts.as_json(),
        "splits": split_documents,
        "failures": finished.failures,
        "warnings": finished.warnings,
        "corrections": finished.corrections_as_json(),
        "files": hashes(store),
    }
    # ASCII, since the root may have a name that is no UTF-8.
    text = json.dumps(document, indent=2, allow_nan=False)
    write_text(store.run_file, text + "\n")


def peak_memory_bytes() -> int:
    """Largest resident memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
