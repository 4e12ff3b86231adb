"""A run folder from elsewhere that is to be continued: its journal's checksums are anybody's to compute."""

from __future__ import annotations

import json
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.localize.probe.journal.log import FOLDER
from tests.fuzz.journals import FACTS, PROBE, answered, ended, line, signed

SECRET = b"not for anybody else"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "run" / FOLDER).mkdir(parents=True)
    return tmp_path / "run"


NO_TEXT: tuple[Any, ...] = (None, 1, ["x"], {"a": "b"})


@pytest.mark.parametrize(
    "raw",
    [
        *(line(entry=entry) for entry in ("session", "start", "end", "else", *NO_TEXT)),
        *(line(entry="session", boot=other) for other in NO_TEXT),
        *(line(entry="start", probe=other, boot="") for other in NO_TEXT),
        *(line(entry="start", probe=PROBE, boot=other) for other in NO_TEXT),
        *(ended(probe=other) for other in NO_TEXT),
        *(ended(ending=other) for other in ("else", *NO_TEXT)),
        *(ended(outcome=other) for other in (*NO_TEXT[:3], {})),
        *(ended(ending="rejected", outcome=other) for other in (*NO_TEXT, {"reason": 1, "ops": [], "log": ""})),
        *(ended(ending=how, reason=other) for how in ("crashed", "hung") for other in NO_TEXT),
        signed(b"[" * 100_000),
        signed(b'{"entry": "session", "boot": ' + b"[" * 100_000),
        signed(b"\xff\xfe"),
    ],
)
def test_a_line_that_lacks_what_its_kind_has_counts_as_never_written(run: Path, raw: bytes) -> None:
    assert answered(run, raw) == 1


def with_outputs(run: Path) -> list[int]:
    """The recorded outputs of the probe, and their checksums."""
    values = np.zeros(4, np.float32)
    header = json.dumps({"0": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}).encode()
    header += b" " * (-len(header) % 8)
    content = struct.pack("<Q", len(header)) + header + values.tobytes()
    (run / FOLDER / f"{PROBE}.safetensors").write_bytes(content)
    return [zlib.crc32(values.tobytes())]


def test_a_whole_record_is_an_answer_to_begin_with(run: Path) -> None:
    assert answered(run, ended(checksums=with_outputs(run))) == 0


@pytest.mark.parametrize(
    "facts",
    [
        *({name: other} for name in FACTS for other in (["x"], [["x"]], -(10**400), [[0, 0]], [[-1, 0, 0]])),
        {"samples": [[1, 2, 3]] * 2},
        {"samples": []},
        {"compile_ns": None},
        {"residency": {}, "samples": None},
        {"residency": {"full": "yes"}},
        {"residency": {"on_cpu": ["x"]}},
        {"residency": {"refused": [1]}},
    ],
)
def test_an_outcome_of_other_types_is_asked_for_again(run: Path, facts: dict[str, Any]) -> None:
    assert answered(run, ended(outcome=FACTS | facts, checksums=with_outputs(run))) == 1


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F8_E4M3", "I64", "none"])
def test_outputs_of_another_type_are_asked_for_again(run: Path, dtype: str) -> None:
    checksums = with_outputs(run)
    path = run / FOLDER / f"{PROBE}.safetensors"
    path.write_bytes(path.read_bytes().replace(b'"F32"', f'"{dtype}"'.encode()))
    assert answered(run, ended(checksums=checksums)) == 1


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["link", "broken link", "loop", "pipe"])
@pytest.mark.parametrize("suffix", ["safetensors", "part"])
def test_what_lies_in_the_place_of_outputs_is_not_written_through(run: Path, kind: str, suffix: str) -> None:
    outside = run.parent / "outside"
    outside.write_bytes(SECRET)
    place = run / FOLDER / f"{PROBE}.{suffix}"
    if kind == "pipe":
        os.mkfifo(place)
    else:
        place.symlink_to({"link": outside, "broken link": run.parent / "new", "loop": place}[kind])
    assert answered(run, ended()) == 1
    assert outside.read_bytes() == SECRET and not (run.parent / "new").exists()
    kept = run / FOLDER / f"{PROBE}.safetensors"
    assert kept.is_file() and not kept.is_symlink()
