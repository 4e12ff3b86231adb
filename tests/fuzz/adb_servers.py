"""An adb server that means no good: it speaks the host protocol, as far as it suits it, for a phone that is not there.

A request is four hexadecimal digits and so many bytes; an answer begins with OKAY or FAIL (docs/dev/protocol.md of
Android's adb). A shell's output comes in packets of a kind, a length and bytes: 1 is output, 3 the exit code.
"""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import harness
from harness.devices.link import MAGIC, PROTOCOL
from tests.fuzz.peers import FACTS, ODD_TEXT, frame

ODD = (*(text.encode("utf-8", "surrogatepass") for text in ODD_TEXT), b"\xff\xfe\x80", b"9" * 400, b"-1", b"\n" * 999)
KINDS = (
    "list", "list", "list", "many phones", "shell", "shell", "shell", "shell", "one command", "one command",
    "one command", "lengths", "fail", "fail", "close", "hang", "hang after okay", "endless", "endless shell",
    "endless stream", "drip", "version", "packets", "stream", "stream",
)  # fmt: skip
SERIAL = "SERIAL1"
_LINE = f"{SERIAL} device usb:1-1 product:akita model:Pixel_8a device:akita transport_id:1\n".encode()
# What an honest phone says, by a word of the command.
SAID: dict[str, bytes] = {
    "sys.boot_completed": b"1\n",
    "ro.product.device": b"akita\n",
    "boot_id": b"8d3c7f60-0000-4000-8000-000000000000\n",
    "dumpsys power": b"  mWakefulness=Awake\n",
    "dumpsys battery": b"  AC powered: true\n  level: 80\n  scale: 100\n  temperature: 250\n",
    "thermalservice": b"Thermal Status: 0\n",
    "dumpsys package": f"    versionName={harness.__version__}\n".encode(),
    "exit-info": b"ACTIVITY MANAGER PROCESS EXIT INFO (dumpsys activity exit-info)\n",
    "pm path": b"package:/data/app/x.apk\n",
    "sha256sum": b"0 x\n",
    "am instrument": b"",
    "get-current-user": b"0\n",
    "pidof": b"4711\n",
    "logcat": b"11-20 14:05:17.107  4711  4711 E tflite  : text\n",
}


class HostileAdbServer:
    """Listens on `port` of this machine until closed; what it does to whom is decided by the seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.kind = self.draw.choice(KINDS)
        self.victim = self.draw.choice(list(SAID))
        self.odd = self.draw.choice(ODD)
        self._asked = 0
        self._stop = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Listen no longer, and let go of everyone."""
        self._stop.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.settimeout(60)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, ValueError), client:
            while not self._stop.is_set():
                head = client.recv(4)
                if not head:
                    return
                request = client.recv(int(head, 16)).decode("utf-8", "replace")
                if not self._answer(client, request):
                    return

    def _answer(self, client: socket.socket, request: str) -> bool:
        """Answer one request; whether another may follow on the connection."""
        if self.kind in ("close", "hang", "endless", "drip", "lengths", "fail") and self._spoilt(client, request):
            return False
        if request == "host:version":
            _block(client, self.draw.choice((b"0001", b"ffff", b"zz", b"")) if self.kind == "version" else b"0029")
        elif request.startswith("host:devices"):
            _block(client, self._listed())
        elif request.endswith("features"):
            _block(client, b"shell_v2,cmd")
        elif request.startswith("host:tport"):
            client.sendall(b"OKAY" + struct.pack("<Q", 1))
            return True
        elif request.startswith("host:transport"):
            client.sendall(b"OKAY")
            return True
        elif request.startswith("shell"):
            client.sendall(b"OKAY")
            self._shell(client, request.partition(":")[2])
        elif request.startswith("localabstract:"):
            client.sendall(b"OKAY")
            self._app(client)
        elif request == "host:kill":
            client.sendall(b"OKAY")
        else:
            _block(client, self.odd[:60_000])
        return False

    def _spoilt(self, client: socket.socket, request: str) -> bool:
        """Whether the request was answered as no server does."""
        draw = self.draw
        if request == "host:version" and draw.random() < 0.8:
            return False
        match self.kind:
            case "hang":
                self._stop.wait(60)
            case "endless":
                self._endless(client, lambda: client.sendall(b"OKAYffff" + self.odd + bytes(1 << 16)))
            case "lengths":
                client.sendall(b"OKAY" + draw.choice((b"zzzz", b"-001", b"ffff", b"0000", b"00", b"\xff" * 4)) + b"x")
            case "fail":
                said = self.odd[:60_000]
                length = draw.choice((b"%04x" % len(said), b"ffff", b"zzzz", b"-001"))
                client.sendall(b"FAIL" + length + said)
            case "drip":
                for byte in b"OKAY0030" + self.odd * 3:
                    if self._stop.wait(0.2):
                        break
                    client.sendall(bytes([byte]))
        return True

    def _listed(self) -> bytes:
        draw, odd = self.draw, self.odd[:20_000]
        if self.kind == "many phones":
            return b"".join(b"S%d device\n" % i for i in range(5_000))[:0xFFFF]
        if self.kind != "list":
            return _LINE
        return draw.choice((
            _LINE.replace(SERIAL.encode(), odd),
            _LINE.replace(b"akita", odd),
            _LINE.replace(b"device usb", odd[:50] + b" usb"),
            SERIAL.encode() + b" device\n" + odd + b" offline\n",
            odd, b"", _LINE * 3, _LINE + odd.replace(b" ", b"") + b"\tdevice\n",
        ))  # fmt: skip

    def _shell(self, client: socket.socket, command: str) -> None:
        said = next((words for key, words in SAID.items() if key in command), b"")
        if self.kind == "shell" or (self.kind == "one command" and self.victim in command):
            said = self.draw.choice((self.odd, said + self.odd, b"", self.odd * 20))
            if "dumpsys" in command or "pidof" in command:
                number = self.draw.choice((b"9" * 30, b"-5", b"1e9", b"0", "９".encode(), b"nan"))
                said = (
                    b"  level: %s\n scale: 0\n temperature: %s\nThermal Status: %s\n" % (number, number, number) + said
                )
        if self.kind == "hang after okay":
            self._stop.wait(60)
        elif self.kind == "endless shell" and self.victim in command:
            self._endless(client, lambda: _packet(client, 1, self.odd + bytes(1 << 15)))
        elif self.kind == "packets":
            client.sendall(struct.pack("<BI", self.draw.randrange(256), self.draw.choice((0, 2**31, 2**32 - 1))) + said)
        else:
            if said:
                _packet(client, 1, said)
            if "logcat -v" in command:
                self._stop.wait(20)
            _packet(client, 3, bytes([self.draw.choice((0, 0, 0, 1, 255))]) if self.kind == "shell" else b"\0")

    def _app(self, client: socket.socket) -> None:
        """The app's side of the wire: its first words, then nothing or too much."""
        if self.kind == "endless stream":
            self._endless(client, lambda: client.sendall(MAGIC + bytes(1 << 16)))
        elif self.kind == "stream":
            facts: dict[str, Any] = {
                name: self.draw.choice(ODD_TEXT) for name in (*FACTS, "model", "soc", "thermal", "app")
            }
            facts |= {"battery": 10**400, "memory_available": -1, "sdk": float("nan")}
            client.sendall(frame({"type": "hello", "id": 1, "protocol": PROTOCOL, "facts": facts}, []))
            client.sendall(frame({"type": "failed", "id": 2, "reason": self.draw.choice(ODD_TEXT)}, []))
            self._stop.wait(20)

    def _endless(self, client: socket.socket, step: Callable[[], None]) -> None:
        client.settimeout(5)
        while not self._stop.is_set():
            step()


def _block(client: socket.socket, said: bytes) -> None:
    client.sendall(b"OKAY%04x" % len(said) + said)


def _packet(client: socket.socket, kind: int, said: bytes) -> None:
    client.sendall(struct.pack("<BI", kind, len(said)) + said)
