"""What is asked about a culprit, in order, and what each answer leads to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Job, Options, Outcome, Rejected
from harness.core.run_folder import TensorStore
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model, Op
from harness.graph.rebuild import Rebuild
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import label_of
from harness.localize.base.result import Culprit
from harness.localize.explain.investigate import Group, Investigator
from harness.localize.probe.experiment import Experiments
from harness.localize.probe.tensor_values import TensorValues
from harness.remedies.catalogue import SPLIT_SUM
from harness.remedies.cause import Cause
from tests.localize.broken import Broken, behind, long_sums, rolled
from tests.localize.planted import InProcess
from tests.quantized import QuantizedBuilder

ALONE, ON_DEVICE = "alone, on the exact inputs", "alone, on the device's inputs"
NEIGHBOURS = "with its neighbours, as far as they were tried"


def chain() -> Model:
    """TANH #0, RELU #1, PAD #2 of rank 3, NEG #3."""
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.unary("TANH", graph.input("x", (4, 6, 32))))
    graph.output(graph.unary("NEG", graph.pad(x, [(0, 0), (1, 2), (0, 0)])), "y")
    return graph.build()


class Investigation:
    """What is found out about the first of some ops that are all culprits; `read` has the device's values by op, and
    `cause` is what the culprit's values alone suggested."""

    def __init__(
        self,
        folder: Path,
        device: Broken,
        model: Model,
        culprits: tuple[int, ...],
        *,
        options: Options | None = None,
        read: Mapping[int, Array] | None = None,
        cause: str = "kernel",
        reading: Literal["copy", "window"] = "copy",
    ) -> None:
        case = Case(model, random_inputs(model.graph(), 0), options or Options(), timeout=60)
        graph, host, store = case.graph, InProcess(), TensorStore(folder / "read")
        for op, values in (read or {}).items():
            store.put(label_of(graph, graph.ops[op].outputs[0]), "device", values, "t")
        self.known = TensorValues.collect(host, case, store, folder)
        found = []
        for i in culprits:
            tensor = graph.tensors[graph.ops[i].outputs[0]]
            record = OpRecord(
                i, graph.ops[i].name, i, tensor.name, tensor.index, tensor.shape or (), tensor.type.lower(), "culprit",
                reading=reading,
            )  # fmt: skip
            found.append(Culprit(record, Cause(cause), "as first seen", certified=True))
        self.device, self.culprit = device, found[0]
        self.investigator = Investigator(Experiments(device, host, 60), self.known, found)
        self.group = Group([0])
        self.investigator.investigate(self.group)

    @property
    def trials(self) -> list[tuple[str, str]]:
        return [(trial.what, trial.ending) for trial in self.group.trials]

    @property
    def signature(self) -> str | None:
        return self.investigator.signature(self.culprit, self.group)


def right() -> Broken:
    return Broken(lambda rebuild, op: None)


def capped(rebuild: Rebuild, op: Op) -> int | None:
    """PAD gives nothing above 3."""
    return rebuild.binary("MINIMUM", op.outputs[0], rebuild.constant([3.0])) if op.name == "PAD" else None


class Refusing(Broken):
    """Does not take some jobs."""

    def __init__(self, fault: Callable[[Rebuild, Op], int | None], refuses: Callable[[Job], bool]) -> None:
        super().__init__(fault)
        self.refuses = refuses

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        return Rejected("not so") if self.refuses(job) else super().run(job, sink)


class Everywhere(Broken):
    """Has its fault on the CPU too."""

    def prepared(self, job: Job) -> bytes:
        options = Options(precision="fp16" if job.options.half else "fp32")
        return super().prepared(replace(job, options=options))


def exact_of(model: Model, folder: Path) -> dict[int, Array]:
    """What each op of a model makes of its inputs, by op."""
    graph = model.graph()
    case = Case(model, random_inputs(graph, 0), Options(), timeout=60)
    known = TensorValues.collect(InProcess(), case, TensorStore(folder / "none"), folder / "exact")
    values = {op.index: known.exact(op.outputs[0]) for op in graph.ops}
    return {op: array for op, array in values.items() if array is not None}


class TestOnTheDevicesInputs:
    """Those had been made ten times as large by what came before; only there the op is wrong."""

    def test_an_op_that_fails_on_these_alone_fails_alone(self, tmp_path: Path) -> None:
        read = {1: 10 * exact_of(chain(), tmp_path)[1]}
        found = Investigation(tmp_path, Broken(capped), chain(), (2,), read=read)
        assert found.trials == [
            (ALONE, "right"),
            (ON_DEVICE, "wrong"),
            ("the same in float32", "wrong"),
            ("in float16 with float32 sums", "wrong"),
            ("on the device's CPU", "right"),
        ]
        assert found.group.findings is not None
        assert (found.group.findings.alone, found.group.findings.right_alone) == (True, True)
        assert found.group.cause == "kernel"

    def test_what_is_looked_into_then_is_the_op_on_these(self, tmp_path: Path) -> None:
        read = {1: 10 * exact_of(chain(), tmp_path)[1]}
        found = Investigation(tmp_path, Broken(capped), chain(), (2,), read=read)
        assert found.group.part is not None
        np.testing.assert_array_equal(found.group.part.specimen.inputs["x0"], read[1])
        mends = {rewrite.name: seen.ending for rewrite, seen in found.group.local}
        assert (mends["PAD as CONCATENATION"], mends["the op in rank 4"]) == ("right", "wrong")

    def test_an_op_that_is_right_on_these_too_is_asked_with_its_neighbours(self, tmp_path: Path) -> None:
        read = {1: 10 * exact_of(chain(), tmp_path)[1]}
        found = Investigation(tmp_path, right(), chain(), (2,), read=read)
        assert found.trials == [(ALONE, "right"), (ON_DEVICE, "right"), (NEIGHBOURS, "right")]
        assert (found.group.part, found.group.cause) == (None, "context")

    def test_an_op_that_fails_on_the_exact_inputs_is_not_asked_on_these(self, tmp_path: Path) -> None:
        read = {1: exact_of(chain(), tmp_path)[1]}
        found = Investigation(tmp_path, Broken(rolled("PAD")), chain(), (2,), read=read)
        assert ON_DEVICE not in dict(found.trials)

    def test_nor_one_that_a_window_found_whose_inputs_nobody_read(self, tmp_path: Path) -> None:
        read = {1: 10 * exact_of(chain(), tmp_path)[1]}
        found = Investigation(tmp_path, Broken(capped), chain(), (2,), read=read, reading="window")
        assert found.trials == [(ALONE, "right"), (NEIGHBOURS, "right")]


class TestInContext:
    """Where the op is right alone, and no neighbourhood fails."""

    def test_neighbourhoods_that_are_right_are_said_to_be(self, tmp_path: Path) -> None:
        found = Investigation(tmp_path, right(), chain(), (2,))
        assert found.trials == [(ALONE, "right"), (NEIGHBOURS, "right")]
        assert (found.group.part, found.group.cause) == (None, "context")
        assert found.group.mending == list(Cause.CONTEXT.rewrites)

    def test_one_that_is_right_is_enough_where_the_others_are_refused(self, tmp_path: Path) -> None:
        device = Refusing(lambda rebuild, op: None, lambda job: ops_of(job) > 2)
        assert Investigation(tmp_path, device, chain(), (2,)).trials == [(ALONE, "right"), (NEIGHBOURS, "right")]

    def test_where_all_are_refused_nothing_can_be_said(self, tmp_path: Path) -> None:
        device = Refusing(lambda rebuild, op: None, lambda job: ops_of(job) > 1)
        found = Investigation(tmp_path, device, chain(), (2,))
        assert found.trials == [(ALONE, "right"), (NEIGHBOURS, "impossible")]

    def test_neighbours_that_are_culprits_themselves_are_not_asked(self, tmp_path: Path) -> None:
        found = Investigation(tmp_path, Broken(behind("RELU", rolled("PAD"))), chain(), (2, 1, 3))
        assert found.trials == [(ALONE, "right"), (NEIGHBOURS, "impossible")]
        assert found.group.part is None

    def test_a_neighbourhood_without_them_is(self, tmp_path: Path) -> None:
        found = Investigation(tmp_path, Broken(behind("RELU", rolled("PAD"))), chain(), (2, 3))
        assert found.trials[:2] == [(ALONE, "right"), ("with its neighbours, 2 ops", "wrong")]
        assert found.group.part is not None
        assert sorted(found.group.part.places) == [1, 2]


def ops_of(job: Job) -> int:
    return len(Model.from_bytes(job.model).graph().ops)


class TestLadder:
    """In what else the failing specimen is asked."""

    @pytest.mark.parametrize(
        ("options", "further"),
        [
            (Options(), ["the same in float32", "in float16 with float32 sums", "on the device's CPU"]),
            (Options(precision="fp32"), ["on the device's CPU"]),
            (Options(accelerator="cpu"), []),
        ],
    )
    def test_what_it_is_already_it_is_not_asked_to_be(
        self, tmp_path: Path, options: Options, further: list[str]
    ) -> None:
        found = Investigation(tmp_path, Everywhere(rolled("PAD")), chain(), (2,), options=options)
        assert found.trials == [(what, "wrong") for what in (ALONE, *further)]
        assert found.group.findings is not None
        asked = found.group.findings.single, found.group.findings.long_sums
        assert [seen is not None for seen in asked] == [options.half, options.half]

    def test_float32_sums_that_a_release_does_not_have_are_no_answer(self, tmp_path: Path) -> None:
        device = Refusing(rolled("PAD"), lambda job: job.options.precision == "fp16-fp32acc")
        found = Investigation(tmp_path, device, chain(), (2,))
        assert [what for what, _ in found.trials] == [ALONE, "the same in float32", "on the device's CPU"]
        assert found.group.findings is not None
        assert found.group.findings.long_sums is None

    @staticmethod
    def product(terms: int) -> Model:
        """RELU #0, BATCH_MATMUL #1."""
        graph = GraphBuilder()
        a = graph.unary("RELU", graph.input("a", (2, 4, terms)))
        graph.output(graph.batch_matmul(a, graph.input("b", (2, terms, 4))), "y")
        return graph.build()

    def test_a_sum_that_fails_alone_is_asked_in_pieces(self, tmp_path: Path) -> None:
        found = Investigation(tmp_path, Broken(long_sums(64), in_float32=False), self.product(256), (1,))
        assert found.trials[-1] == ("with the sum split into pieces", "right")
        assert [rewrite.name for rewrite, _ in found.group.local] == [SPLIT_SUM.name]

    def test_a_sum_too_short_to_be_split_is_not(self, tmp_path: Path) -> None:
        found = Investigation(tmp_path, Broken(rolled("BATCH_MATMUL")), self.product(8), (1,))
        assert "with the sum split into pieces" not in dict(found.trials)
        assert found.group.findings is not None
        assert found.group.findings.split is None

    def test_nor_one_that_fails_with_its_neighbours_only(self, tmp_path: Path) -> None:
        device = Broken(behind("RELU", long_sums(64)))
        found = Investigation(tmp_path, device, self.product(256), (1,))
        assert dict(found.trials)["with its neighbours, 2 ops"] == "wrong"
        assert "with the sum split into pieces" not in dict(found.trials)


class TestSignature:
    """Of an op that is right wherever it was cut out, by the value that the device had in the whole model."""

    def looks(self, folder: Path, *read: int, cause: str = "kernel", shape: tuple[int, ...] = (4, 9, 32)) -> str | None:
        exact = exact_of(chain(), folder)
        values = {1: exact[1], 2: np.roll(exact[2], 1, 0).reshape(shape)}
        return Investigation(folder, right(), chain(), (2,), read={i: values[i] for i in read}, cause=cause).signature

    def test_it_is_what_that_value_looks_like(self, tmp_path: Path) -> None:
        assert self.looks(tmp_path, 1, 2) == "shifted by 1 along axis 0"

    def test_where_the_value_was_not_kept_it_is_what_was_known_before(self, tmp_path: Path) -> None:
        assert self.looks(tmp_path, 1) == "as first seen"

    def test_so_it_is_where_what_fed_the_op_was_not_kept(self, tmp_path: Path) -> None:
        assert self.looks(tmp_path, 2) == "as first seen"

    def test_and_where_the_value_has_another_shape(self, tmp_path: Path) -> None:
        assert self.looks(tmp_path, 1, 2, shape=(9, 4, 32)) == "as first seen"

    def test_what_is_known_of_a_range_goes_before_what_values_look_like(self, tmp_path: Path) -> None:
        assert self.looks(tmp_path, 1, 2, cause="overflow") == "as first seen"

    def test_a_quantized_value_looks_as_its_real_numbers_do(self, tmp_path: Path) -> None:
        graph = QuantizedBuilder()
        x = graph.quantized_input("x", (4, 16), 0.05, 4)
        once = graph.sum_of(x, x, (0.1, 3))
        graph.output(graph.sum_of(once, once, (0.2, -7)), "y")
        model = graph.build()
        exact = exact_of(model, tmp_path)
        read = {0: exact[0], 1: np.roll(exact[1], 1, 0)}
        found = Investigation(tmp_path, right(), model, (1,), read=read)
        assert found.signature == "shifted by 1 along axis 0"
