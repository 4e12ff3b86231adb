"""The SAM 2.1 image encoder, Hiera and its feature pyramid, rewritten so that a mobile GPU takes all of it.

Its outputs are what the mask decoder reads. Each rewrite is exact in real arithmetic:

1. `to_windows`, `from_windows`: windows without upstream's rank-6 view. A row of an image is [windows, pixels in a
   window * channels], so one rank-4 transpose moves whole rows of windows.
2. Query pooling happens in the image, before the windows: a window's side is even, so no pooled pixel straddles two.
3. `WindowAttention`: attention as rank-3 products, [windows * heads, pixels, d]. Over the whole image, queries are
   taken in blocks, so that the scores never exceed `SCORES_BYTES`; its long sums can be split as in the decoder.
4. The positional embedding, interpolated and tiled, is one buffer.
5. The pyramid's lateral 1x1 convolutions, the decoder's `conv_s0` and `conv_s1` and the no-memory embedding are folded:
   a 1x1 convolution of a 1x1 convolution is one, and a constant added to its result is a bias.
6. LayerNorm as in the decoder, plain or overflow-safe.

Reference: `transformers.models.sam2.modeling_sam2.Sam2Model.get_image_embeddings`.
This module imports torch. Import it lazily.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.sam2.shared.contract import ENCODER_PORTS, EncoderPart, LayerNormKind, LongSums, WeightKind
from harness.sam2.shared.modules import tflite
from harness.sam2.shared.modules.attention import head_attention
from harness.sam2.shared.modules.norm import layer_norm

if TYPE_CHECKING:
    from transformers import Sam2Model

SCORES_BYTES = 1 << 26
"""The most that one block of attention scores takes as float32. Whole, the published model's would take 256 MiB, beyond
what many GPUs bind at once."""

PIECE = 512
"""Keys in one piece of a split sum over the whole image. Longer than the decoder's: every piece costs a copy of the
result, which has 4096 rows here."""


def to_windows(x: Tensor, side: int) -> Tensor:
    """[1, H, W, C] to [windows, side * side, C], row by row; H and W are multiples of `side`."""
    _, height, width, channels = x.shape
    rows, columns = height // side, width // side
    strips = x.reshape(rows, side, columns, side * channels).permute(0, 2, 1, 3)
    return strips.reshape(rows * columns, side * side, channels)


def from_windows(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """The inverse of `to_windows`: [windows, side * side, C] to [1, height, width, C]."""
    channels = windows.shape[-1]
    rows, columns = height // side, width // side
    strips = windows.reshape(rows, columns, side, side * channels).permute(0, 2, 1, 3)
    return strips.reshape(1, height, width, channels)


def pool(x: Tensor, stride: tuple[int, int]) -> Tensor:
    """The largest of each `stride` block: [1, H, W, C] to [1, H / stride, W / stride, C]."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), stride, stride).permute(0, 2, 3, 1)


class WindowAttention(nn.Module):
    """Upstream's `Sam2MultiScaleAttention` with its window partition, on [1, H, W, C] images of any size."""

    def __init__(self, source: Any, window: int, stride: tuple[int, int] | None, reductions: LongSums) -> None:
        super().__init__()
        self.heads, self.window, self.stride = int(source.num_attention_heads), window, stride
        self.scaling = float(source.scale)
        weight, bias = source.qkv.weight.detach(), source.qkv.bias.detach()
        # Upstream's view puts query, key and value one after another along the channels.
        projections = []
        for part_weight, part_bias in zip(weight.chunk(3), bias.chunk(3), strict=True):
            layer = nn.Linear(part_weight.shape[1], part_weight.shape[0])
            layer.weight, layer.bias = nn.Parameter(part_weight.clone()), nn.Parameter(part_bias.clone())
            projections.append(layer)
        self.q_proj, self.k_proj, self.v_proj = projections
        self.proj = source.proj
        self.split = reductions == "split"
        if stride is not None and (stride[0] != stride[1] or window % stride[0]):
            raise ValueError(f"a window of {window} cannot be pooled by {stride}")

    def forward(self, x: Tensor) -> Tensor:
        """[1, H, W, C] to [1, H / stride, W / stride, D]."""
        _, height, width, _ = x.shape
        step = 1 if self.stride is None else self.stride[0]
        side = self.window or height
        x = F.pad(x, (0, 0, 0, -width % side, 0, -height % side)) if self.window else x
        padded_height, padded_width = x.shape[1] // step, x.shape[2] // step
        query = self.q_proj(x) if self.stride is None else pool(self.q_proj(x), self.stride)
        key, value = self.k_proj(x), self.v_proj(x)
        if self.window:
            query = to_windows(query, side // step)
            key, value = to_windows(key, side), to_windows(value, side)
        else:
            query, key, value = (t.reshape(1, -1, t.shape[-1]) for t in (query, key, value))
        attended = self._merge(self._attend(self._split(query), self._split(key), self._split(value)))
        if self.window:
            attended = from_windows(attended, side // step, padded_height, padded_width)
            attended = attended[:, : -(-height // step), : -(-width // step)]
        else:
            attended = attended.reshape(1, padded_height, padded_width, -1)
        projected: Tensor = self.proj(attended)
        return projected

    def _split(self, windows: Tensor) -> Tensor:
        if self.heads == 1:
            return windows
        count, pixels, channels = windows.shape
        split = windows.reshape(count, pixels, self.heads, channels // self.heads).permute(0, 2, 1, 3)
        return split.reshape(count * self.heads, pixels, channels // self.heads)

    def _merge(self, heads: Tensor) -> Tensor:
        if self.heads == 1:
            return heads
        count, pixels, width = heads.shape
        merged = heads.reshape(count // self.heads, self.heads, pixels, width).permute(0, 2, 1, 3)
        return merged.reshape(count // self.heads, pixels, self.heads * width)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.window:
            return head_attention(query, key, value, self.scaling)
        heads, keys, _ = key.shape
        piece = PIECE if self.split and keys > PIECE and keys % PIECE == 0 else None
        block = max(SCORES_BYTES // (4 * heads * keys), 1)
        if query.shape[1] <= block:
            return head_attention(query, key, value, self.scaling, piece)
        parts = [head_attention(part, key, value, self.scaling, piece) for part in torch.split(query, block, dim=1)]
        return torch.cat(parts, dim=1)


class EncoderBlock(nn.Module):
    """Upstream's `Sam2MultiScaleBlock` on [1, H, W, C]."""

    def __init__(self, source: Any, kind: LayerNormKind, reductions: LongSums) -> None:
        super().__init__()
        stride = source.query_stride
        self.stride = None if stride is None else (int(stride[0]), int(stride[1]))
        self.norm1, self.norm2 = layer_norm(source.layer_norm1, kind), layer_norm(source.layer_norm2, kind)
        self.attention = WindowAttention(source.attn, int(source.window_size), self.stride, reductions)
        self.mlp = source.mlp
        self.shortcut = source.proj if source.dim != source.dim_out else None

    def forward(self, x: Tensor) -> Tensor:
        """[1, H, W, C] to the block's result, [1, H / stride, W / stride, D]."""
        normed = self.norm1(x)
        if self.shortcut is not None:
            x = self.shortcut(normed)
            x = x if self.stride is None else pool(x, self.stride)
        x = x + self.attention(normed)
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class ImageEncoder(nn.Module):
    """The encoder, or one of its two halves.

    Whole: a preprocessed image [1, 3, S, S] to the decoder's three image inputs. For the published model S is 1024 and
    the outputs, in the order of `contract.ENCODER_OUTPUTS`, are image_embeddings [1, 256, 64, 64], feat_s1
    [1, 64, 128, 128] and feat_s0 [1, 32, 256, 256]. The first half ends in the middle of the third stage and gives
    (hidden [1, H, W, C], feat_s1, feat_s0); the second takes `hidden` and gives image_embeddings.
    """

    positions: Tensor

    def __init__(self, model: Sam2Model, part: EncoderPart, kind: LayerNormKind, reductions: LongSums) -> None:
        super().__init__()
        vision: Any = model.vision_encoder
        decoder: Any = model.mask_decoder
        trunk, neck = vision.backbone, vision.neck
        top_down = set(neck.fpn_top_down_levels)
        if top_down & {0, 1} or 2 not in top_down or len(neck.convs) != 4 or vision.num_feature_levels != 3:
            raise ValueError("only a pyramid of four levels with a top-down path to the third alone can be folded")
        self.has_start, self.has_end = part != "second", part != "first"
        ends = [int(end) for end in trunk.stage_ends]
        middle = (ends[1] + 1 + ends[2] + 1) // 2
        blocks = range(0 if self.has_start else middle, len(trunk.blocks) if self.has_end else middle)
        self.blocks = nn.ModuleDict({str(i): EncoderBlock(trunk.blocks[i], kind, reductions) for i in blocks})
        self.stages = {str(end): stage for stage, end in enumerate(ends)}
        if self.has_start:
            self.patches = trunk.patch_embed.projection
            side = image_side(model)
            with torch.no_grad():
                blank = torch.zeros(1, 3, side, side, dtype=self.patches.weight.dtype)
                hw = self.patches(blank).shape[2:]
                self.register_buffer("positions", trunk._get_pos_embed(tuple(hw)).detach().contiguous())
            # The pyramid's convolutions are listed from the deepest level up.
            self.lateral1 = folded(neck.convs[2], decoder.conv_s1)
            self.lateral0 = folded(neck.convs[3], decoder.conv_s0)
        if self.has_end:
            self.lateral3 = folded(neck.convs[0])
            self.lateral2 = folded(neck.convs[1], offset=model.no_memory_embedding.detach().reshape(-1))

    def forward(self, image: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """The features, deepest first. For the second half, `image` is the first one's `hidden`."""
        x = self.patches(image).permute(0, 2, 3, 1) + self.positions if self.has_start else image
        levels: dict[int, Tensor] = {}
        for name, block in self.blocks.items():
            x = block(x)
            if name in self.stages:
                levels[self.stages[name]] = x.permute(0, 3, 1, 2)
        deepest = x
        if self.has_end:
            above = F.interpolate(self.lateral3(levels[3]), scale_factor=2.0, mode="nearest")
            deepest = self.lateral2(levels[2]) + above
        return (deepest, self.lateral1(levels[1]), self.lateral0(levels[0])) if self.has_start else deepest


def folded(first: nn.Conv2d, second: nn.Conv2d | None = None, offset: Tensor | None = None) -> nn.Conv2d:
    """One 1x1 convolution for `first`, then `second`, then adding `offset` [channels]. Folded in float64.

    Raises `ValueError` when one of them is not a plain 1x1 convolution with a bias.
    """
    for conv in (first, second):
        if conv is not None and (
            (conv.kernel_size, conv.stride, conv.padding, conv.groups) != ((1, 1), (1, 1), (0, 0), 1)
            or conv.bias is None
        ):
            raise ValueError(f"only a plain 1x1 convolution with a bias can be folded, not {conv}")
    assert first.bias is not None
    weight, bias = first.weight.detach().double()[:, :, 0, 0], first.bias.detach().double()
    if second is not None:
        assert second.bias is not None
        outer = second.weight.detach().double()[:, :, 0, 0]
        weight, bias = outer @ weight, outer @ bias + second.bias.detach().double()
    if offset is not None:
        bias = bias + offset.double()
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
    conv.weight = nn.Parameter(weight.to(first.weight.dtype)[:, :, None, None])
    conv.bias = nn.Parameter(bias.to(first.weight.dtype))
    return conv


def build_encoder(
    model: Sam2Model, part: EncoderPart = "whole", layernorm: LayerNormKind = "safe", reductions: LongSums = "split"
) -> nn.Module:
    """The rewritten encoder with the weights of `model`, ready to run or to convert. `model` is left as it was.

    Raises `ValueError` for an architecture that cannot be rewritten.
    """
    return copy.deepcopy(ImageEncoder(model, part, layernorm, reductions)).eval().requires_grad_(False)


def image_side(model: Sam2Model) -> int:
    """Side of the square image that the encoder takes, in pixels."""
    side: Any = model.prompt_encoder.input_image_size
    return int(side)


def sample_input(model: Sam2Model, part: EncoderPart) -> Tensor:
    """A standard-normal input of the right shape: [1, 3, S, S], or for the second half [1, H, W, C]."""
    generator = torch.Generator().manual_seed(0)
    if part != "second":
        side = image_side(model)
        return torch.randn(1, 3, side, side, generator=generator)
    side, channels = int(model.prompt_encoder.image_embedding_size[0]), model.vision_encoder.neck.convs[1].in_channels
    return torch.randn(1, side, side, int(channels), generator=generator)


def to_tflite(
    model: Sam2Model, part: EncoderPart, layernorm: LayerNormKind, reductions: LongSums, weights: WeightKind
) -> bytes:
    """The rewritten encoder of `model` as a .tflite whose inputs and outputs are named as in `contract`."""
    import litert_torch

    inputs, outputs = ENCODER_PORTS[part]
    encoder = build_encoder(model, part, layernorm, reductions)
    edge = litert_torch.convert(encoder, sample_kwargs={"image": sample_input(model, part)})
    tree = tflite.read(edge.model_content())
    tflite.rename(tree, inputs, outputs)
    if weights == "float16":
        tflite.halve_weights(tree)
    return tflite.write(tree)
