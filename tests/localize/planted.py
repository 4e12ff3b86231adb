"""Devices that compute what an ideal float16 device would, in this process, with faults planted in their kernels.

A fault sits at a tensor of the original model and shows wherever that tensor is computed: in the untouched model, under
taps, and in windows cut out of it, where tensors are named by number. What a device does under taps, and how it lies
about them, is up to each test.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray

from harness.core.job import Completed, Job, Outcome, Residency, Sample
from harness.devices.base import Device, DeviceFacts, Sink
from harness.devices.link import Link
from harness.graph.edit import type_code
from harness.graph.model import AlignedBuffer, Graph, Model, indices
from harness.numerics.fp16 import oracle

Array = NDArray[Any]


class NoProcess:
    """There is none to start, and whoever tries is told so."""

    def start(self) -> Link:
        raise AssertionError("a device in this process has no link")

    def death(self) -> tuple[str, str] | None:
        raise AssertionError("a device in this process cannot die")

    def lost(self, reason: str) -> str:
        raise AssertionError("a device in this process cannot be lost")

    def kill(self) -> None:
        pass

    def log(self, mark: int) -> str:
        return ""

    def log_mark(self) -> int:
        return 0


class InProcess(Device):
    """The host's plain kernels. The last model stays compiled, as in a worker."""

    def __init__(self, name: str = "host") -> None:
        super().__init__(name, "host", NoProcess())
        self.jobs: list[Job] = []
        self._compiled = ""

    def facts(self) -> DeviceFacts:
        return DeviceFacts(self.name, self.kind, "2.3.0", "in process", "")

    def prepared(self, job: Job) -> bytes:
        """The model as this device computes it."""
        return job.model

    def finished(self, outputs: dict[str, Array], job: Job) -> dict[str, Array]:
        """The outputs as this device gives them back."""
        return outputs

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.jobs.append(job)
        values = self.finished(evaluated(self.prepared(job), job.inputs), job)
        outputs: dict[str, Array] = {}
        for port in job.outputs:
            assert (values[port.name].shape, values[port.name].dtype) == (port.shape, port.dtype)
            (sink or outputs.__setitem__)(port.name, values[port.name])
        compiled = job.sha256 != self._compiled
        self._compiled = "" if job.final else job.sha256
        self.compiles += compiled
        self.runs += job.warmup + job.iterations
        samples = (Sample(1, 1, 1),) * job.iterations
        return Completed(outputs, Residency(True), samples, 1, compiled, "2.3.0", "in process", "")


def evaluated(model: Model | bytes, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of a model's first signature from the kernels that no delegate replaces."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    content = model.to_bytes() if isinstance(model, Model) else model
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=plain, num_threads=1)
    runner = interpreter.get_signature_runner(next(iter(interpreter.get_signature_list())))
    ports = set(runner.get_input_details())
    assert set(inputs) == ports, f"{set(inputs)} came for {ports}"
    return {name: np.array(values) for name, values in runner(**inputs).items()}


class Remembering(InProcess):
    """A host that gives its last few answers again: one model's reference serves many faulty devices."""

    def __init__(self, kept: int = 8) -> None:
        super().__init__()
        self._kept = kept
        self._answers: dict[tuple[str, str], dict[str, Array]] = {}

    def finished(self, outputs: dict[str, Array], job: Job) -> dict[str, Array]:
        self._answers[self._key(job)] = outputs
        if len(self._answers) > self._kept:
            del self._answers[next(iter(self._answers))]
        return outputs

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        known = self._answers.pop(self._key(job), None)
        if known is None:
            outcome = super().run(job, sink)
            self.jobs.clear()  # a campaign asks some ten thousand, each with a model of its own
            return outcome
        self._answers[self._key(job)] = known
        outputs = {port.name: known[port.name] for port in job.outputs}
        if sink is not None:
            for name, values in outputs.items():
                sink(name, values)
        samples = (Sample(1, 1, 1),) * job.iterations
        return Completed({} if sink else outputs, Residency(True), samples, 1, True, "2.3.0", "in process", "")

    @staticmethod
    def _key(job: Job) -> tuple[str, str]:
        digest = hashlib.sha256()
        for name in sorted(job.inputs):
            digest.update(name.encode() + job.inputs[name].tobytes())
        return job.sha256, digest.hexdigest()


class Half(InProcess):
    """An ideal device that stores float16, inputs included, with faults. `sees` decides which jobs they show in."""

    def __init__(self, original: Model, faults: Mapping[int, Fault], sees: Callable[[Job], bool] | None = None) -> None:
        super().__init__("half")
        self.original = original.graph()
        self.faults = dict(faults)
        self.sees = sees or (lambda job: True)
        self._prepared: tuple[tuple[str, bool, bool] | None, bytes] = (None, b"")

    def prepared(self, job: Job) -> bytes:
        key = (job.sha256, job.options.half, self.sees(job))
        if key != self._prepared[0]:
            model = parsed(job.model)
            model = with_faults(model, self.original, self.faults) if self.sees(job) else model
            self._prepared = key, (oracle(model) if job.options.half else model).to_bytes()
        return self._prepared[1]

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        stored = {name: _stored(values) if job.options.half else values for name, values in job.inputs.items()}
        return super().run(Job(**(vars(job) | {"inputs": stored})), sink)


@lru_cache(maxsize=4)
def parsed(data: bytes) -> Model:
    """The model of these bytes, not to be edited: what is done to it is done to copies."""
    return Model.from_bytes(data)


def _stored(values: Array) -> Array:
    return values.astype(np.float16).astype(np.float32) if values.dtype == np.float32 else values


def is_untouched(original: Model) -> Callable[[Job], bool]:
    """Whether a job runs the original model itself."""
    return lambda job: job.sha256 == original.sha256


def is_tapped(original: Model) -> Callable[[Job], bool]:
    """Whether a job runs the whole original model with more outputs."""
    ports = [port.name for port in original.graph().outputs]

    def tapped(job: Job) -> bool:
        names = [port.name for port in Model.from_bytes(job.model).graph().outputs]
        return names[: len(ports)] == ports and len(names) > len(ports)

    return tapped


# Types of tensors whose integers stand for real numbers, if they are quantized.
_GRIDS = (schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT16)


@dataclass(frozen=True)
class Fault:
    """What a broken kernel makes of its right result and its first operand, as ops on them."""

    name: str
    plant: Callable[[_Planter, int, int | None], int | None]


class _Planter:
    """Adds tensors and ops to a subgraph."""

    def __init__(self, root: Any, sub: Any, ops: list[Any]) -> None:
        self.root, self.sub, self.ops = root, sub, ops

    def shape(self, tensor: int) -> tuple[int, ...]:
        return indices(self.sub.tensors[tensor].shape)

    def tensor(self, shape: tuple[int, ...], dtype: Any = np.float32) -> int:
        table = schema.TensorT()
        table.name, table.shape = f"planted_{len(self.sub.tensors)}", np.asarray(shape, np.int32)
        table.type, table.hasRank = type_code(dtype), True
        self.sub.tensors.append(table)
        return len(self.sub.tensors) - 1

    def constant(self, values: Array) -> int:
        made = self.tensor(values.shape, values.dtype)
        self.root.buffers.append(AlignedBuffer(np.frombuffer(values.tobytes(), np.uint8)))
        self.sub.tensors[made].buffer = len(self.root.buffers) - 1
        return made

    def real(self, tensor: int | None) -> int | None:
        """A tensor's values as floats; None where it has none."""
        if tensor is None or self.sub.tensors[tensor].type == schema.TensorType.FLOAT32:
            return tensor
        if self.sub.tensors[tensor].type not in _GRIDS:
            return None
        return self.op("DEQUANTIZE", [tensor], self.shape(tensor), schema.DequantizeOptionsT())

    def like(self, tensor: int) -> int:
        """A tensor of the same shape, type and grid."""
        table = copy(self.sub.tensors[tensor])
        table.name = f"planted_{len(self.sub.tensors)}"
        self.sub.tensors.append(table)
        return len(self.sub.tensors) - 1

    def op(self, kind: str, inputs: list[int], shape: tuple[int, ...], options: Any = None) -> int:
        code = schema.OperatorCodeT()
        number = getattr(schema.BuiltinOperator, kind)
        code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
        self.root.operatorCodes.append(code)
        table = schema.OperatorT()
        table.opcodeIndex = len(self.root.operatorCodes) - 1
        made = self.tensor(shape)
        table.inputs, table.outputs = np.asarray(inputs, np.int32), np.asarray([made], np.int32)
        if options is not None:
            table.builtinOptions = options
            table.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.ops.append(table)
        return made


def with_faults(model: Model, original: Graph, faults: Mapping[int, Fault]) -> Model:
    """The model with broken kernels wherever it computes a tensor of the original that has a fault."""
    sought = {original.tensors[t].name: t for t in faults} | {f"t{t}": t for t in faults}
    root = copy(model.root)
    root.operatorCodes, root.buffers = list(root.operatorCodes), list(root.buffers)
    root.subgraphs = list(root.subgraphs)
    root.subgraphs[0] = sub = copy(root.subgraphs[0])
    sub.tensors = list(sub.tensors)
    names = [tensor.name for tensor in model.graph().tensors]
    ops: list[Any] = []
    planter = _Planter(root, sub, ops)
    for op in sub.operators:
        op = copy(op)
        ops.append(op)
        for t in indices(op.outputs):
            place = sought.get(names[t].split("~")[0])
            if place is None:
                continue
            right = planter.like(t)
            op.outputs = np.asarray([right if o == t else o for o in indices(op.outputs)], np.int32)
            operand = next((i for i in indices(op.inputs) if i >= 0), None)
            held = planter.real(right)
            assert held is not None, f"{names[t]} has no values that a fault could change"
            made = faults[place].plant(planter, held, planter.real(operand))
            assert made is not None, f"{faults[place].name} cannot be planted at {names[t]}"
            if held != right:
                planter.op("QUANTIZE", [made], planter.shape(t), schema.QuantizeOptionsT())
            # The last op planted writes the tensor itself.
            ops[-1].outputs = np.asarray([t], np.int32)
    sub.operators = ops
    return Model(root)


def _scaled(planter: _Planter, right: int, operand: int | None) -> int:
    return planter.op("MUL", [right, planter.constant(np.asarray([1.3], np.float32))], planter.shape(right))


def _operand(planter: _Planter, right: int, operand: int | None) -> int | None:
    shape = planter.shape(right)
    if operand is None or np.prod(planter.shape(operand)) != np.prod(shape):
        return None
    target = planter.constant(np.asarray(shape, np.int32))
    return planter.op("RESHAPE", [operand, target], shape, schema.ReshapeOptionsT())


def _group(planter: _Planter, right: int, operand: int | None) -> int | None:
    shape = planter.shape(right)
    if not shape or shape[-1] < 8:
        return None
    mask = np.ones(shape[-1], np.float32)
    mask[4:8] = 0
    return planter.op("MUL", [right, planter.constant(mask)], shape)


def _nan(planter: _Planter, right: int, operand: int | None) -> int:
    shape = planter.shape(right)
    hole = np.zeros(shape, np.float32)
    hole.flat[hole.size // 2] = np.nan
    return planter.op("ADD", [right, planter.constant(hole)], shape, schema.AddOptionsT())


def _beyond(planter: _Planter, right: int, operand: int | None) -> int | None:
    """A step on the way takes the larger half of the values out of float16's range."""
    shape = planter.shape(right)
    raised = planter.op("MUL", [right, planter.constant(np.asarray([1e6], np.float32))], shape)
    return planter.op("MUL", [raised, planter.constant(np.asarray([1e-6], np.float32))], shape)


def _shifted(planter: _Planter, right: int, operand: int | None) -> int | None:
    shape = planter.shape(right)
    if not shape or shape[-1] < 2:
        return None
    options = schema.GatherOptionsT()
    options.axis = len(shape) - 1
    order = planter.constant(np.roll(np.arange(shape[-1], dtype=np.int32), 1))
    return planter.op("GATHER", [right, order], shape, options)


def noisy(amount: float, seed: int) -> Fault:
    """Not a fault but the honest cost of accumulating in float16: results off by up to `amount` of themselves."""

    def plant(planter: _Planter, right: int, operand: int | None) -> int:
        shape = planter.shape(right)
        noise = 1 + amount * np.random.default_rng(seed).uniform(-1, 1, shape)
        return planter.op("MUL", [right, planter.constant(noise.astype(np.float32))], shape)

    return Fault(f"noise {amount:g}", plant)


SCALED = Fault("scaled", _scaled)
OPERAND = Fault("operand returned", _operand)
GROUP = Fault("channel group zeroed", _group)
NAN = Fault("NaN", _nan)
SHIFTED = Fault("shifted", _shifted)
BEYOND = Fault("beyond float16", _beyond)
FAULTS = (SCALED, OPERAND, GROUP, NAN, SHIFTED)
EVERY_FAULT = (*FAULTS, BEYOND)


def applies(fault: Fault, model: Model, graph: Graph, tensor: int) -> bool:
    """Whether a fault can be planted at a tensor and makes a difference there; `graph` is the model's."""
    op = graph.ops[graph.producer[tensor]]
    if fault is OPERAND and op.name == "RESHAPE":
        return False  # the right result
    root = copy(model.root)
    root.operatorCodes, root.buffers = list(root.operatorCodes), list(root.buffers)
    sub = copy(root.subgraphs[0])
    sub.tensors = list(sub.tensors)
    planter = _Planter(root, sub, [])
    held = planter.real(tensor)
    return held is not None and fault.plant(planter, held, planter.real(op.inputs[0])) is not None


class TapLiar(Half):
    """Gives garbage (or NaN) for some tensors under taps, of one kind or both, and leaves all else as it is."""

    def __init__(
        self, original: Model, faults: dict[int, Fault], lies: dict[int, tuple[str, ...]], *, nan: bool = False
    ) -> None:
        super().__init__(original, faults)
        self.lies, self.nan = lies, nan

    def finished(self, outputs: dict[str, Any], job: Job) -> dict[str, Any]:
        graph = Model.from_bytes(job.model).graph()
        kinds = {}
        for port in graph.outputs:
            if port.name.startswith("tap_"):
                made = graph.ops[graph.producer[port.tensor]]
                copied = made.index >= len(self.original.ops)
                kinds[port.name] = (made.inputs[0] if copied else port.tensor, "copy" if copied else "direct")
        for name, (tensor, kind) in kinds.items():
            if name in outputs and kind in self.lies.get(tensor, ()):
                garbage = np.random.default_rng(0).standard_normal(outputs[name].shape).astype(np.float32)
                outputs[name] = np.full_like(garbage, np.nan) if self.nan else garbage
        return outputs
