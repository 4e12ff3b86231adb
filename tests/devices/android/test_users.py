"""Which of a phone's users the app is for: words of `am` and `dumpsys package`, as AOSP prints them."""

from __future__ import annotations

import pytest

from harness.core.errors import DeviceError
from harness.devices.android.adb import Adb, AdbError, Server
from harness.devices.android.users import LAST, foreground_user, has_it, raise_if_denied


class Phone(Adb):
    def __init__(self, said: str) -> None:
        super().__init__(Server(), "S0")
        self.said = said

    def shell(self, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        assert argv == ("am", "get-current-user") and check
        return self.said


@pytest.mark.parametrize(("said", "user"), [("0\n", 0), ("10\r\n", 10), ("150\n", 150), (f"{LAST}\n", LAST)])
def test_the_user_in_front_is_a_number(said: str, user: int) -> None:
    assert foreground_user(Phone(said)) == user


@pytest.mark.parametrize(
    "said",
    [
        "",
        "-10000\n",  # UserHandle.USER_NULL
        "10 11\n",
        "ten\n",
        "٣\n",
        f"{LAST + 1}\n",
        "9" * 400,
        "Error: unknown command 'get-current-user'\n",
        "\n" * 999,
    ],
)
def test_what_is_no_user_is_one_sentence(said: str) -> None:
    with pytest.raises(AdbError) as caught:
        foreground_user(Phone(said))
    assert caught.value.message.startswith("`adb shell am get-current-user` names no user")
    assert "\n" not in caught.value.message and len(caught.value.message) < 400


def test_the_last_user_is_the_one_whose_apps_have_numbers_of_31_bits() -> None:
    assert (LAST + 1) * 100_000 <= 2**31 - 1 < (LAST + 2) * 100_000


@pytest.mark.parametrize(
    ("lines", "users"),
    [
        (("    User 0: ceDataInode=1 installed=true hidden=false",), {0}),
        (("    User 0: ceDataInode=1 installed=true hidden=false", "    User 10: ceDataInode=0 installed=false"), {0}),
        (("User 0: installed=false", "User 10: ceDataInode=0 installed=true stopped=true"), {10}),
        (("    User 0: ceDataInode=1 installed=false",), set()),
        (("    User 0: ceDataInode=1 reinstalled=true",), None),
        (("    User 123456: installed=true",), None),
        (("      gids=[3003]", "versionName=1.0"), None),
        ((), None),
    ],
)
def test_who_has_the_app_is_read_line_by_line(lines: tuple[str, ...], users: set[int] | None) -> None:
    assert has_it("\n".join(("Packages:", "  Package [x] (1b2c3d):", *lines, ""))) == users


def test_a_user_of_whom_adb_may_not_be_asked_is_one_sentence() -> None:
    raise_if_denied(Phone(""), 10, "Success\n")
    with pytest.raises(DeviceError) as caught:
        raise_if_denied(
            Phone(""),
            10,
            "\nException occurred while executing 'install':\n"
            "java.lang.SecurityException: Shell does not have permission to access user 10\n\tat com.android\n",
        )
    assert caught.value.message == (
        "S0 lets adb do nothing for user 10, who is in front: debugging is not allowed there."
    )
    assert "am switch-user 0" in caught.value.next_step
