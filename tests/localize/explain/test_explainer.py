"""Explaining culprits of devices with known faults: the cause, the smallest model that shows it, what mends it."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Completed, Job, Options, Outcome
from harness.devices.base import Sink
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model, Op
from harness.graph.rebuild import Rebuild
from harness.localize.base.result import Culprit, Localization
from harness.localize.explain.investigate import RATE_RUNS, Group, Investigator
from harness.localize.explain.reproducer import op_line
from harness.localize.probe.experiment import Experiments, Specimen
from harness.numerics.fp16 import LARGEST
from tests.localize.broken import Broken, behind, imprecise, in_rank, long_sums, rolled, zeroed
from tests.localize.explain.conftest import Explain
from tests.localize.planted import InProcess, evaluated

# A relative error of up to 16 roundings of float16: some 27 times what storing operands and result costs a sum.
NEAR_THE_LIMIT = 16 * 2.0**-11


def padded() -> Model:
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.input("x", (4, 6, 32)))
    graph.output(graph.unary("TANH", graph.pad(x, [(0, 0), (1, 2), (0, 0)])), "y")
    return graph.build()


def only(answer: Localization) -> Culprit:
    (culprit,) = answer.culprits
    return culprit


def reproducer(culprit: Culprit) -> Model:
    assert culprit.reproducer is not None
    return Model.load(Path(culprit.reproducer) / "model.tflite")


def test_a_kernel_that_is_wrong_in_one_rank_is_mended_by_others_that_mean_the_same(explained: Explain) -> None:
    device = Broken(in_rank(3, rolled("PAD")))
    answer = explained(device, padded())
    culprit = only(answer)
    assert (culprit.record.op, culprit.cause, culprit.isolated) == ("PAD", "kernel", True)
    assert culprit.signature == "shifted by 1 along axis 0"
    assert [(t.what, t.ending) for t in culprit.trials] == [
        ("alone, on the exact inputs", "wrong"),
        ("the same in float32", "wrong"),
        ("in float16 with float32 sums", "wrong"),
        ("on the device's CPU", "right"),
    ]
    verdicts = {remedy.name: remedy.ok for remedy in culprit.remedies}
    assert verdicts == {
        "PAD as CONCATENATION": True,
        "the op in rank 4": True,
        "these ops on the CPU, between GPU parts": True,
        "float32 throughout": False,
        "float16 with float32 sums": False,
    }
    assert [remedy.ok for remedy in culprit.remedies] == [True, True, True, False, False]
    assert answer.explanation is not None
    assert answer.explanation.device_compiles > 0


def test_the_reproducer_is_one_op_of_the_least_size_without_a_file_of_inputs(explained: Explain) -> None:
    culprit = only(explained(Broken(in_rank(3, rolled("PAD"))), padded()))
    graph = reproducer(culprit).graph()
    assert [op.name for op in graph.ops] == ["PAD"]
    shape = graph.tensors[graph.inputs[0].tensor].shape
    assert shape is not None
    assert np.prod(shape) <= 8
    folder = Path(culprit.reproducer or "")
    assert sorted(p.name for p in folder.iterdir()) == [
        "ISSUE.md", "actual.npz", "expected.npz", "model.tflite", "reproduce.py",
    ]  # fmt: skip


def test_what_the_reproducer_expects_is_right_and_what_it_got_is_not(explained: Explain) -> None:
    culprit = only(explained(Broken(in_rank(3, rolled("PAD"))), padded()))
    folder = Path(culprit.reproducer or "")
    script = (folder / "reproduce.py").read_text()
    assert len(script.splitlines()) <= 30
    assert {name for node in ast.walk(ast.parse(script)) for name in _imported(node)} == {
        "sys", "pathlib", "numpy", "ai_edge_litert.compiled_model",
    }  # fmt: skip
    (line,) = [line for line in script.splitlines() if line.startswith('inputs["x0"]')]
    inputs = {"x0": eval(line.split("=", 1)[1], {"np": np})}  # noqa: S307 - this test's own script
    (expected,) = np.load(folder / "expected.npz").values()
    (actual,) = np.load(folder / "actual.npz").values()
    (right,) = evaluated(reproducer(culprit).to_bytes(), inputs).values()
    np.testing.assert_array_equal(right, expected)
    assert np.abs(actual - expected).max() > 0.1


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []


def test_the_page_says_what_an_issue_needs(explained: Explain) -> None:
    page = (Path(only(explained(Broken(rolled("PAD")), padded())).reproducer or "") / "ISSUE.md").read_text()
    assert page.startswith("# PAD gives wrong results on the GPU (in process)")
    for wanted in (
        "ai-edge-litert 2.3.0",
        "| y0 |",
        "python reproduce.py",
        "PAD(x0[",
        "| PAD as CONCATENATION | right |",
    ):
        assert wanted in page


class Fickle(Broken):
    """Gives zeros for a whole model with its PAD as CONCATENATION: the first time it is asked, or from then on."""

    def __init__(self, *, first: bool) -> None:
        super().__init__(in_rank(3, rolled("PAD")))
        self.first, self.last = first, ""

    def run(self, job: Job, sink: Sink | None = None) -> Outcome:
        begins, self.last = job.sha256 != self.last, job.sha256
        outcome = super().run(job, sink)
        ops = {op.name for op in Model.from_bytes(job.model).graph().ops}
        if {"CONCATENATION", "TANH"} <= ops and begins == self.first and isinstance(outcome, Completed):
            return replace(outcome, outputs={name: values * 0 for name, values in outcome.outputs.items()})
        return outcome


def test_nothing_is_called_right_where_the_exact_result_is_nowhere_finite() -> None:
    graph = GraphBuilder()
    graph.output(graph.unary("LOG", graph.input("x", (1, 8))), "y")
    specimen = Specimen(graph.build(), {"x": np.full((1, 8), -1.0, np.float32)})
    seen = Experiments(InProcess(), InProcess(), timeout=60).observe(specimen, Options())
    assert (seen.ending, seen.reason) == ("impossible", "the exact result is NaN or infinite throughout")


def test_a_custom_ops_name_cannot_write_into_the_page() -> None:
    graph = GraphBuilder()
    x = graph.input("x", (1, 8))
    graph.output(graph.op("CUSTOM", [x], (1, 8), custom="a\n# b|c"), "y")
    assert op_line(graph.build(), 0) == "y[1,8] = a # b/c(x[1,8])"


def test_infinities_in_the_same_places_are_the_same_answer_again() -> None:
    """Squares beyond float16's range, asked twice."""
    graph = GraphBuilder()
    graph.output(graph.unary("SQUARE", graph.input("x", (1, 8))), "y")
    specimen = Specimen(graph.build(), {"x": np.full((1, 8), 400.0, np.float32)})
    seen = Experiments(Overflowing(), InProcess(), timeout=60).observe(specimen, Options(), runs=2)
    assert (seen.ending, seen.repeatable) == ("wrong", True)


class Overflowing(InProcess):
    """Gives infinity where float16 ends."""

    def finished(self, outputs: dict[str, Array], job: Job) -> dict[str, Array]:
        return {name: np.where(values > 65504, np.float32(np.inf), values) for name, values in outputs.items()}


@pytest.mark.parametrize("first", [True, False])
def test_a_remedy_that_is_right_in_one_of_two_runs_is_none(explained: Explain, first: bool) -> None:
    culprit = only(explained(Fickle(first=first), padded()))
    verdicts = {remedy.name: remedy.ok for remedy in culprit.remedies}
    assert (verdicts["PAD as CONCATENATION"], verdicts["the op in rank 4"]) == (False, True)


def test_a_written_remedy_computes_what_the_model_did(explained: Explain) -> None:
    culprit = only(explained(Broken(in_rank(3, rolled("PAD"))), padded()))
    written = {r.name: Path(r.path) for r in culprit.remedies if r.path}
    inputs = random_inputs(padded().graph(), 0)
    (right,) = evaluated(padded().to_bytes(), inputs).values()
    for name in ("PAD as CONCATENATION", "the op in rank 4"):
        (values,) = evaluated(Model.load(written[name]).to_bytes(), inputs).values()
        np.testing.assert_allclose(values, right, rtol=1e-6)
    parts = sorted(p.name for p in written["these ops on the CPU, between GPU parts"].iterdir())
    assert parts == ["chain.json", "chain.py", "part-0-gpu.tflite", "part-1-cpu.tflite", "part-2-gpu.tflite"]


def products() -> Model:
    graph = GraphBuilder()
    a, b = graph.input("a", (2, 4, 256)), graph.input("b", (2, 256, 4))
    first = graph.batch_matmul(a, b)
    graph.output(graph.batch_matmul(graph.unary("ABS", first), graph.input("c", (2, 4, 4))), "y")
    return graph.build()


def test_a_long_sum_that_is_right_in_pieces_is_accumulation(explained: Explain) -> None:
    culprit = only(explained(Broken(long_sums(64), in_float32=False), products()))
    assert (culprit.record.index, culprit.cause) == (0, "accumulation")
    assert culprit.signature == "float16 sum over 256 products"
    assert ("with the sum split into pieces", "right") in [(t.what, t.ending) for t in culprit.trials]
    by_name = {remedy.name: remedy for remedy in culprit.remedies}
    assert by_name["split the sum into pieces, added pairwise"].ok
    assert by_name["float32 throughout"].ok
    graph = reproducer(culprit).graph()
    assert [op.name for op in graph.ops] == ["BATCH_MATMUL"]
    assert graph.tensors[graph.ops[0].inputs[0]].shape == (1, 1, 128)


@pytest.mark.parametrize("largest", [2e5, 100.0])
def test_what_is_made_of_an_input_that_float16_does_not_hold_is_overflow(explained: Explain, largest: float) -> None:
    """A GPU adds infinities of both signs up to NaN, of which a fused RELU makes 0: no fault of the kernel's."""
    graph = GraphBuilder()
    weights = np.random.default_rng(0).standard_normal((16, 64)) * 1e-3
    graph.output(graph.unary("ABS", graph.fully_connected(graph.input("x", (1, 64)), weights)), "y")
    x = np.linspace(largest / 2, largest, 64, dtype=np.float32)[None]
    device = Broken(zeroed("FULLY_CONNECTED"), in_float32=False)
    culprit = only(explained(device, graph.build(), {"x": x}))
    said = "an input reaches 2e+05, beyond float16's 65504"
    assert culprit.record.op == "FULLY_CONNECTED"
    assert ((culprit.cause, culprit.signature) == ("overflow", said)) == (largest > LARGEST)
    assert (culprit.cause == "overflow") == (largest > LARGEST)


def test_digits_lost_near_the_limit_of_an_op_are_no_doing_of_its_neighbours(explained: Explain) -> None:
    """An output's limit is half of an op's. A result between both is named for the harm it does; that it is right when
    asked alone, by an op's limit, does not make it right but for its neighbours."""
    graph = GraphBuilder()
    x = graph.unary("RELU", graph.input("x", (1, 256)))
    graph.output(graph.unary("ABS", graph.unary("LOGISTIC", x)), "y")
    model = graph.build()
    culprit = only(explained(Broken(imprecise("LOGISTIC", NEAR_THE_LIMIT)), model))
    assert culprit.record.local is not None
    assert 16 < culprit.record.local.ratio < 32
    assert (culprit.record.op, culprit.cause) == ("LOGISTIC", "rounding")
    assert culprit.trials[0].what == "alone, on the exact inputs"
    assert culprit.trials[0].ending == "right"


def test_what_fails_only_behind_its_neighbour_is_context_and_the_neighbour_is_in_the_reproducer(
    explained: Explain,
) -> None:
    culprit = only(explained(Broken(behind("RELU", rolled("PAD"))), padded()))
    assert (culprit.cause, culprit.isolated) == ("context", False)
    assert [op.name for op in reproducer(culprit).graph().ops] == ["RELU", "PAD"]
    assert [r.name for r in culprit.remedies if r.ok][-1] == "these ops on the CPU, between GPU parts"
    assert "copies between the op and its neighbours" in [r.name for r in culprit.remedies if r.ok]


def test_two_kinds_of_culprit_are_mended_together(explained: Explain) -> None:
    graph = GraphBuilder()
    x = graph.pad(graph.unary("RELU", graph.input("x", (4, 6, 32))), [(0, 0), (1, 1), (0, 0)])
    graph.output(graph.unary("TANH", graph.softmax(x)), "y")
    pad, softmax = rolled("PAD"), rolled("SOFTMAX")
    device = Broken(lambda rebuild, op: pad(rebuild, op) if op.name == "PAD" else softmax(rebuild, op))
    answer = explained(device, graph.build())
    assert [(c.record.op, c.cause) for c in answer.culprits] == [("PAD", "kernel"), ("SOFTMAX", "kernel")]
    assert len({c.reproducer for c in answer.culprits}) == 2
    mended = [remedy.name for remedy in answer.culprits[0].remedies if remedy.ok]
    assert "PAD as CONCATENATION; the op as simpler ones" in mended


def test_culprits_of_one_kind_share_their_experiments_and_one_reproducer(explained: Explain) -> None:
    graph = GraphBuilder()
    x = graph.input("x", (4, 6, 32))
    for _ in range(3):
        x = graph.softmax(graph.binary("MUL", x, graph.constant([30.0])))
    graph.output(x, "y")
    answer = explained(Broken(rolled("SOFTMAX")), graph.build())
    assert [c.record.index for c in answer.culprits] == [1, 3, 5]
    assert len({c.reproducer for c in answer.culprits}) == 1
    assert all(c.isolated and c.cause == "kernel" for c in answer.culprits)


@pytest.mark.parametrize(("factors", "worst"), [((2.0, 3.0), 1), ((3.0, 2.0), 0)])
def test_the_reproducer_of_a_kind_is_of_the_one_that_is_furthest_off(
    factors: tuple[float, float], worst: int, explained: Explain
) -> None:
    """The more a MUL multiplies by, the larger the share by which it is off."""

    def off(rebuild: Rebuild, op: Op) -> int | None:
        factor = rebuild.values(op.inputs[1]) if op.name == "MUL" else None
        if factor is None:
            return None
        lossy = imprecise("MUL", 0.05 * float(factor.flat[0]) ** 2)
        return lossy(rebuild, op)

    graph = GraphBuilder()
    t = graph.input("x", (4, 64))
    for factor in factors:
        t = graph.binary("MUL", t, graph.constant([factor]))
    graph.output(t, "y")
    found = explained(Broken(off), graph.build())
    assert [culprit.record.index for culprit in found.culprits] == [0, 1]
    ratios = [culprit.record.local.ratio for culprit in found.culprits if culprit.record.local]
    assert ratios[worst] == max(ratios)
    assert {Path(culprit.reproducer or "").name for culprit in found.culprits} == {f"000{worst}-MUL"}


def test_a_right_model_is_explained_at_no_cost(explained: Explain) -> None:
    answer = explained(Broken(rolled("ELU")), padded())
    assert (answer.status, answer.explanation) == ("pass", None)


def test_no_scratch_is_left_behind(explained: Explain, tmp_path: Path) -> None:
    explained(Broken(rolled("PAD")), padded())
    (run,) = tmp_path.iterdir()
    assert not (run / "scratch").exists()


def test_the_answers_json_has_the_contracts_fields(explained: Explain) -> None:
    answer = explained(Broken(rolled("PAD")), padded())
    (culprit,) = replace(answer).to_json()["culprits"]
    assert {"cause", "signature", "isolated", "reproducer", "remedies", "trials"} <= set(culprit)
    assert {"name", "cosine", "max_abs", "run_ms", "ok"} <= set(culprit["remedies"][0])


def test_what_was_found_of_the_worst_of_a_kind_is_asked_of_the_others(
    explained: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it fails alone, and in how many of how many runs: of the worst both are known."""
    graph = GraphBuilder()
    x = graph.input("x", (4, 6, 32))
    for _ in range(3):
        x = graph.softmax(graph.binary("MUL", x, graph.constant([30.0])))
    graph.output(x, "y")
    asked: list[int] = []

    def fails_alone(self: Investigator, culprit: Culprit) -> bool:
        asked.append(culprit.record.index)
        return False

    investigate = Investigator.investigate

    def unsteady(self: Investigator, group: Group) -> None:
        investigate(self, group)
        assert group.findings is not None
        assert group.findings.failing is not None
        failing = replace(group.findings.failing, runs=(3, 10))
        group.findings = replace(group.findings, failing=failing)

    monkeypatch.setattr(Investigator, "fails_alone", fails_alone)
    monkeypatch.setattr(Investigator, "investigate", unsteady)
    answer = explained(Broken(rolled("SOFTMAX")), graph.build())
    (worst,) = [culprit for culprit in answer.culprits if culprit.isolated]
    assert sorted([worst.record.index, *asked]) == [1, 3, 5]
    assert [culprit.runs for culprit in answer.culprits if culprit is worst] == [(3, 10)]
    assert [culprit.runs for culprit in answer.culprits if culprit is not worst] == [None, None]


@pytest.mark.parametrize(("unsteady", "runs"), [(False, 2), (True, RATE_RUNS)])
def test_an_op_by_itself_is_asked_twice_and_for_its_rate_where_runs_differed(
    explained: Explain, monkeypatch: pytest.MonkeyPatch, unsteady: bool, runs: int
) -> None:
    asked: list[int] = []
    observe = Experiments.observe

    def counted(self: Experiments, specimen: Specimen, options: Options, *, runs: int = 1, warmup: int = 0) -> Any:
        asked.append(runs)
        return observe(self, specimen, options, runs=runs, warmup=warmup)

    investigate = Investigator.investigate

    def steadied(self: Investigator, group: Group) -> None:
        asked.clear()
        investigate(replace(self, unsteady=unsteady), group)
        first.append(asked[0])

    first: list[int] = []
    monkeypatch.setattr(Experiments, "observe", counted)
    monkeypatch.setattr(Investigator, "investigate", steadied)
    explained(Broken(rolled("PAD")), padded())
    assert first == [runs]
