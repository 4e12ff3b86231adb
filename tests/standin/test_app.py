"""The app's own Kotlin on the JVM, asked over its socket as a phone would be over a forward: it answers as the host's
worker does, keeps strangers out, and lives on after whatever breaks."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.core.job import Completed, Options
from harness.devices.execute import make_job
from harness.devices.link import MAGIC, PROTOCOL, LinkError
from tests.arrays import normal
from tests.standin.app import App
from tests.standin.asking import SECONDS, Asker, Direct, wait_for
from tests.standin.build import Build
from tests.standin.scenes import small_network


class TestHello:
    def test_it_states_the_protocol_and_what_the_device_is(self, asker: Asker) -> None:
        (answer,) = asker.ask("hello", protocol=PROTOCOL)
        facts = answer.fields["facts"]
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        assert (answer.type, answer.fields["protocol"], facts["boot_id"]) == ("hello", PROTOCOL, boot_id)
        assert facts["memory_total"] > facts["memory_available"] > 1 << 20
        assert (facts["thermal"], facts["thermal_headroom"], facts["battery"]) == ("none", None, 100)

    @pytest.mark.parametrize("protocol", [PROTOCOL + 1, 0, "1", None, True, 1.5])
    def test_another_protocol_is_refused(self, asker: Asker, protocol: Any) -> None:
        said = f"protocol {protocol!r} is asked for, this worker speaks {PROTOCOL}"
        assert asker.refusal("hello", protocol=protocol) == said

    @pytest.mark.parametrize(
        ("settings", "said"),
        [
            (
                {"STANDIN_GL_RENDERER": "Mali-G715", "STANDIN_GL_VERSION": "OpenGL ES 3.2 v1.r44p1"},
                ("Mali-G715", "OpenGL ES 3.2 v1.r44p1"),
            ),
            ({"STANDIN_GL_RENDERER": ""}, ("", "")),
        ],
    )
    def test_the_gpu_and_its_driver_are_told(
        self, standin_build: Build, tmp_path: Path, settings: dict[str, str], said: tuple[str, str]
    ) -> None:
        phone = App(tmp_path, settings)
        try:
            link = phone.connect()
            asker = Asker(link)
            for _ in range(2):
                facts = asker.ask("hello", protocol=PROTOCOL)[0].fields["facts"]
                assert (facts["gl_renderer"], facts["gl_version"]) == said
            link.close()
        finally:
            phone.close()

    def test_facts_are_those_of_the_moment(self, standin_build: Build, tmp_path: Path) -> None:
        thermal = tmp_path / "thermal"
        thermal.write_text("0")
        settings = {"STANDIN_DEVICE": "akita", "STANDIN_MODEL": "Pixel 8a", "STANDIN_BATTERY": "41"}
        hot = App(tmp_path, settings | {"STANDIN_THERMAL_STATUS": f"@{thermal}", "STANDIN_THERMAL_HEADROOM": "0.5"})
        try:
            link = hot.connect()
            asker = Asker(link)
            facts = asker.ask("hello", protocol=PROTOCOL)[0].fields["facts"]
            assert (facts["product"], facts["model"], facts["battery"]) == ("akita", "Pixel 8a", 41)
            assert (facts["thermal"], facts["thermal_headroom"]) == ("none", 0.5)
            thermal.write_text("3")
            assert asker.ask("hello", protocol=PROTOCOL)[0].fields["facts"]["thermal"] == "severe"
            link.close()
        finally:
            hot.close()


class TestModels:
    def test_a_model_is_kept_under_its_digest(self, asker: Asker) -> None:
        data = b"any bytes at all"
        digest = hashlib.sha256(data).hexdigest()
        assert asker.ask("has", sha256=digest)[0].fields == {"present": False}
        assert asker.ask("put", [("model", np.frombuffer(data, np.uint8))], sha256=digest)[0].type == "put"
        assert asker.ask("has", sha256=digest)[0].fields == {"present": True}

    def test_bytes_with_another_digest_are_not_kept(self, asker: Asker) -> None:
        digest = hashlib.sha256(b"other").hexdigest()
        other = np.frombuffer(b"other", np.uint8)
        for payloads in ([("model", other[:3])], [], [("weights", other)]):
            assert asker.refusal("put", payloads, sha256=digest) == (
                "the model's bytes do not have the announced sha256"
            )
        assert asker.ask("has", sha256=digest)[0].fields == {"present": False}

    @pytest.mark.parametrize("digest", ["../../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 65, None, 7])
    def test_a_digest_that_is_none_is_refused(self, asker: Asker, digest: Any) -> None:
        for kind in ("has", "put"):
            assert asker.refusal(kind, sha256=digest) == f"{digest!r} is not a sha256"

    def test_the_second_job_sends_no_model_bytes(self, direct: Direct) -> None:
        model = small_network()
        job = make_job(model, {"x": normal((1, 16))}, Options("cpu"), timeout=SECONDS)
        assert isinstance(direct.run(job), Completed)
        assert direct._link is not None
        before = direct._link.sent_bytes
        assert isinstance(direct.run(job), Completed)
        assert direct._link.sent_bytes - before < 1024 < len(job.model)

    def test_the_store_drops_what_was_not_used_for_longest(self, standin_build: Build, tmp_path: Path) -> None:
        small = App(tmp_path, store_bytes="1000")
        try:
            link = small.connect()
            asker = Asker(link)
            blobs = [bytes([value]) * 400 for value in range(3)]
            digests = [hashlib.sha256(blob).hexdigest() for blob in blobs]
            for blob, digest in zip(blobs, digests, strict=True):
                asker.ask("put", [("model", np.frombuffer(blob, np.uint8))], sha256=digest)
                time.sleep(0.01)
                asker.ask("has", sha256=digests[0])  # used, so that it stays
                time.sleep(0.01)
            present = [asker.ask("has", sha256=digest)[0].fields["present"] for digest in digests]
            assert present == [True, False, True]
            big = np.zeros(1001, np.uint8)
            assert asker.refusal("put", [("model", big)], sha256=hashlib.sha256(big.tobytes()).hexdigest()) == (
                "the model has 1001 bytes, the device keeps at most 1000"
            )
            link.close()
        finally:
            small.close()


class TestConnections:
    def test_a_process_of_another_user_is_refused_and_the_log_says_so(self, app: App, tmp_path: Path) -> None:
        if os.geteuid() == 0:
            connect = f"s = socket.socket(1); s.connect('\\0{app.socket}'); print(s.recv(1) or 'refused')"
            script = f"import os, socket; os.setuid(65534); {connect}"
            stranger = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, timeout=SECONDS, check=True
            )
            assert stranger.stdout.strip() == "refused"
            wait_for(app, "refused uid 65534")
        else:
            strict = App(tmp_path, {"STANDIN_SHELL_UID": "4242"})
            try:
                with socket.socket(socket.AF_UNIX) as plain:
                    plain.connect(f"\0{strict.socket}")
                    assert plain.recv(1) == b""
                wait_for(strict, f"refused uid {os.getuid()}")
            finally:
                strict.close()

    def test_a_newer_connection_ends_the_one_before(self, app: App) -> None:
        older, newer = app.connect(), app.connect()
        with pytest.raises(LinkError, match="the other side closed the connection"):
            older.receive(time.monotonic() + SECONDS)
        assert Asker(newer).ask("hello", protocol=PROTOCOL)[0].type == "hello"
        older.close()
        newer.close()

    def test_bye_ends_the_app(self, standin_build: Build, tmp_path: Path) -> None:
        short = App(tmp_path)
        link = short.connect()
        link.send("bye", 0)
        link.close()
        assert short.process.wait(SECONDS) == 0
        assert "the host said bye" in short.log()

    def test_a_name_that_is_taken_is_told_in_the_log(self, app: App, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match="Address already in use"):
            App(tmp_path, socket=app.socket)


class TestBrokenFrames:
    @pytest.mark.parametrize(
        ("raw", "why"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", "a frame starts with other bytes than LDH1"),
            (MAGIC + struct.pack(">I", (1 << 20) + 1), "a header of 1048577 bytes is announced"),
            (MAGIC + struct.pack(">I", 3) + b"{{{", "a header is not a JSON object"),
            (MAGIC + struct.pack(">I", 4000) + b"[" * 4000, "a header is not a JSON object"),
            (MAGIC + struct.pack(">I", 60006) + b'{"a":' + b"[" * 60000 + b"}", "a header is"),
            (MAGIC + struct.pack(">I", 2) + b"{}", "a header lacks type, id or payloads"),
        ],
        ids=["http", "long header", "no JSON", "a list", "deep", "empty"],
    )
    def test_what_is_no_frame_ends_the_connection_and_the_next_one_works(self, app: App, raw: bytes, why: str) -> None:
        assert_refused(app, raw, why)

    @pytest.mark.parametrize(
        ("announcement", "why"),
        [
            ({"bytes": 1 << 40, "shape": [1 << 40]}, "is announced with 1099511627776 bytes"),
            ({"bytes": 8}, "is announced with 8 bytes for shape [4] of uint8"),
            ({"shape": [1 << 62, 1 << 62, 4]}, "is announced with 4 bytes for shape"),
            ({"shape": [-4]}, "is announced with another shape"),
            ({"shape": [1] * 9}, "is announced with another shape"),
            ({"dtype": "string"}, "of another type than known"),
            ({"crc32": "0"}, "is announced with 4 bytes"),
            ({"crc32": 1}, "the checksum of payload 'model' does not match"),
        ],
    )
    def test_a_payload_that_lies_ends_the_connection(self, app: App, announcement: dict[str, Any], why: str) -> None:
        entry = {"name": "model", "dtype": "uint8", "shape": [4], "bytes": 4, "crc32": zlib.crc32(b"abcd")}
        digest = hashlib.sha256(b"abcd").hexdigest()
        header = {"type": "put", "id": 1, "sha256": digest, "payloads": [entry | announcement]}
        text = json.dumps(header).encode()
        assert_refused(app, MAGIC + struct.pack(">I", len(text)) + text + b"abcd", why)

    def test_300_connections_of_noise_leave_the_app_as_it_was(self, app: App) -> None:
        random = np.random.default_rng(7)
        before = resident_bytes(app)
        for _ in range(300):
            raw = random.integers(0, 256, random.integers(1, 4096), np.uint8).tobytes()
            framed = MAGIC + struct.pack(">I", len(raw)) + raw if random.random() < 0.5 else raw
            with socket.socket(socket.AF_UNIX) as plain, suppress(BrokenPipeError, ConnectionResetError):
                plain.connect(f"\0{app.socket}")
                plain.sendall(framed)
        asker = Asker(app.connect())
        assert asker.ask("hello", protocol=PROTOCOL)[0].type == "hello"
        assert resident_bytes(app) - before < 64 << 20
        asker.link.close()

    def test_a_payload_cut_short_leaves_nothing_behind(self, app: App) -> None:
        data = np.arange(100_000, dtype=np.uint8)
        digest = hashlib.sha256(data.tobytes()).hexdigest()
        entry = {
            "name": "model",
            "dtype": "uint8",
            "shape": [100_000],
            "bytes": 100_000,
            "crc32": zlib.crc32(data.tobytes()),
        }
        text = json.dumps({"type": "put", "id": 1, "sha256": digest, "payloads": [entry]}).encode()
        with socket.socket(socket.AF_UNIX) as plain:
            plain.connect(f"\0{app.socket}")
            plain.sendall(MAGIC + struct.pack(">I", len(text)) + text + data.tobytes()[:70_000])
        wait_for(app, "connection ended: the other side closed the connection")
        asker = Asker(app.connect())
        assert asker.ask("has", sha256=digest)[0].fields == {"present": False}
        assert not list((app.logcat.parent / "cache" / "models").glob("*.part"))
        asker.link.close()


def assert_refused(app: App, raw: bytes, why: str) -> None:
    """The app closes the connection on these bytes, says why, and answers on the next one."""
    mark = app.logcat.stat().st_size
    with socket.socket(socket.AF_UNIX) as plain:
        plain.connect(f"\0{app.socket}")
        plain.settimeout(SECONDS)
        plain.sendall(raw)
        with suppress(ConnectionResetError):  # closed with bytes of ours unread
            assert plain.recv(1) == b""
    wait_for(app, why, mark)
    asker = Asker(app.connect())
    assert asker.ask("hello", protocol=PROTOCOL)[0].type == "hello"
    asker.link.close()


def resident_bytes(app: App) -> int:
    status = Path(f"/proc/{app.process.pid}/status").read_text("ascii")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024
