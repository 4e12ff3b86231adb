"""Inputs that stay in the app: its own Kotlin, asked by the host's client and by requests that no host would send."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.arrays import Array
from harness.core.job import Completed, Job, Options
from harness.devices.base import Device
from harness.devices.execute import make_job
from harness.devices.kept import BY_DIGEST
from harness.devices.link import PIECE, PROTOCOL, announce
from harness.graph.build import GraphBuilder
from harness.graph.model import Model
from tests.arrays import normal
from tests.standin.app import App
from tests.standin.asking import SECONDS, Asker, Direct, request_for, wait_for
from tests.standin.build import Build

LENGTH = PIECE  # of float32: four times what would come along
X = normal((1, LENGTH), seed=5)


def network(kind: str = "MUL") -> Model:
    """y = x * x or another op of the two, of a large input."""
    graph = GraphBuilder()
    x = graph.input("x", (1, LENGTH))
    graph.output(graph.binary(kind, x, x), "y")
    return graph.build()


def job(model: Model, x: Array = X) -> Job:
    return make_job(model, {"x": x}, Options("cpu"), timeout=SECONDS)


def bits(device: Device, asked: Job) -> tuple[bytes, int]:
    """The output's bytes, and how many were sent for them."""
    before = device.sent_bytes
    outcome = device.run(asked)
    assert isinstance(outcome, Completed), outcome
    return outcome.outputs["y"].tobytes(), device.sent_bytes - before


def named(values: Array, **lies: Any) -> dict[str, Any]:
    """An entry of a run's `inputs`."""
    return announce("x", values) | {"sha256": hashlib.sha256(values.tobytes()).hexdigest()} | lies


def put_input(asker: Asker, values: Array) -> None:
    digest = hashlib.sha256(values.tobytes()).hexdigest()
    assert asker.ask("put", [("input", values.reshape(-1).view(np.uint8))], sha256=digest)[0].type == "put"


def stored(app_folder: Path, data: bytes) -> Path:
    return app_folder / "cache" / "models" / f"{hashlib.sha256(data).hexdigest()}.tflite"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def small(standin_build: Build, folder: Path) -> Iterator[App]:
    """An app with room for the input and little more."""
    running = App(folder, store_bytes=str(X.nbytes + 4096))
    yield running
    running.close()


class TestTheSameBits:
    def test_as_of_inputs_that_come_and_the_second_run_and_the_next_model_bring_none(self, direct: Direct) -> None:
        expected = {kind: (X * X if kind == "MUL" else X + X).tobytes() for kind in ("MUL", "ADD")}
        first, sent = bits(direct, job(network()))
        assert (first, sent > X.nbytes) == (expected["MUL"], True)
        again, sent = bits(direct, job(network()))
        assert (again, sent < 2048) == (expected["MUL"], True)
        other = network("ADD")
        result, sent = bits(direct, job(other))
        assert (result, sent < 2048 + len(other.to_bytes())) == (expected["ADD"], True)

    def test_as_of_inputs_that_come_to_an_app_of_before(self, direct: Direct, monkeypatch: pytest.MonkeyPatch) -> None:
        kept, _ = bits(direct, job(network()))
        direct.stop()
        monkeypatch.setattr("harness.devices.kept.BY_DIGEST", "of no app")
        came, sent = bits(direct, job(network()))
        assert (came, sent > X.nbytes) == (kept, True)
        monkeypatch.undo()
        direct.stop()
        assert bits(direct, job(network()))[1] < 2048

    def test_of_every_bit_pattern(self, direct: Direct) -> None:
        graph = GraphBuilder()
        flat = graph.constant(np.asarray([1 << 16], np.int32))
        graph.output(graph.op("RESHAPE", [graph.input("x", (1, 1 << 16)), flat], (1 << 16,)), "y")
        # The high halves of all float32, NaN of each kind among them.
        x = (np.arange(1 << 16, dtype=np.uint32) << 16 | 0xABCD).view(np.float32).reshape(1, -1)
        for _ in range(2):
            assert bits(direct, job(graph.build(), x))[0] == x.tobytes()

    def test_after_the_app_was_killed_and_started_again(self, standin_build: Build, folder: Path) -> None:
        sent = []
        for _ in range(2):
            app = App(folder)
            device = Direct(app)
            try:
                result, bytes_sent = bits(device, job(network()))
                assert result == (X * X).tobytes()
                sent.append(bytes_sent)
            finally:
                device.stop()
                app.close()
                app.logcat.write_text("")
        assert sent[0] > X.nbytes and sent[1] < 2048


class TestWhatTheStoreDropped:
    def test_is_sent_again(self, small: App, folder: Path) -> None:
        device = Direct(small)
        other = X + 1
        for x, brings in ((X, True), (X, False), (other, True), (X, True), (X, False)):
            result, sent = bits(device, job(network(), x))
            assert (result, sent > X.nbytes) == ((x * x).tobytes(), brings)
        assert not stored(folder, other.tobytes()).exists()
        device.stop()

    @pytest.mark.parametrize(
        "damage",
        [
            lambda path: path.unlink(),
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(bytes(X.nbytes)),
        ],
        ids=["gone", "empty", "zeros"],
    )
    def test_or_lost_on_the_disk_is_sent_with_the_run_or_again(self, direct: Direct, app: App, damage: Any) -> None:
        before = bits(direct, job(network()))[0]
        path = stored(app.logcat.parent, X.tobytes())
        damage(path)
        result, sent = bits(direct, job(network()))
        assert (result, sent > X.nbytes) == (before, True)
        direct.stop()
        for brings in (not path.exists(), False):
            result, sent = bits(direct, job(network()))
            assert (result, sent > X.nbytes) == (before, brings)
        assert path.read_bytes() == X.tobytes()

    def test_for_a_model_that_leaves_no_room_comes_with_the_run(self, standin_build: Build, folder: Path) -> None:
        graph = GraphBuilder()
        offsets = normal((1, LENGTH), seed=6)
        graph.output(graph.binary("ADD", graph.input("x", (1, LENGTH)), graph.constant(offsets)), "y")
        model = graph.build()
        app = App(folder, store_bytes=str(len(model.to_bytes()) + 4096))  # either, but not both
        device = Direct(app)
        try:
            sent = []
            for _ in range(3):
                result, bytes_sent = bits(device, job(model))
                assert result == (X + offsets).tobytes()
                sent.append(bytes_sent)
            assert sent[0] > 3 * X.nbytes  # the input, the model that drops it, and the input once more
            assert X.nbytes < sent[1] < sent[2] + 100 < X.nbytes + 2048
        finally:
            device.stop()
            app.close()


class TestRequestsThatNoHostSends:
    @pytest.mark.parametrize("digest", ["../../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 65, None, 7, ["0" * 64]])
    def test_a_digest_that_is_none_is_refused(self, asker: Asker, digest: Any) -> None:
        model = network()
        asker.put(model)
        said = asker.refusal("run", **request_for(model, inputs=[named(X, sha256=digest)]))
        assert said.endswith(" is not a sha256")
        assert asker.ask("run", [("x", X)], **request_for(model))[0].type == "output"

    @pytest.mark.parametrize(
        ("lies", "why"),
        [
            ({"shape": [1, LENGTH // 2], "bytes": X.nbytes // 2}, "input 'x' is announced with 131072 bytes"),
            ({"shape": [1, 4 * LENGTH], "bytes": 4 * X.nbytes}, "input 'x' is announced with 1048576 bytes"),
            ({"shape": [1 << 28], "bytes": 1 << 30}, "the inputs have 1073741824 bytes, the app takes at most"),
            ({"shape": [1 << 38], "bytes": 1 << 40}, "payload 'x' is announced with 1099511627776 bytes"),
            ({"bytes": 4}, "payload 'x' is announced with 4 bytes for shape"),
            ({"shape": [-1]}, "payload 'x' is announced with another shape"),
            ({"dtype": "float16"}, "payload 'x' is announced with 262144 bytes for shape"),
            ({"dtype": "int32"}, "input 'x' came as int32"),
            ({"crc32": zlib.crc32(b"")}, "input 'x' is announced with 262144 bytes and checksum 0"),
        ],
    )
    def test_an_input_of_another_size_or_type_is_refused_and_the_next_run_names_it(
        self, asker: Asker, lies: dict[str, Any], why: str
    ) -> None:
        model = network()
        asker.put(model)
        put_input(asker, X)
        assert asker.refusal("run", **request_for(model, inputs=[named(X, **lies)])).startswith(why)
        output, end = asker.ask("run", **request_for(model, inputs=[named(X)]))
        assert (output.payloads["y"].tobytes(), end.type) == ((X * X).tobytes(), "completed")

    def test_one_that_is_not_here_is_missing_and_nothing_is_compiled_for_it(self, asker: Asker, app: App) -> None:
        model = network("SUB")
        asker.put(model)
        mark = app.logcat.stat().st_size
        (answer,) = asker.ask("run", **request_for(model, inputs=[named(X + 2)]))
        assert answer.fields == {"kind": "missing", "reason": "input 'x' is not here any more"}
        wait_for(app, f"answered {asker.ident}", mark)
        assert asker.ask("run", [("x", X)], **request_for(model))[-1].fields["compiled"] is True

    def test_bytes_that_are_no_input_of_that_digest_are_not_kept(self, asker: Asker) -> None:
        digest = hashlib.sha256(b"other").hexdigest()
        data = np.frombuffer(b"bytes", np.uint8)
        assert asker.refusal("put", [("input", data)], sha256=digest) == (
            "the input's bytes do not have the announced sha256"
        )
        assert asker.ask("has", sha256=digest)[0].fields == {"present": False}

    def test_hello_says_that_it_can(self, asker: Asker) -> None:
        assert asker.ask("hello", protocol=PROTOCOL)[0].fields["abilities"] == [BY_DIGEST]

    def test_a_hundred_runs_that_name_nothing_right_leave_the_app_as_it_was(self, asker: Asker) -> None:
        model = network()
        asker.put(model)
        put_input(asker, X)
        random = np.random.default_rng(11)
        entries = [None, 7, [], {}, "x", named(X), named(X, sha256="0" * 64), named(X, crc32=1), [None]]
        began = time.monotonic()
        for _ in range(100):
            inputs = [entries[i] for i in random.integers(0, len(entries), random.integers(2, 6))]
            (answer,) = asker.ask("run", **request_for(model, inputs=inputs))
            assert answer.type == "failed"
        assert time.monotonic() - began < SECONDS
        assert asker.ask("run", **request_for(model, inputs=[named(X)]))[0].payloads["y"].tobytes() == (X * X).tobytes()
