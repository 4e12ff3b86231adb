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
from harness.remedies.keep_batch import keep_batch
from harness.remedies.keep_digits import complement, factored
from harness.remedies.rank_4 import with_rank_4
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
    APART,
    OWN_OUTPUT,
)

BY_NAME: Mapping[str, Rewrite] = {made.name: made for made in list(vars().values()) if isinstance(made, Rewrite)}
"""Every rewrite by its name, as entries of the catalogue of `harness.lint` name it."""

# Rewrites that follow the values of one run: inputs that are larger by orders of magnitude need another.
BY_VALUES = frozenset({RESCALE, RESCALE_ON})
