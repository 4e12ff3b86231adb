"""Which worker a test goes to when several devices are named."""

from __future__ import annotations

import pytest

from pytest_litert_harness import device_in


@pytest.mark.parametrize(
    ("nodeid", "device"),
    [
        ("device_tests/test_a.py::test_b[host]", "host"),
        ("device_tests/test_a.py::test_b[host@2.1.5-bug]", "host@2.1.5"),
        ("device_tests/test_a.py::test_b[bug-pixel8a]", "pixel8a"),
        ("device_tests/test_a.py::test_b[pixel8a@10.0.0.1:5037-bug]", "pixel8a@10.0.0.1:5037"),
        ("device_tests/test_a.py::test_b[ghost]", ""),
        ("device_tests/test_host.py::test_host", ""),
        ("device_tests/test_a.py::test_b", ""),
    ],
)
def test_a_tests_device_is_read_from_its_id(nodeid: str, device: str) -> None:
    assert device_in(nodeid, ["host", "host@2.1.5", "pixel8a", "pixel8a@10.0.0.1:5037"]) == device
