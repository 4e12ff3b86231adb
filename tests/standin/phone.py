"""A phone without a phone: a real adbd in a mount namespace of its own, with Android's commands as strict shims.

The namespace has /data (a tmpfs of limited size), /system/bin with nothing but the shims, and a boot id of its own; it
outlives adbd, so that a reboot finds the app installed. What the shims know and leave is in one folder, `state`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import uuid
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import harness
from harness.devices.android.adb import Adb, Server
from harness.devices.android.apk import PACKAGE
from harness.devices.cache import cache_folder
from tests import binary_xml
from tests.parts import MissingPart
from tests.standin.adbd import fetch_adbd
from tests.standin.shims import COMMANDS

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
START_SECONDS = 20.0
_ELF = struct.Struct("<4sB13xH")  # the head of a library for arm64


class AdbServer:
    """An adb server of the tests' own, on a port that nobody else uses."""

    def __init__(self) -> None:
        self.port = free_port()
        self.server = Server("127.0.0.1", self.port)

    def start(self) -> None:
        """Start it, also after `kill`."""
        Adb(Server()).call("start-server")

    def kill(self) -> None:
        """End it, like a crash of its own."""
        with suppress(Exception):
            Adb(Server()).call("kill-server")


class Phone:
    """One phone: started, rebooted, unplugged and stopped by a test.

    `app` is the command that runs when the app is started; `{socket}` in it is filled in by the `am` shim.
    """

    def __init__(self, folder: Path, app: Sequence[str], product: str = "akita", data_bytes: int = 4 << 30) -> None:
        self.state = folder
        self.port = free_port()
        self.serial = f"127.0.0.1:{self.port}"
        self.serialno = f"STANDIN{self.port}"
        """Its own number, whatever adb calls it."""
        self._root = folder / "root"
        self._adbd: subprocess.Popen[bytes] | None = None
        self._system = folder / "system.socket"
        self._server: subprocess.Popen[bytes] | None = None
        self._root.mkdir(parents=True)
        (folder / "bin").mkdir()
        for name in COMMANDS:
            shim = folder / "bin" / name
            shim.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {HERE}/call.py {ROOT} {self._system} {name} "$@"\n')
            shim.chmod(0o755)
        (folder / "boot_id").write_text(f"{uuid.uuid4()}\n", "ascii")
        # Shaders outlive the phone: a software GPU compiles them for longer than anything else takes.
        shaders = cache_folder() / "standin" / "shaders"
        shaders.mkdir(parents=True, exist_ok=True)
        self.write("app", {"command": list(app), "shaders": str(shaders), "settings": {}})
        self.write(
            "properties",
            {
                "ro.product.device": product,
                "ro.serialno": self.serialno,
                "ro.hardware.egl": "mali",
                "sys.boot_completed": "1",
                "ro.build.fingerprint": f"standin/{product}/{product}:14/standin/1:userdebug/test-keys",
                "ro.build.version.release": "14",
                "sys.boot.reason": "reboot",
            },
        )
        self.write("condition", {"wakefulness": "Awake", "wakes": True, "level": 80, "usb": True, "thermal": 0})
        self.write("users", {"current": 0, "all": [0], "denied": []})
        self.write("power", {"hal": True, "fixed": False, "asked": []})
        self._holder = self._hold(data_bytes)

    def _hold(self, data_bytes: int) -> subprocess.Popen[str]:
        lacking = [name for name in ("unshare", "nsenter", "mount", "chroot") if shutil.which(name) is None]
        if lacking:
            raise MissingPart(f"The stand-in needs {', '.join(lacking)} (packages util-linux, mount, coreutils).")
        unshare = ["unshare", "-m"] if os.geteuid() == 0 else ["unshare", "-rm"]
        holder = subprocess.Popen(
            [*unshare, "sh", str(HERE / "namespace.sh"), str(self._root), str(self.state), str(data_bytes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert holder.stdout is not None and holder.stderr is not None
        if holder.stdout.readline() != "ready\n":
            said = holder.stderr.read().strip()
            holder.wait()
            raise MissingPart(f"This system gives no mount namespace to put the stand-in in: {said}.")
        return holder

    @property
    def data(self) -> Path:
        """The phone's /data as seen from here."""
        return Path(f"/proc/{self._holder.pid}/root") / self._root.relative_to("/") / "data"

    def read(self, name: str) -> Any:
        """What the shims know by that name."""
        path = self.state / f"{name}.json"
        return json.loads(path.read_text("utf-8")) if path.exists() else None

    def write(self, name: str, value: Any) -> None:
        """Replace it."""
        partial = self.state / f"{name}.part"
        partial.write_text(json.dumps(value), "utf-8")
        partial.replace(self.state / f"{name}.json")

    def change(self, name: str, **values: Any) -> None:
        """Replace some of it."""
        self.write(name, self.read(name) | values)

    @property
    def pid(self) -> int:
        """The app's process."""
        return int(self.read("process")["pid"])

    def boot(self) -> None:
        """Start the system and adbd, with a fresh boot id after the first time."""
        log = (self.state / "adbd.log").open("ab")
        environment = {
            "PATH": "/system/bin",
            "HOME": "/data",
            "ADBD_PORT": str(self.port),
            "STANDIN": str(self.state),
        }
        # Without a site or this machine's variables, as the commands themselves.
        server = [sys.executable, "-IS", str(HERE / "system" / "server.py"), str(ROOT), str(self._system)]
        with log:
            if self._server is None or self._server.poll() is not None:
                self._server = self._start(server, environment, log)
            self._adbd = self._start(fetch_adbd().command, environment, log)
        deadline = time.monotonic() + START_SECONDS
        while not _listens(self.port):
            if self._adbd.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"adbd does not start: {(self.state / 'adbd.log').read_text('utf-8')}")
            time.sleep(0.02)

    def connect(self) -> None:
        """Make the adb server know the phone, and wait until it does."""
        adb = Adb(Server(), self.serial)
        adb.listed()  # starts the server, for which time is given besides
        deadline = time.monotonic() + START_SECONDS
        while adb.state() != "device":
            assert time.monotonic() < deadline, f"adb does not see {self.serial}: {Adb(Server()).call('devices')}"
            Adb(Server()).call("connect", self.serial)
            time.sleep(0.02)

    def stop_adbd(self) -> None:
        """As if unplugged: adb sees it offline."""
        if self._adbd is not None:
            self._adbd.kill()
            self._adbd.wait()
            self._adbd = None

    def shut_down(self) -> None:
        """End everything that runs on it; /data stays."""
        self.stop_adbd()
        mine = Path(f"/proc/{self._holder.pid}/ns/mnt").stat().st_ino
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and int(entry.name) != self._holder.pid:
                with suppress(OSError):
                    if (entry / "ns/mnt").stat().st_ino == mine:
                        os.kill(int(entry.name), signal.SIGKILL)
        if self._server is not None:
            self._server.wait()
        for name in ("process", "exits"):
            (self.state / f"{name}.json").unlink(missing_ok=True)

    def reboot(self, reason: str = "kernel_panic") -> None:
        """Off and on again, with another boot id."""
        self.shut_down()
        (self.state / "boot_id").write_text(f"{uuid.uuid4()}\n", "ascii")
        (self.state / "crash.log").unlink(missing_ok=True)
        self.change("properties", **{"sys.boot.reason": reason})
        self.change("power", fixed=False)
        self.change("users", current=0)
        self.boot()

    def close(self) -> None:
        """End it, and its file system."""
        self.shut_down()
        assert self._holder.stdin is not None and self._holder.stdout is not None and self._holder.stderr is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        self._holder.stdout.close()
        self._holder.stderr.close()

    def _start(self, command: Sequence[str], env: dict[str, str], log: IO[bytes]) -> subprocess.Popen[bytes]:
        inside = [*self._enter(), *command]
        return subprocess.Popen(inside, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/")

    def _enter(self) -> Sequence[str]:
        pid = str(self._holder.pid)
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return [_path("nsenter"), f"--target={pid}", "--mount", *user, _path("chroot"), str(self._root)]


def make_apk(folder: Path, version: str = harness.__version__, code: int = 1, signer: str = "debug") -> Path:
    """What stands for an APK and needs no tools to be made: the stand-in's package manager reads JSON in it."""
    path = folder / f"app-{version}-{signer}.apk"
    manifest = {"versionName": version, "versionCode": code, "signer": signer}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("AndroidManifest.json", json.dumps(manifest))
        archive.writestr("AndroidManifest.xml", binary_xml.manifest(PACKAGE, version, code))
        archive.writestr("META-INF/CERT.RSA", signer)
    return path


def make_tools(folder: Path) -> Path:
    """What stands for LiteRT's tools for android_arm64: `run_model` over this machine's runtime, and two libraries that
    it looks for and does not load."""
    folder.mkdir(parents=True, exist_ok=True)
    tool = folder / "run_model"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} {HERE}/run_model.py "$@"\n', "utf-8")
    tool.chmod(0o644)  # as a download leaves it
    for name in ("libLiteRt.so", "libLiteRtClGlAccelerator.so"):
        (folder / name).write_bytes(_ELF.pack(b"\x7fELF", 2, 183))
    return folder


def _path(name: str) -> str:
    found = shutil.which(name)
    assert found is not None
    return found


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(1)
        return sock.connect_ex(("127.0.0.1", port)) == 0


def temporary_state() -> Path:
    """A folder for a phone, short enough for everything that is made in it."""
    return Path(tempfile.mkdtemp(prefix="standin-"))
