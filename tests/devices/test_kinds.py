"""Which kind of device a name means, and what each kind can do."""

from __future__ import annotations

import sys

import pytest

from harness.devices.host.device import HostDevice
from harness.devices.registry import KINDS, kind_of, open_device


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("host", "host"),
        ("host@2.1.5", "host"),
        ("planted:mali", "planted"),
        ("planted", "android"),
        ("hosts", "android"),
        ("pixel8a", "android"),
        ("AB12@lab:5037", "android"),
    ],
)
def test_a_name_is_of_the_first_kind_that_claims_it(name: str, kind: str) -> None:
    assert kind_of(name).name == kind


def test_the_last_kind_claims_what_no_other_does() -> None:
    assert KINDS[-1].claims("anything at all") and len({kind.name for kind in KINDS}) == len(KINDS)


def test_only_the_hosts_profiler_can_be_asked_and_only_its_gpu_may_be_a_software_one() -> None:
    host, planted, android = KINDS
    assert host.profiler_python is not None and host.profiler_python("host") == sys.executable
    assert android.profiler_python is planted.profiler_python is None
    assert (host.in_parts, planted.in_parts, android.in_parts) == (True, False, False)


def test_the_host_has_a_process_of_its_own_once_it_is_asked() -> None:
    with open_device("host") as device:
        assert isinstance(device, HostDevice) and device.own_process
        assert device.pid is None
        device.facts()
        assert isinstance(device.pid, int)
