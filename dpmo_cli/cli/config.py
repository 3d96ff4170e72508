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
        UsageError: the file is missing or no TOML, names an unknown command or option, or gives
            an option a value that it can't have.
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
    return _defaults(context, context.command, document, str(chosen), "")


def _defaults(
    context: typer.Context, command: Any, document: dict[str, Any], file: str, path: str
) -> dict[str, Any]:
    """Check one table against a command, and turn its names into those of parameters."""
    commands = getattr(command, "commands", {})
    options = {
        name.lstrip("-").replace("-", "_"): parameter
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
            defaults[key] = _defaults(context, commands[key], value, file, f"{path}{key}.")
        elif name in options and path:
            option = options[name]
            defaults[option.name] = _checked(context, option, value, f"{file}: {path}{key}")
        else:
            known = ", ".join([*commands, *(sorted(options) if path else [])])
            raise UsageError(f"{file}: unknown {path}{key}; known here: {known}")
    return defaults


def _checked(context: typer.Context, option: Any, value: Any, where: str) -> Any:
    """Check a value as if it stood on the command line; a single one may stand for a list."""
    given = [value] if option.multiple and not isinstance(value, list) else value
    try:
        option.process_value(context, given)
    except typer.BadParameter as error:
        raise UsageError(f"{where} = {value!r}: {error.message}; correct it") from error
    return given
