"""Models that take the device down: the op that does it is found by windows, explained and mended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.core.errors import DeviceDied, DeviceError
from harness.core.job import Crashed, Job, Options, Outcome, Rejected, TimedOut
from harness.core.run_folder import RunFolder
from harness.devices.base import Sink
from harness.devices.refusal import COMPLAINED
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.case import Case
from harness.localize.base.comparison import Workbench
from harness.localize.base.result import Localization
from harness.localize.explain.explainer import explain
from harness.localize.find.crash_search import find_fatal, find_unsteady
from harness.localize.find.localizer import localize
from tests.localize.broken import Broken, Deadly, unsteady
from tests.localize.planted import InProcess

CRASHED, HUNG = Crashed("SIGSEGV in the delegate", "SIGSEGV"), TimedOut(60)


def chain() -> Model:
    """9 ops, of which #4 multiplies a tensor by itself."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 8, 8))
    for kind in ("TANH", "ABS", "EXP", "TANH"):
        x = graph.unary(kind, x)
    x = graph.batch_matmul(x, x)
    for kind in ("TANH", "ABS", "EXP", "TANH"):
        x = graph.unary(kind, x)
    graph.output(x, "y")
    return graph.build()


def squares_itself(model: Model) -> bool:
    return any(op.name == "BATCH_MATMUL" and op.inputs[0] == op.inputs[1] for op in model.graph().ops)


def exp_behind_abs(model: Model) -> bool:
    graph = model.graph()
    makers = [graph.producer.get(op.inputs[0]) for op in graph.ops if op.name == "EXP"]
    return any(m is not None and graph.ops[m].name == "ABS" for m in makers)


Find = Callable[..., Localization | None]


@pytest.fixture
def find(tmp_path: Path) -> Find:
    def run(device: Deadly, *, then: bool = False) -> Localization | None:
        model = chain()
        case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
        with RunFolder.create(tmp_path, "localize", "deadly", device.name) as folder:
            bench = Workbench(device, InProcess(), folder)
            found = find_fatal(bench, case, tmp_path / "scratch")
            return explain(bench, case, found) if then and found else found

    return run


@pytest.mark.parametrize(("outcome", "cause"), [(CRASHED, "crash"), (HUNG, "hang")])
def test_the_op_that_takes_the_device_down_is_named(find: Find, outcome: Crashed | TimedOut, cause: str) -> None:
    found = find(Deadly(squares_itself, outcome))
    assert found is not None
    assert found.status == "culprits"
    assert [(c.record.first, c.record.index, c.record.op, c.cause) for c in found.culprits] == [
        (4, 4, "BATCH_MATMUL", cause)
    ]
    assert found.culprits[0].isolated
    (culprit,) = found.to_json()["culprits"]
    assert culprit["local_error"] is None


def test_what_the_device_did_before_is_not_counted(find: Find) -> None:
    fresh, used = Deadly(squares_itself, CRASHED), Deadly(squares_itself, CRASHED)
    used.compiles = used.runs = 3
    counts = [(found.device_compiles, found.device_runs) for found in map(find, (fresh, used)) if found is not None]
    assert counts[0] == counts[1]
    assert min(counts[0]) > 0


def test_ops_that_do_it_together_are_named_together_and_each_time(find: Find) -> None:
    found = find(Deadly(exp_behind_abs, CRASHED))
    assert found is not None
    assert [(c.record.first, c.record.index) for c in found.culprits] == [(1, 2), (6, 7)]


def test_a_part_that_is_refused_for_a_limit_was_not_run_and_is_not_cleared(find: Find) -> None:
    """By itself it has inputs that it has not in the model, and they may be too large."""

    words = "Dispatch workgroup count Z (65544) exceeds max compute workgroups per dimension (65535)"

    class Refusing(Deadly):
        def run(self, job: Job, sink: Sink | None = None) -> Outcome:
            model = Model.from_bytes(job.model)
            if job.options.accelerator == "gpu" and squares_itself(model) and len(model.graph().ops) < 9:
                return Rejected(f"{COMPLAINED}{words}", ())
            return super().run(job, sink)

    found = find(Refusing(lambda model: squares_itself(model) or exp_behind_abs(model), CRASHED))
    assert found is not None
    assert [(c.record.first, c.record.index) for c in found.culprits] == [(1, 2), (6, 7)]
    assert found.notes[1:] == ("1 stretch of ops could not be resolved on the device.",)


def test_what_takes_the_device_down_is_shrunk_and_mended(find: Find) -> None:
    found = find(Deadly(squares_itself, CRASHED), then=True)
    assert found is not None
    (culprit,) = found.culprits
    assert culprit.cause == "crash"
    folder = Path(culprit.reproducer or "")
    assert [op.name for op in Model.load(folder / "model.tflite").graph().ops] == ["BATCH_MATMUL"]
    assert not (folder / "actual.npz").exists()
    page = (folder / "ISSUE.md").read_text()
    assert "ends the process" in page
    assert "actual.npz" not in page
    assert "(no delegate); there is nothing from the GPU." in page
    works = [remedy.name for remedy in culprit.remedies if remedy.ok]
    assert "copies between the op and its neighbours" in works
    assert "these ops on the CPU, between GPU parts" in works


def test_the_op_that_is_never_the_same_is_named_and_shown(tmp_path: Path) -> None:
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 8, 8)))
    for _ in range(3):
        x = graph.unary("ABS", x)
    graph.output(graph.unary("ABS", graph.batch_matmul(x, x)), "y")
    model = graph.build()
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    with RunFolder.create(tmp_path, "localize", "unsteady", "broken") as folder:
        bench = Workbench(Broken(unsteady("BATCH_MATMUL")), InProcess(), folder)
        assert localize(bench, case).differs
        found = find_unsteady(bench, case, tmp_path / "scratch")
        assert found is not None
        assert [(c.record.first, c.record.index, c.cause) for c in found.culprits] == [(4, 4, "nondeterministic")]
        (culprit,) = explain(bench, case, found).culprits
    assert culprit.cause == "nondeterministic"
    folder_of = Path(culprit.reproducer or "")
    assert [op.name for op in Model.load(folder_of / "model.tflite").graph().ops] == ["BATCH_MATMUL"]
    script = (folder_of / "reproduce.py").read_text()
    assert "other values each time" in script
    assert len(script.splitlines()) <= 30


def test_a_model_that_runs_after_all_is_no_such_case(find: Find) -> None:
    assert find(Deadly(lambda model: False, CRASHED)) is None


def test_a_steady_model_is_not_searched(tmp_path: Path) -> None:
    model = chain()
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    with RunFolder.create(tmp_path, "localize", "steady", "deadly") as folder:
        bench = Workbench(Deadly(lambda model: False, CRASHED), InProcess(), folder)
        assert find_unsteady(bench, case, tmp_path / "scratch") is None
        assert bench.device.compiles == 1


def test_a_crash_of_the_untouched_model_is_told_from_a_refusal(tmp_path: Path) -> None:
    model = chain()
    case = Case(model, random_inputs(model.graph(), 0), Options(), timeout=60)
    with (
        pytest.raises(DeviceDied, match="SIGSEGV"),
        RunFolder.create(tmp_path, "localize", "deadly", "deadly") as folder,
    ):
        localize(Workbench(Deadly(squares_itself, CRASHED), InProcess(), folder), case)
    assert issubclass(DeviceDied, DeviceError)
