"""A program's output at its bounds: the last byte and the last moment that are allowed, and the first that are not."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from harness.devices import captured as module
from harness.devices.captured import MOST, Captured, captured


def shell(program: str, seconds: float = 30, **options: object) -> Captured:
    return captured(["/bin/sh", "-c", program], seconds, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "most", "ending"),
    [
        (0, 0, Captured("", 0)),
        (1, 0, Captured("", None, "size")),
        (4, 5, Captured("xxxx", 0)),
        (5, 5, Captured("xxxxx", 0)),
        (6, 5, Captured("xxxxx", None, "size")),
    ],
)
def test_output_is_cut_beyond_its_bound_and_not_at_it(size: int, most: int, ending: Captured) -> None:
    assert shell(f"printf %s {'x' * size}", most=most) == ending


def test_the_bound_is_4_mib_where_none_is_given() -> None:
    assert MOST == 4 * 1024 * 1024
    assert len(shell(f"head -c {MOST} /dev/zero").output) == MOST
    assert shell(f"head -c {MOST + 1} /dev/zero").killed == "size"


@pytest.mark.parametrize(("program", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9)])
def test_a_program_s_end_is_its_code(program: str, code: int) -> None:
    assert shell(program) == Captured("", code, "")


@pytest.mark.parametrize("program", ["exec sleep 60", "exec >&- 2>&-; exec sleep 60"], ids=["silent", "closed"])
@pytest.mark.parametrize("seconds", [0.0, 0.2, -1.0])
def test_a_program_that_does_not_end_is_killed_at_its_time(program: str, seconds: float) -> None:
    began = time.monotonic()
    assert shell(program, seconds) == Captured("", None, "time")
    assert max(0.0, seconds) <= time.monotonic() - began < 20
    assert not [child for child in psutil.Process().children() if child.name() == "sleep"]


def test_both_streams_come_together_unless_told_otherwise() -> None:
    both = "echo out; echo err >&2"
    assert shell(both).output == "out\nerr\n"
    assert shell(both, stderr=subprocess.DEVNULL).output == "out\n"


def test_a_program_reads_nothing_unless_a_file_is_given(tmp_path: Path) -> None:
    assert shell("cat").output == ""
    (tmp_path / "in").write_text("given")
    with (tmp_path / "in").open("rb") as file:
        assert shell("cat", stdin=file).output == "given"


def test_where_and_with_what_a_program_runs_can_be_told(tmp_path: Path) -> None:
    assert shell("pwd -P", cwd=tmp_path).output == f"{tmp_path.resolve()}\n"
    assert shell("pwd -P").output == f"{Path.cwd().resolve()}\n"
    assert shell("echo $WORD", env={"WORD": "told"}).output == "told\n"


@pytest.mark.parametrize("own", [True, False])
def test_a_program_has_a_session_of_its_own_only_where_that_is_asked(own: bool) -> None:
    code = [sys.executable, "-S", "-c", "import os; print(os.getsid(0))"]
    alike = int(captured(code, 30, own_session=own).output) == os.getsid(0)
    assert alike is not own
    assert (int(captured(code, 30).output) == os.getsid(0)) is True


def test_what_is_no_utf_8_is_marked() -> None:
    assert shell(r"printf 'a\377b'").output == "a\N{REPLACEMENT CHARACTER}b"


def test_what_cannot_be_started_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        captured([str(tmp_path / "none")], 1)


def test_output_is_waited_for_until_the_deadline_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """In milliseconds, as poll takes them; at the deadline itself it is not asked."""
    clock, asked = [64.0], list[float]()

    class Poll:
        def register(self, descriptor: int, events: int) -> None:
            assert (descriptor, events) == (7, select.POLLIN | select.POLLHUP)

        def poll(self, milliseconds: float) -> list[tuple[int, int]]:
            asked.append(milliseconds)
            clock[0] += 1
            return [(7, 1)]

    monkeypatch.setattr(select, "poll", Poll)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(os, "read", lambda descriptor, size: b"x")
    said = bytearray()
    assert module._read(7, said, 66.5, 100) == "time"
    assert asked == [2500, 1500, 500]
    assert said == b"xxx"
    asked.clear()
    clock[0] = 64.0
    assert module._read(7, said, 64.0, 100) == "time"
    assert asked == []
