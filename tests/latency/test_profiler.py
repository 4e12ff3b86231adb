"""The runtime's own profiler: what becomes of its events, and of a process that has none to give."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.devices.host import log_file
from harness.graph.build import GraphBuilder
from harness.graph.model import Graph, Model
from harness.latency import profiler, profiler_process
from harness.latency.measure import Plan, Subject
from harness.latency.profile_record import Profile, Unprofiled
from harness.latency.profiler import Nonsense, ProfilerEvent, profile, rows_of, summarize

PLAN = Plan(samples=24, seconds=0.0, timeout=120.0)


def reversing() -> Model:
    """A layer, an op that XNNPACK does not take, and a layer."""
    graph = GraphBuilder()
    weights = np.eye(16, dtype=np.float32)
    hidden = graph.fully_connected(graph.input("x", (4, 16)), weights)
    hidden = graph.op("REVERSE_V2", [hidden, graph.constant(np.array([1], np.int32))], (4, 16))
    graph.output(graph.unary("TANH", graph.fully_connected(hidden, weights)), "y")
    return graph.build()


@pytest.fixture
def graph() -> Graph:
    return reversing().graph()


def said(us: list[float], events: list[Any] | None = None, run: float = 100.0, bare: float = 50.0) -> dict[str, Any]:
    """An answer of eight rounds of three inferences, all alike; times in microseconds."""
    events = events or [("op", "REVERSE_V2", 1, 0)]
    walls = [[int(value * 1e3)] * 3 for value in (run, bare)]
    return {"events": events, "us": [[us] * 3] * 8, "profiled_ns": [walls[0]] * 8, "bare_ns": [walls[1]] * 8}


def test_an_op_is_told_by_the_runtimes_index_and_name_both(graph: Graph) -> None:
    events = [
        ProfilerEvent("op", "FULLY_CONNECTED", 0, 0),
        ProfilerEvent("op", "TfLiteXNNPackDelegate", 1, 0),
        ProfilerEvent("op", "TfLiteXNNPackDelegate", 4, 0),
    ]
    assert list(rows_of(events, graph)) == [
        ("op", "FULLY_CONNECTED", 0, None),
        ("node", "TfLiteXNNPackDelegate", 1, 0),
        ("node", "TfLiteXNNPackDelegate", 4, 1),
    ]


def test_a_delegates_operators_count_up_in_each_of_its_nodes(graph: Graph) -> None:
    events = [
        ProfilerEvent("delegate", "a", 0, 0),
        ProfilerEvent("delegate", "b", 1, 0),
        ProfilerEvent("delegate", "a", 0, 0),
    ]
    events += [ProfilerEvent("op", "REVERSE_V2", 1, 0), ProfilerEvent("delegate", "c", 2, 0)]
    assert [key[3] for key in rows_of(events, graph)] == [0, 0, 1, None, 2]


def test_what_runs_inside_of_an_op_is_not_counted_beside_it(graph: Graph) -> None:
    events = [
        ProfilerEvent("op", "REVERSE_V2", 1, 0),
        ProfilerEvent("op", "ADD", 0, 1),
        ProfilerEvent("delegate", "TanH", 0, 2),
    ]
    assert rows_of(events, graph) == {("op", "REVERSE_V2", 1, None): [0]}


def test_the_figures_of_an_answer(graph: Graph) -> None:
    events = [("delegate", "Fully Connected", 0, 0), ("op", "REVERSE_V2", 1, 0), ("delegate", "TanH", 0, 0)]
    found = summarize(said([40, 7, 30], events), graph, "cpu")
    assert [(row.kind, row.index, row.node, row.us.p50) for row in found.rows] == [
        ("delegate", 0, 0, 40.0),
        ("op", 1, None, 7.0),
        ("delegate", 0, 1, 30.0),
    ]
    assert (found.ops, found.delegated, found.nodes, found.samples) == (4, 3, 2, 24)
    assert (found.profiled.p50, found.bare.p50, found.outside.p50) == (100.0, 50.0, 23.0)
    assert found.cost.value == pytest.approx(2.0)


def test_events_that_add_up_to_more_than_the_run_are_not_believed(graph: Graph) -> None:
    assert summarize(said([102]), graph, "cpu").outside.p50 == 0.0  # whole microseconds by another clock
    with pytest.raises(Nonsense, match="103 µs in a run of 100 µs"):
        summarize(said([103]), graph, "cpu")


def test_one_inference_of_many_is_enough_not_to_be_believed(graph: Graph) -> None:
    answer = said([50])
    answer["us"][5] = [[50], [50], [5000]]
    with pytest.raises(Nonsense, match="5000 µs"):
        summarize(answer, graph, "cpu")


def test_a_delegate_among_the_built_in_kernels_is_not_believed(graph: Graph) -> None:
    with pytest.raises(Nonsense, match="built-in"):
        summarize(said([5], [("delegate", "TanH (NC)", 0, 0)]), graph, "reference")


@pytest.mark.parametrize("us", [[1, 2], [-1], [float("nan")], ["soon"]])
def test_what_is_no_answer_is_refused(graph: Graph, us: list[Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        summarize(said(us), graph, "cpu")


def test_xnnpacks_operators_are_its_own(subject: Callable[..., Subject]) -> None:
    found = profile(subject("host", 3), PLAN)
    assert isinstance(found, Profile)
    assert (found.ops, found.delegated, found.nodes) == (6, 6, 1)
    assert {row.kind for row in found.rows} == {"delegate"}
    assert any("Fully Connected" in row.name for row in found.rows)
    assert found.samples >= PLAN.samples


def test_the_built_in_kernels_are_the_models_ops(subject: Callable[..., Subject]) -> None:
    found = profile(subject("host", 3, accelerator="reference"), PLAN)
    assert isinstance(found, Profile)
    assert [(row.index, row.name) for row in found.rows] == list(enumerate(["FULLY_CONNECTED", "TANH"] * 3))
    assert (found.delegated, found.nodes) == (0, 0)


def test_an_op_that_the_delegate_leaves_is_named_between_its_nodes(subject: Callable[..., Subject]) -> None:
    found = profile(subject("host", model=reversing()), PLAN)
    assert isinstance(found, Profile)
    assert [(row.index, row.name) for row in found.rows if row.kind == "op"] == [(1, "REVERSE_V2")]
    assert (found.ops, found.delegated, found.nodes) == (4, 3, 2)


def test_inputs_that_do_not_fit_are_refused_before_they_are_copied(subject: Callable[..., Subject]) -> None:
    fit = subject("host")
    short = replace(fit, inputs={name: values[..., :-1] for name, values in fit.inputs.items()})
    found = profile(short, PLAN)
    assert isinstance(found, Unprofiled)
    assert "an input came with 65280 bytes, and takes 65536" in found.reason


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import os; os.kill(os.getpid(), 11)", "was ended by SIGSEGV"),
        ("import os; os.kill(os.getpid(), 40)", "was ended by signal 40"),
        ("raise SystemExit(3)", "ended with exit code 3 (no word)"),
        ("raise OSError('of its own')", "ended with exit code 1 (OSError: of its own)"),
        ("import time; time.sleep(60)", "gave no answer within 1 s"),
        ("print('INFO: hello')", "is no JSON"),
        ("print('[' * 100000)", "is no JSON (nested"),
        ("print('[]')", "is no JSON object"),
        ("print('{}')", "no answer that can be read (KeyError: 'events')"),
        ("print('x' * 2000)", "its answer is over 0 MiB"),
        ("while True: print('endless' * 3000)", "its answer is over 64 MiB"),
        ('print(\'{"error": "LiteRtCreateEnvironment gave status 2"}\')', "not read: LiteRtCreateEnvironment gave"),
    ],
)
def test_a_process_that_comes_to_nothing_is_a_sentence(
    script: str, reason: str, subject: Callable[..., Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "process.py"
    file.write_text(script)
    monkeypatch.setattr(profiler_process, "__file__", str(file))
    if "2000" in script:
        monkeypatch.setattr(profiler, "ANSWER_BYTES", 1000)
    found = profile(subject("host"), replace(PLAN, timeout=1.0 if "sleep" in script else 60.0))
    assert isinstance(found, Unprofiled)
    assert reason in found.reason
    assert found.reason.startswith("The runtime's profiler ")
    assert found.reason.endswith(".")


def test_a_process_that_logs_without_an_end_fills_no_disk(
    subject: Callable[..., Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "process.py"
    file.write_text("import sys, time\nwhile True: sys.stderr.write('endless ' * 65536); time.sleep(0.02)")
    monkeypatch.setattr(profiler_process, "__file__", str(file))
    monkeypatch.setattr(log_file, "MOST", 1 << 20)
    monkeypatch.setattr(log_file, "WATCH_SECONDS", 0.01)
    logs: list[str] = []

    class Watched(log_file.LogFile):
        def since(self, mark: int) -> str:
            logs.append(super().since(mark))
            assert self.path.stat().st_size < 32 << 20
            return logs[-1]

    monkeypatch.setattr(profiler, "LogFile", Watched)
    found = profile(subject("host"), replace(PLAN, timeout=3.0))
    assert isinstance(found, Unprofiled)
    assert "gave no answer within 3 s" in found.reason
    (log,) = logs
    assert log.splitlines()[0].endswith(" bytes of log before this were not kept]")


def test_without_room_for_its_files_there_is_a_sentence_too(
    subject: Callable[..., Subject], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    found = profile(subject("host"), PLAN)
    assert isinstance(found, Unprofiled)
    assert f"be made in {tmp_path / 'missing'} (No such file or directory)" in found.reason


class Slow:
    """A runtime, a model and a profiler whose inferences take 2 s each by their own account."""

    names: tuple[Any, ...] = ()

    def __init__(self, *given: Any) -> None:
        pass

    def load(self, path: str) -> Slow:
        return self

    def options(self, *given: Any) -> None:
        return None

    def run(self) -> int:
        return 2_000_000_000


@pytest.mark.parametrize(("timeout", "fits"), [(127.0, False), (140.0, True)])
def test_inferences_that_take_too_long_are_not_begun(
    timeout: float, fits: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Runtime", "ProfiledModel"):
        monkeypatch.setattr(profiler_process, name, Slow)
    begun = []

    class Watched(Slow):
        def run(self) -> Any:
            begun.append(1)
            return 2_000_000_000, []

    monkeypatch.setattr(profiler_process, "Profiler", Watched)
    request = {"model": "", "inputs": [], "threads": 1, "plain": False, "samples": 24, "seconds": 0}
    if fits:
        profiler_process.answer(request | {"timeout": timeout})
        assert len(begun) == 32
    else:
        with pytest.raises(profiler_process.ProfilerFailure, match="64 inferences of 2 s do not fit into the 127 s"):
            profiler_process.answer(request | {"timeout": timeout})
        assert not begun


@pytest.mark.parametrize(("device", "accelerator"), [("pixel8a", "cpu"), ("host", "gpu"), ("host@2.1.5", "gpu")])
def test_elsewhere_no_process_is_started(
    device: str, accelerator: str, subject: Callable[..., Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiler, "_ask", None)
    found = profile(subject(device, accelerator=accelerator), PLAN)
    assert isinstance(found, Unprofiled)
