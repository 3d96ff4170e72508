"""The options that several commands share, and the method that they ask for."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from dpmo_cli.cli.console import warn
from dpmo_cli.errors import UsageError
from dpmo_cli.geometry.extents import EXTENTS
from dpmo_cli.masks.method import NEGATIVES, OWNERSHIPS, RADII, Method

if TYPE_CHECKING:
    from dpmo_cli.datasets.base import Dataset
    from dpmo_cli.pipeline.job import Job
    from dpmo_cli.pipeline.plan import Selection
    from dpmo_cli.pipeline.predict import Finder
    from dpmo_cli.sam.cache import EmbeddingCache
    from dpmo_cli.sam.engine import RunEngine
    from dpmo_cli.sam.models import EngineSpec

Sam: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="DPMO_SAM", help="nano (small, embedded), vit_b, vit_l or vit_h (the paper's)."
    ),
]
Checkpoint: TypeAlias = Annotated[
    Path | None, typer.Option(envvar="DPMO_CHECKPOINT", help="Your own weights for --sam.")
]
Device: TypeAlias = Annotated[
    str, typer.Option(envvar="DPMO_DEVICE", help="auto, cpu, cuda, cuda:N or mps.")
]
Dtype: TypeAlias = Annotated[
    str, typer.Option(envvar="DPMO_DTYPE", help="fp32 (the reference) or bf16.")
]
PromptBatch: TypeAlias = Annotated[
    int | None,
    typer.Option(
        envvar="DPMO_PROMPT_BATCH", min=1, help="Prompts at once. Default: what memory holds."
    ),
]
Cache: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        envvar="DPMO_CACHE",
        help="Folder that keeps embeddings: a run with other options encodes no crop again.",
    ),
]
CacheSize: TypeAlias = Annotated[
    float,
    typer.Option(
        "--cache-size",
        envvar="DPMO_CACHE_SIZE",
        help="GB that --cache may hold; the least recently used goes first.",
    ),
]
CalibrationFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--calibration",
        envvar="DPMO_CALIBRATION",
        help="Scores fitted to your decisions, of `dpmo review calibrate`, for these weights.",
    ),
]
NnecScale: TypeAlias = Annotated[
    float,
    typer.Option(envvar="DPMO_NNEC_SCALE", help="Radius of a disc in distances to the neighbour."),
]
Tiles: TypeAlias = Annotated[
    str,
    typer.Option(envvar="DPMO_TILES", help="auto magnifies dense parts; off does not."),
]
Extent: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="DPMO_EXTENT",
        help="nnec (the person inside the disc), head, or visible (the whole person).",
    ),
]
Negatives: TypeAlias = Annotated[
    int | None,
    typer.Option(
        envvar="DPMO_NEGATIVES",
        min=0,
        max=8,
        help="Neighbours that each prompt names as others. Default: 1 for nano, else 0.",
    ),
]
Radii: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="DPMO_RADII",
        help="nearest (distance to the neighbour), or robust (held near the local spacing).",
    ),
]
Ownership: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="DPMO_OWNERSHIP",
        help="Who gets a pixel that several claim: logit (the network), nearest, or ratio.",
    ),
]
ShardOption: TypeAlias = Annotated[
    str | None,
    typer.Option("--shard", envvar="DPMO_SHARD", help="i/n: part i of n, to be merged later."),
]
Workers: TypeAlias = Annotated[
    int,
    typer.Option(
        envvar="DPMO_WORKERS",
        min=1,
        help="Processes that convert images, each with its own network; with several GPUs they "
        "take turns. The files are the same.",
    ),
]
HandedOutBy: TypeAlias = Annotated[
    str,
    typer.Option(
        envvar="DPMO_ENGINE",
        help="Who hands images to workers: local, or ray (Ray Data, in a cluster too).",
    ),
]
Force: TypeAlias = Annotated[
    bool, typer.Option("--force", help="Convert again what is there already.")
]
DiscardCorrections: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--discard-corrections",
        help="Leave out what `dpmo review apply` brought in; the decisions stay in their log.",
    ),
]
Strict: TypeAlias = Annotated[
    bool, typer.Option("--strict", envvar="DPMO_STRICT", help="End at the first bad file.")
]
MaxFailureRate: TypeAlias = Annotated[
    float,
    typer.Option(
        envvar="DPMO_MAX_FAILURE_RATE",
        min=0.0,
        max=1.0,
        help="Part of failed images above which the run has failed (exit code 1).",
    ),
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on stdout at the end.")
]
Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", envvar="DPMO_QUIET", help="No progress.")
]


def method_of(
    sam: str,
    *,
    nnec_scale: float,
    tiles: str,
    extent: str,
    negatives: int | None,
    radii: str,
    ownership: str,
) -> Method:
    """The method that the options ask for; `negatives` None takes the network's default.

    Raises:
        UsageError: an unknown word, or a scale that is no positive number.
    """
    if tiles not in ("auto", "off"):
        raise UsageError(f"--tiles {tiles}: unknown; use auto or off")
    if extent not in EXTENTS:
        raise UsageError(f"--extent {extent}: unknown; use one of {', '.join(EXTENTS)}")
    if radii not in RADII:
        raise UsageError(f"--radii {radii}: unknown; use one of {', '.join(RADII)}")
    if ownership not in OWNERSHIPS:
        raise UsageError(f"--ownership {ownership}: unknown; use one of {', '.join(OWNERSHIPS)}")
    if not 0 < nnec_scale < float("inf"):
        raise UsageError(f"--nnec-scale {nnec_scale}: must be a positive number")
    return Method(
        nnec_scale=nnec_scale,
        tiles=tiles == "auto",
        extent=extent,
        negatives=NEGATIVES.get(sam, 0) if negatives is None else negatives,
        radii=radii,
        ownership=ownership,
    )


def with_calibration(spec: EngineSpec, path: Path | None, method: Method) -> EngineSpec:
    """The network with the user's own calibration of the scores, where there is one.

    Raises:
        UsageError: the file is no calibration, or for other weights or another extent.
    """
    if path is None:
        return spec

    from dpmo_cli.masks.score import FEATURES
    from dpmo_cli.sam.calibration import load_calibration

    mend = "give the file of `dpmo review calibrate`"
    if not path.is_file():
        raise UsageError(f"--calibration {path}: no such file; {mend}")
    found = load_calibration(path, spec.weights_sha256, mend)
    if found is None:
        raise UsageError(f"--calibration {path}: was fitted for other weights than {spec.name}'s")
    if method.extent not in found.curves or found.features != FEATURES:
        raise UsageError(f"--calibration {path}: has no curve for --extent {method.extent}; {mend}")
    return replace(spec, calibration=path)


def check_engine(engine: str) -> None:
    """Refuse an engine before the networks are imported.

    Raises:
        UsageError: an engine that is unknown, or not installed.
    """
    from dpmo_cli.pipeline.plan import ENGINES, RAY

    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: unknown; use one of {', '.join(ENGINES)}")
    if engine == RAY and find_spec("ray") is None:
        raise UsageError("--engine ray: Ray is not installed; pip install 'dpmo-cli[ray]'")


def job_of(
    dataset: Dataset,
    out: Path,
    selection: Selection,
    spec: EngineSpec,
    method: Method,
    about: Mapping[str, object],
    *,
    prompt_batch: int | None,
    limit: int | None,
    shard: str | None,
    discard_corrections: bool,
    force: bool,
    strict: bool,
    max_failure_rate: float,
    quiet: bool,
    workers: int,
    engine: str,
    cache: EmbeddingCache | None = None,
    finder: Finder | None = None,
) -> Job:
    """The run that the options of `convert` or `predict` ask for.

    Args:
        about: what the run record says first of it.
        cache: of embeddings.
        finder: of points, for photos; None takes the dataset's as they are.
    """
    from dpmo_cli.pipeline.job import Job
    from dpmo_cli.pipeline.settings import Settings
    from dpmo_cli.sam.cache import GB
    from dpmo_cli.sam.models import load_engine

    return Job(
        dataset=dataset,
        out=out,
        settings=Settings.of(dataset.name, spec, method, None if finder is None else finder.words),
        method=method,
        selection=selection,
        load_engine=partial(_engine_of, load_engine, spec, cache),
        find_points=None if finder is None else finder.find,
        cache=cache,
        config={
            **about,
            **_as_config(spec, method, prompt_batch),
            "cache": None if cache is None else str(cache.folder),
            "cache_gb": None if cache is None else cache.limit_bytes / GB,
            "limit": limit,
            "shard": shard,
            "workers": workers,
            "engine": engine,
            "strict": strict,
            "max_failure_rate": max_failure_rate,
        },
        discard_corrections=discard_corrections,
        force=force,
        strict=strict,
        max_failure_rate=max_failure_rate,
        quiet=quiet,
        workers=workers,
        engine=engine,
    )


def _engine_of(
    load: Callable[[EngineSpec], RunEngine], spec: EngineSpec, cache: EmbeddingCache | None
) -> RunEngine:
    """Load a network, with a cache of its embeddings where there is one."""
    from dpmo_cli.sam.cache import cached

    engine = load(spec)
    return engine if cache is None else cached(engine, spec, cache)


def open_cache(folder: Path | None, size_gb: float) -> EmbeddingCache | None:
    """The cache that the options ask for, if any.

    Raises:
        UsageError: a size that is no positive number, or nothing can be written in the folder.
    """
    if not 0 < size_gb < float("inf"):
        raise UsageError(f"--cache-size {size_gb}: must be a positive number")
    if folder is None:
        return None
    if os.path.isfile(folder):
        raise UsageError(f"--cache {folder}: is a file; name a folder")

    from dpmo_cli.sam.cache import open_cache as opened

    return opened(folder, size_gb, warn)


def check_out(out: Path) -> None:
    """Refuse an output folder that is a file."""
    if os.path.isfile(out):  # as Path.is_file, but false for what can't be looked at
        raise UsageError(f"--out {out}: is a file; name a folder")


def _as_config(spec: EngineSpec, method: Method, prompt_batch: int | None) -> dict[str, object]:
    """What the run record says of the network and of the method."""
    return {
        "sam": spec.name,
        "checkpoint": str(spec.weights_path),
        "calibration": None if spec.calibration is None else str(spec.calibration),
        "device": spec.device,
        "dtype": spec.dtype,
        "prompt_batch": prompt_batch,
        "nnec_scale": method.nnec_scale,
        "tiles": "auto" if method.tiles else "off",
        "extent": method.extent,
        "negatives": method.negatives,
        "radii": method.radii,
        "ownership": method.ownership,
    }
