"""A probe's outcome on the disk and back: the same one, or none."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.errors import UsageError
from harness.core.job import Completed, Job, OutputPort, Rejected, Residency, Sample
from harness.localize.probe.journal.outputs import (
    LOG_KEPT,
    OutputWriter,
    completed_from,
    deliver,
    facts_of,
    is_whole,
    keepable,
    rejected_from,
)
from tests.arrays import f32


def port(name: str, position: int, values: Array) -> OutputPort:
    return OutputPort(name, position, values.dtype, values.shape)


VALUES: dict[str, Array] = {
    "b": f32([[1, 2, 3]]),
    "a": np.asarray([7, 8], np.int8),
    "none": np.zeros((0, 2), np.float32),
}
PORTS = tuple(port(name, i, values) for i, (name, values) in enumerate(VALUES.items()))


def written(path: Path) -> list[int]:
    keeper = OutputWriter(path, PORTS)
    for name, values in VALUES.items():
        keeper.put(name, values)
    keeper.finish()
    return keeper.checksums


def test_the_file_has_the_outputs_one_behind_the_other_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    checksums = written(path)
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    assert size % 8 == 0
    assert json.loads(raw[8 : 8 + size]) == {
        "0": {"dtype": "F32", "shape": [1, 3], "data_offsets": [0, 12]},
        "1": {"dtype": "I8", "shape": [2], "data_offsets": [12, 14]},
        "2": {"dtype": "F32", "shape": [0, 2], "data_offsets": [14, 14]},
    }
    assert raw[8 + size :] == VALUES["b"].tobytes() + VALUES["a"].tobytes()
    assert checksums == [zlib.crc32(values.tobytes()) for values in VALUES.values()]
    assert [p.name for p in tmp_path.iterdir()] == ["probe.safetensors"]
    taken: list[tuple[str, Array]] = []
    deliver(path, PORTS, lambda name, values: taken.append((name, values)))
    assert [name for name, _ in taken] == list(VALUES)
    for name, values in taken:
        np.testing.assert_array_equal(values, VALUES[name])
        assert (values.dtype, values.shape) == (VALUES[name].dtype, VALUES[name].shape)


def test_what_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    keeper = OutputWriter(tmp_path / "probe.safetensors", PORTS)
    keeper.put("b", VALUES["b"])
    assert [p.name for p in tmp_path.iterdir()] == ["probe.part"]
    keeper.abandon()
    keeper.abandon()
    assert list(tmp_path.iterdir()) == []


def test_an_output_out_of_turn_or_missing_is_our_own_fault(tmp_path: Path) -> None:
    for name, values in (("a", VALUES["a"]), ("b", VALUES["b"].ravel()), ("b", VALUES["b"].astype(np.float64))):
        writer = OutputWriter(tmp_path / "probe.safetensors", PORTS)
        with pytest.raises(AssertionError):
            writer.put(name, values)
        writer.abandon()
    writer = OutputWriter(tmp_path / "probe.safetensors", PORTS)
    with pytest.raises(AssertionError):
        writer.finish()
    writer.abandon()


def test_a_file_is_whole_with_these_outputs_and_checksums_alone(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    sums = written(path)
    assert is_whole(path, PORTS, sums)
    first, second, third = PORTS
    for ports, checksums in (
        (PORTS, None),
        (PORTS, tuple(sums)),
        (PORTS, sums[:2]),
        (PORTS, [*sums, 0]),
        (PORTS, [sums[0] ^ 1, *sums[1:]]),
        (PORTS, [*sums[:2], sums[2] ^ 1]),
        ((replace(first, shape=(3, 1)), second, third), sums),
        ((replace(first, dtype=np.dtype(np.int32)), second, third), sums),
        ((*PORTS, third), [*sums, sums[2]]),
    ):
        assert not is_whole(path, ports, checksums)
    assert not is_whole(tmp_path / "gone.safetensors", PORTS, sums)
    path.write_bytes(path.read_bytes()[:-1])
    assert not is_whole(path, PORTS, sums)


@pytest.mark.parametrize(("dtype", "kept"), [(np.float16, True), (np.bool_, True), (np.complex64, False)])
def test_only_outputs_that_the_format_has_a_type_for_are_kept(dtype: Any, kept: bool) -> None:
    odd = OutputPort("odd", 1, np.dtype(dtype), (2,))
    assert keepable(Job(b"", "", {}, (PORTS[0], odd))) is kept
    assert keepable(Job(b"", "", {}, (odd, PORTS[0]))) is kept


DONE = Completed(
    outputs=VALUES,
    residency=Residency(True, 3, 4, 2, ("PAD: no",), (1, 3)),
    samples=(Sample(1, 2, 3), Sample(4, 5, 6)),
    compile_ns=9,
    compiled=True,
    runtime="2.3.0",
    adapter="Mali",
    log="words",
    boot_id="boot",
    thermal="cool",
)


def stored(outcome: Completed | Rejected) -> Any:
    return json.loads(json.dumps(facts_of(outcome)))


@pytest.mark.parametrize(
    "done",
    [
        DONE,
        replace(DONE, residency=Residency(False), compiled=False),
        replace(DONE, residency=Residency(True, on_cpu=()), compile_ns=0),
        replace(DONE, residency=Residency(False, 1, 2, 1, ("ABS: no",), cut=True)),
        replace(DONE, compile_ns=(1 << 63) - 1),
    ],
)
def test_an_outcome_comes_back_as_it_was(done: Completed) -> None:
    assert "outputs" not in facts_of(done)
    back = completed_from(stored(done), 2, VALUES)
    assert vars(back) == vars(done)
    assert back.outputs is VALUES


def test_a_refusal_comes_back_as_it_was() -> None:
    refused = Rejected("no such op", ("FOO", "BAR"), "words")
    assert rejected_from(stored(refused)) == refused


@pytest.mark.parametrize("more", [0, 1])
def test_of_a_log_the_end_is_kept(more: int) -> None:
    log = "x" * more + "y" * LOG_KEPT
    assert facts_of(replace(DONE, log=log))["log"] == "y" * LOG_KEPT
    assert facts_of(Rejected("no", (), log))["log"] == "y" * LOG_KEPT


@pytest.mark.parametrize("name", ["residency", "samples", "compile_ns", "compiled", "runtime", "adapter", "log"])
def test_a_fact_that_is_not_there_makes_it_none(name: str) -> None:
    facts = stored(DONE)
    del facts[name]
    with pytest.raises(UsageError, match=f"journal: outcome lacks {name}"):
        completed_from(facts, 2, VALUES)


@pytest.mark.parametrize("name", ["reason", "ops", "log"])
def test_a_refusal_that_lacks_a_fact_is_none(name: str) -> None:
    with pytest.raises(UsageError, match=f"lacks {name}"):
        rejected_from(stored(Rejected("no")) | {name: None})


@pytest.mark.parametrize(
    "change",
    [
        {"samples": [[1, 2, 3]]},
        {"samples": [[1, 2, 3]] * 3},
        {"samples": [[1, 2, 3], [1, 2]]},
        {"samples": [[1, 2, 3], [1, 2, 3, 4]]},
        {"samples": [[1, 2, 3], 4]},
        {"samples": [[1, 2, 3], [1, 2, -1]]},
        {"samples": [[1, 2, 3], [1, 2, None]]},
        {"samples": [[1, 2, 3], [1, 2, 0.5]]},
        {"compile_ns": -1},
        {"compile_ns": 1 << 63},
        {"compile_ns": True},
        {"residency": {"full": "yes"}},
        {"residency": {"full": True, "on_cpu": [-1]}},
        {"residency": {"full": True, "on_cpu": "1"}},
        {"compiled": 1},
        {"log": 5},
    ],
)
def test_a_fact_of_another_kind_makes_it_none(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        completed_from(stored(DONE) | change, 2, VALUES)


def test_nothing_else_is_an_outcome() -> None:
    nothing: tuple[Any, ...] = (None, [], "x", {})
    for facts in nothing:
        with pytest.raises(UsageError):
            completed_from(facts, 2, VALUES)
        with pytest.raises(UsageError):
            rejected_from(facts)


def test_a_journal_from_before_lists_were_known_to_be_cut_is_read() -> None:
    facts = stored(DONE)
    del facts["residency"]["cut"]
    assert completed_from(facts, 2, VALUES).residency == DONE.residency
