"""Models with custom ops that the CPU lacks, on the host's own GPU: compared as far as there is something to compare
with, and refused in the GPU's words where it lacks the op as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from device_tests.corpus.refused import sparse_weights
from harness.core.errors import EXIT_DEVICE, EXIT_OK
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.cli.conftest import Cli, cli  # noqa: F401 - a fixture
from tests.graph.ops.test_custom import SAME, VALID, custom_model

pytestmark = pytest.mark.gpu


def pooled(tmp_path: Path, *options: int) -> Path:
    """TANH, the custom pooling of 2 or 3 elements each way, and both of its results as outputs."""
    graph = GraphBuilder()
    graph.output(graph.unary("TANH", graph.input("x", (1, 8, 8, 4)), name="middle"), "side")
    first = graph.build().root
    second = custom_model("MaxPoolingWithArgmax2D", {"x": (1, 8, 8, 4)}, [(1, 4, 4, 4)] * 2, *options).root
    sub, more = first.subgraphs[0], second.subgraphs[0]
    op, code = more.operators[0], second.operatorCodes[0]
    first.operatorCodes.append(code)
    op.opcodeIndex = len(first.operatorCodes) - 1
    place = len(sub.tensors)
    sub.tensors += more.tensors[1:]
    op.inputs, op.outputs = sub.operators[0].outputs, np.asarray([place, place + 1], np.int32)
    sub.operators.append(op)
    sub.outputs = np.append(sub.outputs, op.outputs).astype(np.int32)
    for at, entry in enumerate(second.signatureDefs[0].outputs):
        entry.tensorIndex = place + at
        first.signatureDefs[0].outputs.append(entry)
    path = tmp_path / "pooled.tflite"
    path.write_bytes(Model(first).to_bytes())
    return path


def test_a_custom_op_that_builtin_ones_can_stand_for_is_compared(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    said = cli("compare", pooled(tmp_path, VALID, 2, 2, 2, 2, 0), "--json")
    assert said.code == EXIT_OK
    assert [output["name"] for output in said.json["outputs"]] == ["side", "y0", "y1"]
    assert said.json["notes"] == []


def test_another_one_is_compared_up_to_it_and_that_is_said(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    path = pooled(tmp_path, SAME, 2, 2, 3, 3, 0)
    said = cli("compare", path, "--json")
    assert said.code == EXIT_OK
    assert [output["name"] for output in said.json["outputs"]] == ["side"]
    (note,) = said.json["notes"]
    assert note.startswith("The CPU has no custom op 'MaxPoolingWithArgmax2D': the model is compared up to it, 1 of 2 ")
    assert (Path(said.json["run"]) if Path(said.json["run"]).is_absolute() else tmp_path / said.json["run"]).is_dir()
    assert cli("audit", path).code == EXIT_OK  # the GPU has the op


def test_audit_and_compare_say_alike_of_an_op_that_nobody_has(cli: Cli, tmp_path: Path) -> None:  # noqa: F811
    graph = GraphBuilder()
    y = graph.op("CUSTOM", [graph.unary("TANH", graph.input("x", (1, 8)))], (1, 8), custom="My\x1b[2J.Own")
    graph.output(y, "y")
    path = tmp_path / "own.tflite"
    path.write_bytes(graph.build().to_bytes())
    compared, audited = cli("compare", path), cli("audit", path)
    assert (compared.code, audited.code) == (EXIT_DEVICE, EXIT_DEVICE)
    told = "the runtime has no custom op 'My\\x1b[2J.Own'"
    assert told in compared.sentence and told in audited.out
    assert "\x1b" not in compared.err.replace("\x1b[0m", "") + audited.out


def test_ops_that_only_prepare_constants_are_computed_ahead_unless_the_cpu_may_run_them(
    cli: Cli,  # noqa: F811
    tmp_path: Path,
) -> None:
    path = tmp_path / "sparse.tflite"
    path.write_bytes(sparse_weights().to_bytes())
    told = "Ops that only prepare constants, which no GPU takes as they are in the file, are computed ahead: 1 DENSIFY."
    compared = cli("compare", path, "--json")
    assert (compared.code, compared.json["notes"]) == (EXIT_OK, [told])
    audited = cli("audit", path, "--json")
    assert (audited.code, audited.json["folded"], audited.json["unsupported"]) == (EXIT_OK, told, [])
    shipped = cli("compare", path, "--fallback", "cpu", "--json")
    assert shipped.json["residency"]["on_cpu"] == [0]
    assert shipped.json["notes"][0].startswith(
        "The GPU ran 1 of 2 ops; the CPU ran #0. The GPU delegate refuses DENSIFY"
    )
