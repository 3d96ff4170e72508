"""Merging the shards of a run into one output folder, as if it had been one run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.outputs.run_file import RUN_FILE, root_of
from dpmo_cli.pipeline.finish import Summary, finish, peak_memory_bytes
from dpmo_cli.pipeline.plan import Shard
from dpmo_cli.pipeline.store import Manifest, Store


@dataclass(frozen=True)
class _Part:
    """The manifests of one shard's folder, by split."""

    store: Store
    manifests: dict[str, Manifest]


def merge_runs(parts: Sequence[Path], out: Path) -> Summary:
    """Merge the output folders of all shards of one run into `out`.

    Args:
        parts: the folders, in any order; all shards 1/n to n/n of the same run.
        out: another folder; merging again into it does nothing when nothing changed.

    Raises:
        UsageError: a folder holds no finished run, the runs were made with other settings, a
            shard is missing or given twice, or `out` is one of the parts.
    """
    begin = perf_counter()
    if not parts:
        raise UsageError("merge: name the output folders of all shards")
    if any(part.resolve() == out.resolve() for part in parts):
        raise UsageError(f"--out {out}: is one of the folders to merge; name another one")
    seen: set[Path] = set()
    for part in parts:
        if part.resolve() in seen:
            raise UsageError(f"{part}: is named twice; name each folder once")
        seen.add(part.resolve())
        if not (part / RUN_FILE).is_file():
            raise UsageError(f"{part}: holds no finished run; finish its `dpmo convert` first")
    root = root_of(parts[0])
    if root is None:
        raise InputError(parts[0] / RUN_FILE, "can't be read", "run `dpmo convert` again")
    with ExitStack() as locks:
        opened = [_open(locks.enter_context(Store(part))) for part in parts]
        splits = _check_parts(opened)
        store = locks.enter_context(Store(out))
        settings = next(iter(opened[0].manifests.values())).settings
        for split in store.splits():
            if split not in splits:
                raise UsageError(
                    f"--out {out}: also holds split {split!r} of another run; use another folder"
                )
        for split in splits:
            records: dict[int, str] = {}
            for part_ in opened:
                for image_id, fingerprint in part_.manifests[split].records.items():
                    store.copy_record(part_.store, split, image_id, fingerprint)
                    records[image_id] = fingerprint
            manifest = replace(opened[0].manifests[split], shard=None, records=records)
            store.write_manifest(split, manifest)
        finished, changed = finish(
            store,
            settings,
            root=root,
            config={"merged_from": [str(part) for part in parts]},
            measured=lambda _: {
                "seconds_total": round(perf_counter() - begin, 3),
                "peak_memory_bytes": peak_memory_bytes(),
            },
        )
    seconds = perf_counter() - begin
    return Summary(finished, 0, changed, seconds, finished.exit_code(max_failure_rate=1.0))


def _open(store: Store) -> _Part:
    manifests = {split: store.manifest(split) for split in store.splits()}
    readable = {split: manifest for split, manifest in manifests.items() if manifest is not None}
    whole = all(store.holds(split, manifest) for split, manifest in readable.items())
    if not readable or len(readable) < len(manifests) or not whole:
        raise UsageError(f"{store.out}: its records can't be read; run its `dpmo convert` again")
    return _Part(store, readable)


def _check_parts(parts: Sequence[_Part]) -> list[str]:
    """See that the parts are all the shards of one run, and return its splits."""
    first = parts[0]
    splits = sorted(first.manifests)
    for split in splits:
        like = first.manifests[split]
        shards: dict[Shard, Path] = {}
        for part in parts:
            manifest = part.manifests.get(split)
            if manifest is None or sorted(part.manifests) != splits:
                raise UsageError(f"{part.store.out}: holds other splits than {first.store.out}")
            if manifest.settings != like.settings or manifest.limit != like.limit:
                raise UsageError(
                    f"{part.store.out}: was made with other settings than {first.store.out}"
                )
            if manifest.listing_sha256 != like.listing_sha256:
                raise UsageError(
                    f"{part.store.out}: was made from other images than {first.store.out}; "
                    "merge shards of one dataset"
                )
            shard = manifest.shard or Shard(1, 1)
            if shard in shards:
                raise UsageError(f"{part.store.out} and {shards[shard]}: are both shard {shard}")
            shards[shard] = part.store.out
        counts = {shard.count for shard in shards}
        if len(counts) > 1:
            raise UsageError(f"the folders are shards of different counts: {sorted(counts)}")
        missing = sorted(set(range(1, counts.pop() + 1)) - {shard.index for shard in shards})
        if missing:
            raise UsageError(
                f"shard {missing[0]}/{next(iter(shards)).count} of split {split!r} is missing; "
                "name the folders of all shards"
            )
    return splits
