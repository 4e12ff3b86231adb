"""Starts the app's own Kotlin on the JVM, as `am instrument` starts it on a phone.

`command()` is the command line: a `java` that listens on the abstract socket `@litert-harness` until a host says `bye`
or the process is killed. What a device would bring comes from the environment (each has a default; a value `@FILE` is
read from that file whenever it is asked for, so that it can change while the app runs):

    STANDIN_LOGCAT            file that the app's and the runtime's log is appended to; else standard error
    STANDIN_CACHE             the app's cache folder, where models are kept; else ./cache
    STANDIN_DEVICE, _MODEL, _FINGERPRINT, _SOC_MANUFACTURER, _SOC_MODEL, _HARDWARE, _SDK, _RELEASE
    STANDIN_THERMAL_STATUS    0 (none) to 6 (shutdown)
    STANDIN_THERMAL_HEADROOM  1.0 is where throttling starts
    STANDIN_BATTERY           percent; STANDIN_CHARGING, STANDIN_SCREEN_ON: true or false
    STANDIN_GL_RENDERER, _GL_VERSION   what OpenGL ES says; an empty renderer is a phone without it
    STANDIN_DELEGATE          what the log calls the GPU's delegate: LITERT_CL, LITERT_OPENGL
    STANDIN_SHELL_UID         the user id that plays Android's shell (2000); else the user who runs the app

The boot id is /proc/sys/kernel/random/boot_id, as on Android: another one is a file mounted over it. A logcat file has
the app's own lines as `logcat -v threadtime` prints them, and the runtime's as it wrote them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import ai_edge_litert

from harness.devices.link import Link
from tests.standin.build import build, java

PACKAGE = "dev.litertharness"
COMPONENT = f"{PACKAGE}/.WorkerInstrumentation"
SOCKET = "litert-harness"
START_SECONDS = 60.0


def command(**extras: str) -> list[str]:
    """The command line that `am instrument -e KEY VALUE … dev.litertharness/.WorkerInstrumentation` stands for.

    `extras` are the instrumentation's arguments: `socket`, `store_bytes`. Builds the app if needed.

    Raises:
        MissingPart: Java, or what the build needs, is not here.
    """
    pairs = [word for name, value in extras.items() for word in ("-e", name, value)]
    return [
        java(),
        "-Xmx512m",  # as a phone gives an app with a large heap
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",  # a short start counts for more than a fast hour
        "-XX:+ErrorFileToStderr",  # a crash is told in the log, as by a tombstone
        "-XX:-CreateCoredumpOnCrash",
        "--add-opens=java.base/java.io=ALL-UNNAMED",  # streams over a descriptor from accept()
        f"-Dlitert.folder={Path(ai_edge_litert.__path__[0])}",
        "-cp",
        build().app,
        "standin.AmKt",
        *pairs,
        COMPONENT,
    ]


class App:
    """The running app, without any adb in between."""

    def __init__(self, folder: Path, settings: dict[str, str] | None = None, **extras: str) -> None:
        self.socket = extras.setdefault("socket", f"{SOCKET}-{os.getpid()}-{id(self):x}")
        self.logcat = folder / "logcat.txt"
        self.logcat.touch()
        environment = dict(os.environ, STANDIN_LOGCAT=str(self.logcat), STANDIN_CACHE=str(folder / "cache"))
        environment.setdefault("XDG_RUNTIME_DIR", str(folder))  # Dawn complains without it
        self.process = subprocess.Popen(
            command(**extras), env=environment | (settings or {}), cwd=folder, stdin=subprocess.DEVNULL
        )
        self._wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while f"listening on @{self.socket}" not in self.logcat.read_text("utf-8", "replace"):
            assert self.process.poll() is None, f"the app ended: {self.log()}"
            assert time.monotonic() < deadline, f"the app does not listen: {self.log()}"
            time.sleep(0.02)

    def connect(self) -> Link:
        """A link to the app."""
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(f"\0{self.socket}")
        return Link(plain)

    def log(self) -> str:
        """What logcat would show."""
        return self.logcat.read_text("utf-8", "replace")

    def close(self) -> None:
        """End it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


if __name__ == "__main__":
    os.execv(java(), command(**dict(word.split("=", 1) for word in sys.argv[1:])))
