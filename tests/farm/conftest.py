"""A farm of processes: Dask's scheduler, hosts with phones that do not exist, and the command as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from tests import models
from tests.cli.conftest import ROOT
from tests.standin.phone import free_port

HARNESS = [sys.executable, "-m", "harness"]
READY_SECONDS = 90.0


@dataclass
class SimulatedFarm:
    """Its processes, and what its phones noted."""

    folder: Path
    prefix: dict[str, list[str]] = field(default_factory=dict)
    certificates: Path | None = None
    port: int = field(default_factory=free_port)
    listens: str = "127.0.0.1"
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{'tls' if self.certificates else 'tcp'}://{self.listens}:{self.port}"

    @property
    def trust(self) -> list[str]:
        return ["--certificates", str(self.certificates)] if self.certificates else ["--no-tls"]

    def start(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a process of the farm, `scheduler` or a host, with its output in a file."""
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        with (self.folder / f"{name}.out").open("ab") as out:
            process = subprocess.Popen(
                [*self.prefix.get(name, []), *command],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                cwd=self.folder,
                env=environment,
            )
        self.processes[name] = process
        return process

    def schedule(self, lost_after: float = 5.0) -> None:
        words = ["farm", "scheduler", *self.trust, "--host", self.listens, "--port", str(self.port)]
        self.start("scheduler", [*HARNESS, *words, "--lost-after", str(lost_after), "--dashboard", "127.0.0.1:0"])

    def standin_host(self, name: str, address: str = "127.0.0.1", *, harness: bool = False) -> list[str]:
        """Start a host with two stand-in phones on an adb server of its own; their serials."""
        self._host(name, address, standin=2, harness=harness)
        return [f"{name}p{number}" for number in range(2)]

    def host(self, name: str, phones: int = 2, address: str = "127.0.0.1", **how: Any) -> list[str]:
        """Start a host with so many phones; their serials."""
        serials = [f"{name}p{number}" for number in range(phones)]
        for serial in serials:
            self.phone(serial, **how)
        self._host(name, address)
        return serials

    def _host(self, name: str, address: str, **more: Any) -> None:
        told = {
            "scheduler": self.address,
            "host": name,
            "address": address,
            "store": str(self.folder / f"{name}-store"),
        }
        told |= {"phones": str(self.phones(name)), "certificates": str(self.certificates or "")} | more
        (self.folder / f"{name}.setup").write_text(json.dumps(told))
        self.start(name, [sys.executable, str(ROOT / "tests/farm/host.py"), str(self.folder / f"{name}.setup")])

    def phones(self, host: str) -> Path:
        folder = self.folder / "phones" / host
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def phone(self, serial: str, **how: Any) -> None:
        """What a phone is like from now on."""
        (self.phones(serial.rpartition("p")[0]) / f"{serial}.json").write_text(json.dumps(how))

    def matrix(self, **what: Any) -> Path:
        """A matrix file; by default of one model for `compare`."""
        (self.folder / "m.tflite").write_bytes(models.right().to_bytes())
        what = {"models": ["m.tflite"], "commands": ["compare"]} | what
        path = self.folder / "matrix.toml"
        path.write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in what.items()))
        return path

    def command(self, matrix: Path, *more: str) -> list[str]:
        """The command that runs a matrix."""
        words = ["farm", "run", str(matrix), "--scheduler", self.address, *self.trust, "--json"]
        return [*HARNESS, *words, "--out", str(self.folder / "out"), *more]

    def run(self, matrix: Path, *more: str, seconds: float = 300) -> tuple[int, dict[str, Any]]:
        """Run it to its end; the exit code and the document."""
        environment = dict(os.environ, PYTHONPATH=str(ROOT))
        done = subprocess.run(
            [*self.prefix.get("client", []), *self.command(matrix, *more)],
            capture_output=True,
            timeout=seconds,
            text=True,
            cwd=self.folder,
            env=environment,
            check=False,
        )
        assert done.stdout.startswith("{"), done.stderr
        (self.folder / "client.err").write_text(done.stderr)
        return done.returncode, json.loads(done.stdout)

    def begin(self, matrix: Path, *more: str) -> subprocess.Popen[bytes]:
        """Start it."""
        return self.start("client", self.command(matrix, *more))

    def finished(self) -> int:
        """Jobs that the journal has as finished."""
        path = self.folder / "out/journal/log"
        return path.read_bytes().count(b'"finished"') if path.exists() else 0

    def wait_finished(self, count: int, seconds: float = 120) -> None:
        self.wait(lambda: self.finished() >= count, f"{count} finished jobs", seconds)

    def wait(self, what: Callable[[], Any], name: str, seconds: float = READY_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, f"no {name}: {self.said()}"
            time.sleep(0.1)

    def kill(self, name: str, number: int = signal.SIGKILL) -> None:
        process = self.processes.pop(name)
        process.send_signal(number)
        process.wait(60)

    def said(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-1500:]}" for path in self.folder.glob("*.out"))

    def notes(self) -> dict[str, list[list[str]]]:
        """What each phone wrote down, line by line."""
        logs = (self.folder / "phones").glob("*/*.log")
        return {path.stem: [line.split() for line in path.read_text().splitlines()] for path in logs}

    def ended(self) -> Counter[str]:
        """How often each phone came to the end of a job."""
        return Counter({serial: sum(n[0] == "end" for n in notes) for serial, notes in self.notes().items()})

    def check_never_two_at_once(self) -> None:
        """By the phones' own logs; a job that was ended by force has a beginning and no end."""
        for serial, notes in self.notes().items():
            assert not [note for note in notes if note[0] == "OVERLAP"], serial

    def close(self) -> None:
        for name in list(self.processes):
            process = self.processes.pop(name)
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(45)
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture
def farm(tmp_path: Path) -> Iterator[SimulatedFarm]:
    made = SimulatedFarm(tmp_path)
    yield made
    made.close()
