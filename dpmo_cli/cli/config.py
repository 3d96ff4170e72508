"""`dpmo.toml`: defaults for the options of each command, below flags and `DPMO_*` variables."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import typer

from dpmo_cli.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE_NAME = "dpmo.toml"


def read_config(path: Path | None, context: typer.Context) -> dict[str, Any]:
    """Read the defaults: a table for each command, keys named as its options are.

    Args:
        path: the file to read; None reads `dpmo.toml` of the working folder when it is there.
        context: of the `dpmo` command, which knows its sub-commands and their options.

    Raises:
        UsageError: the file is missing or no TOML, or names an unknown command or option.
    """
    chosen = path or Path(FILE_NAME)
    if path is None and not chosen.is_file():
        return {}
    try:
        document = tomllib.loads(chosen.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{chosen}: can't be read ({error.strerror}); check --config") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{chosen}: is no valid TOML ({error}); correct it") from error
    return _defaults(document, context.command, str(chosen), "")


def _defaults(document: dict[str, Any], command: Any, file: str, path: str) -> dict[str, Any]:
    """Check the names of one table against a command and turn them into parameter names."""
    commands = getattr(command, "commands", {})
    options = {
        name.lstrip("-").replace("-", "_"): parameter.name
        for parameter in command.params
        for name in parameter.opts
        if name.startswith("--")
    }
    defaults: dict[str, Any] = {}
    for key, value in document.items():
        name = key.replace("-", "_")
        if key in commands:
            if not isinstance(value, dict):
                raise UsageError(f"{file}: {path}{key} is a command; write [{path}{key}]")
            defaults[key] = _defaults(value, commands[key], file, f"{path}{key}.")
        elif name in options and path:
            defaults[options[name]] = value
        else:
            known = ", ".join([*commands, *(sorted(options) if path else [])])
            raise UsageError(f"{file}: unknown {path}{key}; known here: {known}")
    return defaults
