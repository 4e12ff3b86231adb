"""Inputs that a host's worker keeps: sent once where the same ones come again and again, and hashed once."""

from __future__ import annotations

import gc
import hashlib
import zlib
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Completed, Job, Options
from harness.devices import kept
from harness.devices.execute import make_job
from harness.devices.host.device import HostDevice
from harness.devices.kept import KeptInputs
from harness.devices.link import KeptPayloads, LinkError, Message
from harness.graph.build import GraphBuilder

DATA = np.arange(6, dtype=np.float32)
DIGEST = hashlib.sha256(DATA.tobytes()).hexdigest()
ENTRY: dict[str, Any] = {
    "name": "x",
    "dtype": "float32",
    "shape": [2, 3],
    "bytes": 24,
    "crc32": zlib.crc32(DATA.tobytes()),
    "sha256": DIGEST,
}


def run(*entries: Any, **payloads: Any) -> Message:
    return Message("run", 1, {"inputs": list(entries)}, payloads)


def keeping() -> KeptPayloads:
    made = KeptPayloads(most=48)
    made.put(DIGEST, DATA.tobytes())
    return made


def test_named_inputs_come_in_their_order_among_those_brought() -> None:
    asked = run(None, ENTRY, None, a=np.ones(1), b=np.zeros(1))
    assert keeping().fill(asked)
    assert list(asked.payloads) == ["a", "x", "b"]
    assert asked.payloads["x"].tolist() == DATA.reshape(2, 3).tolist() and asked.payloads["x"].dtype == np.float32


def test_a_run_that_names_none_is_left_alone() -> None:
    asked = Message("run", 1, {}, {"a": DATA})
    assert KeptPayloads().fill(asked) and list(asked.payloads) == ["a"]


@pytest.mark.parametrize(
    "change", [{"sha256": "0" * 64}, {"sha256": None}, {"sha256": ["x"]}, {"shape": [1], "bytes": 4}]
)
def test_what_is_not_kept_so_is_missing(change: dict[str, Any]) -> None:
    assert not keeping().fill(run(ENTRY | change))


@pytest.mark.parametrize("entries", [[None], ["x"], [ENTRY | {"bytes": 8}], [ENTRY | {"dtype": "O"}], [7]])
def test_nonsense_is_a_breach(entries: list[Any]) -> None:
    with pytest.raises(LinkError):
        keeping().fill(run(*entries))
    with pytest.raises(LinkError):
        keeping().fill(Message("run", 1, {"inputs": 7}, {}))


def test_the_oldest_goes_where_there_is_no_room_and_what_is_too_large_is_refused() -> None:
    made = keeping()
    made.put("b", b"x" * 24)
    assert DIGEST in made and "b" in made
    made.put("c", b"x" * 24)
    assert DIGEST not in made and "b" in made and "c" in made
    with pytest.raises(ValueError, match="49 bytes"):
        made.put("d", b"x" * 49)


def adding(size: int) -> Job:
    graph = GraphBuilder()
    graph.output(graph.binary("ADD", graph.input("x", (1, size)), graph.input("y", (1, size))), "z")
    values = {name: np.full((1, size), value, np.float32) for name, value in (("x", 1), ("y", 2))}
    return make_job(graph.build(), values, Options(accelerator="cpu"), timeout=60)


def test_a_host_sends_them_once_where_it_is_told_that_they_come_again() -> None:
    job = adding(1 << 16)
    for keeps, again in ((False, job.inputs["x"].nbytes), (True, 0)):
        with HostDevice() as device:
            assert device.keeps_inputs is False
            device.keeps_inputs = keeps
            sent = []
            for _ in range(2):
                before = device.sent_bytes
                outcome = device.run(job)
                assert isinstance(outcome, Completed) and set(outcome.outputs["z"].flat) == {3.0}
                sent.append(device.sent_bytes - before)
            assert 2 * again <= sent[1] < 2 * again + 4096


def test_an_array_that_nothing_can_change_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []

    def counting(data: Array) -> str:
        hashed.append(1)
        return hashlib.sha256(data.data).hexdigest()

    monkeypatch.setattr(kept, "_sha256", counting)
    frozen, loose = np.ones(1 << 17, np.float32), np.ones(1 << 17, np.float32)
    frozen.flags.writeable = False
    view = loose[:]
    view.flags.writeable = False  # what it looks at may change all the same
    able = KeptInputs(Message("hello", 1, {"abilities": [kept.BY_DIGEST]}))
    for values, times in ((frozen, 1), (loose, 2), (view, 2)):
        hashed.clear()
        found = [able.keep({"x": values}, lambda digest, data: True) for _ in range(2)]
        assert found[0] == found[1] == {"x": hashlib.sha256(values.tobytes()).hexdigest()}
        assert len(hashed) == times
    known = len(kept._known)
    del frozen, values
    gc.collect()
    assert len(kept._known) == known - 1
