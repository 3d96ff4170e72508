"""The `dpmo` command: its sub-commands, and how errors become one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from dpmo_cli.cli import datasets, evaluate, review, train, weights
from dpmo_cli.cli.bench import bench
from dpmo_cli.cli.config import read_config
from dpmo_cli.cli.console import say
from dpmo_cli.cli.convert import convert
from dpmo_cli.cli.export import export
from dpmo_cli.cli.merge import merge
from dpmo_cli.cli.predict import predict
from dpmo_cli.cli.report import report
from dpmo_cli.cli.selftest import selftest
from dpmo_cli.cli.truth import truth
from dpmo_cli.cli.validate import validate
from dpmo_cli.cli.visualize import visualize
from dpmo_cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_USAGE, DpmoError
from dpmo_cli.version import VERSION

RESUMABLE = {
    "convert", "predict", "merge", "apply", "fetch", "nano", "locator", "density", "compare", "rps",
}  # fmt: skip
"""The commands that go on where they were interrupted."""

app = typer.Typer(
    name="dpmo",
    help="Turn the head points of crowd datasets into instance masks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(convert)
app.command()(predict)
app.command()(merge)
app.command()(export)
app.command()(validate)
app.command()(visualize)
app.command()(report)
app.add_typer(review.app, name="review")
app.add_typer(datasets.app, name="datasets")
app.add_typer(evaluate.app, name="evaluate")
app.command()(bench)
app.command()(selftest)
app.command()(truth)
app.add_typer(weights.app, name="weights")
app.add_typer(train.app, name="train")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"dpmo {VERSION}")
        raise typer.Exit


@app.callback()
def _root(
    context: typer.Context,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            envvar="DPMO_CONFIG",
            help="Defaults for options; dpmo.toml in this folder when it is there.",
        ),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Turn the head points of crowd datasets into instance masks."""
    context.default_map = read_config(config, context)


class _Interruption(BaseException):
    """A signal asked the command to end: typer would end a KeyboardInterrupt in its own way."""


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise _Interruption


def _say_wrong_use(message: str, context: typer.Context | None) -> None:
    """One line instead of typer's box; nothing where it has just printed the help."""
    if message:
        command = "dpmo" if context is None else context.command_path
        say(f"dpmo: error: {' '.join(message.split()).rstrip('.')}; see `{command} --help`")


def main() -> None:
    """Run the command line; errors are one line on stderr and an exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # What the shell told to ignore, for a job in the background, stays ignored.
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _interrupt)
    try:
        sys.exit(app(standalone_mode=False))
    except DpmoError as error:
        say(f"dpmo: error: {error}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, _Interruption):
        resumes = RESUMABLE.intersection(sys.argv[1:])
        say("dpmo: interrupted" + "; the same command goes on from here" * bool(resumes))
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output has gone; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_FAILED)
    except Exception as error:
        if hasattr(error, "format_message"):
            # Typer's own errors, whose class moved from click to typer between versions.
            _say_wrong_use(error.format_message(), getattr(error, "ctx", None))
            sys.exit(EXIT_USAGE)
        if os.environ.get("DPMO_DEBUG"):
            raise
        if isinstance(error, OSError) and isinstance(error.filename, str):
            # What no command expects of a path: too long a name, a folder that may not be entered.
            why = error.strerror or type(error).__name__
            say(f"dpmo: error: {error.filename}: {why}; check the name, and who may use it")
            sys.exit(EXIT_FAILED)
        say(
            f"dpmo: error: unexpected {type(error).__name__}: {' '.join(str(error).split())}; "
            "set DPMO_DEBUG=1 to see where, and report it"
        )
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
