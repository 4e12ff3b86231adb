"""What the tool does wrong ends a job as the app would end it, and the next job works."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from harness.core.job import Crashed, Job, Lost, Options, Rejected, TimedOut
from harness.devices.android.no_app.device import ToolDevice
from harness.devices.execute import make_job
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.standin.conftest import Works
from tests.standin.phone import Phone
from tests.standin.tools.conftest import ONES, Fails, left, tool_runs

CPU = Options("cpu")


OTHER_INPUTS = "run_model did not run on the inputs that it was given"


class TestTheTool:
    @pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL], ids=lambda n: n.name)
    def test_ended_by_a_signal_is_a_crash_with_its_name(
        self, phone: Phone, device: ToolDevice, works: Works, quick: Job, fails: Fails, number: signal.Signals
    ) -> None:
        fails(do="crash", signal=int(number))
        outcome = device.run(quick)
        assert isinstance(outcome, Crashed), outcome
        assert outcome.signal == number.name
        assert outcome.reason.startswith(f"run_model was ended by {number.name}")
        assert left(phone) == []
        fails()
        works()

    def test_that_hangs_is_ended_at_the_deadline(
        self, phone: Phone, device: ToolDevice, works: Works, plus_one: Model, fails: Fails
    ) -> None:
        works()
        fails(do="hang")
        outcome = device.run(make_job(plus_one, {"x": ONES}, CPU, timeout=5))
        assert isinstance(outcome, TimedOut), outcome
        assert not tool_runs(phone) and left(phone) == []
        fails()
        works()

    def test_interrupted_leaves_nothing(
        self, phone: Phone, device: ToolDevice, works: Works, quick: Job, fails: Fails
    ) -> None:
        works()
        fails(do="hang")

        def interrupt() -> None:
            while not tool_runs(phone):
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGINT)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a shell's background ignores it
        try:
            threading.Thread(target=interrupt).start()
            with pytest.raises(KeyboardInterrupt):
                device.run(quick)
        finally:
            signal.signal(signal.SIGINT, before)
        assert not tool_runs(phone) and left(phone) == []
        fails()
        works()

    @pytest.mark.parametrize(
        ("how", "reason"),
        [
            ("short", "output 'y' came as float32 [3], not float32 [1, 4]"),
            ("wild", "run_model printed output 'y' damaged: no such values"),
            ("late", "run_model printed output 'y' damaged: value 1 of output 0 came after 0"),
            ("flood", "run_model said more than the values of its outputs can take"),
            # Where the tool goes on without an input.
            ("unwritten", f"{OTHER_INPUTS}: value 0 of input 0 was 0, not 1"),
            ("unread", f"{OTHER_INPUTS}: value 2 of input 0 was 0, not 1"),
        ],
    )
    def test_that_prints_something_else_is_lost(
        self, phone: Phone, device: ToolDevice, works: Works, quick: Job, fails: Fails, how: str, reason: str
    ) -> None:
        fails(do=how)
        outcome = device.run(quick)
        assert isinstance(outcome, Lost), outcome
        assert outcome.reason == f"{reason}; {phone.serial} is attached and did not reboot"
        fails()
        works()

    def test_that_refuses_a_model_says_why(self, device: ToolDevice, works: Works) -> None:
        graph = GraphBuilder()
        graph.output(graph.binary("ADD", graph.input("x", (1, 4)), graph.constant([1.0])), "y")
        model = graph.build()
        model.root.operatorCodes[0].builtinCode = model.root.operatorCodes[0].deprecatedBuiltinCode = 32
        model.root.operatorCodes[0].customCode = "Unheard"
        model.root.subgraphs[0].operators[0].builtinOptions = None
        model.root.subgraphs[0].operators[0].builtinOptionsType = 0
        model.edited()
        outcome = device.run(make_job(model, {"x": ONES}, CPU, timeout=60))
        assert isinstance(outcome, Rejected), outcome
        assert outcome.reason == "the runtime has no custom op 'Unheard'"
        works()
