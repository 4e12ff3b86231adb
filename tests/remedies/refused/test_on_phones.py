"""A planted phone refuses each graph in a delegate's words, and takes it, and is right, once it is written anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_tests.mended import MENDED, Mended
from harness.api.on_device import OnDevice
from harness.core.job import Options, Rejected
from harness.devices.execute import make_job
from harness.devices.registry import open_device

PHONE = "planted:refusals+low-rank-constant"


@pytest.mark.parametrize("case", [case for case in MENDED if case.planted], ids=lambda case: case.name)
def test_a_refused_graph_is_taken_and_right_as_other_ops(tmp_path: Path, case: Mended) -> None:
    # The bare file: what a session opens has its constants computed already.
    with open_device(PHONE) as device:
        job = make_job(case.build(), {}, Options(), timeout=60, wanted=(), iterations=0)
        assert isinstance(device.run(job), Rejected)
    assert OnDevice(PHONE, tmp_path, 60).compare(case.written()).ok
