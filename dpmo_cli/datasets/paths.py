"""Names and folders inside a dataset's root: safe names, folder names in any case, file lists."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from dpmo_cli.errors import InputError, UsageError

MAX_ANNOTATION_BYTES = 256 * 2**20
"""Annotation files above this size are refused: the largest real ones are a few MB."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"}
)


def resolve_inside(root: Path, name: str) -> Path:
    """Join a name found in a dataset to its root, refusing every way out of the root.

    Args:
        root: the dataset's root (it may itself be a symlink).
        name: relative path with "/", as written in an annotation or found in a folder.

    Returns:
        `root / name`. Nothing needs to lie there.

    Raises:
        InputError: the name is empty, absolute, holds `..` or NUL, or leads out of the root
            through a symlink.
    """
    mend = "name a file that lies inside the dataset's root"
    shown = _shown(name.replace("\0", "\\0"))
    if not name.strip():
        raise InputError(root, "an image has an empty name", mend)
    if shown != name.replace("\0", "\\0"):
        raise InputError(shown, "the name is no UTF-8", "rename the file")
    if "\0" in name:
        raise InputError(shown, "the name holds a NUL character", mend)
    # Both spellings are checked: a list written on Windows must not get past the check elsewhere.
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute():
        raise InputError(shown, "the name is an absolute path", mend)
    if ".." in PurePosixPath(name).parts or ".." in PureWindowsPath(name).parts:
        raise InputError(shown, "the name holds '..'", mend)
    path = root / name
    try:
        inside = path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symlinks, before 3.13
        raise InputError(path, f"can't be followed ({error})", mend) from error
    if not inside:
        raise InputError(path, "is a symlink that leaves the dataset's root", mend)
    return path


def relative_name(root: Path, path: Path) -> str:
    """The `file_name` of a file under the root: relative, with "/".

    Bytes that are no UTF-8 are shown escaped, so that the name can be written anywhere.
    """
    return _shown(path.relative_to(root).as_posix())


def _shown(name: str) -> str:
    return name.encode("utf-8", "backslashreplace").decode()


def checked_root(root: Path) -> Path:
    """The root itself, or UsageError when it is missing or no folder."""
    try:
        is_folder, exists = root.is_dir(), root.exists()
    except (OSError, ValueError) as error:
        raise UsageError(f"the root {root} can't be read: {error}") from error
    if not exists:
        raise UsageError(f"the root {root} does not exist; give the dataset's folder with --root")
    if not is_folder:
        raise UsageError(f"the root {root} is not a folder; give the dataset's folder with --root")
    return root


def child_folders(parent: Path, names: Sequence[str]) -> list[Path]:
    """The sub-folders that bear one of the names, in any case."""
    wanted = {name.casefold() for name in names}
    return [path for path in listed(parent) if path.name.casefold() in wanted and path.is_dir()]


def child_folder(parent: Path, names: Sequence[str]) -> Path | None:
    """The sub-folder that bears one of the names, in any case; None when there is none.

    Raises:
        UsageError: several sub-folders fit, so that choosing one would be a guess.
    """
    found = child_folders(parent, names)
    if len(found) > 1:
        both = " and ".join(path.name for path in found)
        raise UsageError(f"{parent} holds {both}, which mean the same; rename all but one of them")
    return found[0] if found else None


def listed(folder: Path) -> list[Path]:
    """The visible content of a folder in order of name; empty when it is no folder.

    Hidden files are left out: macOS scatters `._IMG_1.jpg` and the like over archives.

    Raises:
        UsageError: the folder can't be read.
    """
    try:
        found = [path for path in folder.iterdir() if not path.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UsageError(f"{folder} can't be listed ({error.strerror})") from error
    return sorted(found)


def image_files(folder: Path) -> list[Path]:
    """The files of a folder whose suffix is an image's, in any case, in order of name."""
    return [path for path in listed(folder) if path.suffix.lower() in IMAGE_SUFFIXES]


def read_capped(path: Path, mend: str) -> bytes:
    """Read a whole annotation file.

    Args:
        path: the file.
        mend: what the user can do when it is missing or broken.

    Raises:
        InputError: it is missing, no regular file, unreadable, or above `MAX_ANNOTATION_BYTES`.
    """
    try:
        # The type comes first: opening a pipe would wait for ever.
        if not path.exists():
            raise InputError(path, "is missing", mend)
        if not path.is_file():
            raise InputError(path, "is not a regular file", mend)
        size = path.stat().st_size
        if size > MAX_ANNOTATION_BYTES:
            limit = MAX_ANNOTATION_BYTES // 2**20
            problem = f"has {size // 2**20} MB, which is above the limit of {limit} MB"
            raise InputError(path, problem, mend)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(path, f"can't be read ({error})", mend) from error


def read_text(path: Path, mend: str) -> str:
    """Read a whole UTF-8 text file, with or without a byte order mark.

    Raises:
        InputError: as `read_capped`, or the bytes are no UTF-8.
    """
    try:
        return read_capped(path, mend).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(path, f"is not UTF-8 text ({error.reason})", mend) from error
