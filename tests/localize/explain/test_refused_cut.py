"""A phone's log that cuts the list of refused ops off: what single ops say completes it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import pytest

from harness.core.errors import DeviceRefused
from harness.core.job import Completed, Crashed, Job, Options, Outcome, Rejected, TimedOut
from harness.devices.base import Device
from harness.devices.execute import UNTOUCHED, failure
from harness.devices.planted.catalogue import bugs_of
from harness.devices.planted.device import compiled
from harness.devices.refusal import explain_refusal
from harness.devices.residency import MESSAGE_BYTES, residency_of
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from harness.localize.base import placement
from harness.localize.base.placement import find_placement
from harness.localize.explain.refused import Refusing
from tests.long_list import ON_CPU, long_list

MODEL = long_list()
GPU = Options()


class Phone:
    """Takes and refuses what a planted phone does, and keeps 1,023 bytes of each list. `instead` are outcomes of parts
    by the kind of their op."""

    name = "phone"
    asks_again = False

    def __init__(self, *, cuts: bool = True, instead: dict[str, Outcome] | None = None) -> None:
        self.cuts, self.instead = cuts, instead or {}
        self.parts: list[list[str]] = []

    def run(self, job: Job, sink: Any = None) -> Outcome:
        assert (job.iterations, job.outputs, job.inputs) == (0, (), {})
        model = Model.from_bytes(job.model)
        kinds = [op.name for op in model.graph().ops]
        if len(kinds) < 3:
            self.parts.append(kinds)
            if other := self.instead.get(kinds[-1]):
                return other
        done = compiled(model, bugs_of("planted:refusals"), job.options)
        log = self._kept(done.log)
        if isinstance(done, Rejected):
            return Rejected(*explain_refusal("Failed to compile model", log), log)
        residency = residency_of(log, done.residency.full, shared=job.options.fallback == "cpu")
        return Completed({}, residency, (), 1, True, "2.3.0", "", log)

    def _kept(self, log: str) -> str:
        """The log as Android keeps it: the list is one message, the line on the division another one."""
        told, mark, divided = log.partition("INFO: Replacing")
        told = told.removeprefix("ERROR: ")
        kept = told.encode()[:MESSAGE_BYTES].decode() if self.cuts else told
        return f"ERROR: {kept}\n{mark}{divided}"


def refusing(device: Phone) -> Refusing:
    return Refusing(cast(Device, device), MODEL, GPU, 60)


def refused(device: Phone) -> Rejected:
    outcome = device.run(Job(MODEL.to_bytes(), MODEL.sha256, {}, (), iterations=0))
    assert isinstance(outcome, Rejected)
    return outcome


WHOLE = refused(Phone(cuts=False))


def test_the_list_is_whole_and_says_what_was_not_in_the_log() -> None:
    device = Phone()
    outcome = refused(device)
    assert 0 < len(outcome.ops) < 8 and {line.partition(":")[0] for line in outcome.ops} == {"ABS"}
    found = refusing(device).ops(outcome)
    assert set(found.lines) == set(WHOLE.ops) and len(found.lines) == len(WHOLE.ops)
    assert found.lines[: len(outcome.ops)] == outcome.ops
    assert (found.asked, found.whole) == (found.lines[len(outcome.ops) :], True)
    assert found.sentence == (
        "The phone's log cuts that list off after 1,023 bytes. Not in it, and refused when compiled by themselves: "
        f"ABS (rank over 4, {12 - len(outcome.ops)} tensors), RESHAPE (rank over 4, 2 tensors), TANH (rank over 4)."
    )


def test_each_form_of_the_kinds_that_could_follow_is_asked_once() -> None:
    """The list is sorted, so ABS may follow, RESHAPE, TANH and, in rank 2, RELU."""
    device = Phone()
    refusing(device).ops(refused(device))
    assert sorted(device.parts) == [["ABS"], ["RELU"], ["RESHAPE"], ["RESHAPE"], ["TANH"]]


def test_kinds_that_sort_before_the_last_line_are_not_asked() -> None:
    device = Phone()
    outcome = refused(device)
    ops = tuple(line.replace("ABS: ", "SQUARE: ") for line in outcome.ops)
    refusing(device).ops(Rejected("no", ops, outcome.log))
    assert device.parts == [["TANH"]]


def test_a_list_that_is_out_of_order_excludes_no_kind() -> None:
    device = Phone()
    outcome = refused(device)
    refusing(device).ops(Rejected("no", ("TANH: no", *outcome.ops), outcome.log))
    assert sorted(device.parts) == [["ABS"], ["RELU"], ["RESHAPE"], ["RESHAPE"], ["TANH"]]


def test_a_whole_list_is_asked_about_no_op() -> None:
    device = Phone(cuts=False)
    found = refusing(device).ops(refused(device))
    assert (found.lines, found.asked, found.sentence, device.parts) == (WHOLE.ops, (), "", [])


@pytest.mark.parametrize(
    ("answer", "asked_on"), [(Crashed("it died"), True), (Rejected("no room on the disk"), True), (TimedOut(60), False)]
)
def test_what_gives_no_answer_leaves_the_list_open_and_that_is_said(answer: Outcome, asked_on: bool) -> None:
    device = Phone(instead={"RESHAPE": answer})
    found = refusing(device).ops(refused(device))
    assert not found.whole
    assert found.sentence.endswith(" Not every op that could follow gave an answer, so there may be more.")
    assert any(line.startswith("TANH: ") for line in found.asked) is asked_on
    assert not any(line.startswith("RESHAPE: ") for line in found.asked)


def test_so_many_forms_are_asked_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "MOST_COMPILES", 2)
    device = Phone()
    found = refusing(device).ops(refused(device))
    assert (len(device.parts), found.whole) == (2, False)


def test_the_sentence_of_a_refused_model_has_the_whole_list() -> None:
    device = Phone()
    error = failure("phone", refused(device), UNTOUCHED)
    assert isinstance(error, DeviceRefused) and "and more ops, which the log leaves out" in error.message
    told = refusing(device).explained(error)
    assert isinstance(told, DeviceRefused)
    every = "ABS (rank over 4, 12 tensors), RESHAPE (rank over 4, 2 tensors), TANH (rank over 4)"
    assert told.message.startswith(f"phone rejected the model: the GPU delegate refuses {every}. The phone's log cuts")
    assert told.reason == f"the GPU delegate refuses {every}"
    assert (set(told.ops), told.next_step) == (set(WHOLE.ops), error.next_step)


def test_a_log_without_one_whole_line_is_completed_too() -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("ABS", graph.input("x", (1, 1, 1, 2, 2)), name="long/" * 300), "y")
    model, device = graph.build(), Phone()
    refusing = Refusing(cast(Device, device), model, GPU, 60)
    device.cuts = True
    log = device._kept("ERROR: Following operations are not supported by GPU delegate:\nABS: no. " + "long/" * 300)
    error = failure("phone", Rejected("Failed to compile model", (), log), UNTOUCHED)
    device.instead = {"ABS": Rejected("the GPU delegate refuses ABS (no)", ("ABS: no",))}
    assert isinstance(error, DeviceRefused)
    assert refusing.explained(error).message == (
        "phone rejected the model: Failed to compile model: the GPU delegate refuses ABS (no). The phone's log cuts "
        "that list off after 1,023 bytes. Not in it, and refused when compiled by themselves: ABS (no)."
    )


def test_after_a_crash_the_list_is_completed_as_well() -> None:
    device = Phone()
    outcome = Crashed("it died", "SIGSEGV", refused(device).log)
    device.instead = {"SQUARE": Crashed("it died", "SIGSEGV")}
    found = refusing(device).ops_of_crash(outcome)
    assert {line.partition(":")[0] for line in found.asked} == {"ABS", "RESHAPE", "TANH"}


def test_where_the_cpu_runs_the_rest_the_ops_are_known_from_a_cut_list() -> None:
    device = Phone()
    shared = find_placement(cast(Device, device), MODEL, Options(fallback="cpu"), 60)
    assert shared.on_cpu is not None and shared.on_cpu >= ON_CPU
    assert (set(shared.residency.refused), shared.residency.cut) == (set(WHOLE.ops), False)
    assert shared == replace(
        find_placement(cast(Device, Phone(cuts=False)), MODEL, Options(fallback="cpu"), 60), residency=shared.residency
    )


def test_where_an_op_gives_no_answer_the_division_is_open_and_the_sentence_says_that_ops_are_left_out() -> None:
    device = Phone(instead={"TANH": Crashed("it died")})
    found = find_placement(cast(Device, device), MODEL, Options(fallback="cpu"), 60)
    assert (found.on_cpu, found.residency.cut) == (None, True)
    assert "and more ops, which the log leaves out after 1,023 bytes." in found.sentence(MODEL.graph())
