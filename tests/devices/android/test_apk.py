"""Which app is put on a phone, and how: word for word what the phone is told, and what is said where it does not
take it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

import harness
from harness.core.errors import DeviceError
from harness.devices.android import apk, gradle
from harness.devices.android.adb import Adb, AdbError, Server
from harness.devices.android.apk import PLAY_PROTECT, ensure_app, install_failure, version_name
from harness.devices.android.apk_file import ApkFile
from harness.devices.android.apk_manifest import Stated
from harness.devices.android.gradle import HOW
from harness.devices.android.released import ReleasedApk

MINE = harness.__version__
THERE = "/data/local/tmp/dev.litertharness.apk"
INSTALL = ("shell", "pm", "install", "--user", "0", "-r", "-d", "-t", THERE)
FRESH = ("shell", "pm", "install", "--user", "0", "-t", THERE)
UNINSTALL = ("shell", "pm", "uninstall", "dev.litertharness")
FULL = ("S0 has no room for the app.", "Free space on the phone.")
REMOVE = ("shell", "rm", "-f", THERE)


def stating(version: str = MINE, debuggable: bool = False) -> ApkFile:
    return ApkFile(Stated("dev.litertharness", version, 1, debuggable, True), "")


class Phone(Adb):
    """Has an app of these versions, one after another, and of that digest; what `fails` names fails once with these
    words."""

    def __init__(self, *versions: str, digest: str = "", fails: dict[tuple[str, ...], str] | None = None) -> None:
        super().__init__(Server(), "S0")
        self.versions, self.digest, self.fails = list(versions), digest, fails or {}
        self.told: list[tuple[tuple[str, ...], float | None]] = []

    def call(self, *words: str, seconds: float | None = None, check: bool = True) -> str:
        self.told.append((words, seconds))
        if words in self.fails:
            raise AdbError(" ".join(words), self.serial, self.fails.pop(words), 1, "failed")
        return ""

    def shell(self, *argv: str, seconds: float | None = None, check: bool = True) -> str:
        if argv == ("dumpsys", "package", "dev.litertharness"):
            version = self.versions.pop(0) if len(self.versions) > 1 else self.versions[0]
            return f"  versionName={version}\n" if version else "Unable to find package"
        if argv == ("am", "get-current-user"):
            return "0\n"
        if argv == ("pm", "path", "--user", "0", "dev.litertharness"):
            assert not check
            return "package:/data/app/base.apk\n" if self.digest else ""
        if argv == ("sha256sum", "/data/app/base.apk"):
            assert not check
            return f"{self.digest}  /data/app/base.apk\n"
        return self.call("shell", *argv, seconds=seconds, check=check)


@pytest.fixture
def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An APK of 1 MB; no other is built or named."""
    monkeypatch.setattr(apk, "check_apk", lambda path, package, how: stating())
    monkeypatch.setattr(gradle, "PROJECT", tmp_path)
    monkeypatch.setattr(gradle, "APK", "built.apk")
    monkeypatch.delenv("HARNESS_APK", raising=False)
    path = tmp_path / "my.apk"
    path.write_bytes(bytes(1_000_000))
    return path


def test_an_app_that_is_there_byte_for_byte_is_left_alone(chosen: Path) -> None:
    phone = Phone(MINE, digest=hashlib.sha256(chosen.read_bytes()).hexdigest())
    said: list[str] = []
    ensure_app(phone, chosen, said.append)
    assert (phone.told, said) == ([], [])


def test_a_release_takes_its_own_app_by_its_digest(
    chosen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = ReleasedApk(MINE, "https://example.com/a.apk", hashlib.sha256(chosen.read_bytes()).hexdigest(), 1)
    fetched: list[ReleasedApk] = []

    def fetch(asked: ReleasedApk, progress: object) -> Path:
        fetched.append(asked)
        return chosen

    monkeypatch.setattr(apk, "pinned", lambda: released)
    monkeypatch.setattr(apk, "released_apk", fetch)
    phone = Phone(MINE, digest=released.sha256)
    ensure_app(phone, None)
    assert (phone.told, fetched) == ([], [])  # it is there: nothing is fetched
    phone = Phone(MINE, digest="0" * 64)  # of this version, and another one all the same
    ensure_app(phone, None)
    assert fetched == [released] and phone.told[0][0] == ("push", str(chosen), THERE)
    (tmp_path / "built.apk").write_bytes(b"PK")
    monkeypatch.setattr(gradle, "built", lambda serial, progress: chosen)
    ensure_app(Phone(MINE, digest="0" * 64), None)  # in a clone, what it builds comes first
    assert fetched == [released]


@pytest.mark.parametrize("there", [MINE, "0.0.1"])
def test_a_release_without_a_network_uses_an_app_of_its_version_that_is_there(
    chosen: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    def unreachable(asked: ReleasedApk, progress: object) -> Path:
        raise DeviceError("The app cannot be fetched.", "Fetch it yourself.")

    monkeypatch.setattr(apk, "pinned", lambda: ReleasedApk(MINE, "https://example.com/a.apk", "1" * 64, 1))
    monkeypatch.setattr(apk, "released_apk", unreachable)
    phone, said = Phone(there, digest="0" * 64), list[str]()
    if there == MINE:
        ensure_app(phone, None, said.append)
        assert said == ["The app cannot be fetched. The app of this version that is on S0 is used"]
    else:
        with pytest.raises(DeviceError, match="cannot be fetched"):
            ensure_app(phone, None, said.append)
    assert phone.told == []


@pytest.mark.parametrize("digest", ["", "0" * 64])
def test_another_one_is_replaced_in_two_steps_each_with_its_time(chosen: Path, digest: str) -> None:
    phone = Phone(MINE, digest=digest)
    said: list[str] = []
    ensure_app(phone, chosen, said.append)
    assert phone.told == [(("push", str(chosen), THERE), 120 + 10.0), (INSTALL, 180), (REMOVE, None)]
    assert said == ["installing my.apk on S0"]
    ensure_app(phone, chosen)


@pytest.mark.parametrize(("version", "told"), [("0.0.1", "0.0.1"), ("", "unknown")])
def test_an_app_of_another_version_is_no_use(chosen: Path, version: str, told: str) -> None:
    with pytest.raises(DeviceError) as caught:
        ensure_app(Phone(version), chosen)
    assert caught.value.message == f"{chosen} is the app of harness {told}, this is harness {MINE}."
    assert caught.value.next_step == HOW


@pytest.mark.parametrize("word", ["INSTALL_FAILED_UPDATE_INCOMPATIBLE", "INSTALL_FAILED_VERSION_DOWNGRADE"])
def test_one_that_stands_in_the_way_is_removed_first(chosen: Path, word: str) -> None:
    phone = Phone(MINE, fails={INSTALL: f"Failure [{word}: x]"})
    ensure_app(phone, chosen)
    assert phone.told[1:] == [(INSTALL, 180), (UNINSTALL, 180), (FRESH, 180), (REMOVE, None)]


@pytest.mark.parametrize(
    ("step", "output", "message", "advice"),
    [
        (INSTALL, "Failure [INSTALL_FAILED_OLDER_SDK: x]", "S0 refuses my.apk: INSTALL_FAILED_OLDER_SDK: x.", HOW),
        (
            INSTALL,
            "Failure [INSTALL_FAILED_VERIFICATION_FAILURE: x]",
            "S0 refuses my.apk: INSTALL_FAILED_VERIFICATION_FAILURE: x.",
            PLAY_PROTECT,
        ),
        (
            INSTALL,
            "Failure [INSTALL_FAILED_USER_RESTRICTED: Install canceled by user]",
            "S0 refuses my.apk: INSTALL_FAILED_USER_RESTRICTED: Install canceled by user.",
            PLAY_PROTECT,
        ),
        (INSTALL, "Failure [INSTALL_FAILED_INSUFFICIENT_STORAGE]", *FULL),
        (INSTALL, "write: No space left on device", *FULL),
        (INSTALL, "it hangs", f"`{' '.join(INSTALL)}` failed: it hangs.", AdbError.NEXT_STEP),
    ],
)
def test_a_phone_that_does_not_take_it_says_why_and_keeps_nothing(
    step: tuple[str, ...], output: str, message: str, advice: str, chosen: Path
) -> None:
    phone = Phone(MINE, fails={step: output, REMOVE: "gone"})
    with pytest.raises(DeviceError) as caught:
        ensure_app(phone, chosen)
    assert (caught.value.message, caught.value.next_step) == (message, advice)
    assert phone.told[-1] == (REMOVE, None)
    assert UNINSTALL not in [words for words, _ in phone.told]


def test_an_app_is_named_by_the_caller_or_by_the_environment(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert apk._at_hand(None) is None
    monkeypatch.setenv("HARNESS_APK", "")
    assert apk._at_hand(None) is None
    monkeypatch.setenv("HARNESS_APK", "/named.apk")
    assert apk._at_hand(None) == Path("/named.apk")
    assert apk._at_hand(chosen) == chosen


def test_an_app_that_is_named_is_looked_at(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path, str, str]] = []

    def look(path: Path, package: str, how: str) -> ApkFile:
        asked.append((path, package, how))
        return stating(debuggable=True)

    monkeypatch.setattr(apk, "check_apk", look)
    said: list[str] = []
    apk._at_hand(chosen, said.append)
    assert asked == [(chosen, "dev.litertharness", HOW)]
    assert said == ["my.apk is debuggable: Android runs it slower than an app as people have it"]


def test_one_of_another_harness_leaves_the_phone_as_it_is(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apk, "check_apk", lambda path, package, how: stating("0.0.1"))
    phone = Phone(MINE)
    with pytest.raises(DeviceError) as caught:
        ensure_app(phone, chosen)
    assert caught.value.message == f"{chosen} is the app of harness 0.0.1, this is harness {MINE}."
    assert (caught.value.next_step, phone.told) == (HOW, [])


def test_without_an_apk_an_installed_app_of_this_version_will_do(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[str] = []

    def build(serial: str, progress: object) -> Path:
        built.append(serial)
        return chosen

    monkeypatch.setattr(gradle, "built", build)
    phone = Phone(MINE)
    ensure_app(phone, None)
    assert (phone.told, built) == ([], [])
    ensure_app(Phone("0.0.1", MINE), None)
    assert built == ["S0"]
    (gradle.PROJECT / gradle.APK).touch()  # one that was built is looked at, whatever is on the phone
    ensure_app(Phone(MINE), None)
    assert built == ["S0", "S0"]


def test_without_any_app_it_is_said_what_is_lacking_to_build_one(chosen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradle, "built", lambda serial, progress: None)
    monkeypatch.setattr(gradle, "lacking", lambda folder: f"a hammer for {folder.name}")
    with pytest.raises(DeviceError) as caught:
        ensure_app(Phone("0.0.1"), None)
    assert caught.value.message == (
        f"S0 needs the app, no APK is built, and a hammer for {gradle.PROJECT.name} is not here to build one."
    )
    assert caught.value.next_step == HOW


def test_words_of_the_package_manager_are_read() -> None:
    assert version_name(" versionName=1.2 x\nversionName=3\n") == "1.2"
    assert version_name("lastVersionName=1\n") is None
    assert install_failure("adb: x Failure [A: b]]\nFailure [C]") == "A: b]"
    assert install_failure("Success") == ""


def test_an_install_that_does_not_end_says_where_a_dialog_may_wait(
    chosen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phone = Phone(MINE)
    call = phone.call

    def waiting(*words: str, seconds: float | None = None, check: bool = True) -> str:
        if words == INSTALL:
            raise AdbError("adb shell pm install", "S0", "", None, f"did not end within {seconds} s")
        return call(*words, seconds=seconds, check=check)

    monkeypatch.setattr(phone, "call", waiting)
    with pytest.raises(AdbError) as caught:
        ensure_app(phone, chosen)
    assert caught.value.next_step == PLAY_PROTECT
