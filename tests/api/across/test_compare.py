"""One model on several devices, for real: phones that are none, so that no GPU is needed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.api.across.compare import AcrossComparison, compare_across
from harness.api.across.localize import localize_across
from harness.api.session import ModelRequest
from harness.core.errors import UsageError
from harness.graph.build import GraphBuilder
from tests import models
from tests.arrays import f32

PHONES = ("planted:none", "planted:low-rank-constant", "planted:mali")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> AcrossComparison:
    """An ADD of a constant without a leading 1, which two of the phones get wrong, behind two ops that are right."""
    folder = tmp_path_factory.mktemp("across")
    graph = GraphBuilder()
    fed = graph.unary("TANH", graph.unary("RELU", graph.input("x", (4, 8))))
    graph.output(graph.binary("ADD", fed, graph.constant(f32([[row] * 8 for row in (1.0, 2.0, 3.0, 4.0)]))), "y")
    model = folder / "wrong.tflite"
    model.write_bytes(graph.build().to_bytes())
    return compare_across(ModelRequest(model, out=folder / "results"), PHONES)


def test_each_device_has_its_own_comparison_and_its_own_run_folder(asked: AcrossComparison) -> None:
    found = [each.found for each in asked.asked if each.found]
    assert [each.comparison.ok for each in found] == [True, False, False]
    assert asked.status == "fail"
    folders = [each.folder for each in asked.asked if each.folder]
    assert len(set(folders)) == 3
    for folder, device in zip(folders, PHONES, strict=True):
        record = json.loads((folder / "run.json").read_text())
        assert (record["command"], record["status"], record["device"]["name"]) == ("compare", "done", device)
        assert (folder / "report.html").exists() and (folder / "ops.csv").exists()


def test_the_op_that_differs_is_told_with_who_gets_it_wrong_and_that_they_err_alike(asked: AcrossComparison) -> None:
    (op,) = [op for op in asked.ops if op.split != "alike"]
    assert (op.op, op.split) == ("ADD", "differs")
    assert op.devices("culprit") == PHONES[1:] and op.devices("fine") == PHONES[:1]
    (met,) = op.meetings
    assert (met.devices, met.same_error) == (PHONES[1:], True)


def test_outputs_are_met_too(asked: AcrossComparison) -> None:
    alike = {each.devices: (each.agree, each.same_error) for each in asked.outputs}
    assert alike == {
        PHONES[:2]: (False, False),
        (PHONES[0], PHONES[2]): (False, False),
        PHONES[1:]: (True, True),
    }
    assert asked.notes[0] == (
        "Output 'y': planted:none is right; planted:low-rank-constant and planted:mali are wrong by one error."
    )


def test_of_the_tensors_those_of_wrong_ops_and_outputs_stay(asked: AcrossComparison) -> None:
    folder = asked.asked[1].folder
    assert folder is not None
    kept = {path.name.split(".")[0] for path in (folder / "tensors").iterdir()}
    (op,) = [op for op in asked.ops if op.split != "alike"]
    assert kept == {"output-y", "0001-TANH", f"{op.index:04d}-ADD"}


def test_a_device_that_is_not_there_is_told_and_the_others_are_asked(tmp_path: Path) -> None:
    model = tmp_path / "many.tflite"
    model.write_bytes(models.refused().to_bytes())
    found = compare_across(ModelRequest(model, out=tmp_path / "results"), ("planted:mali", "planted:none"))
    assert found.status == "incomplete"
    assert [each.found is None for each in found.asked] == [True, False]
    assert "refuses" in str(found.asked[0].error)
    (said,) = found.notes
    assert said == "1 device of those named could be asked, so nothing was compared between devices."
    (failed,) = [
        json.loads(path.read_text()) for path in (tmp_path / "results").glob("*/run.json") if "mali" in path.parent.name
    ]
    assert (failed["status"], failed["exit_code"]) == ("failed", 3)


def test_a_name_that_is_none_ends_it_before_anything_runs(tmp_path: Path) -> None:
    model = tmp_path / "right.tflite"
    model.write_bytes(models.right().to_bytes())
    with pytest.raises(UsageError, match="no planted bug 'nonsense'"):
        compare_across(ModelRequest(model, out=tmp_path / "results"), ("planted:none", "planted:nonsense"))
    assert not (tmp_path / "results").exists()


def test_localized_on_each_the_ops_stand_in_one_table(tmp_path: Path) -> None:
    model = tmp_path / "wrong.tflite"
    model.write_bytes(models.wrong().to_bytes())
    found = localize_across(ModelRequest(model, out=tmp_path / "results"), PHONES)
    assert (found.status, [each.found.status for each in found.asked if each.found]) == (
        "culprits",
        ["pass", "culprits", "culprits"],
    )
    (op,) = [op for op in found.ops if op.split != "alike"]
    assert op.devices("culprit") == PHONES[1:] and op.devices("unread") == PHONES[:1]
    assert [met.same_error for met in op.meetings] == [True]
    assert found.notes[0] == "The model passes on planted:none, so no op was read there."
