"""The weights: which there are, where they lie, and how they are fetched and checked."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal, TypeAlias

from dpmo_cli.errors import UsageError
from dpmo_cli.sam.download import Progress, download

State: TypeAlias = Literal["ok", "present", "missing", "corrupt"]
"""`ok`: there, and read through; `present`: there, not read; `corrupt`: there, but not right."""

EMBEDDED_FOLDER = Path(__file__).parent / "embedded"
"""Where the package carries its own weights."""


@dataclass(frozen=True)
class Weights:
    """One entry of the catalogue.

    Attributes:
        name: what `--sam` calls it.
        file_name: its file, in the package or in the cache folder.
        url: where it is fetched from; None for weights that the package carries.
        sha256: what its file must hash to.
        size_bytes: how many bytes its file has; None where that is not known.
        licence: SPDX identifier.
        summary: what it is, in a few words.
    """

    name: str
    file_name: str
    url: str | None
    sha256: str
    size_bytes: int | None
    licence: str
    summary: str

    @property
    def embedded(self) -> bool:
        """Whether the package carries the file; all others live in the cache folder."""
        return self.url is None

    @property
    def path(self) -> Path:
        """Where the file lies, if it is there.

        Raises:
            UsageError: there is no home folder to hold the cache.
        """
        folder = EMBEDDED_FOLDER if self.embedded else cache_folder() / "weights"
        return folder / self.file_name


def _official(
    name: str, file_name: str, sha256: str, size_bytes: int | None, summary: str
) -> Weights:
    url = f"https://dl.fbaipublicfiles.com/segment_anything/{file_name}"
    return Weights(name, file_name, url, sha256, size_bytes, "Apache-2.0", summary)


CATALOGUE: tuple[Weights, ...] = (
    Weights(
        "nano",
        "nano.safetensors",
        url=None,
        sha256="7ce77b06561e5a874ff61a52bb6c9b0cb158fd1078978f4cf764a477c25837d1",
        size_bytes=7_983_664,
        licence="Apache-2.0",
        summary="the small default, carried by this package",
    ),
    _official(
        "vit_b",
        "sam_vit_b_01ec64.pth",
        "ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        375_042_383,
        "Segment Anything, ViT-B",
    ),
    _official(
        "vit_l",
        "sam_vit_l_0b3195.pth",
        "3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
        None,
        "Segment Anything, ViT-L",
    ),
    _official(
        "vit_h",
        "sam_vit_h_4b8939.pth",
        "a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        2_564_550_879,
        "Segment Anything, ViT-H: the paper's choice",
    ),
)
"""All weights that have a name."""


@dataclass(frozen=True)
class Fetched:
    """What `fetch` did: where the file lies, and whether it had to be brought."""

    path: Path
    brought: bool


def names() -> tuple[str, ...]:
    """Return the names of the catalogue, in its order."""
    return tuple(weights.name for weights in CATALOGUE)


def lookup(name: str) -> Weights:
    """Return the entry called `name`.

    Raises:
        UsageError: there is none.
    """
    for weights in CATALOGUE:
        if weights.name == name:
            return weights
    close = get_close_matches(name, names(), n=1)
    hint = f"did you mean {close[0]}?" if close else f"choose one of {', '.join(names())}"
    raise UsageError(f"unknown weights {name!r}; {hint}")


def cache_folder() -> Path:
    """Return the folder for what is fetched or computed once: `DPMO_HOME`, or the user's cache.

    Raises:
        UsageError: there is no home folder.
    """
    if home := os.environ.get("DPMO_HOME"):
        return Path(home).absolute()
    # The XDG specification wants a relative path to be ignored.
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if xdg.is_absolute():
        return xdg / "dpmo"
    try:
        return Path.home() / ".cache" / "dpmo"
    except RuntimeError as error:
        raise UsageError(
            "there is no home folder to hold the cache; set DPMO_HOME to a folder"
        ) from error


def find(name: str, checkpoint: Path | None = None) -> Path:
    """Return the file to load for `name`; never downloads.

    Args:
        name: an entry of the catalogue.
        checkpoint: a file of the user's own, taken as it is.

    Raises:
        UsageError: unknown name; the file is missing, or not the one of the catalogue.
    """
    weights = lookup(name)
    if checkpoint is not None:
        if file_size(checkpoint) is None:
            raise UsageError(f"{checkpoint}: no such file; name a weights file with --checkpoint")
        return checkpoint
    state = _read_through(weights)
    if state == "missing":
        raise UsageError(_how_to_get(weights))
    if state == "corrupt":
        mend = "install dpmo-cli again" if weights.embedded else f"run `dpmo weights fetch {name}`"
        raise UsageError(
            f"{weights.path}: is damaged or not {name}; {mend}, or give --checkpoint FILE"
        )
    return weights.path


def fetch(
    name: str,
    source: str | None = None,
    *,
    force: bool = False,
    on_progress: Progress | None = None,
) -> Fetched:
    """Bring the weights `name` into the cache folder, checked by SHA-256.

    Args:
        name: an entry of the catalogue.
        source: an http, https or file address, or a path; None for the catalogue's own address.
        force: bring it even if it is there and right.
        on_progress: told of every piece that comes.

    Raises:
        UsageError: unknown name; nothing came, or something wrong; the cache can't be written.
    """
    weights = lookup(name)
    if weights.url is None:
        if source is not None:
            raise UsageError(
                f"{name} comes with the package and is never fetched; "
                "use other weights of its kind with --checkpoint FILE"
            )
        return Fetched(find(name), brought=False)
    if not force and _read_through(weights) == "ok":
        return Fetched(weights.path, brought=False)
    download(
        source or weights.url,
        weights.path,
        sha256=weights.sha256,
        size_bytes=weights.size_bytes,
        on_progress=on_progress,
    )
    return Fetched(weights.path, brought=True)


def verify(chosen: Iterable[str]) -> list[tuple[str, State]]:
    """Read the named weights through; return each name with `ok`, `missing` or `corrupt`.

    Raises:
        UsageError: unknown name; a file can't be read.
    """
    return [(weights.name, _read_through(weights)) for weights in map(lookup, chosen)]


def glance(name: str) -> State:
    """Say `present`, `missing` or, where the size is wrong, `corrupt`, without reading the file.

    Raises:
        UsageError: unknown name; the file can't be reached.
    """
    weights = lookup(name)
    size_bytes = file_size(weights.path)
    if size_bytes is None:
        return "missing"
    return "present" if size_bytes == (weights.size_bytes or size_bytes) else "corrupt"


def file_size(path: Path) -> int | None:
    """Return a file's size in bytes; None where there is no file.

    Raises:
        UsageError: the file can't be reached.
    """
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError as error:
        raise _unreadable(path, error) from error


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits.

    Raises:
        UsageError: the file can't be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise _unreadable(path, error) from error
    return digest.hexdigest()


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path}: can't be read ({error.strerror}); check who may read it")


def _read_through(weights: Weights) -> State:
    state = glance(weights.name)
    if state != "present":
        return state
    return "ok" if sha256_of(weights.path) == weights.sha256 else "corrupt"


def _how_to_get(weights: Weights) -> str:
    if weights.embedded:
        return (
            f"{weights.name}'s weights are not in this installation ({weights.path}); "
            "install dpmo-cli again, or give a file with --checkpoint FILE"
        )
    size = f" ({weights.size_bytes / 1e6:,.0f} MB)" if weights.size_bytes else ""
    return (
        f"{weights.name}'s weights are not here ({weights.path}); get them with "
        f"`dpmo weights fetch {weights.name}`{size}; without a network, add `--from FILE` to it, "
        "or give a file with --checkpoint FILE"
    )
