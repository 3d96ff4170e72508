"""Embeddings on disk: what comes back, what is found damaged, and what goes first."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from dpmo_cli.errors import UsageError
from dpmo_cli.outputs.atomic import TEMPORARY_SUFFIX
from dpmo_cli.sam.cache import CachedEngine, EmbeddingCache, Usage, cached, open_cache
from dpmo_cli.sam.models import EngineSpec
from tests.conftest import FakeEngine

SPEC = EngineSpec("nano", Path("w"), "0" * 64, "cpu", "fp32", None)
KEY, OTHER = "ab" + "0" * 62, "cd" + "1" * 62
EMBEDDING_BYTES = 1200
"""About what a file of `embedding()` takes."""


def embedding(seed: int = 0) -> Tensor:
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


def crop(seed: int = 0, size_hw: tuple[int, int] = (20, 30)) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*size_hw, 3), dtype=np.uint8)


def files_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("??/*"))


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, said: list[str]) -> EmbeddingCache:
    return open_cache(tmp_path / "cache", 1.0, said.append)


def engine_of(cache: EmbeddingCache, spec: EngineSpec = SPEC) -> tuple[CachedEngine, FakeEngine]:
    fake = FakeEngine()
    return cached(fake, spec, cache), fake


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_embeddings_come_back_bit_by_bit(
    cache: EmbeddingCache, layout: torch.memory_format
) -> None:
    given = embedding().contiguous(memory_format=layout)
    given[0, 0, 0, :4] = torch.tensor([-0.0, 1e-42, torch.inf, torch.finfo().max])
    cache.put(KEY, given)
    found = cache.get(KEY)
    assert found is not None
    assert (found.dtype, found.shape, found.stride()) == (given.dtype, given.shape, given.stride())
    assert torch.equal(found.view(torch.int32), given.view(torch.int32))
    assert cache.get(OTHER) is None
    assert cache.usage.bytes_read == cache.usage.bytes_written > given.numel() * 4


def test_files_are_safetensors(cache: EmbeddingCache) -> None:
    cache.put(KEY, embedding())
    (path,) = files_of(cache.folder)
    assert load_file(path).keys() == {"nchw", "proof"}


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)


def _replace(path: Path) -> None:
    path.write_bytes(b"something else altogether")


def _swap(path: Path) -> None:
    """The whole file of another crop."""
    other = EmbeddingCache(path.parents[1], 10**9, print)
    other.put(OTHER, embedding(5))
    shutil.copy(path.parents[1] / "cd" / f"{OTHER[2:]}.safetensors", path)


def _reshape(path: Path) -> None:
    data = path.read_bytes()
    assert b"[1,4,8,8]" in data
    path.write_bytes(data.replace(b"[1,4,8,8]", b"[1,8,4,8]"))


@pytest.mark.parametrize("damage", [_truncate, _empty, _flip, _replace, _swap, _reshape])
def test_damaged_files_are_encoded_again_and_replaced(
    damage: Callable[[Path], None], cache: EmbeddingCache
) -> None:
    engine, fake = engine_of(cache)
    (whole,) = engine.encode([crop()])
    # Of the size of a real embedding, so that there is something to damage.
    (path,) = files_of(cache.folder)
    key = path.parent.name + path.stem
    path.unlink()
    cache.put(key, embedding())
    damage(path)
    (again,) = engine.encode([crop()])
    assert torch.equal(again.embedding, whole.embedding)
    assert (cache.usage.damaged, cache.usage.hits, fake.encoded) == (1, 0, 2)
    engine.encode([crop()])
    assert (cache.usage.damaged, cache.usage.hits, fake.encoded) == (1, 1, 2)


def test_only_crops_that_are_not_there_are_encoded(cache: EmbeddingCache) -> None:
    engine, fake = engine_of(cache)
    first = engine.encode([crop(1), crop(2)])
    mixed = engine.encode([crop(3), crop(2), crop(1)])
    assert fake.encoded == 3
    assert torch.equal(mixed[1].embedding, first[1].embedding)
    assert torch.equal(mixed[2].embedding, first[0].embedding)
    assert [one.frame for one in mixed] == [one.frame for one in fake.encode([crop()] * 3)]
    assert (cache.usage.hits, cache.usage.misses) == (2, 3)


def test_a_crop_is_known_by_its_pixels_alone(cache: EmbeddingCache) -> None:
    engine, fake = engine_of(cache)
    image = np.zeros((60, 70, 3), dtype=np.uint8)
    image[10:30, 20:50] = crop()
    engine.encode([crop()])
    engine.encode([image[10:30, 20:50]])
    assert fake.encoded == 1, "a view of a larger image holds the same pixels"
    engine.encode([crop().reshape(30, 20, 3)])
    assert fake.encoded == 2, "the same bytes in another shape are another crop"


@pytest.mark.parametrize(
    ("other", "again"),
    [
        pytest.param(replace(SPEC, weights_sha256="1" * 64), True, id="weights"),
        pytest.param(replace(SPEC, dtype="bf16"), True, id="dtype"),
        pytest.param(replace(SPEC, name="mine", weights_path=Path("x")), False, id="names"),
        pytest.param(replace(SPEC, prompt_batch=3), False, id="prompt batch"),
    ],
)
def test_what_decides_an_embedding(other: EngineSpec, again: bool, cache: EmbeddingCache) -> None:
    engine_of(cache)[0].encode([crop()])
    engine, fake = engine_of(cache, other)
    engine.encode([crop()])
    assert fake.encoded == again


def test_another_frame_is_another_embedding(cache: EmbeddingCache) -> None:
    engine_of(cache)[0].encode([crop()])
    large = FakeEngine(frame_px=1024)
    cached(large, SPEC, cache).encode([crop()])
    assert large.encoded == 1


def small(tmp_path: Path, said: list[str], files: float) -> EmbeddingCache:
    return EmbeddingCache(tmp_path, int(files * EMBEDDING_BYTES), said.append)


def keys(count: int) -> list[str]:
    return [f"{number:02x}" + "0" * 62 for number in range(count)]


def test_the_least_recently_used_go_first(tmp_path: Path, said: list[str]) -> None:
    cache = small(tmp_path, said, 10)
    names = keys(11)
    for age, key in enumerate(names[:9]):
        cache.put(key, embedding())
        os.utime(cache._path(key), ns=(age, age))
    assert cache.usage.evicted == 0
    assert cache.get(names[0]) is not None, "which makes it the latest one used"
    for key in names[9:]:
        cache.put(key, embedding())
    held = [key for key in names if cache.get(key) is not None]
    assert held[0] == names[0]
    assert names[1] not in held
    assert held[-1] == names[-1]
    assert cache.usage.evicted == len(names) - len(held)
    assert cache.get(names[1]) is None
    assert cache.usage.damaged == 0, "what was removed is not damaged"


@pytest.mark.parametrize("limit", [1.5, 5, 40])
def test_the_limit_is_never_exceeded(limit: float, tmp_path: Path, said: list[str]) -> None:
    cache = small(tmp_path, said, limit)
    for key in keys(80):
        cache.put(key, embedding())
        held = sum(path.stat().st_size for path in files_of(tmp_path))
        assert 0 < held <= cache.limit_bytes
    # A new run finds what an old one left.
    again = small(tmp_path, said, limit / 2 + 1)
    again.put(OTHER, embedding())
    assert sum(path.stat().st_size for path in files_of(tmp_path)) <= again.limit_bytes
    assert said == []


def test_the_folder_is_not_listed_at_each_writing(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = small(tmp_path, said, 1000)
    looks = 0
    look = EmbeddingCache._look_through

    def counted(self: EmbeddingCache, size: int) -> int:
        nonlocal looks
        looks += 1
        return look(self, size)

    monkeypatch.setattr(EmbeddingCache, "_look_through", counted)
    for key in keys(200):
        cache.put(key, embedding())
    assert 2 < looks < 20


def test_what_is_larger_than_the_limit_is_not_kept(tmp_path: Path, said: list[str]) -> None:
    cache = small(tmp_path, said, 0.5)
    cache.put(KEY, embedding())
    assert (files_of(tmp_path), said) == ([], [])


def test_files_of_others_are_never_removed(tmp_path: Path, said: list[str]) -> None:
    mine = [tmp_path / "thesis.txt", tmp_path / "ab/thesis.txt", tmp_path / "letters/a.safetensors"]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(bytes(10 * EMBEDDING_BYTES))
        os.utime(path, ns=(0, 0))
    torn = tmp_path / "ab" / f".0123{TEMPORARY_SUFFIX}"
    torn.write_bytes(bytes(EMBEDDING_BYTES))
    os.utime(torn, ns=(0, 0))
    cache = small(tmp_path, said, 3)
    for key in keys(9):
        cache.put(key, embedding())
    assert all(path.exists() for path in mine)
    assert not torn.exists(), "what a killed run left"


def test_while_another_process_removes_nobody_waits(tmp_path: Path, said: list[str]) -> None:
    cache = small(tmp_path, said, 2)
    with FileLock(tmp_path / "lock"):
        for key in keys(4):
            cache.put(key, embedding())
    assert len(files_of(tmp_path)) == 4
    cache.put(OTHER, embedding())
    assert len(files_of(tmp_path)) <= 2
    assert said == []


def test_two_that_share_a_folder_see_each_others_files(tmp_path: Path, said: list[str]) -> None:
    one, other = small(tmp_path, said, 9), small(tmp_path, said, 9)
    one.put(KEY, embedding(1))
    assert torch.equal(other.get(KEY), embedding(1))
    shutil.rmtree(tmp_path / KEY[:2])
    assert one.get(KEY) is None


def test_threads_may_share_a_cache(cache: EmbeddingCache) -> None:
    engine, _ = engine_of(cache)
    crops = [crop(seed) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda one: engine.encode([one])[0], crops * 20):
            assert found.embedding.shape == (1, 2, 4, 4)
    assert cache.usage.hits + cache.usage.misses == 160
    assert cache.usage.misses >= 8
    assert (cache.usage.damaged, len(files_of(cache.folder))) == (0, 8)


def test_a_full_disk_is_told_once(
    cache: EmbeddingCache, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, fake = engine_of(cache)
    engine.encode([crop(1)])

    def full(self: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    for seed in (2, 3, 2):
        engine.encode([crop(seed)])
    engine.encode([crop(1)])
    assert (fake.encoded, cache.usage.hits) == (4, 1), "what is there is still used"
    (line,) = said
    assert "the run goes on without" in line
    assert "No space left on device" in line
    assert [path for path in files_of(cache.folder) if path.name.startswith(".")] == []


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_folder_that_can_not_be_written_is_named(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match=r"--cache .*file.*can't be written") as caught:
        open_cache(tmp_path / place, 1.0, print)
    assert "\n" not in str(caught.value)


def test_the_folder_says_what_it_is(cache: EmbeddingCache, tmp_path: Path) -> None:
    tag = (cache.folder / "CACHEDIR.TAG").read_bytes()
    assert tag.startswith(b"Signature: 8a477f597d28d172789f06886806bc55")
    before = os.stat(cache.folder / "CACHEDIR.TAG").st_mtime_ns
    assert open_cache(cache.folder, 1.0, print).usage == Usage()
    assert os.stat(cache.folder / "CACHEDIR.TAG").st_mtime_ns == before


def test_answers_are_the_engines(cache: EmbeddingCache) -> None:
    engine, fake = engine_of(cache)
    (encoded,) = engine.encode([crop()])
    points, labels = np.array([[[5.0, 6.0]]]), np.array([[1]])
    ours, theirs = (
        list(engine.prompt(encoded, points, labels)),
        list(fake.prompt(encoded, points, labels)),
    )
    assert torch.equal(ours[0].logits, theirs[0].logits)
    assert (engine.batch, engine.halvings) == (fake.batch, fake.halvings)
    assert (engine.frame_px, engine.cells) == (fake.frame_px, fake.cells)
