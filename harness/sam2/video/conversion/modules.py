"""The tracker's memory modules and its mask decoder, rewritten without what a mobile GPU refuses.

Each rewrite is exact in real arithmetic:

1. `RotaryProjection`: rotary positions as products of halves. Upstream rotates neighbouring channels, which takes a
   rank-5 view; with the rows of both projections reordered, even ones first, the pairs are the two halves, and scores
   stay the same.
2. Values are never projected: the rows of attention's weights sum to 1, so (A M) Wv + bv is A (M Wv + bv). That makes
   the long product 64 columns wide, not 256, and value and output projections one linear layer.
3. Attention over segments of the keys, each with its own maximum, merged at the end (`attend_segments`): no sum over
   28736 terms, no weight near 1/28736, which float16 hardly holds, and no buffer of the whole score matrix.
4. Padding tokens carry a bias in an extra channel of the keys: no mask is added to the scores.
5. `VideoDecoder` gives all four masks; choosing among them is the caller's.

Reference: `transformers.models.sam2_video.modeling_sam2_video`. This module imports torch. Import it lazily.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.sam2.shared.contract import DecoderVariant
from harness.sam2.shared.modules.decoder import MaskDecoder
from harness.sam2.shared.modules.norm import fuse_norms, layer_norm
from harness.sam2.shared.modules.sums import SplitLinear, replace_linears, split_product
from harness.sam2.video.contract import Sizes

SCORES_BYTES = 1 << 26
"""The most that one block of attention scores takes as float32."""

PARTIAL_BYTES = 1 << 27
"""The most that the partial sums of a split linear layer take; WebGPU's usual limit for one buffer."""

PIECE = 256
"""Keys in one piece of a split sum."""


def video_sizes(model: Any, blocks: int | None = None) -> Sizes:
    """The sizes of a video model; `blocks` frame memories in its bank, its own number by default."""
    config = model.config
    return Sizes(
        int(config.image_size),
        int(model.hidden_dim),
        int(model.mem_dim),
        int(config.num_maskmem) if blocks is None else blocks,
        int(config.max_object_pointers_in_encoder),
    )


class RotaryProjection(nn.Module):
    """A linear projection to queries or keys whose channels are reordered: even ones first, then odd ones."""

    def __init__(self, source: nn.Linear, scale: float = 1.0) -> None:
        super().__init__()
        width = source.out_features
        order = torch.cat([torch.arange(0, width, 2), torch.arange(1, width, 2)])
        self.linear = nn.Linear(source.in_features, width)
        self.linear.weight = nn.Parameter(source.weight.detach()[order] * scale)
        self.linear.bias = nn.Parameter(source.bias.detach()[order] * scale)

    def forward(self, x: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
        """[1, N, C] to [1, N, D], turned by the angles whose `cos` and `sin` are [1, N, D / 2]; None: not turned."""
        projected: Tensor = self.linear(x)
        if cos is None or sin is None:
            return projected
        even, odd = torch.split(projected, projected.shape[-1] // 2, dim=-1)
        return torch.cat([even * cos - odd * sin, odd * cos + even * sin], dim=-1)


def folded_values(attention: Any) -> nn.Linear:
    """Value and output projection of an attention as one linear layer. Folded in float64."""
    outer, inner = attention.o_proj, attention.v_proj
    weight = outer.weight.detach().double() @ inner.weight.detach().double()
    bias = outer.weight.detach().double() @ inner.bias.detach().double() + outer.bias.detach().double()
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight, linear.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
    return linear


def attend_whole(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """softmax(Q Kᵀ) V of [1, N, d], [1, M, d] and [1, M, c], to [1, N, c], queries in blocks of `SCORES_BYTES`."""
    rows = max(SCORES_BYTES // (4 * keys.shape[1]), 1)
    turned = keys.transpose(1, 2)
    # litert-torch cannot convert a split into one.
    blocks = torch.split(query, rows, 1) if rows < query.shape[1] else (query,)
    parts = [torch.bmm(torch.softmax(torch.bmm(block, turned), -1), values) for block in blocks]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def attend_segments(query: Tensor, segments: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The same over pairs of keys [1, M, d] and values [1, M, c], one segment after another.

    Each segment's exponentials are taken below its own maximum; a column of ones beside the values sums them. The
    segments are weighed by how far their maxima lie below the largest.
    """
    tops, sums = [], []
    for keys, values in segments:
        scores = torch.bmm(query, keys.transpose(1, 2))
        top = scores.amax(dim=-1, keepdim=True)
        weights = torch.exp(scores - top)
        counted = torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)
        many = weights.shape[-1]
        long = many > PIECE and many % PIECE == 0
        sums.append(split_product(weights, counted, PIECE) if long else torch.bmm(weights, counted))
        tops.append(top)
    merged = sums[0]
    if len(sums) > 1:  # of one segment, the maximum less itself is a SUB that GPUs refuse
        largest = tops[0]
        for top in tops[1:]:
            largest = torch.maximum(largest, top)
        merged = merged * torch.exp(tops[0] - largest)
        for top, part in zip(tops[1:], sums[1:], strict=True):
            merged = merged + part * torch.exp(top - largest)
    width = merged.shape[-1] - 1
    return merged[..., :width] / merged[..., width:]


class MemoryLayer(nn.Module):
    """Upstream's `Sam2VideoMemoryAttentionLayer` for one image and one attention head."""

    def __init__(self, source: Any, variant: DecoderVariant, sizes: Sizes) -> None:
        super().__init__()
        own, cross = source.self_attn, source.cross_attn_image
        if own.num_attention_heads != 1 or cross.num_attention_heads != 1:
            raise ValueError("only memory attention with one head can be rewritten")
        self.own_query, self.own_key = RotaryProjection(own.q_proj, own.scaling), RotaryProjection(own.k_proj)
        self.own_out = folded_values(own)
        self.query, self.key = RotaryProjection(cross.q_proj, cross.scaling), RotaryProjection(cross.k_proj)
        self.out = folded_values(cross)
        kind = variant.layernorm
        self.norm1, self.norm2 = layer_norm(source.layer_norm1, kind), layer_norm(source.layer_norm2, kind)
        self.norm3 = layer_norm(source.layer_norm3, kind)
        self.linear1, self.linear2, self.activation = source.linear1, source.linear2, source.activation
        self.split = variant.reductions == "split"
        self.sizes = sizes

    def forward(self, x: Tensor, memory: Tensor, placed: Tensor, bias: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[1, N, C] features on a bank of [1, M, c] memories, those with positions, and a bias [1, M, 1] on scores."""
        normed = self.norm1(x)
        query, key = self.own_query(normed, cos, sin), self.own_key(normed, cos, sin)
        attended = attend_segments(query, [(key, normed)]) if self.split else attend_whole(query, key, normed)
        x = x + self.own_out(attended)
        query = self.query(self.norm2(x), cos, sin)
        # The bias meets a channel of ones in every query.
        query = torch.cat([query, torch.ones_like(query[..., :1])], dim=-1)
        sizes = [self.sizes.tokens] * self.sizes.blocks + [self.sizes.pointer_tokens]
        angles = [(cos, sin)] * self.sizes.blocks + [(None, None)]
        keys = [
            torch.cat([self.key(part, *turn), added], dim=-1)
            for part, added, turn in zip(
                torch.split(placed, sizes, 1), torch.split(bias, sizes, 1), angles, strict=True
            )
        ]
        if self.split:
            attended = attend_segments(query, list(zip(keys, torch.split(memory, sizes, 1), strict=True)))
        else:
            attended = attend_whole(query, torch.cat(keys, dim=1), memory)
        x = x + self.out(attended)
        result: Tensor = x + self.linear2(self.activation(self.linear1(self.norm3(x))))
        return result


class MemoryAttention(nn.Module):
    """Upstream's `Sam2VideoMemoryAttention` on a memory bank of a fixed size."""

    cos: Tensor
    sin: Tensor
    positions: Tensor

    def __init__(self, model: Any, variant: DecoderVariant, sizes: Sizes) -> None:
        super().__init__()
        source = model.memory_attention
        cos, sin = source.rotary_emb(torch.zeros(1), source.position_ids)
        # Upstream repeats every angle for the two channels of a pair.
        self.register_buffer("cos", cos[..., ::2].detach().contiguous())
        self.register_buffer("sin", sin[..., ::2].detach().contiguous())
        self.register_buffer("positions", vision_positions(model).flatten(2).transpose(1, 2).contiguous())
        self.layers = nn.ModuleList([MemoryLayer(layer, variant, sizes) for layer in source.layers])
        self.norm = layer_norm(source.layer_norm, variant.layernorm)

    def forward(
        self, features: Tensor, memory: Tensor, memory_pos: Tensor, bias: Tensor, positions: Tensor | None = None
    ) -> Tensor:
        """[1, N, C] features, the bank's memories and positions [1, M, c], and a bias on scores [1, M, 1]: 0, or
        `contract.PADDED` for padding. `positions` [1, N, C] are the image's own unless given. Gives [1, N, C]."""
        x = features + 0.1 * (self.positions if positions is None else positions)
        placed = memory + memory_pos
        for layer in self.layers:
            x = layer(x, memory, placed, bias, self.cos, self.sin)
        result: Tensor = self.norm(x)
        return result


class MemoryEncoder(nn.Module):
    """Upstream's `Sam2VideoMemoryEncoder`, pixels of the mask already between -10 and 10."""

    def __init__(self, model: Any, variant: DecoderVariant) -> None:
        super().__init__()
        source = model.memory_encoder
        kind = variant.layernorm
        self.shrink = nn.ModuleList([layer.conv for layer in source.mask_downsampler.layers])
        self.shrink_norms = nn.ModuleList([layer_norm(s.layer_norm, kind) for s in source.mask_downsampler.layers])
        self.activation = source.mask_downsampler.activation
        self.last = source.mask_downsampler.final_conv
        self.features = source.feature_projection
        fuser = source.memory_fuser.layers
        self.depthwise = nn.ModuleList([layer.depthwise_conv for layer in fuser])
        self.norms = nn.ModuleList([layer_norm(layer.layer_norm, kind) for layer in fuser])
        self.wide = nn.ModuleList([layer.pointwise_conv1 for layer in fuser])
        self.narrow = nn.ModuleList([_scaled(layer.pointwise_conv2, layer.scale) for layer in fuser])
        self.fuser_activation = fuser[0].activation
        self.projection = source.projection

    def forward(self, feats2: Tensor, mask: Tensor) -> Tensor:
        """Raw features [1, C, h, w] and a mask [1, 1, 16 h, 16 w] between -10 and 10, to memories [1, h * w, c]."""
        for conv, norm in zip(self.shrink, self.shrink_norms, strict=True):
            mask = self.activation(norm(conv(mask).permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        x = self.features(feats2) + self.last(mask)
        for depthwise, norm, wide, narrow in zip(self.depthwise, self.norms, self.wide, self.narrow, strict=True):
            rows = norm(depthwise(x).permute(0, 2, 3, 1))
            x = x + narrow(self.fuser_activation(wide(rows))).permute(0, 3, 1, 2)
        memory: Tensor = self.projection(x).permute(0, 2, 3, 1)
        return memory.reshape(1, memory.shape[1] * memory.shape[2], memory.shape[3])


def _scaled(linear: nn.Linear, scale: Tensor) -> nn.Linear:
    """The linear layer with each output multiplied by its `scale`."""
    result = nn.Linear(linear.in_features, linear.out_features)
    result.weight = nn.Parameter(linear.weight.detach() * scale.detach()[:, None])
    result.bias = nn.Parameter(linear.bias.detach() * scale.detach())
    return result


class VideoDecoder(MaskDecoder):
    """The mask decoder of the tracker: all four masks with their IoU scores, whether the object is there, and the
    object pointer that would go with each mask."""

    def __init__(self, model: Any, variant: DecoderVariant) -> None:
        super().__init__(model, variant)
        self.object_head = model.mask_decoder.pred_obj_score_head
        self.pointer_head = model.object_pointer_proj

    def forward(
        self, image_embeddings: Tensor, sparse_prompt: Tensor, feat_s1: Tensor, feat_s0: Tensor
    ) -> tuple[Tensor, ...]:
        """Logits [1, 4, h, w], scores [1, 4], the object's logit [1, 1], pointers [1, 4, C]."""
        tokens, masks, scores = self.decode(image_embeddings, sparse_prompt, feat_s1, feat_s0)
        count = masks.shape[1]
        return masks, scores, self.object_head(tokens[:, 0]), self.pointer_head(tokens[:, 2 : 2 + count])


def vision_positions(model: Any) -> Tensor:
    """The sine encoding of the deepest feature map, [1, C, h, w]."""
    grid = int(model.config.image_size) // 16
    shape = torch.Size((1, int(model.hidden_dim), grid, grid))
    found: Tensor = model.vision_encoder.neck.position_encoding(shape, torch.device("cpu"), torch.float32)
    return found.detach()


def memory_positions(model: Any) -> Tensor:
    """The sine encoding of one frame's memory, [1, h * w, c]."""
    grid = int(model.config.image_size) // 16
    shape = torch.Size((1, int(model.mem_dim), grid, grid))
    found: Tensor = model.memory_encoder.position_encoding(shape, torch.device("cpu"), torch.float32)
    return found.detach().flatten(2).transpose(1, 2).contiguous()


def finished(module: nn.Module, variant: DecoderVariant | None, rows: int = 0) -> nn.Module:
    """A copy of a rewritten module, ready to convert: long linear layers in pieces where the variant splits, and
    without a variant LayerNorm as one op, for runtimes that have it. `rows` as in `coarsen`."""
    module = copy.deepcopy(module)
    if variant is None:
        fuse_norms(module)
    elif variant.reductions == "split":
        replace_linears(module, SplitLinear)
        coarsen(module, rows)
    return module.eval().requires_grad_(False)


def coarsen(module: nn.Module, rows: int) -> None:
    """Merge pieces of split linear layers on `rows` rows until their partial sums, as float32, fit `PARTIAL_BYTES`."""
    for layer in module.modules():
        if isinstance(layer, SplitLinear):
            count, _, outputs = layer.weight.shape
            while count % 2 == 0 and 4 * count * rows * outputs > PARTIAL_BYTES:
                count //= 2
            layer.weight = layer.weight.reshape(count, -1, outputs)


def upsampled(mask: Tensor, side: int) -> Tensor:
    """Mask logits [1, 1, h, w] at the model's own side, [1, 1, side, side]."""
    return F.interpolate(mask, size=(side, side), mode="bilinear", align_corners=False)
