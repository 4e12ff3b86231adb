"""Which values a page shows, and that nothing in a run folder makes it stop, follow a link or believe a size."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.core.run_folder import TensorStore, read_run
from harness.report.drawn import values
from harness.report.drawn.values import kept_values, read_steps
from harness.report.drawn.views import Views, views
from harness.report.record import parse_run
from harness.report.tables import read_ops
from tests.arrays import f32

if TYPE_CHECKING:
    from tests.report.conftest import Make, Samples


def put(folder: Path, label: str, device: Any, reference: Any, name: str = "t") -> None:
    store = TensorStore(folder / "tensors")
    store.put(label, "device", np.asarray(device), name)
    store.put(label, "reference", np.asarray(reference), name)


def shown(folder: Path) -> Views:
    found = views(folder, parse_run(read_run(folder)), read_ops(folder / "ops.csv").rows)
    assert found is not None
    return found


@pytest.fixture
def run(make: Make, samples: Samples) -> Path:
    ops = [samples.op(i, "culprit" if i in (2, 5) else "fine", ratio=float(i), op="ADD") for i in range(8)]
    result = samples.localization(culprits=[samples.culprit(5), samples.culprit(2)])
    return make(samples.record(result=result), ops=ops)


def test_culprits_come_first_then_outputs_then_what_is_furthest_off(run: Path) -> None:
    for index in range(8):
        put(run, f"{index:04d}-ADD", f32([1.0 + index]), f32([1.0]), f"tensor_{index}")
    put(run, "output-pred_masks", f32([3.0]), f32([1.0]), "pred_masks")
    found = shown(run)
    assert [view.title for view in found.shown] == [
        "ADD #5", "ADD #2", "output pred_masks", "ADD #7", "ADD #6", "ADD #4", "ADD #3", "ADD #1",
        "ADD #0"]  # fmt: skip
    assert [view.row for view in found.shown][:4] == [5, 2, None, 7]
    assert [view.errors.largest for view in found.shown if view.errors][:4] == [5, 2, 2, 7]
    assert found.of_op(2) == 1 and found.of_op(99) is None and found.more == 0


def test_so_many_are_shown_as_are_read_in_a_moment(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(30):
        put(run, f"{index:04d}-ADD", f32([1.0]), f32([2.0]))
    found = shown(run)
    assert (len(found.shown), found.more) == (12, 18)
    monkeypatch.setattr(values, "MOST_BYTES_IN_ALL", 500)
    assert len(shown(run).shown) < 5


def test_a_run_without_values_says_what_writes_them(run: Path) -> None:
    found = shown(run)
    assert found.shown == () and found.command is not None
    assert found.command.line.startswith("harness dump models/decoder.tflite --device host --accelerator gpu")
    assert "--runs" not in found.command.line


def test_a_dump_needs_no_other_command_and_a_plain_run_has_no_values(make: Make, samples: Samples) -> None:
    assert shown(make(samples.record("dump"))).command is None
    plain = make(samples.record("run"))
    assert views(plain, parse_run(read_run(plain)), ()) is None


def test_integers_are_shown_as_what_they_stand_for(run: Path) -> None:
    put(run, "0002-ADD", np.asarray([3, 5], np.int8), np.asarray([3, 9], np.int8), "tensor_2")
    (run / "quantized.csv").write_text("index,first,output,dtype,step,zero_point\n2,2,tensor_2,int8,0.5,1\n")
    (view,) = shown(run).shown
    assert view.errors is not None and view.errors.largest == 2.0
    assert (view.errors.device_there, view.errors.reference_there) == (2.0, 4.0)
    (run / "quantized.csv").write_text("index,output,step\n2,tensor_2,much\n")
    assert read_steps(run / "quantized.csv") == {}


def test_each_result_of_an_op_is_its_own(run: Path) -> None:
    put(run, "0002-SPLIT.0", f32([1.0]), f32([1.5]), "a")
    put(run, "0002-SPLIT.1", f32([1.0]), f32([2.5]), "b")
    assert [(view.title, view.name) for view in shown(run).shown] == [("SPLIT #2", "a"), ("SPLIT #2", "b")]


def test_what_cannot_be_shown_is_told_in_a_sentence(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(run, "0001-ADD", f32([1.0]), f32([1.0, 2.0]))
    put(run, "0002-ADD", f32([1.0]), f32([1.0]))
    (run / "tensors" / "0002-ADD.device.safetensors").write_bytes(b"\xff" * 64)
    save_file({"a": f32([1.0]), "b": f32([1.0])}, run / "tensors" / "0004-ADD.device.safetensors")
    save_file({"a": f32([1.0])}, run / "tensors" / "0004-ADD.reference.safetensors")
    put(run, "0005-ADD", np.zeros(50_000, np.float32), np.zeros(50_000, np.float32))
    put(run, "0006-ADD", np.zeros((0, 2), np.float32), np.zeros((0, 2), np.float32))
    put(run, "0007-ADD", np.zeros(200, np.uint8), np.zeros(200, np.uint8))
    monkeypatch.setattr(values, "MOST_BYTES", 100_000)
    monkeypatch.setattr(values, "MOST_ELEMENTS", 100)
    told = {view.title: view.problem for view in shown(run).shown}
    assert told["ADD #1"] == "0001-ADD.device.safetensors and 0001-ADD.reference.safetensors differ in shape."
    assert told["ADD #2"].startswith("0002-ADD.device.safetensors cannot be read (")
    assert told["ADD #4"].startswith("0004-ADD.device.safetensors cannot be read (")
    assert told["ADD #5"] == "0005-ADD.device.safetensors has more than 0 MB, too much to be drawn."
    assert told["ADD #6"] == "It has no elements."
    assert told["ADD #7"] == "0007-ADD.device.safetensors has 200 elements, too many to be drawn."


def test_links_pipes_and_other_files_are_passed_over(run: Path) -> None:
    put(run, "0002-ADD", f32([1.0]), f32([2.0]))
    store = run / "tensors"
    (store / "0003-ADD.device.safetensors").symlink_to(store / "0002-ADD.device.safetensors")
    (store / "0003-ADD.reference.safetensors").symlink_to(store / "0002-ADD.reference.safetensors")
    os.mkfifo(store / "0004-ADD.device.safetensors")
    os.mkfifo(store / "0004-ADD.reference.safetensors")
    (store / "remedy-x-output-y.device.safetensors").write_bytes(b"")
    (store / "0005-ADD.device.safetensors").write_bytes(b"")
    assert [kept.label for kept in kept_values(run)] == ["0002-ADD"]
    moved = store.rename(run / "elsewhere")
    store.symlink_to(moved)
    assert kept_values(run) == ()
