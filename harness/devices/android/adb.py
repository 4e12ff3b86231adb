"""adb: one function runs it, always with a deadline, and kills it on that; one opens a stream through its server.

A stream is what `adb forward` would listen for, without the listening port: nothing is left behind that could be taken
down or connected to by somebody else, and it works through a server on another machine alike.
"""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from harness.core.errors import DeviceError, UsageError
from harness.devices.captured import MOST, captured

ADB_SECONDS = 10.0
STARTING_SECONDS = 30.0
"""What a command gets besides where it has to start this machine's server: that looks for devices before it answers,
which takes 3.3 s on an idle machine and was seen to take 6.6 s on a busy one."""
DEFAULT_PORT = 5037
MOST_SAID = 300
TCP = re.compile(r"(\[.+\]|[^:]+):[0-9]+")
"""A serial that is an address."""


class AdbError(DeviceError):
    """An adb command that failed or did not end in time: what was run, on which serial, its output and exit code.

    `code` is None where the command was killed, or could not be started at all.
    """

    NEXT_STEP: ClassVar[str] = "Look at `harness devices`."

    def __init__(self, command: str, serial: str, output: str, code: int | None, why: str) -> None:
        self.command = command
        self.serial = serial
        self.output = output
        self.code = code
        said = " ".join(output.split())[-MOST_SAID:]
        super().__init__(f"`{command}` {why}" + (f": {said}" if said else "") + ".", self.NEXT_STEP)


class AdbMissing(AdbError):
    """There is no adb to start here: waiting brings no phone back."""

    NEXT_STEP = "Install Android's platform-tools, or set ADBUTILS_ADB_PATH to an adb."


@dataclass(frozen=True)
class Attached:
    """A device that an adb server lists. `product` is `ro.product.device`, empty where it cannot be asked."""

    serial: str
    state: str
    product: str

    @property
    def way(self) -> int:
        """How adb reaches it, the steadiest first: 0 by cable, 1 as a phone paired over Wi-Fi, 2 at an address."""
        return 1 if "._adb-tls-connect._tcp" in self.serial else 2 if TCP.fullmatch(self.serial) else 0


@dataclass(frozen=True)
class Server:
    """An adb server: `host` is empty for this machine's own, which adb starts when needed."""

    host: str = ""
    port: int = 0

    @classmethod
    def of(cls, text: str) -> Server:
        """From HOST or HOST:PORT; empty means this machine's.

        Raises:
            UsageError: it is neither.
        """
        host, colon, port = text.partition(":")
        if colon and not (host and re.fullmatch("[0-9]{1,5}", port) and int(port) < 1 << 16):
            raise UsageError(f"'{text}' is not an adb server.", "Write it as NAME@HOST:PORT.")
        return cls(host, int(port or DEFAULT_PORT) if host else 0)

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens."""
        if self.host:
            return self.host, self.port
        # As adb itself finds its server.
        chosen = re.fullmatch(r"tcp:(?:(.+):)?([0-9]{1,5})", os.environ.get("ADB_SERVER_SOCKET", ""))
        if chosen:
            return chosen[1] or "127.0.0.1", int(chosen[2])
        port = os.environ.get("ANDROID_ADB_SERVER_PORT", "")
        host = os.environ.get("ANDROID_ADB_SERVER_ADDRESS") or "127.0.0.1"
        return host, int(port) if re.fullmatch("[0-9]{1,5}", port) else DEFAULT_PORT

    def answers(self) -> bool:
        """Whether a command to it starts no server: it is another machine's, or something listens at its address."""
        if self.host:
            return True
        with suppress(OSError), socket.create_connection(self.address, 1.0):
            return True
        return False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.host else "this machine"


class Adb:
    """adb on one server, and on one device where a serial is given."""

    def __init__(self, server: Server, serial: str = "") -> None:
        self.server = server
        self.serial = serial

    def call(self, *words: str, seconds: float | None = None, check: bool = True) -> str:
        """Run `adb WORDS` and give what it printed, both streams together.

        Raises:
            AdbError: it failed (unless `check` is off), took longer than `seconds` (default `ADB_SECONDS`, and
                `STARTING_SECONDS` more where it starts the server) or said more than `captured.MOST` bytes and was
                killed, or is not there.
        """
        if seconds is None:
            seconds = ADB_SECONDS if self.server.answers() else ADB_SECONDS + STARTING_SECONDS
        shown = shlex.join(["adb", *(["-s", self.serial] if self.serial else []), *words])
        try:
            done = captured(self._command(*words), seconds)
        except OSError as error:
            gone = isinstance(error, (FileNotFoundError, NotADirectoryError, PermissionError))
            kind = AdbMissing if gone else AdbError  # out of processes, it may start later
            raise kind(shown, self.serial, "", None, f"cannot be started ({error.strerror})") from None
        if done.killed:
            over = {"time": f"gave no answer within {seconds:g} s", "size": f"said more than {MOST >> 20} MiB"}
            raise AdbError(shown, self.serial, done.output, None, f"{over[done.killed]} and was killed")
        if check and done.code:
            raise AdbError(shown, self.serial, done.output, done.code, f"ended with exit code {done.code}")
        return done.output

    def shell(self, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        """Run a program on the device; every word reaches it as it is. Raises AdbError as :meth:`call`."""
        return self.call("shell", shlex.join(argv), seconds=seconds, check=check)

    def follow(self, *argv: str) -> subprocess.Popen[bytes]:
        """Start a program on the device whose output comes through a pipe until it is ended: its standard input closed,
        as it is when this process dies, or its process group killed. Raises AdbError."""
        command = self._command("shell", shlex.join(argv))
        watched = ["/bin/sh", "-c", '"$@" & read -r _; kill $!', "sh", *command]
        try:
            return subprocess.Popen(
                watched,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            raise AdbError(
                shlex.join(command), self.serial, "", None, f"cannot be started ({error.strerror})"
            ) from None

    def started(self, script: str, *, held: bool = False) -> subprocess.Popen[bytes]:
        """Start a script of the device's shell, whose words are quoted by now; both its streams come through one pipe.
        Whoever starts it ends it. One that is `held` reads from a pipe that ends with this process, and hears of no
        Ctrl-C. Raises AdbError."""
        command = self._command("shell", script)
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE if held else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                bufsize=0,
                start_new_session=held,
            )
        except OSError as error:
            shown = shlex.join(command)
            raise AdbError(shown, self.serial, "", None, f"cannot be started ({error.strerror})") from None

    def stream(self, service: str, deadline: float) -> socket.socket:
        """Connect to a service of the device, such as `localabstract:NAME`; `deadline` on time.monotonic()'s clock.

        Raises:
            AdbError: the server, the device or the service is not there, or does not answer in time.
        """
        sock = None
        try:
            sock = socket.create_connection(self.server.address, _left(deadline))
            for request in (f"host:transport:{self.serial}", service):
                sock.settimeout(_left(deadline))
                sock.sendall(f"{len(request.encode()):04x}{request}".encode())
                self._acknowledged(sock, service, deadline)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException as error:
            if sock is not None:
                sock.close()
            if isinstance(error, OSError):
                why = "gave no answer in time" if isinstance(error, TimeoutError) else "was not reached"
                raise AdbError(f"adb {service}", self.serial, str(error.strerror or ""), None, why) from None
            raise
        return sock

    def state(self) -> str:
        """`device`, `offline`, `unauthorized`, …; `absent` where the server does not list it. Raises AdbError."""
        listed = {d.serial: d.state for d in self.listed()}
        return listed.get(self.serial, "absent")

    def listed(self) -> list[Attached]:
        """What the server lists. Raises AdbError."""
        rows = Adb(self.server).call("devices", "-l").splitlines()
        found = []
        for row in rows:
            # SERIAL STATE [key:value …]; the state of one without permissions is several words.
            parsed = re.match(r"(\S+)\s+(no permissions|[a-z]+)\b(.*)", row)
            if parsed and not row.startswith(("List of", "* daemon")):
                product = re.search(r"\bdevice:(\S+)", parsed[3])
                found.append(Attached(parsed[1], parsed[2], product[1] if product else ""))
        return found

    def getprop(self, name: str, seconds: float | None = None) -> str:
        """A system property, empty when it is not set. Raises AdbError as :meth:`call`."""
        return self.shell("getprop", name, seconds=seconds).strip()

    def serialno(self, seconds: float | None = None) -> str:
        """The phone's own serial number, the same by cable and over Wi-Fi; adb's name of it where it tells none. Raises
        AdbError as :meth:`call`."""
        return self.getprop("ro.serialno", seconds) or self.serial

    def boot_id(self) -> str:
        """The kernel's id of this boot. Raises AdbError."""
        return self.shell("cat", "/proc/sys/kernel/random/boot_id").strip()

    def _command(self, *words: str) -> list[str]:
        where = ["-H", self.server.host, "-P", str(self.server.port)] if self.server.host else []
        return [str(adb_binary()), *where, *(["-s", self.serial] if self.serial else []), *words]

    def _acknowledged(self, sock: socket.socket, service: str, deadline: float) -> None:
        answer = _exactly(sock, 4, deadline)
        if answer == b"OKAY":
            return
        said = ""
        if answer == b"FAIL":
            with suppress(ValueError):
                said = _exactly(sock, int(_exactly(sock, 4, deadline), 16), deadline).decode("utf-8", "replace")
        raise AdbError(f"adb {service}", self.serial, said, None, "was refused")


def adb_binary() -> Path:
    """The adb that is run.

    Raises:
        AdbMissing: there is none: `adbutils` brings one for common systems only.
    """
    import adbutils

    try:
        return Path(adbutils.adb_path())
    except adbutils.AdbError as error:
        raise AdbMissing("adb", "", "", None, f"is not there ({error})") from None


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def _exactly(sock: socket.socket, size: int, deadline: float) -> bytes:
    whole = b""
    while len(whole) < size:
        sock.settimeout(_left(deadline))
        chunk = sock.recv(size - len(whole))
        if not chunk:
            raise ConnectionResetError(104, "the adb server closed the connection")
        whole += chunk
    return whole
