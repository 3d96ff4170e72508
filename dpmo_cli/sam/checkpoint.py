"""The checkpoint: a file of tensors, read without ever running what else it may carry."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dpmo_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80"

# Width and depth of the official image encoders (segment_anything/build_sam.py).
_NAME_BY_WIDTH_DEPTH = {(768, 12): "vit_b", (1024, 24): "vit_l", (1280, 32): "vit_h"}
_PATCH_WEIGHT = "image_encoder.patch_embed.proj.weight"
_BLOCK_PREFIX = "image_encoder.blocks."

_COPY_AGAIN = "copy or fetch it again"


def load_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of a `.safetensors` file or of a file that `torch.save` wrote.

    The tensors are on the CPU, in the file's own dtypes, and map the file: pages are read when
    they are used. Code in a file is refused, never executed: on top of PyTorch's `weights_only`,
    which needs 2.10 to be sound (CVE-2026-24747), TorchScript archives and bare pickles, the
    format of before PyTorch 1.6, are not even handed to it (CVE-2025-32434).

    Raises:
        UsageError: the file can't be read, is damaged, or is no dict of tensors.
    """
    import torch

    try:
        with path.open("rb") as file:
            head = file.read(9)
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror}); check the name") from error
    # A safetensors file starts with the length of its JSON header, 8 bytes.
    if path.suffix == ".safetensors" or head[8:9] == b"{":
        return _load_safetensors(path)
    if head.startswith(_ZIP_MAGIC):
        loaded = _load_torch(path)
    elif head.startswith(_PICKLE_MAGIC):
        raise UsageError(
            f"{path}: is a bare pickle, which may carry code and is not opened; "
            "save its tensors as .safetensors, or with torch.save of PyTorch 1.6 or later"
        )
    else:
        raise UsageError(f"{path}: is no checkpoint, or damaged; {_COPY_AGAIN}")
    if not (
        isinstance(loaded, dict)
        and loaded
        and all(isinstance(key, str) for key in loaded)
        and all(isinstance(value, torch.Tensor) for value in loaded.values())
    ):
        raise UsageError(
            f"{path}: is no dict of tensors; save the model's state_dict() alone, as .safetensors"
        )
    return loaded


def identify_architecture(state_dict: Mapping[str, torch.Tensor]) -> str | None:
    """Return `vit_b`, `vit_l` or `vit_h` after the image encoder's width and depth; else None."""
    patch = state_dict.get(_PATCH_WEIGHT)
    if patch is None or patch.ndim != 4:
        return None
    blocks = {
        key.removeprefix(_BLOCK_PREFIX).partition(".")[0]
        for key in state_dict
        if key.startswith(_BLOCK_PREFIX)
    }
    return _NAME_BY_WIDTH_DEPTH.get((patch.shape[0], len(blocks)))


def require_architecture(state_dict: Mapping[str, torch.Tensor], name: str, path: Path) -> None:
    """Refuse tensors that are known to be of another architecture than `name`.

    Tensors of no official architecture pass for other names, such as nano: its own loader knows
    its keys.

    Args:
        state_dict: what `load_state_dict` returned.
        name: what `--sam` asks for.
        path: the file, for the message.

    Raises:
        UsageError: the tensors are not `name`'s.
    """
    found = identify_architecture(state_dict)
    if found == name or (found is None and name not in _NAME_BY_WIDTH_DEPTH.values()):
        return
    if found is None:
        raise UsageError(f"{path}: does not hold {name} weights; give a Segment Anything {name}")
    raise UsageError(f"{path}: holds {found} weights; use --sam {found}")


def _load_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path}: is no safetensors file, or damaged; {_COPY_AGAIN}") from error


def _load_torch(path: Path) -> object:
    import pickle
    from zipfile import ZipFile

    import torch

    try:
        with ZipFile(path) as archive:
            members = {name.rpartition("/")[2] for name in archive.namelist()}
        if "constants.pkl" not in members:
            # A str: PyTorch before 2.3 maps no other kind of path.
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path}: carries pickled Python objects besides tensors, which were not executed; "
            "save its tensors alone, as .safetensors"
        ) from error
    # Bytes from outside can make the readers raise nearly anything.
    except Exception as error:
        raise UsageError(f"{path}: is no checkpoint, or damaged; {_COPY_AGAIN}") from error
    raise UsageError(
        f"{path}: is a TorchScript archive, which carries code and is not opened; "
        "save the model's state_dict() alone, as .safetensors"
    )
