"""Where the commands print: data on stdout, everything meant for a person on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

JSON_VERSION = 1


def print_json(kind: str, body: Mapping[str, object]) -> None:
    """Print one JSON object on stdout: `{"version": 1, "kind": kind, ...body}`."""
    document = {"version": JSON_VERSION, "kind": kind, **body}
    # ASCII: a path that is no UTF-8, or a terminal that knows no other, must not end the run.
    print(json.dumps(document, allow_nan=False))


def counted(count: int, thing: str) -> str:
    """So many things: `1 image`, `2,000 images`."""
    return f"{count:,} {thing}{'s' * (count != 1)}"


def say(line: str) -> None:
    """Print one line for a person, on stderr."""
    print(line, file=sys.stderr)


def warn(line: str) -> None:
    """Print a warning line on stderr."""
    say(f"dpmo: warning: {line}")
