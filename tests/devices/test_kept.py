"""Inputs by digest, from the host's side: sent once to a device that keeps them, and with each run to every other."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from harness.core.arrays import Array
from harness.core.job import Completed, Job, Lost, Options, Rejected
from harness.devices.base import Device
from harness.devices.execute import make_job
from harness.devices.host.device import HostDevice
from harness.devices.kept import BY_DIGEST, KeptInputs
from harness.devices.link import PIECE, PROTOCOL, Link, Message
from harness.graph.build import GraphBuilder
from tests.arrays import normal
from tests.devices.conftest import FACTS

Scripted = Callable[..., tuple[Device, Any]]
LARGE = PIECE // 4 + 1
END: dict[str, Any] = {"samples": [[1, 2, 3]], "compile_ns": 5, "compiled": True, "full": True}


def summing(*lengths: int) -> Job:
    """A job whose output is the sum of the first element of each of its inputs, a, b, …, of these lengths."""
    graph = GraphBuilder()
    names = "abcdef"[: len(lengths)]
    begin, size = graph.constant(np.asarray([0], np.int32)), graph.constant(np.asarray([1], np.int32))
    xs = [graph.input(name, (length,)) for name, length in zip(names, lengths, strict=True)]
    firsts = [graph.op("SLICE", [x, begin, size], (1,), schema.SliceOptionsT()) for x in xs]
    total = firsts[0]
    for first in firsts[1:]:
        total = graph.binary("ADD", total, first)
    graph.output(total, "y")
    inputs = {name: normal((length,), seed=i) for i, (name, length) in enumerate(zip(names, lengths, strict=True))}
    return make_job(graph.build(), inputs, Options(), timeout=20)


class Keeping:
    """A device's answers: it keeps what is put, and computes the output from what it has."""

    def __init__(self, *abilities: Any, limit: int = 1 << 30) -> None:
        self.abilities, self.limit = list(abilities), limit
        self.stored: dict[str, bytes] = {}
        self.lies = 0
        """So many runs that name an input find it gone."""

    def answers(self) -> dict[str, Any]:
        return {"hello": self.hello, "has": self.has, "put": self.put, "run": self.run}

    def hello(self, link: Link, request: Message) -> None:
        told: dict[str, Any] = {"abilities": self.abilities} if self.abilities else {}
        link.send("hello", request.id, protocol=PROTOCOL, facts=FACTS, **told)

    def has(self, link: Link, request: Message) -> None:
        link.send("has", request.id, present=request.fields["sha256"] in self.stored)

    def put(self, link: Link, request: Message) -> None:
        ((what, data),) = request.payloads.items()
        if what == "input" and data.nbytes > self.limit:
            link.send("failed", request.id, kind="rejected", reason=f"the input has {data.nbytes} bytes")
            return
        assert hashlib.sha256(data.tobytes()).hexdigest() == request.fields["sha256"]
        self.stored[request.fields["sha256"]] = data.tobytes()
        link.send("put", request.id)

    def run(self, link: Link, request: Message) -> None:
        coming = iter(request.payloads.items())
        inputs: dict[str, Array] = {}
        for entry in request.fields.get("inputs", [None] * len(request.payloads)):
            if entry is None:
                name, values = next(coming)
                inputs[name] = values
                continue
            raw = self.stored.get(entry["sha256"])
            if raw is None or self.lies:
                self.lies = max(0, self.lies - 1)
                link.send("failed", request.id, kind="missing", reason="gone")
                return
            assert (len(raw), zlib.crc32(raw)) == (entry["bytes"], entry["crc32"])
            inputs[entry["name"]] = np.frombuffer(raw, entry["dtype"]).reshape(entry["shape"])
        assert list(inputs) == sorted(inputs)
        total = np.asarray([sum(values.flat[0] for values in inputs.values())], np.float32)
        link.send("output", request.id, payloads=[("y", total)])
        link.send("completed", request.id, **END)


def value(device: Device, job: Job) -> bytes:
    outcome = device.run(job)
    assert isinstance(outcome, Completed), outcome
    assert outcome.outputs["y"][0] == np.float32(sum(values[0] for values in job.inputs.values()))
    return outcome.outputs["y"].tobytes()


def asked(peer: Any, since: int = 0) -> list[str]:
    """The requests: what was put, and of a run how many inputs it names and how many it brings."""
    said = []
    for message in peer.requests[since:]:
        named = sum(entry is not None for entry in message.fields.get("inputs", []))
        what = {"put": " ".join(message.payloads), "run": f"{named}+{len(message.payloads)}"}
        said.append(f"{message.type} {what.get(message.type, '')}".strip())
    return said


class TestADeviceThatKeepsThem:
    def test_the_second_run_sends_no_input_and_gives_the_same_bits(self, scripted: Scripted) -> None:
        job = summing(LARGE, LARGE)
        keeps, sends = scripted(**Keeping(BY_DIGEST).answers()), scripted(**Keeping().answers())
        first = value(keeps[0], job)
        before = keeps[0].sent_bytes
        assert value(keeps[0], job) == first == value(sends[0], job)
        assert keeps[0].sent_bytes - before < 2048 < PIECE < sends[0].sent_bytes

    def test_another_model_with_the_same_inputs_brings_only_itself(self, scripted: Scripted) -> None:
        job, other = summing(LARGE), summing(LARGE, 1)
        other = replace(other, inputs=job.inputs | {"b": other.inputs["b"]})
        device, peer = scripted(**Keeping(BY_DIGEST).answers())
        value(device, job)
        value(device, other)
        assert asked(peer) == [
            *("hello", "has", "put input", "has", "put model", "run 1+0"),
            *("has", "has", "put model", "run 1+1"),
        ]

    def test_what_is_no_longer_than_a_piece_of_the_link_comes_along_in_its_place(self, scripted: Scripted) -> None:
        job = summing(3, LARGE, PIECE // 4, LARGE + 1)
        device, peer = scripted(**Keeping(BY_DIGEST).answers())
        value(device, job)
        entries = peer.requests[-1].fields["inputs"]
        assert [None if entry is None else entry["name"] for entry in entries] == [None, "b", None, "d"]
        b = job.inputs["b"]
        assert entries[1] == {
            "name": "b",
            "dtype": "float32",
            "shape": [LARGE],
            "bytes": b.nbytes,
            "crc32": zlib.crc32(b.tobytes()),
            "sha256": hashlib.sha256(b.tobytes()).hexdigest(),
        }

    def test_values_that_do_not_lie_in_order_are_sent_in_order(self) -> None:
        values = normal((PIECE, 3), seed=8)
        hello = Message("hello", 1, {"abilities": [BY_DIGEST]})
        for other in (np.asfortranarray(values), values[::-1].copy()[::-1]):
            offered: dict[str, bytes] = {}

            def offer(digest: str, data: Array, into: dict[str, bytes] = offered) -> bool:
                into[digest] = data.tobytes()
                return True

            kept = KeptInputs(hello).keep({"x": other}, offer)
            assert offered[kept["x"]] == other.tobytes()
            assert kept["x"] == hashlib.sha256(other.tobytes()).hexdigest()

    def test_an_input_that_was_dropped_is_sent_again(self, scripted: Scripted) -> None:
        keeping, job = Keeping(BY_DIGEST), summing(LARGE, LARGE)
        device, peer = scripted(**keeping.answers())
        value(device, job)
        del keeping.stored[next(iter(keeping.stored))]
        mark = len(peer.requests)
        value(device, job)
        assert asked(peer, mark) == ["has", "put input", "has", "run 2+0"]

    def test_one_that_starts_again_is_asked_and_has_them(self, scripted: Scripted) -> None:
        job = summing(LARGE)
        device, peer = scripted(**Keeping(BY_DIGEST).answers())
        value(device, job)
        device.stop()
        mark = len(peer.requests)
        value(device, job)
        assert asked(peer, mark) == ["hello", "has", "has", "run 1+0"]

    def test_a_job_that_only_compiles_names_none(self, scripted: Scripted) -> None:
        job = replace(summing(LARGE), inputs={}, outputs=(), iterations=0)
        keeping = Keeping(BY_DIGEST).answers()
        keeping["run"] = lambda link, request: link.send("completed", request.id, **END | {"samples": []})
        device, peer = scripted(**keeping)
        assert isinstance(device.run(job), Completed)
        assert peer.requests[-1].fields.keys().isdisjoint({"inputs"})


class TestADeviceThatCannot:
    @pytest.mark.parametrize(
        "abilities", [None, BY_DIGEST, {BY_DIGEST: True}, 7, [], ["others"], [[BY_DIGEST]], [None, 1e9]]
    )
    def test_gets_them_with_each_run(self, scripted: Scripted, abilities: Any) -> None:
        def hello(link: Link, request: Message) -> None:
            told = {} if abilities is None else {"abilities": abilities}
            link.send("hello", request.id, protocol=PROTOCOL, facts=FACTS, **told)

        device, peer = scripted(**Keeping().answers() | {"hello": hello})
        job = summing(LARGE)
        value(device, job)
        value(device, job)
        assert asked(peer) == ["hello", "has", "put model", "run 0+1", "run 0+1"]
        assert all("inputs" not in message.fields for message in peer.requests)

    def test_the_host_s_own_worker_is_one(self, host: HostDevice, scripted: Scripted) -> None:
        job = summing(LARGE)
        job = replace(job, options=Options("cpu"))
        value(host, job)
        before = host.sent_bytes
        value(host, job)
        assert host.sent_bytes - before > PIECE


class TestADeviceWithoutRoom:
    def test_that_takes_an_input_not_gets_it_with_each_run_and_is_not_asked_again(self, scripted: Scripted) -> None:
        device, peer = scripted(**Keeping(BY_DIGEST, limit=4 * LARGE).answers())
        job = summing(LARGE, LARGE + 1, LARGE)
        value(device, job)
        value(device, job)
        assert asked(peer) == [
            *("hello", "has", "put input", "has", "put input", "has", "put model", "run 1+2"),
            "run 0+3",
        ]

    def test_that_lost_an_input_after_it_was_asked_gets_the_same_run_with_it(self, scripted: Scripted) -> None:
        keeping, job = Keeping(BY_DIGEST), summing(LARGE, 1)
        keeping.lies = 1
        device, peer = scripted(**keeping.answers())
        value(device, job)
        value(device, job)
        assert asked(peer) == ["hello", "has", "put input", "has", "put model", "run 1+1", "run 0+2", "run 0+2"]
        device.stop()
        mark = len(peer.requests)
        value(device, job)
        assert asked(peer, mark) == ["hello", "has", "has", "run 1+1"]


class TestADeviceThatLies:
    def test_that_misses_what_came_is_believed_once(self, scripted: Scripted) -> None:
        def miss(link: Link, request: Message) -> None:
            link.send("failed", request.id, kind="missing", reason="gone")

        for abilities, runs in (([BY_DIGEST], ["run 1+0", "run 0+1"]), ([], ["run 0+1"])):
            device, peer = scripted(**Keeping(*abilities).answers() | {"run": miss})
            outcome = device.run(summing(LARGE))
            assert isinstance(outcome, Rejected)
            assert outcome.reason == "gone"
            assert [said for said in asked(peer) if said.startswith("run")] == runs

    def test_that_misses_an_input_after_an_output_came_is_not_asked_again(self, scripted: Scripted) -> None:
        def late(link: Link, request: Message) -> None:
            link.send("output", request.id, payloads=[("y", np.ones(1, np.float32))])
            link.send("failed", request.id, kind="missing", reason="gone")

        device, peer = scripted(**Keeping(BY_DIGEST).answers() | {"run": late})
        assert isinstance(device.run(summing(LARGE)), Rejected)
        assert asked(peer)[-1] == "run 1+0"

    @pytest.mark.parametrize("kind", ["put", "has"])
    def test_that_answers_something_else_to_an_offer_is_lost(self, scripted: Scripted, kind: str) -> None:
        def other(link: Link, request: Message) -> None:
            link.send("completed", request.id)

        device, _ = scripted(**Keeping(BY_DIGEST).answers() | {kind: other})
        outcome = device.run(summing(LARGE))
        assert isinstance(outcome, Lost)
        assert outcome.reason == "'completed' came where the input was offered"
