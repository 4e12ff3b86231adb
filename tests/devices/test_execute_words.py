"""What goes into a job, and what is said of each way that it can end badly, word for word."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.core.errors import DeviceDied, DeviceError, DeviceRefused, DeviceSilent, UsageError
from harness.core.job import Crashed, Lost, Options, Rejected, TimedOut
from harness.devices import execute
from harness.devices.execute import failure
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.chains import chain

LATE = "the runtime gave up waiting for an output (code=3)"
AGAIN = "Run it again while the machine does nothing else: shaders it has compiled by now are kept."
OWN, LAST = "The runtime's own words are in log.txt.", "The runtime's last words are in log.txt."
DOCTOR = "Run `harness doctor`."
FULL = "Free space there; on the host, that is where TMPDIR points."
BUILTIN = "Replace that op by builtin ones when exporting the model."
AUDIT = "`harness audit` lists what the GPU refuses: --fallback cpu runs it on the CPU, or re-author it."


@pytest.mark.parametrize(
    ("outcome", "kind", "said", "step"),
    [
        (Rejected(LATE), DeviceSilent, f"gave no answer while tapping: {LATE}.", AGAIN),
        (Rejected(LATE, ("ADD: no",), log="x"), DeviceSilent, f"gave no answer while tapping: {LATE}.", AGAIN),
        (Rejected("no"), DeviceRefused, "rejected the model while tapping: no.", DOCTOR),
        (Rejected("no", log="x"), DeviceRefused, "rejected the model while tapping: no.", OWN),
        (
            Rejected("the model cannot be stored (x)", ("CUSTOM: y",), log="x"),
            DeviceRefused,
            "rejected the model while tapping: the model cannot be stored (x).",
            FULL,
        ),
        (Rejected("no", ("ADD: x", "CUSTOM: y")), DeviceRefused, "rejected the model while tapping: no.", BUILTIN),
        (Rejected("no", ("CUSTOM", "ADD: x"), log="x"), DeviceRefused, "rejected the model while tapping: no.", AUDIT),
        (TimedOut(2.5), DeviceSilent, "gave no answer within 2.5 s while tapping and was killed.", "Raise --timeout."),
        (
            TimedOut(2.5, log="x"),
            DeviceSilent,
            "gave no answer within 2.5 s while tapping and was killed.",
            "Raise --timeout, or look at log.txt.",
        ),
        (Crashed("it ended"), DeviceDied, "crashed while tapping: it ended.", DOCTOR),
        (Crashed("it ended.", log="x"), DeviceDied, "crashed while tapping: it ended.", LAST),
        (Lost("it went"), DeviceError, "was lost while tapping: it went.", DOCTOR),
        (Lost("it went", log="x"), DeviceError, "was lost while tapping: it went.", DOCTOR),
    ],
)
def test_each_ending_has_its_kind_its_sentence_and_its_advice(
    outcome: Any, kind: type[DeviceError], said: str, step: str
) -> None:
    error = failure("phone", outcome, "tapping")
    assert type(error) is kind
    assert (error.message, error.next_step, error.log) == (f"phone {said}", step, outcome.log)


def test_a_refusal_of_the_untouched_model_does_not_say_what_was_done_with_it() -> None:
    error = failure("phone", Rejected("no", ("ADD: x",)), "running the model")
    assert isinstance(error, DeviceRefused)
    assert error.message == "phone rejected the model: no."
    assert (error.reason, error.ops, error.doing) == ("no", ("ADD: x",), "running the model")


@pytest.mark.parametrize(
    ("accelerator", "as_stored", "steps"),
    [
        ("reference", False, ["real weights", "builtin ops", "memory"]),
        ("reference", True, ["builtin ops", "memory"]),
        ("cpu", False, []),
        ("gpu", False, []),
        ("gpu", True, []),
    ],
)
def test_only_the_reference_gets_a_model_of_its_own(
    accelerator: Any, as_stored: bool, steps: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def step(name: str) -> Callable[[Model], Model]:
        def passed(model: Model) -> Model:
            done.append(name)
            return model

        return passed

    monkeypatch.setattr(execute, "with_real_weights", step("real weights"))
    monkeypatch.setattr(execute, "with_builtin_ops", step("builtin ops"))
    monkeypatch.setattr(execute, "with_memory_of_their_own", step("memory"))
    job = execute.make_job(chain("RELU"), {}, Options(accelerator), timeout=1.0, as_stored=as_stored)
    assert done == steps
    assert (job.warmup, job.iterations, job.final, len(job.outputs)) == (0, 1, False, 1)
    last = execute.make_job(chain("RELU"), {}, Options(accelerator), timeout=1.0, final=True)
    assert last.final is True


def test_inputs_that_the_model_does_not_have_come_last() -> None:
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("b", (1,)), graph.input("a", (1,))), "y")
    value = np.ones(1, np.float32)
    job = execute.make_job(graph.build(), {"0": value, "a": value, "b": value}, Options("cpu"), timeout=1.0)
    assert list(job.inputs) == ["b", "a", "0"]


def test_a_model_without_outputs_is_misuse() -> None:
    model = chain("RELU")
    model.root.subgraphs[0].outputs = np.asarray([], np.int32)
    model.root.signatureDefs = None
    model.edited()
    with pytest.raises(UsageError) as caught:
        execute.output_ports(model)
    assert caught.value.message == "The model has no outputs."
    assert caught.value.next_step == "Export it with the results that are wanted."
