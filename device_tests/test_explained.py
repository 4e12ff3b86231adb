"""The corpus explained: for each bug the right cause, a remedy that works, and a reproducer that was executed where
nothing of this package is installed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from device_tests.corpus import CORPUS, OLD, REPORTED, Bug
from harness.api.on_device import OnDevice
from harness.devices.host.environments import release_environment
from harness.graph.build import GraphBuilder
from harness.graph.inputs import random_inputs
from harness.graph.model import Model
from harness.localize.base.result import Localization
from tests.bare import bare_python, run_script

# Cause, and the least that must be among the remedies that work. #8599 shows only while the result is read too.
RIGHT_MEANING = {"PAD as CONCATENATION", "the op in rank 4"}
IN_RANK_4 = {"the op in rank 4", "the broadcast written out"}
KEPT, SIMPLER = "constants with the batch dimension kept", "the op as simpler ones"
FOLDED = "the tensor in two dimensions"
EXPLAINED: dict[str, tuple[str, set[str]]] = {
    "rank3_pad_9272": ("kernel", RIGHT_MEANING),
    "broadcast_add_8593": ("kernel", IN_RANK_4),
    "masked_attention_8593": ("kernel", IN_RANK_4),
    "tapped_add_8599": ("context", {"an output of its own, copied from what is read"}),
    "layernorm_overflow": ("overflow", {"scale by a power of two on the way", "float32 throughout"}),
    "rank3_pad_beside_loud_channels": ("kernel", RIGHT_MEANING),
    "mask_out_of_range": ("kernel", RIGHT_MEANING),
    "harmful_underflow": ("underflow", {"scale by a power of two on the way", "float32 throughout"}),
    "constant_add_rank_2": ("kernel", {KEPT}),
    "constant_add_rank_3": ("kernel", {KEPT}),
    "matmul_broadcast": ("kernel", {"the batches as rows of one product", "the broadcast written out"}),
    "matmul_constant_transposed": ("kernel", {SIMPLER, "the op in rank 4"}),
    "fully_connected_rank_4": ("kernel", {SIMPLER, "split the sum into pieces, added pairwise"}),
    "fully_connected_runtime_weights": ("kernel", {SIMPLER}),
    "cumsum_leading_axis": ("kernel", {SIMPLER}),
    "select_by_row": ("kernel", {"the op in rank 4"}),
    "int32_constant_first": ("kernel", {SIMPLER}),
    "top_two": ("kernel", {SIMPLER}),
    "max_pool_low": ("kernel", {SIMPLER}),
    "normalized_by_another": ("kernel", {SIMPLER, "the op in rank 4"}),
    "softmax_mask": ("overflow", {SIMPLER, "float32 throughout"}),
    **dict.fromkeys(
        ("flat_input", "flat_input_cut_up", "uneven_input", "large_vocabulary", "narrow_input"), ("limits", {FOLDED})
    ),
    "many_operands": ("limits", {"copies between the op and its neighbours"}),
}
# Workgroups of 16 slices of four; fewer where the slices cannot be divided so.
FLAT = "all zeros; right up to 4,194,240 elements, wrong from 4,194,241; 4,194,236 is wrong too"
UNEVEN = "all zeros; right with 262,144 elements, wrong with 262,145, right again with 262,208"
# What the wrong values are, where that is known of the bug.
SIGNATURES = {
    "constant_add_rank_2": "row 0 of the constant for every row",
    "constant_add_rank_3": "block 0 of the constant for every block",
    "matmul_broadcast": "the right side's columns dealt out to the batches, 8 each, then zeros",
    "matmul_constant_transposed": "the right side not transposed",
    "cumsum_leading_axis": "the operand 'x' returned as it is",
    "max_pool_low": "-1e+04 everywhere",
    "normalized_by_another": "SUB #1 reads 'x' in place of 'y'",
    "flat_input": FLAT,
    "flat_input_cut_up": FLAT,
    "uneven_input": UNEVEN,
    "large_vocabulary": UNEVEN,
    "narrow_input": "all zeros; right up to 8,388,608 elements, wrong from 8,388,609",
}
# Ops that a pattern needs to fail; else a reproducer has three at most.
LARGER = {"normalized_by_another": 7, "many_operands": 48}
KNOWN = [bug for bug in CORPUS if bug.name in EXPLAINED]
# Releases whose bugs are known; another device has a bug or has not.
MEASURED = {name for bug in CORPUS for name in bug.broken}
# One of each cause for `make test`, and one misread constant; the others when asked for.
QUICK = {"rank3_pad_9272", "layernorm_overflow", "harmful_underflow", "tapped_add_8599", "constant_add_rank_2"}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory, device_name: str) -> Path:
    """A Python with the device's runtime and without this package."""
    if device_name.startswith("host@"):
        found = Path(release_environment(device_name.removeprefix("host@")))
    else:
        found = bare_python(tmp_path_factory.mktemp("bare"))
    done = subprocess.run([found, "-I", "-c", "import harness"], cwd="/", capture_output=True, check=False)
    assert done.returncode == 1, "the environment has the harness"
    return found


@pytest.mark.parametrize(
    "bug",
    [pytest.param(bug, marks=() if bug.name in QUICK else pytest.mark.slow, id=bug.name) for bug in KNOWN],
)
def test_a_known_bug_has_its_cause_a_remedy_and_a_reproducer_that_fails_by_itself(
    on_device: OnDevice, bug: Bug, python: Path, request: pytest.FixtureRequest
) -> None:
    if on_device.name in bug.pending:
        request.applymarker(pytest.mark.xfail(reason=bug.pending[on_device.name]))
    if on_device.name not in bug.broken:
        right = on_device.compare(bug.build()).ok
        assert right or on_device.name not in MEASURED
        if right:
            return
    cause, remedies = EXPLAINED[bug.name]
    answer = on_device.localize(bug.build(), explain=True)
    assert [(c.record.index, c.record.op, c.cause) for c in answer.culprits] == [(*bug.culprits[0][:2], cause)]
    (culprit,) = answer.culprits
    assert SIGNATURES.get(bug.name, culprit.signature) == culprit.signature
    works = {remedy.name: remedy for remedy in culprit.remedies if remedy.ok}
    assert remedies <= set(works)
    assert all(remedy.run_ms for remedy in works.values())
    _written_remedies_mean_the_same(bug, answer)
    folder = Path(culprit.reproducer or "")
    assert len(Model.load(folder / "model.tflite").graph().ops) <= LARGER.get(bug.name, 3)
    listed = 49 if bug.name == "many_operands" else 0  # its inputs, one a line
    assert len((folder / "reproduce.py").read_text().splitlines()) <= 30 + listed
    if on_device.name.split("@")[0] == "host":  # the script asks the GPU of the machine that it is on
        done = run_script(python, folder / "reproduce.py")
        assert done.returncode == 1, done.stderr[-2000:]
        assert "WRONG" in done.stdout


def _written_remedies_mean_the_same(bug: Bug, answer: Localization) -> None:
    graph = bug.build().graph()
    for remedy in answer.culprits[0].remedies:
        if remedy.path and remedy.path.endswith(".tflite"):
            written = Model.load(remedy.path).graph()
            assert [p.name for p in written.inputs] == [p.name for p in graph.inputs]
            assert [p.name for p in written.outputs] == [p.name for p in graph.outputs]


def test_a_reproducers_script_passes_once_the_fault_is_mended(on_device: OnDevice, python: Path) -> None:
    (bug,) = [bug for bug in KNOWN if bug.name == "rank3_pad_9272"]
    if on_device.compare(bug.build()).ok:
        assert on_device.name not in bug.broken
        return
    (culprit,) = on_device.localize(bug.build(), explain=True).culprits
    folder = Path(culprit.reproducer or "")
    (mended,) = on_device.localize(Model.load(folder / "model.tflite"), explain=True).culprits[0].remedies[:1]
    assert mended.path
    (folder / "model.tflite").write_bytes(Path(mended.path).read_bytes())
    done = run_script(python, folder / "reproduce.py")
    assert (done.returncode, "right" in done.stdout) == (0, True), done.stderr[-2000:]


def test_the_parts_of_a_chain_run_by_themselves(on_device: OnDevice, python: Path, tmp_path: Path) -> None:
    (bug,) = [bug for bug in KNOWN if bug.name == "layernorm_overflow"]
    if on_device.compare(bug.build()).ok:
        assert on_device.name not in bug.broken
        return
    model = bug.build()
    (culprit,) = on_device.localize(model, explain=True).culprits
    (chain,) = [r for r in culprit.remedies if r.name == "these ops on the CPU, between GPU parts"]
    assert chain.ok
    assert chain.path
    inputs = random_inputs(model.graph(), 0)
    np.savez(tmp_path / "in.npz", allow_pickle=False, **inputs)
    done = run_script(python, Path(chain.path) / "chain.py", str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    assert done.returncode == 0, done.stderr[-2000:]
    x = inputs["x"].astype(np.float64) * 400
    centred = x - x.mean(axis=2, keepdims=True)
    right = centred / np.sqrt((centred**2).mean(axis=2, keepdims=True) + 1e-5)
    assert np.abs(np.load(tmp_path / "out.npz")["y"] - right).max() < 0.01


def test_every_reported_bug_is_explained_somewhere() -> None:
    assert {bug.name for bug in REPORTED if bug.culprits and OLD in bug.broken} <= set(EXPLAINED)
    assert set(SIGNATURES) | set(LARGER) <= set(EXPLAINED) == {bug.name for bug in KNOWN}


def layernorm_with_its_mean() -> Model:
    """LayerNorm with scale and offset, as the delegate fuses it, whose mean is an output as well: it reads zeros."""
    graph = GraphBuilder()
    x = graph.input("x", (1, 64, 256))
    mean = graph.reduce("MEAN", x, 2)
    centred = graph.binary("SUB", x, mean)
    square = graph.reduce("MEAN", graph.binary("MUL", centred, centred), 2)
    spread = graph.unary("RSQRT", graph.binary("ADD", square, graph.constant([1e-5])))
    scaled = graph.binary("MUL", graph.binary("MUL", centred, spread), graph.constant(np.ones(256)))
    graph.output(graph.binary("ADD", scaled, graph.constant(np.ones(256))), "y")
    graph.output(mean, "mean")
    return graph.build()


def product_with_itself() -> Model:
    """A BATCH_MATMUL of a tensor with itself, which ends the delegate's process."""
    graph = GraphBuilder()
    x = graph.unary("TANH", graph.input("x", (1, 8, 32, 32)))
    graph.output(graph.softmax(graph.unary("ABS", graph.batch_matmul(x, x))), "y")
    return graph.build()


@pytest.mark.slow
def test_a_tensor_inside_a_fused_pattern_is_wrong_in_context_and_is_mended(on_device: OnDevice, python: Path) -> None:
    answer = on_device.localize(layernorm_with_its_mean(), explain=True)
    if on_device.name != "host":
        assert answer.status in ("pass", "culprits")
        return
    (culprit,) = answer.culprits
    assert (culprit.record.op, culprit.cause, culprit.signature) == ("MEAN", "context", "all zeros")
    assert "an output of its own, copied from what is read" in {r.name for r in culprit.remedies if r.ok}
    done = run_script(python, Path(culprit.reproducer or "") / "reproduce.py")
    assert (done.returncode, "WRONG" in done.stdout) == (1, True), done.stderr[-2000:]


@pytest.mark.slow
def test_an_op_that_ends_the_process_is_named_and_its_script_dies_too(on_device: OnDevice, python: Path) -> None:
    if on_device.name != "host":
        assert on_device.audit(product_with_itself()).total == 4
        return
    (culprit,) = on_device.localize(product_with_itself(), explain=True).culprits
    assert (culprit.record.index, culprit.record.op, culprit.cause) == (1, "BATCH_MATMUL", "crash")
    assert "copies between the op and its neighbours" in {r.name for r in culprit.remedies if r.ok}
    done = run_script(python, Path(culprit.reproducer or "") / "reproduce.py")
    assert done.returncode != 0
    assert "right" not in done.stdout and "WRONG" not in done.stdout
