"""A device that fails on everything says nothing of a model, and no op of it is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.errors import DeviceError, DeviceSilent
from harness.core.job import Completed, Crashed, Job, Lost, Options, Outcome, Rejected, Residency, TimedOut
from harness.core.run_folder import RunFolder
from harness.devices.base import Sink
from harness.devices.worker import NO_READING
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Localization, ModelFacts
from harness.localize.explain.refused import Refusing
from harness.localize.find.crash_search import find_fatal
from harness.localize.find.localizer import localize
from harness.localize.probe import control
from harness.localize.probe.control import DeviceBroken
from tests.chains import chain
from tests.localize.attention import Localize
from tests.localize.broken import Deadly
from tests.localize.planted import GROUP, Half, InProcess

CRASHED = Crashed("SIGABRT in the driver", "SIGABRT", "a log")


MODEL = chain("TANH", "ABS", "EXP", shape=(1, 8, 8))


class Stuck(InProcess):
    """Gives one value for every element of every output, whatever the model."""

    def __init__(self, value: float) -> None:
        super().__init__("stuck")
        self.value = value

    def finished(self, outputs: dict[str, Array], job: Job) -> dict[str, Array]:
        return {name: np.full_like(values, self.value) for name, values in outputs.items()}


class Ends(InProcess):
    """Ends every job so."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__("phone")
        self.outcome = outcome

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.jobs.append(job)
        return self.outcome


class Dying(Deadly):
    """Survives nothing from its `after`th job on."""

    def __init__(self, after: int, dies: Callable[[Model], bool]) -> None:
        super().__init__(dies, CRASHED)
        self.left = after

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        self.left -= 1
        return CRASHED if self.left < 0 else super().run(job, sink)


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[InProcess], Workbench]:
    def made(device: InProcess) -> Workbench:
        return Workbench(device, InProcess(), RunFolder.create(tmp_path, "localize", "chain", device.name))

    return made


def case() -> Case:
    model = MODEL
    return Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.0, "stuck is off by up to 63 in values up to 63 for a model of one RELU as well."),
        (np.nan, "stuck gives 128 of 128 values as NaN or infinity for a model of one RELU as well."),
    ],
)
def test_a_device_that_gives_the_same_for_everything_blames_no_op(
    bench: Callable[[InProcess], Workbench], value: float, said: str
) -> None:
    with pytest.raises(DeviceBroken) as told:
        localize(bench(Stuck(value)), case())
    assert told.value.message == f"{said} So its answers say nothing of this model."
    assert "harness doctor" in told.value.next_step
    assert told.value.exit_code == 3


@pytest.mark.parametrize("broken", [True, False])
def test_an_answer_without_an_op_says_what_the_control_gave(broken: bool) -> None:
    """Nobody was blamed, and the reader learns that it is the device."""
    answer = Localization(
        ModelFacts("", "", 1), {}, "unresolved", False, (), (), (), Residency(True), 1, 1, 1.0, ("It is open.",)
    )
    device = Stuck(0.0) if broken else InProcess()
    said = (
        "stuck is off by up to 63 in values up to 63 for a model of one RELU as well. "
        "So its answers say nothing of this model."
    )
    notes = ("It is open.", said) if broken else ("It is open.",)
    assert control.confirmed(answer, device, Options(), 60).notes == notes


def test_one_that_rounds_in_its_own_way_is_not_broken() -> None:
    class Noisy(InProcess):
        def finished(self, outputs: dict[str, Array], job: Job) -> dict[str, Array]:
            return {name: values * np.float32(1 + 8 * 2.0**-11) for name, values in outputs.items()}

    control.check(Noisy(), Options(), 60)
    with pytest.raises(DeviceBroken):
        control.check(Noisy(), Options(precision="fp32"), 60)


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        (CRASHED, "deadly crashes on a model of one RELU as well: SIGABRT in the driver."),
        (TimedOut(60), "deadly hangs on a model of one RELU as well: no answer within 60 s."),
    ],
)
def test_a_device_that_survives_nothing_blames_no_op(
    bench: Callable[[InProcess], Workbench], tmp_path: Path, outcome: Crashed | TimedOut, said: str
) -> None:
    with pytest.raises(DeviceBroken) as told:
        find_fatal(bench(Deadly(lambda model: True, outcome)), case(), tmp_path / "scratch")
    assert told.value.message == f"{said} So its answers say nothing of this model."
    assert told.value.log == outcome.log


def test_nor_does_one_that_breaks_on_the_way(bench: Callable[[InProcess], Workbench], tmp_path: Path) -> None:
    device = Dying(4, lambda model: any(op.name == "ABS" for op in model.graph().ops))
    with pytest.raises(DeviceBroken, match="crashes on a model of one RELU"):
        find_fatal(bench(device), case(), tmp_path / "scratch")


def test_a_runtime_that_refuses_everything_refuses_no_op() -> None:
    refusing = Refusing(Ends(Rejected("No GPU", (), "a log")), MODEL, Options(), 10)
    with pytest.raises(DeviceBroken, match="phone refuses a model of one RELU as well: No GPU"):
        refusing.ops(Rejected("No GPU"))


def test_a_driver_that_crashes_while_anything_compiles_blames_no_op() -> None:
    with pytest.raises(DeviceBroken, match="phone crashes on a model of one RELU as well"):
        Refusing(Ends(CRASHED), MODEL, Options(), 10).ops_of_crash(CRASHED)


@pytest.mark.parametrize("outcome", [Lost("unplugged"), Rejected(f"{NO_READING} of y")])
def test_a_device_that_is_lost_or_slow_is_not_called_broken(outcome: Outcome) -> None:
    with pytest.raises(DeviceError) as told:
        control.check(Ends(outcome), Options(), 10)
    assert not isinstance(told.value, DeviceBroken)
    assert isinstance(told.value, DeviceSilent) == isinstance(outcome, Rejected)


def test_the_control_is_asked_as_the_model_was_and_no_longer_than_it_needs() -> None:
    device = InProcess()
    control.check(device, Options(precision="fp32", fallback="cpu"), 600)
    (job,) = device.jobs
    assert (job.options.precision, job.options.fallback, job.timeout) == ("fp32", "none", 60)
    compiled = Ends(Completed({}, Residency(True), (), 0, True, "1", "", ""))
    control.check(compiled, Options(), 7, compiled=True)
    (job,) = compiled.jobs
    assert (job.timeout, job.iterations, job.outputs, job.inputs) == (7, 0, (), {})


def test_it_is_in_no_count_of_compiles(find: Localize) -> None:
    model = MODEL
    device = Half(model, {model.graph().ops[1].outputs[0]: GROUP})
    found = find(device, model)
    assert [c.record.index for c in found.culprits] == [1]
    assert device.compiles == found.device_compiles + 1
    assert isinstance(device.run(device.jobs[-1]), Completed)


def test_a_model_that_passes_needs_none(find: Localize) -> None:
    device = Half(MODEL, {})
    assert find(device, MODEL).status == "pass"
    assert all("control_in" not in job.inputs for job in device.jobs)
