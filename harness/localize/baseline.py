"""Reference, oracle and the untouched model on the device: how wrong is it, and is that more than float16 explains?"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial

import numpy as np

from harness.devices.base import OUTSIDE, Device, Sink
from harness.devices.execute import UNTOUCHED, completed, failure, make_job
from harness.devices.loadable import check_loadable
from harness.errors import NoReference, UsageError
from harness.graph import surgery
from harness.graph.grid import Grid
from harness.graph.hybrid import with_real_weights
from harness.graph.model import Graph, Model
from harness.graph.real import real, real_outputs
from harness.graph.residual import carried
from harness.job import Array, Completed, Crashed, Job, Lost, Options, Rejected
from harness.localize.host_runs import REFERENCE as REFERENCE
from harness.localize.host_runs import HostRuns
from harness.localize.ideals import Ideals, granted
from harness.localize.placement import Placement
from harness.numerics import fp16, fp32
from harness.numerics.metrics import compare, is_mask
from harness.numerics.usefulness import Limits, Shortfall, Yardstick, yardsticks
from harness.numerics.verdict import FACTOR, LOCAL_FACTOR, Judgement, channel_ratio, judge, worst_case
from harness.results import TensorStore

# Ideal runs of a float16 device: inputs rounded, inputs moved.
HALF_RUNS = 2
# Bytes of intermediates that one run of the reference holds.
REFERENCE_BUDGET = 1 << 30
# Tensors that one job reads: the wire carries 4,096 payloads at most.
MOST_TENSORS = 2000


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
    def on_cpu(self) -> frozenset[int]:
        """Ops that the CPU runs in place of the accelerator under test, as far as is known."""
        known = None if self.placement is None else self.placement.on_cpu
        return known or frozenset()

    def kept_by(self, changed: Model, done: Completed) -> bool:
        """Whether each op ran where the untouched model has it, in a model with further copies and outputs."""
        return self.placement is None or self.placement.kept_by(self.graph, changed.graph(), done.residency)

    @cached_property
    def never_stored(self) -> frozenset[int]:
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

    def ideal(self, model: Model, beyond: frozenset[int]) -> Model:
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

    def run_ideal(
        self,
        host: Device,
        model: Model,
        inputs: dict[str, Array],
        beyond: frozenset[int],
        doing: str,
        exact: frozenset[str] = frozenset(),
    ) -> dict[str, Ideals]:
        """A whole model's outputs on ideal devices, which hold the inputs in `exact` as they are."""
        return HostRuns(self, host, model, inputs, beyond, doing, exact).of_whole()

    def run_open(
        self, host: Device, model: Model, inputs: dict[str, Array], beyond: frozenset[int], doing: str
    ) -> tuple[dict[str, Array], dict[str, Ideals]]:
        """The exact outputs of a part of a model, and those of ideal devices; real numbers where they are quantized."""
        return HostRuns(self, host, model, inputs, beyond, doing).of_part()

    def judge_output(self, name: str, actual: Array, ideals: Sequence[Array], exact: Array) -> Judgement:
        """As :meth:`judge`, for an output of the model, by channel too. Over a whole model the errors of its ops
        average out; what one op alone makes of the model's inputs is held to what an op is, and so are the last sums
        before an output, where what they explain is known (`harness.localize.tails`)."""
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
    def carried(self) -> dict[int, tuple[str, ...]]:
        """For each output the inputs that it may be a copy of."""
        return {port.tensor: carried(self.graph, port.tensor) for port in self.graph.outputs}

    def shortfalls(self, name: str, actual: Array, ideals: Sequence[Array], exact: Array) -> tuple[Shortfall, ...]:
        """What makes an output useless, `ideals` being those of :meth:`run_ideal`: the first of them is what rounding
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
        self, host: Device, ideal: dict[str, Ideals], exact: dict[str, Array], beyond: frozenset[int]
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


def label_of(graph: Graph, tensor: int) -> str:
    """The name of a tensor's files: `<op>-<NAME>`, with the position when an op has several results."""
    op = graph.ops[graph.producer[tensor]]
    place = f".{op.outputs.index(tensor)}" if len(op.outputs) > 1 else ""
    return f"{op.index:04d}-{op.name}{place}"


def output_label(name: str) -> str:
    """The name of an output's files. What a file name may not hold is replaced, and a digest keeps it unique."""
    plain = re.sub(r"[^A-Za-z0-9._]", "_", name)[:64]
    return f"output-{plain}" if plain == name else f"output-{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Peaks:
    """The largest finite magnitude of each tensor of the reference, and which hold NaN or infinity."""

    finite: dict[int, float]
    unbounded: frozenset[int]


def run_reference(
    host: Device,
    case: Case,
    store: TensorStore,
    tensors: Sequence[int],
    *,
    keep: bool = True,
    budget: int = REFERENCE_BUDGET,
) -> Peaks:
    """Host runs that see every tensor of `tensors` and all outputs, and store them (outputs alone unless `keep`).

    One run where they fit the budget in bytes; else one for each window of the model that makes as much, fed with what
    was stored before.
    """
    graph = case.graph
    finite: dict[int, float] = {}
    unbounded: set[int] = set()

    parts = list(budgeted(graph, tensors, budget))

    def put(t: int, values: Array) -> None:
        if keep or len(parts) > 1:
            store.put(label_of(graph, t), "reference", values, graph.tensors[t].name)
        values = real(graph, t, values)
        known = np.isfinite(values)
        finite[t] = float(np.max(np.abs(values), initial=0.0, where=known))
        if not known.all():
            unbounded.add(t)

    _whole_reference(host, case, store, parts[0] if len(parts) == 1 else (), put)
    for part in parts if len(parts) > 1 else ():
        _part_of_reference(host, case, store, part, frozenset(finite), put)
    if not keep:
        store.keep_only([output_label(port.name) for port in graph.outputs])
    return Peaks(finite, frozenset(unbounded))


def _whole_reference(
    host: Device, case: Case, store: TensorStore, tensors: Sequence[int], put: Callable[[int, Array], None]
) -> None:
    tapped, names = surgery.tap(case.model, tensors, "direct")
    own, at = {port.name for port in case.graph.outputs}, {name: t for t, name in names.items()}

    def sink(name: str, values: Array) -> None:
        if name in own:
            store.put(output_label(name), "reference", values, name)
        if name in at:
            put(at[name], values)

    job = make_job(tapped, case.inputs, REFERENCE, timeout=case.timeout, final=True)
    stated = {port.name: port.tensor for port in case.graph.outputs} | at
    _run_reference(host, case, job, stated, sink)


def _part_of_reference(
    host: Device,
    case: Case,
    store: TensorStore,
    tensors: Sequence[int],
    known: frozenset[int],
    put: Callable[[int, Array], None],
) -> None:
    model = surgery.extract(case.model, tensors, known).model
    inputs = {surgery.port_name(port.tensor): case.inputs[port.name] for port in case.graph.inputs}
    feeds: dict[str, Array] = {}
    for port in model.graph().inputs:
        label = "" if port.name in inputs else label_of(case.graph, surgery.tensor_of(port.name))
        feeds[port.name] = store.get(label, "reference") if label else inputs[port.name]
    job = make_job(model, feeds, REFERENCE, timeout=case.timeout, final=True)
    stated = {surgery.port_name(t): t for t in tensors}
    _run_reference(host, case, job, stated, lambda name, values: put(stated[name], values))


def _run_reference(host: Device, case: Case, job: Job, stated: dict[str, int], sink: Sink) -> None:
    """A job of the reference; `stated` has the tensor that each output is. Raises UsageError where the file states
    another shape for one than the runtime computes, or the runtime cannot load it."""
    outcome = host.run(job, sink)
    if isinstance(outcome, Lost) and outcome.output in stated:
        tensor = case.graph.tensors[stated[outcome.output]]
        raise UsageError(
            f"The model states shape {list(tensor.shape or ())} for tensor '{tensor.name}', and the runtime computes "
            f"another ({outcome.reason}).",
            "Export the model anew, so that its shapes are those that it computes.",
        )
    if isinstance(outcome, Rejected) and outcome.ops:
        raise NoReference(
            f"The CPU reference cannot be run: {outcome.reason}, so nothing can be compared with it.",
            "Replace that op by builtin ones, or end the model before it, when exporting; `harness run` asks the "
            "device alone.",
            outcome.log,
        )
    # A system that ran out of memory ends a process from outside.
    if isinstance(outcome, Rejected) or (isinstance(outcome, Crashed) and outcome.signal not in OUTSIDE):
        check_loadable(case.model)
        verb = "end their process on" if isinstance(outcome, Crashed) else "do not compute"
        # Token ids that are given as floats, for one, must not be any number.
        first = "Give inputs that the model is made for with --inputs, try" if case.drawn else "Try"
        raise NoReference(
            f"The plain CPU kernels of this release {verb} the model: {outcome.reason.rstrip('.')}, so nothing can be "
            "compared with them.",
            f"{first} another release of ai-edge-litert, or export that op in a type that the CPU has; `harness run` "
            "asks the device alone.",
            outcome.log,
        )
    if not isinstance(outcome, Completed):
        raise failure(host.name, outcome, "running the reference")


def budgeted(graph: Graph, tensors: Sequence[int], budget: int) -> Iterator[list[int]]:
    """Tensors in parts of up to `budget` bytes each; a larger one is a part of its own."""
    batch: list[int] = []
    size = 0
    for t in tensors:
        full = size + graph.tensors[t].nbytes > budget or len(batch) >= MOST_TENSORS
        if batch and full:
            yield batch
            batch, size = [], 0
        batch.append(t)
        size += graph.tensors[t].nbytes
    if batch:
        yield batch


def run_device(device: Device, case: Case, *, warmup: int = 0, iterations: int = 1) -> Completed:
    """The untouched model on the device. Raises DeviceError when it does not complete."""
    job = make_job(case.model, case.inputs, case.options, timeout=case.timeout, warmup=warmup, iterations=iterations)
    return completed(device, job, UNTOUCHED)
