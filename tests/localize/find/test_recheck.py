"""A suspect run of ops is taken apart by second readings, and each of its ops judged alone in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Crashed, Job, Options, Outcome
from harness.core.run_folder import TensorStore
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.op_record import OpRecord
from harness.localize.base.reference import output_label, run_device, run_reference
from harness.localize.find.recheck import Recheck, recheck_suspects
from harness.localize.probe.local_error import LocalError, plan
from harness.localize.probe.taps import read_copies
from tests.localize.attention import Localize
from tests.localize.planted import SHIFTED, Fault, Half, InProcess, TapLiar, is_tapped, is_untouched


def chain(own: int = -1) -> Model:
    """TANH #0, EXP #1, ADD #2 of it twice, ABS #3, NEG #4, each result 128 bytes; that of op `own` is an output `mid`
    and is read."""
    graph = GraphBuilder()
    t = graph.input("x", (1, 32))
    for i, kind in enumerate(("TANH", "EXP", "ADD", "ABS", "NEG")):
        t = graph.binary(kind, t, t) if kind == "ADD" else graph.unary(kind, t)
        if i == own:
            graph.output(t, "mid")
    graph.output(t, "y")
    return graph.build()


CHAIN = chain()
MADE = [op.outputs[0] for op in CHAIN.graph().ops]
NAMES = [CHAIN.graph().tensors[t].name for t in MADE]


class Looked:
    """What a second look makes of the suspects among what was read of some ops' results."""

    def __init__(self, folder: Path, device: Half, read: tuple[int, ...], model: Model = CHAIN) -> None:
        host, store = InProcess(), TensorStore(folder)
        case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
        run_reference(host, case, store, MADE)
        for name, values in run_device(device, case).outputs.items():
            store.put(output_label(name), "device", values, name)
        known = frozenset(MADE[op] for op in read)
        assert read_copies(device, case, store, sorted(known)).read == known
        local = LocalError(host, case, store, frozenset())
        readings = plan(case.graph, known)
        self.before = list(local.judge(readings))
        over = {r.tensor: r for r in reversed(self.before) if r.verdict == "culprit"}
        asked = len(device.jobs)
        self.look: Recheck = recheck_suspects(device, local, self.before, list(over.values()), readings, known)
        self.jobs = len(device.jobs) - asked

    @staticmethod
    def judged(records: list[OpRecord]) -> list[tuple[str, str, str]]:
        """Each record's op or ops, what it was read as, and its verdict."""
        return [(r.number, r.reading, r.verdict) for r in records]

    @property
    def after(self) -> list[tuple[str, str, str]]:
        return self.judged(self.look.records)

    @property
    def doubts(self) -> dict[str, str]:
        return {suspect.number: doubt for suspect, doubt in self.look.doubts.items()}


def verdicts(*culprits: int) -> list[tuple[str, str, str]]:
    """All five ops judged alone: what is right but for these."""
    return [(f"#{i}", "output" if i == 4 else "copy", "culprit" if i in culprits else "fine") for i in range(5)]


def alone(records: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """Without what was inherited from an op before, which is not at stake here."""
    return [(number, reading, "fine" if verdict == "inherited" else verdict) for number, reading, verdict in records]


@pytest.mark.parametrize("culprits", [(2,), (3,), (2, 3)])
def test_each_op_of_a_suspect_run_is_judged_alone_in_its_place(tmp_path: Path, culprits: tuple[int, ...]) -> None:
    found = Looked(tmp_path, Half(CHAIN, {MADE[i]: SHIFTED for i in culprits}), read=(0, 1, 3))
    assert ("#2-3", "copy", "culprit") in found.judged(found.before)
    assert alone(found.after) == verdicts(*culprits)
    assert found.look.read == frozenset(MADE[:4])
    assert (found.doubts, found.jobs) == ({}, 1)


@pytest.mark.parametrize("culprits", [(0,), (1,), (0, 2), (1, 3)])
def test_two_suspect_runs_are_taken_apart_at_once(tmp_path: Path, culprits: tuple[int, ...]) -> None:
    found = Looked(tmp_path, Half(CHAIN, {MADE[i]: SHIFTED for i in culprits}), read=(1, 3))
    assert found.judged(found.before)[0] == ("#0-1", "copy", "culprit")
    concerned = (0, 1) if max(culprits) < 2 else (0, 1, 2, 3)
    apart = [v for i, v in enumerate(verdicts(*culprits)) if i in concerned]
    assert alone(found.after) == [*apart, *([("#2-3", "copy", "fine")] if len(concerned) == 2 else []), verdicts()[4]]
    assert (found.doubts, found.jobs) == ({}, 1)


def test_a_run_that_is_right_stays_one(tmp_path: Path) -> None:
    found = Looked(tmp_path, Half(CHAIN, {MADE[0]: SHIFTED}), read=(0, 1, 3))
    assert found.look.records == found.before
    assert found.look.read == frozenset(MADE[i] for i in (0, 1, 3))


def test_a_second_reading_of_a_model_whose_ops_went_elsewhere_confirms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What agrees there is another division of the model between the GPU and the CPU."""
    monkeypatch.setattr(Case, "kept_by", lambda *_: False)
    found = Looked(tmp_path, Half(CHAIN, {MADE[2]: SHIFTED}), read=(0, 1, 2, 3))
    (doubt,) = found.doubts.values()
    assert doubt.endswith(
        "could not be read a second way: The runtime put ops elsewhere in the model that was read a second way."
    )


def test_nor_does_a_first_reading_of_one(find: Localize, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = [True]  # the first model that is read; those after it are not
    monkeypatch.setattr(Case, "kept_by", lambda *_: not moved or not moved.pop())
    answer = find(Half(CHAIN, {MADE[2]: SHIFTED}), CHAIN)
    assert [culprit.record.index for culprit in answer.culprits] == [2]
    assert not answer.certified
    assert "The runtime put ops elsewhere in the model that was read: nothing is certified." in answer.notes


def test_a_suspect_beside_the_run_is_held_against_its_second_reading_all_the_same(tmp_path: Path) -> None:
    device = TapLiar(CHAIN, {MADE[0]: SHIFTED, MADE[3]: SHIFTED}, {MADE[0]: ("direct",)})
    found = Looked(tmp_path, device, read=(0, 1, 3))
    assert alone(found.after) == verdicts(0, 3)
    assert found.doubts == {"#0": f"A direct tap of {NAMES[0]} reads differently from the copy tap."}


@pytest.mark.parametrize(("culprit", "doubted"), [(2, True), (3, False)])
def test_an_op_of_the_run_is_in_doubt_where_what_it_rests_on_is(tmp_path: Path, culprit: int, doubted: bool) -> None:
    """EXP feeds ADD, whose own result was hidden; ABS behind that does not read it."""
    device = TapLiar(CHAIN, {MADE[culprit]: SHIFTED}, {MADE[1]: ("direct",)})
    found = Looked(tmp_path, device, read=(0, 1, 3))
    assert alone(found.after) == verdicts(culprit)
    doubt = f"A direct tap of {NAMES[1]} reads differently from the copy tap."
    assert found.doubts == ({f"#{culprit}": doubt} if doubted else {})


def test_a_result_that_nothing_reads_is_read_through_no_copy(tmp_path: Path) -> None:
    """It would be an intermediate then, and runtimes are known that return such an output wrongly."""
    found = Looked(tmp_path, Half(CHAIN, {MADE[3]: SHIFTED}), read=(0, 1, 2))
    assert ("#3-4", "output", "culprit") in found.judged(found.before)
    assert alone(found.after) == verdicts(3)
    assert found.look.read == frozenset(MADE[:4])


class Drifting(Half):
    """EXP gives 3 % more in every run but the first that reads intermediates."""

    tapped = 0

    def prepared(self, job: Job) -> bytes:
        self.tapped += sum(port.name.startswith("tap_") for port in job.outputs) > 0
        if self.tapped > 1:
            self.faults[MADE[1]] = Fault("more", _more)
        return super().prepared(job)


def _more(planter: Any, right: int, operand: int | None) -> int:
    return int(planter.op("MUL", [right, planter.constant(np.asarray([1.03], np.float32))], planter.shape(right)))


def test_an_op_of_the_run_is_judged_on_what_fed_it_in_the_same_run(tmp_path: Path) -> None:
    """ADD adds what the second run gave it, which was not what the first run did."""
    found = Looked(tmp_path, Drifting(CHAIN, {MADE[0]: SHIFTED, MADE[3]: SHIFTED}), read=(0, 1, 3))
    assert alone(found.after) == verdicts(0, 3)
    assert found.doubts == {}


def test_an_output_at_the_end_of_the_run_is_judged_by_the_same_run_too(tmp_path: Path) -> None:
    model = chain(own=3)
    device = Drifting(model, {MADE[0]: SHIFTED, MADE[2]: SHIFTED})
    found = Looked(tmp_path, device, read=(0, 1, 3), model=model)
    assert alone(found.after) == [*verdicts(0, 2)[:4], ("#3", "output", "fine"), verdicts()[4]]


class Tired(Half):
    """Survives one job that reads intermediates, and no other."""

    tapped = 0

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.tapped += is_tapped(CHAIN)(job)
        return Crashed("the worker was ended by SIGSEGV") if self.tapped > 1 else super().run(job, sink)


def test_a_run_whose_hidden_results_do_not_come_is_judged_as_one_still_and_in_doubt(tmp_path: Path) -> None:
    found = Looked(tmp_path, Tired(CHAIN, {MADE[2]: SHIFTED}), read=(0, 1, 3))
    assert found.look.records == found.before
    assert found.look.read == frozenset(MADE[i] for i in (0, 1, 3))
    ((number, doubt),) = found.doubts.items()
    assert number == "#2-3"
    assert "could not be read a second way: half crashed while reading a second way" in doubt


@pytest.mark.parametrize("culprit", [2, 3])
def test_a_run_that_ends_in_an_output_that_is_read_too_is_taken_apart_in_both_its_readings(
    find: Localize, culprit: int
) -> None:
    model = chain(own=3)
    answer = find(Half(model, {MADE[culprit]: SHIFTED}), model, tap_budget=511)
    assert [(c.record.first, c.record.index) for c in answer.culprits] == [(culprit, culprit)], answer.notes
    assert (answer.certified, answer.device_compiles, answer.notes) == (True, 3, ())
    wrong = [(r.number, r.reading) for r in answer.records if r.verdict == "culprit"]
    assert wrong == [(f"#{culprit}", reading) for reading in ("copy", "output")[: culprit - 1]]
    assert all(r.first == r.index for r in answer.records)


@pytest.mark.parametrize("culprit", [2, 3])
def test_a_run_with_an_output_inside_is_taken_apart_and_the_output_judged_both_ways(
    tmp_path: Path, culprit: int
) -> None:
    """ADD's result is an output, and was not read through a copy before."""
    model = chain(own=2)
    found = Looked(tmp_path, Half(model, {MADE[culprit]: SHIFTED}), read=(0, 1, 3), model=model)
    as_given = ("#2", "output", "culprit" if culprit == 2 else "fine")
    expected = verdicts(culprit)
    assert alone(found.after) == [*expected[:2], as_given, *expected[2:]]
    assert (found.doubts, found.jobs) == ({}, 1)


def test_an_output_inside_a_run_that_is_wrong_only_as_the_caller_gets_it_is_not_what_the_next_op_reads(
    tmp_path: Path,
) -> None:
    model = chain(own=2)
    found = Looked(tmp_path, WrongForTheCaller(model, {MADE[3]: SHIFTED}), read=(0, 1, 3), model=model)
    assert alone(found.after) == [*verdicts()[:2], ("#2", "output", "culprit"), *verdicts(3)[2:]]
    assert (found.doubts, found.jobs) == ({}, 1)


def test_an_output_inside_a_run_that_is_right_the_second_time_is_in_doubt_and_what_reads_it(tmp_path: Path) -> None:
    model = chain(own=2)
    found = Looked(tmp_path, WrongForTheCaller(model, {MADE[3]: SHIFTED}, once=True), read=(0, 1, 3), model=model)
    doubt = f"A direct tap of {NAMES[2]} reads differently from the copy tap."
    assert found.doubts == {"#2": doubt, "#3": doubt}


class WrongForTheCaller(Half):
    """Gives output `mid` with its elements moved on by one; with `once` in the untouched model alone."""

    def __init__(self, original: Model, faults: dict[int, Fault], *, once: bool = False) -> None:
        super().__init__(original, faults)
        self.wrong = is_untouched(original) if once else lambda job: True

    def finished(self, outputs: dict[str, Array], job: Job) -> dict[str, Array]:
        if self.wrong(job):
            outputs["mid"] = np.roll(outputs["mid"], 1, -1)
        return outputs


def test_a_reshape_that_is_an_output_and_was_left_out_of_the_first_reading_is_named_alone(find: Localize) -> None:
    graph = GraphBuilder()
    t = graph.reshape(graph.unary("TANH", graph.input("x", (1, 32))), (4, 8))
    graph.output(t, "mid")
    t = graph.unary("EXP", t)
    graph.output(graph.unary("TANH", graph.binary("ADD", t, t)), "y")
    model = graph.build()
    answer = find(Half(model, {model.graph().ops[1].outputs[0]: SHIFTED}), model, tap_budget=384)
    assert [(c.record.first, c.record.index) for c in answer.culprits] == [(1, 1)], answer.notes
    assert (answer.certified, answer.device_compiles, answer.notes) == (True, 3, ())
