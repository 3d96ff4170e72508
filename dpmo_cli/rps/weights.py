"""The weights of localiser and policies that the package carries."""

from __future__ import annotations

from pathlib import Path

from dpmo_cli.errors import UsageError

EMBEDDED_FOLDER = Path(__file__).parent / "embedded"


def find_weights(name: str, given: Path | None = None) -> Path:
    """The user's own file, or the embedded one.

    Args:
        name: `locator`, `rps` or `rank`.
        given: the user's file; None takes the embedded one.

    Raises:
        UsageError: it is not there.
    """
    path = EMBEDDED_FOLDER / f"{name}.safetensors" if given is None else given
    try:
        there = path.is_file()
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); check the name") from error
    if not there:
        mend = "install dpmo-cli again" if given is None else "check the name"
        raise UsageError(f"{path}: no such file of weights; {mend}")
    return path
