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
        ("web", "web"),
        ("web@2.5.2", "web"),
        ("webs", "android"),
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


def test_host_and_browser_have_releases_of_their_runtimes() -> None:
    packages = {kind.name: kind.releases.package for kind in KINDS if kind.releases is not None}
    assert packages == {"host": "ai-edge-litert", "web": "@litertjs/core"}


def test_only_the_hosts_profiler_can_be_asked_and_only_what_is_here_may_have_a_software_gpu() -> None:
    host, web, chrome, planted, android = KINDS
    assert host.profiler_python is not None and host.profiler_python("host") == sys.executable
    assert android.profiler_python is planted.profiler_python is web.profiler_python is chrome.profiler_python is None
    assert [kind.in_parts for kind in (host, web, chrome, planted, android)] == [True, True, False, False, False]


def test_the_host_has_a_process_of_its_own_once_it_is_asked() -> None:
    with open_device("host") as device:
        assert isinstance(device, HostDevice) and device.own_process
        assert device.pid is None
        device.facts()
        assert isinstance(device.pid, int)
