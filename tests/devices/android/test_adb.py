"""Where this machine's adb server listens: where adb itself looks for it."""

from __future__ import annotations

import pytest

from harness.devices.android.adb import Server

NAMES = ("ADB_SERVER_SOCKET", "ANDROID_ADB_SERVER_ADDRESS", "ANDROID_ADB_SERVER_PORT")


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({}, ("127.0.0.1", 5037)),
        ({"ANDROID_ADB_SERVER_PORT": "5099"}, ("127.0.0.1", 5099)),
        ({"ANDROID_ADB_SERVER_ADDRESS": "farm"}, ("farm", 5037)),
        ({"ADB_SERVER_SOCKET": "tcp:farm:5038", "ANDROID_ADB_SERVER_PORT": "5099"}, ("farm", 5038)),
        ({"ADB_SERVER_SOCKET": "tcp:5038"}, ("127.0.0.1", 5038)),
        # What is no port leaves the usual one; adb itself then says what is wrong with it.
        ({"ADB_SERVER_SOCKET": "tcp:" + "9" * 5000}, ("127.0.0.1", 5037)),
        ({"ANDROID_ADB_SERVER_PORT": "9" * 5000}, ("127.0.0.1", 5037)),
    ],
)
def test_the_environment_names_the_server_as_it_does_to_adb(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], address: tuple[str, int]
) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Server().address == address
    assert Server("other", 1).address == ("other", 1)
