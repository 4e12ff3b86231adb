"""The host's side of the shared frames; the app's side of the same files is in `protocol/src/test`."""

from __future__ import annotations

import re

import pytest

from harness.devices.link import LinkError
from tests.standin.golden import FOLDER, Frame, broken, frames, read, written

DEVICE_WRITES = {"facts", "able", "output", "completed", "failed"}


@pytest.mark.parametrize("frame", frames(), ids=lambda frame: frame.name)
def test_the_host_writes_the_frame_byte_for_byte(frame: Frame) -> None:
    assert written(frame) == (FOLDER / "host" / f"{frame.name}.bin").read_bytes()


@pytest.mark.parametrize("side", ["host", "device"])
@pytest.mark.parametrize("frame", frames(), ids=lambda frame: frame.name)
def test_the_host_reads_what_either_side_wrote(frame: Frame, side: str) -> None:
    path = FOLDER / side / f"{frame.name}.bin"
    assert path.exists() == (side == "host" or frame.name in DEVICE_WRITES)
    if path.exists():
        message = read(path.read_bytes())
        assert (message.type, message.id, message.fields) == (frame.type, frame.id, frame.fields)
        assert list(message.payloads) == list(frame.payloads)
        for name, values in frame.payloads.items():
            got = message.payloads[name]
            assert (got.dtype, got.shape, got.tobytes()) == (values.dtype, values.shape, values.tobytes())


@pytest.mark.parametrize("name", broken())
def test_the_host_refuses_a_broken_frame(name: str) -> None:
    with pytest.raises(LinkError, match=re.escape(broken()[name]["host"])):
        read((FOLDER / "broken" / f"{name}.bin").read_bytes())


def test_every_file_is_in_a_table() -> None:
    names = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.bin")}
    good = {f"host/{frame.name}.bin" for frame in frames()} | {f"device/{name}.bin" for name in DEVICE_WRITES}
    assert names == good | {f"broken/{name}.bin" for name in broken()}
