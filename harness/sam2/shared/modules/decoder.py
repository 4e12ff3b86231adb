"""The SAM 2.1 mask decoder, rewritten so that a mobile GPU takes all of it.

Seven rewrites, each exact in real arithmetic and each a small named piece:

1. `attention.head_attention`: attention as 3-D batched products, [heads, N, d].
2. `upsample`: a stride-2 ConvTranspose2d as zero-stuffing plus Conv2d.
3. `mask_logits`: the mask head stays at rank 4 or less; upstream's [1, 1, 4, H, W] would be refused.
4. `norm.SafeLayerNorm`: divides by the largest deviation before squaring, so nothing exceeds fp16's range.
5. Constants: the image's positional encoding and the dense "no mask" prompt are buffers, not computations.
6. `MULTIMASK`: the multimask candidates by a static slice, without upstream's stability test, argmax, gather.
7. `sums`, in the variants that split or compensate: sums over the image's positions in attention, of long linear
   layers and of the upsamplers are made in pieces; compensated, the mask head's too, and residuals join the sum.

Reference: `transformers.models.sam2.modeling_sam2.Sam2MaskDecoder`; every piece is tested against it.
This module imports torch. Import it lazily.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from harness.sam2.shared.contract import CARD, INPUT_NAMES, OUTPUT_NAMES, DecoderVariant, WeightKind
from harness.sam2.shared.modules import tflite
from harness.sam2.shared.modules.attention import HeadAttention
from harness.sam2.shared.modules.norm import layer_norm
from harness.sam2.shared.modules.sums import (
    CompensatedLinear,
    SplitLinear,
    added,
    compensated_sum,
    products,
    replace_linears,
    shortest_piece,
)
from harness.sam2.shared.modules.upsample import upsampler

if TYPE_CHECKING:
    from transformers import Sam2Model

MULTIMASK = slice(1, None)
"""The mask tokens of the multimask candidates; token 0 is for asking one mask only."""


def mask_logits(hyper: Tensor, upscaled: Tensor, compensated: bool = False) -> Tensor:
    """Each mask token's weights [1, M, C] or [M, C] on the upscaled features [1, C, H, W]: logits [1, M, H, W]."""
    _, channels, height, width = upscaled.shape
    masks, places = hyper.shape[-2], height * width
    features = upscaled.reshape(channels, places)
    if compensated:
        count = channels // shortest_piece(channels, masks * places)
        return compensated_sum(products(hyper, features, count)).reshape(1, masks, height, width)
    batch = hyper if hyper.dim() == 3 else hyper[None]
    return torch.bmm(batch, features[None]).reshape(1, masks, height, width)


def feed_forward(layers: Any, x: Tensor, residual: Tensor) -> Tensor:
    """`residual` plus upstream's `Sam2FeedForward` of x."""
    hidden = layers.activation(layers.proj_in(x))
    for layer in layers.layers:
        hidden = layers.activation(layer(hidden))
    return added(layers.proj_out, hidden, residual)


class TwoWayBlock(nn.Module):
    """Upstream's `Sam2TwoWayAttentionBlock` on [1, T, C] tokens and [1, P, C] pixels, or both without the leading 1."""

    def __init__(self, source: Any, variant: DecoderVariant) -> None:
        super().__init__()
        kind = variant.layernorm
        self.self_attn = HeadAttention(source.self_attn, variant)
        self.token_to_image = HeadAttention(source.cross_attn_token_to_image, variant, over_image=True)
        self.image_to_token = HeadAttention(source.cross_attn_image_to_token, variant)
        self.mlp = source.mlp
        self.norm1, self.norm2 = layer_norm(source.layer_norm1, kind), layer_norm(source.layer_norm2, kind)
        self.norm3, self.norm4 = layer_norm(source.layer_norm3, kind), layer_norm(source.layer_norm4, kind)
        self.skip_first_layer_pe = bool(source.skip_first_layer_pe)

    def forward(self, tokens: Tensor, pixels: Tensor, token_pe: Tensor, pixel_pe: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens and pixels, each with its positional encoding, to the new ones."""
        if self.skip_first_layer_pe:
            tokens = self.norm1(self.self_attn(tokens, tokens, tokens))
        else:
            query = tokens + token_pe
            tokens = self.norm1(self.self_attn(query, query, tokens, tokens))
        placed = pixels + pixel_pe
        tokens = self.norm2(self.token_to_image(tokens + token_pe, placed, pixels, tokens))
        tokens = self.norm3(feed_forward(self.mlp, tokens, tokens))
        pixels = self.norm4(self.image_to_token(placed, tokens + token_pe, tokens, pixels))
        return tokens, pixels


class MaskDecoder(nn.Module):
    """The whole decoder. Inputs, outputs and their published shapes are in `harness.sam2.shared.contract`.

    Mask logits above 0 are the object; the IoU scores are the model's own estimates, from 0 to 1.
    """

    output_tokens: Tensor
    image_positions: Tensor
    dense_prompt: Tensor

    def __init__(self, model: Sam2Model, variant: DecoderVariant) -> None:
        super().__init__()
        source: Any = model.mask_decoder
        self.variant = variant
        self.dropped = variant.batch == "dropped"
        side = int(model.prompt_encoder.image_embedding_size[0])
        tokens = torch.cat([source.obj_score_token.weight, source.iou_token.weight, source.mask_tokens.weight]).detach()
        positions = model.get_image_wide_positional_embeddings().detach().flatten(2).transpose(1, 2)
        prompt = model.prompt_encoder.no_mask_embed.weight.detach()
        self.register_buffer("output_tokens", tokens if self.dropped else tokens[None])
        self.register_buffer("image_positions", (positions[0] if self.dropped else positions).contiguous())
        self.register_buffer("dense_prompt", _baked_prompt(prompt, variant, side))
        self.blocks = nn.ModuleList([TwoWayBlock(layer, variant) for layer in source.transformer.layers])
        self.final_attention = HeadAttention(source.transformer.final_attn_token_to_image, variant, over_image=True)
        self.final_norm = layer_norm(source.transformer.layer_norm_final_attn, variant.layernorm)
        self.upsample1 = upsampler(source.upscale_conv1, variant.upsampler, variant.reductions, side)
        self.upsample2 = upsampler(source.upscale_conv2, variant.upsampler, variant.reductions, 2 * side)
        self.upsample_norm = layer_norm(source.upscale_layer_norm, variant.layernorm)
        self.activation = nn.GELU()
        self.hypernetworks = source.output_hypernetworks_mlps
        self.iou_head = source.iou_prediction_head

    def forward(
        self, image_embeddings: Tensor, sparse_prompt: Tensor, feat_s1: Tensor, feat_s0: Tensor
    ) -> tuple[Tensor, ...]:
        """The mask logits and the IoU scores."""
        _, masks, scores = self.decode(image_embeddings, sparse_prompt, feat_s1, feat_s0)
        if self.variant.candidates == "four":
            return masks, scores
        return masks[:, MULTIMASK], scores[:, MULTIMASK]

    def decode(
        self, image_embeddings: Tensor, sparse_prompt: Tensor, feat_s1: Tensor, feat_s0: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The output tokens [1, T, C] (object score, IoU, masks, prompt), all mask logits [1, M, H, W] and all IoU
        scores [1, M]; mask 0 is the one for asking a single mask."""
        _, channels, height, width = image_embeddings.shape
        token_pe = torch.cat([self.output_tokens, sparse_prompt[0] if self.dropped else sparse_prompt], dim=-2)
        tokens = token_pe
        pixels = self._pixels(image_embeddings)
        for block in self.blocks:
            tokens, pixels = block(tokens, pixels, token_pe, self.image_positions)
        attended = self.final_attention(tokens + token_pe, pixels + self.image_positions, pixels, tokens)
        tokens = self.final_norm(attended)

        upscaled = self.upsample1(pixels.transpose(-2, -1).reshape(1, channels, height, width)) + feat_s1
        upscaled = self.activation(self.upsample_norm(upscaled.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        upscaled = self.activation(self.upsample2(upscaled) + feat_s0)
        # Row 0 is the object-score token and row 1 the IoU token; the mask tokens follow.
        hyper = torch.cat([mlp(tokens[..., 2 + i : 3 + i, :]) for i, mlp in enumerate(self.hypernetworks)], dim=-2)
        logits = mask_logits(hyper, upscaled, self.variant.reductions == "compensated")
        if self.dropped:
            return tokens[None], logits, self.iou_head(tokens[1:2])
        return tokens, logits, self.iou_head(tokens[:, 1])

    def _pixels(self, image_embeddings: Tensor) -> Tensor:
        """[1, C, H, W] to [1, H W, C], or to [H W, C], the "no mask" prompt added."""
        if self.variant.prompt == "image":
            return self._columns(image_embeddings + self.dense_prompt).transpose(-2, -1)
        if self.dropped:
            return (self._columns(image_embeddings) + self.dense_prompt).transpose(-2, -1)
        return self._columns(image_embeddings).transpose(-2, -1) + self.dense_prompt

    def _columns(self, image: Tensor) -> Tensor:
        _, channels, height, width = image.shape
        flat = (channels, height * width)
        return image.reshape(flat if self.dropped else (1, *flat))


def _baked_prompt(row: Tensor, variant: DecoderVariant, side: int) -> Tensor:
    """The "no mask" prompt [1, C] as the variant adds it: to the image [1, C, side, side], to its pixels as columns
    [C, side^2] where the batch dimension is dropped, and else to its pixels as the one row that it is."""
    column = row.detach().T
    if variant.prompt == "image":
        return column[None, :, :, None].expand(1, -1, side, side).contiguous()
    return column.expand(-1, side * side).contiguous() if variant.batch == "dropped" else row.clone()


def build_decoder(model: Sam2Model, variant: DecoderVariant = CARD) -> nn.Module:
    """The rewritten decoder with the weights of `model`, ready to run or to convert.

    Inputs and outputs are in the order of `contract.INPUT_NAMES` and `OUTPUT_NAMES`; their sizes follow the
    model's configuration. `model` itself is left as it was.
    Raises `ValueError` for an upsampler that cannot be rewritten.
    """
    decoder = copy.deepcopy(MaskDecoder(model, variant))
    if variant.reductions != "whole":
        replace_linears(decoder, SplitLinear if variant.reductions == "split" else CompensatedLinear)
    return decoder.eval().requires_grad_(False)


def sample_inputs(model: Sam2Model, seed: int = 0, tokens: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Standard-normal inputs of the right shapes, in the order of `INPUT_NAMES`, for a prompt of that many tokens."""
    size = int(model.prompt_encoder.image_embedding_size[0])
    channels = int(model.mask_decoder.hidden_size)
    generator = torch.Generator().manual_seed(seed)
    shapes = (
        (1, channels, size, size),
        (1, tokens, channels),
        (1, channels // 4, 2 * size, 2 * size),
        (1, channels // 8, 4 * size, 4 * size),
    )
    one, two, three, four = (torch.randn(shape, generator=generator) for shape in shapes)
    return one, two, three, four


def to_tflite(model: Sam2Model, variant: DecoderVariant, weights: WeightKind, tokens: int = 2) -> bytes:
    """The rewritten decoder of `model` as a .tflite whose inputs and outputs carry their published names, for prompts
    of that many tokens.

    Takes about 10 s. litert-torch writes to standard output and error meanwhile.
    """
    import litert_torch

    sample = dict(zip(INPUT_NAMES, sample_inputs(model, tokens=tokens), strict=True))
    edge = litert_torch.convert(build_decoder(model, variant), sample_kwargs=sample)
    tree = tflite.read(edge.model_content())
    tflite.rename(tree, INPUT_NAMES, OUTPUT_NAMES)
    if weights == "float16":
        tflite.halve_weights(tree)
    return tflite.write(tree)
