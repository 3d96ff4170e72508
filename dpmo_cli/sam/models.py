"""From a name such as `nano` or `vit_h` to an engine on a device, with its weights checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam

from dpmo_cli.errors import UsageError
from dpmo_cli.geometry.extents import EXTENTS
from dpmo_cli.sam import nano
from dpmo_cli.sam.calibration import load_calibration
from dpmo_cli.sam.checkpoint import load_state_dict, require_architecture
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.sam.weights import EMBEDDED_FOLDER, find, lookup, sha256_of

DTYPES = ("fp32", "bf16")
CALIBRATION = EMBEDDED_FOLDER / "nano.calibration.json"
"""Of the embedded weights; others have none."""


@dataclass(frozen=True)
class EngineSpec:
    """A network, its checked weights and where to compute, before anything is loaded.

    Attributes:
        name: of the catalogue.
        weights_path: the file to load.
        weights_sha256: its hash.
        device: `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `fp32` or `bf16`.
        prompt_batch: prompts per decoder call; None leaves it to the byte budget.
        calibration: a file for these weights; None takes the embedded one, where there is one.
    """

    name: str
    weights_path: Path
    weights_sha256: str
    device: str
    dtype: str
    prompt_batch: int | None
    calibration: Path | None = None


def resolve_device(device: str) -> str:
    """Turn `auto` into a device that is there, and check any other.

    Raises:
        UsageError: unknown, or not on this machine; there is no silent fall-back.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if not re.fullmatch(r"cpu|mps|cuda(:[0-9]+)?", device):
        raise UsageError(f"--device {device}: unknown; use auto, cpu, cuda, cuda:N or mps")
    if device == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: this machine has none; use --device cpu")
    if device.startswith("cuda"):
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(device.partition(":")[2] or 0) >= count:
            raise UsageError(
                f"--device {device}: this machine has {count} CUDA devices; use --device cpu"
            )
    return device


def build_model(name: str) -> Sam:
    """Build a model of the catalogue without weights."""
    if name == "nano":
        return nano.build_nano()
    model: Sam = sam_model_registry[name](checkpoint=None)
    return model


def resolve_engine(
    name: str,
    *,
    checkpoint: Path | None = None,
    device: str = "auto",
    dtype: str = "fp32",
    prompt_batch: int | None = None,
) -> EngineSpec:
    """Find and check the weights of a network and the device; nothing is ever downloaded.

    Args:
        name: `nano`, `vit_b`, `vit_l` or `vit_h`.
        checkpoint: the user's own file of that architecture; None takes the catalogue's.
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`.
        dtype: `fp32`, the reference, or `bf16`.
        prompt_batch: prompts per decoder call; None leaves it to the byte budget.

    Raises:
        UsageError: unknown name, missing or wrong weights, a device that is not there, a batch
            of no prompts.
    """
    if dtype not in DTYPES:
        raise UsageError(f"--dtype {dtype}: unknown; use one of {', '.join(DTYPES)}")
    if prompt_batch is not None and prompt_batch < 1:
        raise UsageError(f"--prompt-batch {prompt_batch}: must be 1 or more")
    weights = lookup(name)
    device = resolve_device(device)
    path = find(name, checkpoint)
    # `find` has just checked the catalogue's files against their hashes.
    sha256 = weights.sha256 if checkpoint is None else sha256_of(path)
    return EngineSpec(name, path, sha256, device, dtype, prompt_batch)


def load_engine(spec: EngineSpec) -> SamEngine:
    """Load a network.

    Raises:
        UsageError: the file holds other weights, or something else.
    """
    path = spec.weights_path
    state = load_state_dict(path)
    require_architecture(state, spec.name, path)
    model = build_model(spec.name)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise UsageError(
            f"{path}: does not hold {spec.name} weights; give the right file with --checkpoint"
        ) from error
    model = model.float().eval().to(spec.device)
    model.image_encoder.to(memory_format=torch.channels_last)
    return SamEngine(
        model,
        bf16=spec.dtype == "bf16",
        prompt_batch=spec.prompt_batch,
        extents=EXTENTS if spec.name == "nano" else (),
        calibration=load_calibration(spec.calibration or CALIBRATION, spec.weights_sha256),
    )
