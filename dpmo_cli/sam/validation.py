"""What the self-test found for weights, kept in the cache folder for the records of later runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.atomic import write_text
from dpmo_cli.sam.weights import CATALOGUE, cache_folder

UNVALIDATED = "unvalidated"
EMBEDDED = "embedded: the figures are in the package's model card"

Validation = Mapping[str, object]


def _path(weights_sha256: str) -> Path:
    return cache_folder() / "selftest" / f"{weights_sha256}.json"


def write_validation(weights_sha256: str, validation: Validation) -> Path:
    """Keep the figures of some weights.

    Raises:
        UsageError: there is no home folder to hold the cache.
        DpmoError: the cache folder can't be written.
    """
    path = _path(weights_sha256)
    write_text(path, json.dumps(validation, indent=2) + "\n")
    return path


def validation_of(weights_sha256: str) -> Validation | str:
    """The figures of some weights; UNVALIDATED without any, EMBEDDED for the package's own."""
    try:
        found = json.loads(_path(weights_sha256).read_bytes())
        # What run.json could not hold, as infinity, is damage too.
        json.dumps(found, allow_nan=False)
    except (OSError, ValueError, RecursionError, UsageError):
        # A cache that is gone or damaged makes a run no worse.
        found = None
    if isinstance(found, dict):
        return found
    own = {weights.sha256 for weights in CATALOGUE if weights.embedded}
    return EMBEDDED if weights_sha256 in own else UNVALIDATED
