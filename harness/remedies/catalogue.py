"""The rewrites by name. For which cause each is worth trying is in `cause`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.core.arrays import OpIndex, TensorIndex
from harness.graph.model import Model, Op
from harness.graph.rebuild import CannotRewrite, Rebuild
from harness.remedies.equivalents import (
    flattened,
    insert_copies,
    on_stacked_rows,
    one_axis_at_a_time,
    pad_by_concatenation,
    separate_output,
    stride_before,
    without_broadcast,
)
from harness.remedies.keep_batch import chain_in_rank_4, keep_batch
from harness.remedies.keep_digits import complement, factored
from harness.remedies.rank_4 import with_rank_4
from harness.remedies.refused.border import padded_otherwise, padded_with_zeros
from harness.remedies.refused.broadcast import broadcast_by_copies, broadcast_by_product
from harness.remedies.refused.folded import with_constants
from harness.remedies.refused.indices import by_one_list
from harness.remedies.refused.integers import in_32_bits
from harness.remedies.refused.ranks import in_four_axes
from harness.remedies.refused.slices import by_pooling
from harness.remedies.refused.stuffing import by_stuffed_convolution
from harness.remedies.rescale import rescale, rescale_up_to_a_normalization
from harness.remedies.simpler import by_simpler_ops
from harness.remedies.split_sum import split_sum
from harness.remedies.within_limits import in_tiles, two_dimensions

# What a rewrite meets in ops of a form that no converter writes: options, operands or axes that are not there.
_ODD = (AttributeError, IndexError, KeyError, TypeError, ValueError)


@dataclass(frozen=True)
class Rewrite:
    """A way to write some ops of a model anew; same meaning, same ports. `how` takes the model, the ops, and the
    largest magnitude of each tensor in the exact run, and raises CannotRewrite where the ops are not of its kind."""

    name: str
    how: Callable[[Model, frozenset[OpIndex], Mapping[TensorIndex, float]], Model]

    def apply(self, model: Model, ops: frozenset[OpIndex], peaks: Mapping[TensorIndex, float]) -> Model:
        """The model with these ops written anew. Raises CannotRewrite."""
        try:
            return self.how(model, ops, peaks)
        except _ODD as error:
            raise CannotRewrite(f"the op is of an odd form ({type(error).__name__}: {error})") from None


def each(
    how: Callable[[Rebuild, Op], None],
) -> Callable[[Model, frozenset[OpIndex], Mapping[TensorIndex, float]], Model]:
    """A rewrite of single ops as one of a model. Of several ops, those that are not of its kind stay."""

    def apply(model: Model, ops: frozenset[OpIndex], peaks: Mapping[TensorIndex, float]) -> Model:
        rebuild = Rebuild(model)
        refused = []
        for op in rebuild.graph.ops:
            try:
                if op.index in ops:
                    how(rebuild, op)
                    continue
            except CannotRewrite as error:
                refused.append(error)
            rebuild.keep(op)
        if refused and len(refused) == len(ops):
            raise refused[0]
        return rebuild.finish()

    return apply


def one_of(*hows: Callable[[Rebuild, Op], None]) -> Callable[[Rebuild, Op], None]:
    """Of several rewrites of single ops the first that is possible. Raises CannotRewrite with the last one's reason."""

    def how(rebuild: Rebuild, op: Op) -> None:
        for other in hows[:-1]:
            try:
                other(rebuild, op)
                return
            except CannotRewrite:
                continue
        hows[-1](rebuild, op)

    return how


SPLIT_SUM = Rewrite("split the sum into pieces, added pairwise", each(split_sum))
RESCALE = Rewrite("scale by a power of two on the way", rescale)
RESCALE_ON = Rewrite("scale by a power of two up to a normalization", rescale_up_to_a_normalization)
ONE_AXIS = Rewrite("one axis after the other", each(one_axis_at_a_time))
KEEP_BATCH = Rewrite("constants with the batch dimension kept", keep_batch)
RANK_4 = Rewrite("the op in rank 4", each(with_rank_4))
CONCATENATION = Rewrite("PAD as CONCATENATION", each(pad_by_concatenation))
STACKED = Rewrite("the batches as rows of one product", each(on_stacked_rows))
NO_BROADCAST = Rewrite("the broadcast written out", each(without_broadcast))
SIMPLER = Rewrite("the op as simpler ones", each(by_simpler_ops))
FLATTENED = Rewrite("the input flattened first", each(flattened))
STRIDE_BEFORE = Rewrite("the stride taken before the convolution", each(stride_before))
APART = Rewrite("copies between the op and its neighbours", each(insert_copies))
TWO_DIMENSIONS = Rewrite("the tensor in two dimensions", two_dimensions)
TILES = Rewrite("the op in tiles", each(in_tiles))
OWN_OUTPUT = Rewrite("an output of its own, copied from what is read", each(separate_output))
COMPLEMENT = Rewrite("1 - LOGISTIC(x) as LOGISTIC(-x)", each(complement))
FACTORED = Rewrite("the difference of the factors computed beforehand", each(factored))
CHAIN = Rewrite("the whole chain in rank 4", chain_in_rank_4)
CONSTANTS = Rewrite("constants computed beforehand", with_constants)
INTEGERS = Rewrite("64-bit integers in 32 bits", in_32_bits)
PRODUCT_WITH_ONES = Rewrite("the broadcast as a product with ones", each(broadcast_by_product))
COPIES = Rewrite("the broadcast as copies side by side", each(broadcast_by_copies))
ZERO_BORDER = Rewrite("PADV2 as PAD behind values that are not negative", each(padded_with_zeros))
STUFFED = Rewrite("TRANSPOSE_CONV as a convolution of a zero-stuffed map", each(by_stuffed_convolution))
POOLED = Rewrite("the strided slice as a pooling", each(by_pooling))
ONE_LIST = Rewrite("the gather by one list of places", each(by_one_list))
FOUR_AXES = Rewrite("the op in four axes", each(in_four_axes))
OTHER_OPS = Rewrite(
    "the op as ones that GPUs have",
    each(
        one_of(
            broadcast_by_product,
            broadcast_by_copies,
            padded_otherwise,
            by_stuffed_convolution,
            by_one_list,
            by_simpler_ops,
        )
    ),
)


# What they need to know stands before or behind the op: in the op by itself nothing proves a sign or a size, and its
# operands are inputs, which keep their rank.
BY_SURROUNDINGS = frozenset((ZERO_BORDER, INTEGERS, FOUR_AXES))

# For ops whose operands cancel, in a failure by precision.
KEEP_DIGITS = (COMPLEMENT, FACTORED)

# For ops that compute something else, the likeliest first.
MEANING = (
    KEEP_BATCH,
    FLATTENED,
    STRIDE_BEFORE,
    ONE_AXIS,
    CONCATENATION,
    RANK_4,
    STACKED,
    NO_BROADCAST,
    SIMPLER,
    CHAIN,
    PRODUCT_WITH_ONES,
    COPIES,
    ZERO_BORDER,
    STUFFED,
    POOLED,
    ONE_LIST,
    FOUR_AXES,
    CONSTANTS,
    INTEGERS,
    APART,
    OWN_OUTPUT,
)

BY_NAME: Mapping[str, Rewrite] = {made.name: made for made in list(vars().values()) if isinstance(made, Rewrite)}
"""Every rewrite by its name, as entries of the catalogue of `harness.lint` name it."""

# Rewrites that follow the values of one run: inputs that are larger by orders of magnitude need another.
BY_VALUES = frozenset({RESCALE, RESCALE_ON})
