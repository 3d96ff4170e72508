"""The encoders for a CPU against the stock modules that they re-express."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from dpmo_cli.sam import encoder as encoders
from dpmo_cli.sam.encoder import cpu_encoder
from dpmo_cli.sam.engine import SamEngine
from dpmo_cli.sam.models import build_model, load_engine, resolve_engine
from dpmo_cli.sam.nano import NanoImageEncoder


@pytest.fixture(scope="module")
def nano() -> nn.Module:
    return load_engine(resolve_engine("nano", device="cpu")).model.image_encoder


def frames_of(count: int, side: int = 256) -> Tensor:
    frames = torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(count))
    return frames.contiguous(memory_format=torch.channels_last)


def small_vit(side: int, *, relative: bool = True, absolute: bool = True) -> ImageEncoderViT:
    """A ViT of SAM's kind with one windowed and one global block, all its weights of chance."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ImageEncoderViT(
            img_size=side, patch_size=16, embed_dim=24, depth=2, num_heads=3, out_chans=8,
            use_rel_pos=relative, use_abs_pos=absolute, window_size=3, global_attn_indexes=(1,),
        )  # fmt: skip
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def test_nano_is_as_its_module(nano: nn.Module) -> None:
    frames = frames_of(3)
    with torch.inference_mode():
        stock, ours = nano(frames), cpu_encoder(nano)(frames)
    assert ours.dtype == torch.float32
    assert ours.shape == stock.shape
    torch.testing.assert_close(ours, stock, rtol=1e-5, atol=1e-5)
    assert not torch.equal(ours, stock), "it was computed in another way"


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_bits_of_nano_depend_neither_on_the_batch_nor_on_threads(
    nano: nn.Module, threads: None
) -> None:
    """A cached embedding is that of any other run, and --workers change no mask."""
    frames, encode = frames_of(3), cpu_encoder(nano)
    found = []
    with torch.inference_mode():
        for count, size in [(1, 3), (1, 2), (1, 1), (2, 3)]:
            torch.set_num_threads(count)
            parts = [encode(frames[start : start + size]) for start in range(0, 3, size)]
            found.append(torch.cat(parts))
    for other in found[1:]:
        assert torch.equal(other, found[0])


def test_the_module_itself_stays(nano: nn.Module) -> None:
    """Training goes on with norms that learn."""
    before = {name: value.clone() for name, value in nano.state_dict().items()}
    cpu_encoder(nano)
    after = nano.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert all(parameter.requires_grad for parameter in nano.parameters())
    assert any(isinstance(module, nn.BatchNorm2d) for module in nano.modules())


def test_norms_are_folded_with_their_own_statistics() -> None:
    """Untrained norms do nothing; these do."""
    model = NanoImageEncoder().eval()
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    frames = frames_of(1)
    with torch.inference_mode():
        stock, ours = model(frames), cpu_encoder(model)(frames)
    torch.testing.assert_close(ours, stock, rtol=0, atol=1e-4)
    assert stock.std() > 0.1


@pytest.mark.parametrize("at_once", [1, 40, 2**20], ids=["rows", "some rows", "all rows"])
@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("absolute", [True, False])
def test_vit_is_as_its_module(
    at_once: int, relative: bool, absolute: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_vit(80, relative=relative, absolute=absolute)
    monkeypatch.setattr(encoders, "ATTENTION_AT_ONCE", at_once * 25)
    frames = frames_of(2, 80)
    with torch.inference_mode():
        stock, ours = model(frames), cpu_encoder(model)(frames)
    torch.testing.assert_close(ours, stock, rtol=1e-4, atol=1e-5)


def test_vit_is_asked_with_its_own_weights() -> None:
    """They may change afterwards: nothing is copied."""
    model = small_vit(48)
    encode, frames = cpu_encoder(model), frames_of(1, 48)
    with torch.inference_mode():
        before = encode(frames)
        model.blocks[1].attn.rel_pos_h.mul_(2)
        torch.testing.assert_close(encode(frames), model(frames), rtol=1e-4, atol=1e-5)
        assert not torch.allclose(encode(frames), before)


def test_other_encoders_are_as_they_are() -> None:
    other = nn.Identity()
    assert cpu_encoder(other) is other


def test_without_onednn_nano_is_its_module(
    nano: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "ONEDNN_CONVOLUTION", None)
    assert cpu_encoder(nano) is nano


def test_engines_take_it_where_it_is_as_exact_as_the_module() -> None:
    model = build_model("nano").eval()
    assert SamEngine(model)._encoder is not model.image_encoder
    assert SamEngine(model, bf16=True)._encoder is model.image_encoder
