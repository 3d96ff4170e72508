"""The errors that reach a user: one clear line each, naming what is wrong and how to mend it."""

from __future__ import annotations

from os import PathLike

GIVE_ROOT = "give the folder of the photos with --root"
"""The mend where the photos of a run are not where it found them."""

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
EXIT_INTERRUPTED = 130


class DpmoError(Exception):
    """Base of all errors that are shown as one line, without a traceback."""

    exit_code = EXIT_FAILED


class UsageError(DpmoError):
    """The command can't be carried out as it was given: options, root, weights, splits."""

    exit_code = EXIT_USAGE


class InputError(DpmoError):
    """One file of the dataset can't be used; the run goes on with the others.

    Args:
        path: the file that is wrong.
        problem: what is wrong with it, without the name, e.g. "is truncated".
        mend: what the user can do about it, e.g. "copy it again from the release".
    """

    def __init__(self, path: str | PathLike[str], problem: str, mend: str) -> None:
        self.path = str(path)
        self.problem = problem
        self.mend = mend
        super().__init__(" ".join(f"{path}: {problem}; {mend}".split()))
