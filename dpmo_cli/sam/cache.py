"""The embedding cache: what the encoder said of a crop, kept on disk by the crop's content."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from dpmo_cli.errors import UsageError
from dpmo_cli.geometry.resize import Frame
from dpmo_cli.outputs.atomic import TEMPORARY_SUFFIX, OutputError, atomic_path, write_text
from dpmo_cli.sam.engine import Encoded, RunEngine

if TYPE_CHECKING:
    from dpmo_cli.sam.models import EngineSpec

FORMAT = 1
"""Of the files and of what the encoder computes; another one makes all files strangers."""
GB = 10**9
TAG_FILE, LOCK_FILE = "CACHEDIR.TAG", "lock"
TAG = """Signature: 8a477f597d28d172789f06886806bc55
# Embeddings that dpmo can compute again; see https://bford.info/cachedir/
"""
FILL = 0.9
"""Part of the limit that is left filled when old files go."""
LOOK_AGAIN = 0.02
"""Part of the limit after whose writing the folder is looked through again: others write too."""
_OWN_FOLDER = re.compile("[0-9a-f]{2}")
_OWN_FILE = re.compile(rf"[0-9a-f]{{62}}\.safetensors|\.[0-9a-f]+{re.escape(TEMPORARY_SUFFIX)}")
"""Nothing else is ever removed, whatever folder the user named."""
_LAYOUTS = {"nchw": (0, 1, 2, 3), "nhwc": (0, 2, 3, 1)}
"""Order of the axes in a file, by the name of its tensor: as the encoder laid them out."""


@dataclass
class Usage:
    """What a cache did for a run.

    Attributes:
        hits, misses: crops answered from disk, and encoded.
        damaged: files that did not hold what they should, among the misses.
        evicted: files removed to keep the limit.
        bytes_read, bytes_written: of embeddings' files.
    """

    hits: int = 0
    misses: int = 0
    damaged: int = 0
    evicted: int = 0
    bytes_read: int = 0
    bytes_written: int = 0

    def as_json(self) -> dict[str, int]:
        """As a plain object."""
        return asdict(self)


@dataclass
class EmbeddingCache:
    """Embeddings in a folder, the least recently used out first.

    Several processes may share the folder, and several threads the object.

    Attributes:
        folder: of the files.
        limit_bytes: how much the files may hold. Processes that write at the same time see each
            other's files late, so each further one may exceed it by 2 %.
        warn: told once that nothing more can be written; the run goes on without.
        usage: what was done so far.
    """

    folder: Path
    limit_bytes: int
    warn: Callable[[str], None]
    usage: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        self._closed = False
        self._lock = Lock()
        # Not known yet: the first writing looks through the folder.
        self._held_bytes, self._unseen_bytes = self.limit_bytes, 0

    def __reduce__(self) -> tuple[object, ...]:
        """Another process opens the folder for itself, and counts for itself."""
        return EmbeddingCache, (self.folder, self.limit_bytes, self.warn)

    def get(self, key: str) -> Tensor | None:
        """The (1, C, h, w) float32 embedding of a key on the CPU, as it was put; None without."""
        path = self._path(key)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        embedding = _unpacked(data, key)
        with self._lock:
            self.usage.damaged += embedding is None
            self.usage.bytes_read += 0 if embedding is None else len(data)
        if embedding is None:
            return None
        # The time of the last use decides what goes first. The file may just have gone.
        with suppress(OSError):
            os.utime(path)
        return embedding

    def put(self, key: str, embedding: Tensor) -> None:
        """Keep an embedding, unless the disk does not take it."""
        data = _packed(embedding, key)
        if self._closed or len(data) > self.limit_bytes:
            return
        try:
            with self._lock:
                self._make_room(len(data))
                self._unseen_bytes += len(data)
            # Not forced to disk, which would take as long as encoding: what a power cut tears is
            # found to be damaged.
            with atomic_path(self._path(key), durable=False) as temporary:
                temporary.write_bytes(data)
        except (OutputError, OSError) as error:
            self._close(str(error).split(";")[0])
            return
        with self._lock:
            self.usage.bytes_written += len(data)

    def count(self, hits: int, misses: int) -> None:
        """Add to the usage."""
        with self._lock:
            self.usage.hits += hits
            self.usage.misses += misses

    def _close(self, reason: str) -> None:
        """Write nothing more, and say so once."""
        with self._lock:
            told, self._closed = self._closed, True
        if not told:
            self.warn(f"the cache takes nothing more, the run goes on without: {reason}")

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key[2:]}.safetensors"

    def _make_room(self, size: int) -> None:
        """Remove the files that were not used for longest, where `size` more would be too much."""
        expected = self._held_bytes + self._unseen_bytes + size
        if self._unseen_bytes <= LOOK_AGAIN * self.limit_bytes and expected <= self.limit_bytes:
            return
        try:
            # One process removes at a time; the others need not wait for it.
            with FileLock(self.folder / LOCK_FILE, timeout=0):
                self._held_bytes = self._look_through(size)
        except Timeout:
            self._held_bytes += self._unseen_bytes
        self._unseen_bytes = 0

    def _look_through(self, size: int) -> int:
        """Bytes of all files, after old ones were removed where `size` more would be too much."""
        files = sorted(self._files())
        held = sum(length for _, length, _ in files)
        if held + size <= self.limit_bytes:
            return held
        for _, length, path in files:
            if held + size <= FILL * self.limit_bytes:
                break
            path.unlink(missing_ok=True)
            held -= length
            self.usage.evicted += 1
        return held

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Time of the last use in ns, size and path of each file, torn temporary ones included."""
        for folder in os.scandir(self.folder):
            if not (_OWN_FOLDER.fullmatch(folder.name) and folder.is_dir()):
                continue
            for file in os.scandir(folder):
                if not _OWN_FILE.fullmatch(file.name):
                    continue
                try:
                    about = file.stat()
                except FileNotFoundError:
                    continue  # another process has just removed it
                yield about.st_mtime_ns, about.st_size, Path(file.path)


@dataclass
class CachedEngine:
    """An engine that encodes only crops of which the cache holds no embedding.

    Attributes:
        engine: encodes, and answers all prompts.
        cache: of its embeddings.
        device: where embeddings are wanted.
        maker: all that decides an embedding beside the crop.
    """

    engine: RunEngine
    cache: EmbeddingCache
    device: str
    maker: str

    def __post_init__(self) -> None:
        self.frame_px = self.engine.frame_px
        self.cells = self.engine.cells
        self.extents = self.engine.extents
        self.calibration = self.engine.calibration
        self.prompt = self.engine.prompt

    @property
    def batch(self) -> int:
        """Prompts per decoder call."""
        return self.engine.batch

    @property
    def halvings(self) -> int:
        """How often a batch was halved because memory ran out."""
        return self.engine.halvings

    def encode(self, crops: Sequence[NDArray[np.uint8]]) -> list[Encoded]:
        """Embeddings of (h, w, 3) uint8 RGB crops: from the cache, else encoded and kept there.

        Raises:
            DpmoError: as the engine does.
        """
        keys = [self._key(crop) for crop in crops]
        found: list[Encoded | None] = []
        for key, crop in zip(keys, crops, strict=True):
            embedding = self.cache.get(key)
            frame = Frame((crop.shape[0], crop.shape[1]), self.frame_px, self.cells)
            found.append(None if embedding is None else Encoded(embedding.to(self.device), frame))
        missing = [index for index, one in enumerate(found) if one is None]
        fresh = self.engine.encode([crops[index] for index in missing])
        for index, encoded in zip(missing, fresh, strict=True):
            self.cache.put(keys[index], encoded.embedding)
            found[index] = encoded
        self.cache.count(hits=len(crops) - len(missing), misses=len(missing))
        return [one for one in found if one is not None]

    def _key(self, crop: NDArray[np.uint8]) -> str:
        digest = hashlib.sha256(f"{self.maker}\n{crop.shape}\n".encode())
        digest.update(np.ascontiguousarray(crop).data)
        return digest.hexdigest()


def open_cache(folder: Path, size_gb: float, warn: Callable[[str], None]) -> EmbeddingCache:
    """Open a folder of embeddings, or make one.

    Args:
        folder: of the files.
        size_gb: what they may hold, 10^9 bytes.
        warn: told once that nothing more can be written.

    Raises:
        UsageError: nothing can be written there.
    """
    try:
        # Backup programs leave out folders with this file; and it shows that writing goes well.
        write_text(folder / TAG_FILE, TAG)
    except OutputError as error:
        raise UsageError(f"--cache {error}") from error
    return EmbeddingCache(folder, int(size_gb * GB), warn)


def cached(engine: RunEngine, spec: EngineSpec, cache: EmbeddingCache) -> CachedEngine:
    """The engine of a specification with a cache of its embeddings."""
    kind = spec.device.split(":")[0]
    # The same weights round otherwise on another machine, or with another torch.
    if kind == "cuda":
        machine = torch.cuda.get_device_name(spec.device)
    else:
        machine = torch.backends.cpu.get_cpu_capability()
    maker = {
        "format": FORMAT,
        "weights": spec.weights_sha256,
        "frame_px": engine.frame_px,
        "dtype": spec.dtype,
        "device": kind,
        "machine": machine,
        "torch": torch.__version__,
    }
    return CachedEngine(engine, cache, spec.device, json.dumps(maker))


def _packed(embedding: Tensor, key: str) -> bytes:
    """A safetensors file of an embedding, (1, C, h, w) float32, and of what proves it whole."""
    embedding = embedding.detach().cpu()
    # Whatever comes next computes the same bits only in the same order of memory.
    channels_last = embedding.is_contiguous(memory_format=torch.channels_last)
    name = "nhwc" if channels_last else "nchw"
    values = embedding.permute(_LAYOUTS[name]).contiguous()
    return save({name: values, "proof": _proof(name, values, key)})


def _unpacked(data: bytes, key: str) -> Tensor | None:
    """The embedding that `_packed` wrote for a key; None where it is not whole, or another's."""
    try:
        tensors = load(data)
        proof = tensors.pop("proof")
        ((name, values),) = tensors.items()
        axes = _LAYOUTS[name]
    except (SafetensorError, KeyError, ValueError):
        return None
    if values.dtype != torch.float32 or not torch.equal(proof, _proof(name, values, key)):
        return None
    return values.permute(*np.argsort(axes).tolist())


def _proof(name: str, values: Tensor, key: str) -> Tensor:
    """SHA-256 of a key and of values with their shape and layout: (32,) uint8."""
    digest = hashlib.sha256(f"{key} {name} {tuple(values.shape)}".encode())
    digest.update(values.numpy().data)
    return torch.frombuffer(bytearray(digest.digest()), dtype=torch.uint8)
