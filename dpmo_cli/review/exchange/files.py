"""Files that tools write: JSON of bounded size, alone, in folders, or in a ZIP archive."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from dpmo_cli.datasets.paths import MAX_ANNOTATION_BYTES, listed, read_text
from dpmo_cli.errors import InputError, UsageError
from dpmo_cli.outputs.findings import one_line

MANIFEST_FILE = "dpmo-export.json"
"""What `dpmo review export` writes beside the tasks."""
MAX_ARCHIVE_FILES = 100_000
_JSON = ".json"
_MEND = "export from the tool again, in parts if it is large"

Document = tuple[str, object]
"""Where a JSON document lies, for messages, and what it holds; an InputError where it is none."""


def read_json(path: Path, mend: str) -> object:
    """Parse a JSON file; NaN is let through, since tools write it.

    Raises:
        InputError: it is missing, too large, or no JSON.
    """
    return _parse(str(path), read_text(path, mend), mend)


def documents(path: Path) -> Iterator[Document]:
    """Yield the JSON documents of a file, of a ZIP archive, or of a folder and all below it.

    One is in memory at a time. Our own manifest and hidden files are left out. Nothing is
    unpacked, and no name inside an archive is used as a path. One bad file among others comes as
    its error.

    Raises:
        UsageError: the folder holds none.
        InputError: the only file, or the archive, is too large or no JSON.
    """
    if path.is_dir():
        found = [one for one in _below(path) if one.name != MANIFEST_FILE]
        if not found:
            raise UsageError(f"{path}: holds no JSON; give what the tool has exported")
        for one in found:
            yield str(one), _or_error(partial(read_json, one, _MEND))
    elif path.is_file() and zipfile.is_zipfile(path):
        yield from _in_archive(path)
    else:
        yield str(path), read_json(path, _MEND)


def _in_archive(path: Path) -> Iterator[Document]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if _is_task(one.filename)]
            if not members:
                raise InputError(path, "the archive holds no JSON", _MEND)
            if len(members) > MAX_ARCHIVE_FILES:
                raise InputError(path, f"the archive holds {len(members)} JSON files", _MEND)
            for member in members:
                with archive.open(member) as file:
                    # The size that the archive states may be a lie.
                    content = file.read(MAX_ANNOTATION_BYTES + 1)
                place = f"{path}, {member.filename}"
                yield place, _or_error(partial(_decode, place, content))
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, zlib.error) as error:
        raise InputError(path, f"can't be unpacked ({one_line(error)})", _MEND) from error


def _decode(place: str, content: bytes) -> object:
    if len(content) > MAX_ANNOTATION_BYTES:
        limit = MAX_ANNOTATION_BYTES // 2**20
        raise InputError(place, f"is above the limit of {limit} MB", _MEND)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(place, "is not UTF-8 text", _MEND) from error
    return _parse(place, text, _MEND)


def _or_error(read: Callable[[], object]) -> object:
    try:
        return read()
    except InputError as error:
        return error


def _is_task(name: str) -> bool:
    return name.lower().endswith(_JSON) and PurePosixPath(name).name != MANIFEST_FILE


def _parse(place: str, text: str, mend: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(place, f"is no JSON ({one_line(error)})", mend) from error


def _below(folder: Path) -> list[Path]:
    """The JSON files of a folder and all below it, in order; links to folders are not followed."""
    found: list[Path] = []
    for path in listed(folder):
        if path.is_dir():
            found += [] if path.is_symlink() else _below(path)
        elif path.suffix.lower() == _JSON:
            found.append(path)
    return found
