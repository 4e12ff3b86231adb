"""One model with inputs, and how its outputs are judged: what ideal devices make of it, what it has to keep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from harness.core.arrays import Array, OpIndex, TensorIndex
from harness.core.job import Completed, Options
from harness.devices.base import Device
from harness.devices.execute import completed, make_job
from harness.graph import surgery
from harness.graph.grid import Grid
from harness.graph.model import Graph, Model
from harness.graph.ops.hybrid import with_real_weights
from harness.graph.ops.real import real_outputs
from harness.graph.ops.residual import carried
from harness.localize.base.ideals import Ideals, granted
from harness.localize.base.placement import Placement
from harness.numerics import fp16, fp32
from harness.numerics.metrics import compare, is_mask
from harness.numerics.tolerance import FACTOR, LOCAL_FACTOR, Judgement, channel_ratio, judge, worst_case
from harness.numerics.usefulness import Limits, Shortfall, Yardstick, yardsticks

REFERENCE = Options(accelerator="reference")

# Ideal runs of a float16 device: inputs rounded, inputs moved.
HALF_RUNS = 2


@dataclass(frozen=True)
class Case:
    """One model with inputs, to be run under some options. `limits` are the caller's own for the outputs; `drawn` tells
    that the inputs are random numbers."""

    model: Model
    inputs: dict[str, Array]
    options: Options
    timeout: float
    seed: int = 0
    placement: Placement | None = None
    limits: Limits = field(default_factory=Limits)
    drawn: bool = False

    @property
    def part_options(self) -> Options:
        """How a part of the model is run: on the accelerator that is under test alone."""
        return replace(self.options, fallback="none")

    @cached_property
    def on_cpu(self) -> frozenset[OpIndex]:
        """Ops that the CPU runs in place of the accelerator under test, as far as is known."""
        known = None if self.placement is None else self.placement.on_cpu
        return known or frozenset()

    def kept_by(self, changed: Model, done: Completed) -> bool:
        """Whether each op ran where the untouched model has it, in a model with further copies and outputs."""
        return self.placement is None or self.placement.kept_by(self.graph, changed.graph(), done.residency)

    @cached_property
    def never_stored(self) -> frozenset[TensorIndex]:
        """Tensors that the accelerator under test never holds, constants and inputs included: no op of it reads or
        makes them."""
        graph = self.graph
        if not self.on_cpu:
            return frozenset()
        held = {t for op in graph.ops if op.index not in self.on_cpu for t in (*op.inputs, *op.outputs)}
        # Weights that the CPU unpacks for the accelerator are held as it holds them.
        held |= {t for o in graph.constant_ops for t in graph.ops[o].inputs if held.intersection(graph.ops[o].outputs)}
        return frozenset(range(len(graph.tensors))) - held

    @cached_property
    def graph(self) -> Graph:
        """The view of the model's signature."""
        return self.model.graph()

    @property
    def roundoff(self) -> float:
        """Relative precision of one stored value under the options."""
        return fp16.UNIT_ROUNDOFF if self.options.half else fp16.FLOAT32_ROUNDOFF

    def ideal(self, model: Model, beyond: frozenset[TensorIndex]) -> Model:
        """The model as an ideal device would run it; `beyond`: tensors of it that it cannot hold."""
        return fp16.oracle(model, beyond) if self.options.half else fp32.oracle(model, beyond)

    def ideal_inputs(
        self, inputs: dict[str, Array], exact: frozenset[str] = frozenset()
    ) -> tuple[dict[str, Array], ...]:
        """The inputs as an ideal device may hold them: rounded (float16), and moved by less than a stored value's
        precision. The larger of both errors is to be expected: rounding may take a value across a step of FLOOR, and
        moving it tells how much a result that nearly cancels depends on its operands. In float32 inputs arrive as they
        are, and those named in `exact` do in any case."""
        rng = np.random.default_rng(self.seed)
        moved = {name: fp16.perturb(values, self.roundoff, rng) for name, values in inputs.items()}
        held = {name: fp16.rounded(v) for name, v in inputs.items()} if self.options.half else inputs
        kept = {name: inputs[name] for name in exact}
        return held | kept, moved | kept

    def judge_output(self, name: str, actual: Array, ideals: Sequence[Array], exact: Array) -> Judgement:
        """As :meth:`judge`, for an output of the model, by channel too. Over a whole model the errors of its ops
        average out; what one op alone makes of the model's inputs is held to what an op is, and so are the last sums
        before an output, where what they explain is known (`harness.localize.base.tails`)."""
        held_to = partial(self.judge, actual, exact=exact, by_channel=True, grid=self.grid_of(name))
        judgement = held_to(ideals, factor=LOCAL_FACTOR if name in self.made_by_one_op else FACTOR)
        if judgement.ok or (tail := Ideals.of(ideals).tail) is None:
            return judgement
        of_tail = held_to(tail, factor=LOCAL_FACTOR)
        return of_tail if of_tail.ok else judgement

    def grid_of(self, name: str) -> Grid | None:
        """The grid of an output of the model, if it is quantized."""
        return next((self.graph.tensors[p.tensor].grid for p in self.graph.outputs if p.name == name), None)

    @cached_property
    def made_by_one_op(self) -> frozenset[str]:
        """Outputs behind a single op that computes, others only moving elements."""
        graph = self.graph
        found = set()
        for port in graph.outputs:
            ops, _ = surgery.closure(graph, port.tensor, frozenset())
            if sum(o not in graph.constant_ops and graph.ops[o].name not in surgery.MOVING_OPS for o in ops) == 1:
                found.add(port.name)
        return frozenset(found)

    def yardsticks(self, name: str, exact: Array) -> tuple[Yardstick, ...]:
        """What an output has to keep of its exact values to be of use."""
        masks = any(is_mask(port.name) for port in self.graph.outputs)
        carried = next(self.carried[port.tensor] for port in self.graph.outputs if port.name == name)
        inputs = {given: self.inputs[given] for given in carried}
        return yardsticks(name, exact, inputs, self.limits, half=self.options.half, masks=masks)

    @cached_property
    def carried(self) -> dict[TensorIndex, tuple[str, ...]]:
        """For each output the inputs that it may be a copy of."""
        return {port.tensor: carried(self.graph, port.tensor) for port in self.graph.outputs}

    def shortfalls(self, name: str, actual: Array, ideals: Sequence[Array], exact: Array) -> tuple[Shortfall, ...]:
        """What makes an output useless, `ideals` being those of `run_ideal`: the first of them is what rounding
        alone does to these very inputs. Where :meth:`with_single` added float32's own, what that loses as well is
        noise, and nobody's loss."""
        if (grid := self.grid_of(name)) is not None:  # a caller's limits are in steps, as the output is
            ideals = [grid.nearest(ideal) for ideal in ideals]
        failed = [y for y in self.yardsticks(name, exact) if y.fails(actual, ideals[0])]
        return tuple(y.shortfall(actual) for y in failed if y.asked or not self.noise(y, ideals))

    def noise(self, yardstick: Yardstick, ideals: Sequence[Array]) -> bool:
        """Whether float32 rounding alone loses an output: its exact values are what that leaves."""
        if not self.options.half or len(ideals) <= HALF_RUNS:
            return False
        # Values too small for float16 are none too small for float32.
        return replace(yardstick, half=False, pardon=0.0).loss(ideals[HALF_RUNS]) > yardstick.limit

    def with_single(
        self, host: Device, ideal: dict[str, Ideals], exact: dict[str, Array], beyond: frozenset[TensorIndex]
    ) -> dict[str, Ideals]:
        """The ideals of a float16 device, followed by one that stores float32 rounded to 20 bits where an output of
        theirs is of no use. `beyond`: tensors that this cannot hold. Raises DeviceError."""
        if not self.options.half or not any(self.shortfalls(n, each[0], each, exact[n]) for n, each in ideal.items()):
            return ideal
        model = fp32.oracle(with_real_weights(self.model), beyond)
        job = make_job(model, self.inputs, REFERENCE, timeout=self.timeout)
        single = real_outputs(self.model, completed(host, job, "running the ideal float32 device").outputs)
        return {name: each.followed_by(single[name]) for name, each in ideal.items()}

    def judge(
        self,
        actual: Array,
        ideals: Sequence[Array],
        exact: Array,
        *,
        factor: float = FACTOR,
        by_channel: bool = False,
        grid: Grid | None = None,
    ) -> Judgement:
        """Is `actual` further from `exact` than the ideals explain? Integers on a `grid` are judged as real numbers;
        exact ones may be integers on it, or real numbers that no grid has rounded."""
        smallest = fp16.SMALLEST_NORMAL if self.options.half else 0.0
        rounding = granted(ideals, grid, unrounded=exact.dtype.kind == "f")
        if grid is not None:
            actual, exact = grid.real(actual), grid.real(exact)
        ideals = Ideals.of(ideals)
        smooth = ideals.smooth or ideals
        channels = 0.0
        if by_channel and grid is None:
            slices = (*smooth, *(exact + shift for shift in (*ideals.grid, *ideals.jumps)))
            channels = channel_ratio(actual, slices, exact, self.roundoff, smallest)
        rule = partial(
            judge,
            expected=worst_case([compare(ideal, exact) for ideal in smooth]),
            roundoff=self.roundoff,
            factor=factor,
            step=None if grid is None else grid.step,
        )
        judgement = rule(compare(actual, exact, smallest), channels=channels, grid=rounding)
        steady = ideals.steady(actual, exact)
        return judgement if steady is None else judgement.and_by(rule(compare(steady, exact, smallest)))
