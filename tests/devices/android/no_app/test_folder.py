"""The folder of LiteRT's tools: what it must hold, when it is used, and what else there is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.api.doctor import _ways
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Residency
from harness.devices.android import gradle, ways
from harness.devices.android.no_app.device import without_added
from harness.devices.android.no_app.folder import chosen_tools, tools_in
from harness.devices.android.no_app.words import note
from harness.devices.android.released import ReleasedApk
from harness.devices.android.ways import Way, ways_in
from tests.standin.phone import make_tools


@pytest.fixture(autouse=True)
def unnamed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HARNESS_TOOLS", "HARNESS_APK"):
        monkeypatch.delenv(name, raising=False)


class TestWhichWay:
    def test_is_the_option_then_the_environment_where_no_apk_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert chosen_tools(None, None) is None
        monkeypatch.setenv("HARNESS_TOOLS", "/env")
        assert chosen_tools(None, None) == Path("/env")
        assert chosen_tools(None, Path("a.apk")) is None
        monkeypatch.setenv("HARNESS_APK", "b.apk")
        assert chosen_tools(None, None) is None
        assert chosen_tools(Path("/given"), None) == Path("/given")

    def test_of_two_is_misuse(self) -> None:
        with pytest.raises(UsageError, match=r"^--tools and --apk are two ways to run models on a phone\."):
            chosen_tools(Path("/tools"), Path("a.apk"))

    def test_is_told_in_the_order_of_a_job_with_what_each_lacks(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gradle, "PROJECT", tmp_path / "none")
        lacking = "the app's source (a clone has it, a wheel does not) is not here"
        monkeypatch.setattr(ways, "pinned", lambda: None)
        shut = [Way("Gradle", lacking), Way("--apk FILE", "not given")]
        assert list(ways_in()) == [*shut, Way("LiteRT's run_model", "no --tools and no HARNESS_TOOLS")]
        monkeypatch.setenv("HARNESS_TOOLS", str(make_tools(tmp_path / "tools")))
        assert list(ways_in()) == [Way("HARNESS_TOOLS", named=True), *shut]
        monkeypatch.setenv("HARNESS_APK", str(tmp_path / "no.apk"))  # comes before the tools
        cannot = f"{tmp_path}/no.apk cannot be read (No such file or directory)"
        assert list(ways_in()) == [Way("HARNESS_APK", cannot, named=True), shut[0]]
        monkeypatch.delenv("HARNESS_APK")
        monkeypatch.setattr(ways, "pinned", lambda: ReleasedApk("1.0", "https://x/y.apk", "0" * 64, 1))
        assert [way.name for way in ways_in() if not way.lacks] == ["HARNESS_TOOLS", "the app of this release"]

        def damaged() -> None:
            raise DeviceError("released.json does not say it.", "Install it again.")

        monkeypatch.setattr(ways, "pinned", damaged)
        assert list(ways_in())[1] == Way("the app of this release", "released.json does not say it")
        monkeypatch.setattr(gradle, "PROJECT", tmp_path)
        built = tmp_path / gradle.APK
        built.parent.mkdir(parents=True)
        built.touch()
        assert [way.name for way in ways_in() if not way.lacks] == ["HARNESS_TOOLS", "the APK that Gradle built"]

    @pytest.mark.parametrize("name", ["HARNESS_APK", "HARNESS_TOOLS"])
    def test_a_named_way_that_is_shut_is_said_though_others_are_open(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setattr(ways, "pinned", lambda: ReleasedApk("1.0", "https://x/y.apk", "0" * 64, 1))
        monkeypatch.setenv(name, str(tmp_path / "nothing"))
        found = _ways()
        assert (found.state, found.mend) == ("optional", f"Mend or unset {name}.")
        assert found.detail.startswith(f"{name}: {tmp_path}/nothing cannot be read")
        monkeypatch.delenv(name)
        assert _ways().state == "ok"


class TestTheFolder:
    def test_is_known_by_its_content(self, tmp_path: Path) -> None:
        folder = make_tools(tmp_path / "a")
        (folder / "README.md").write_text("not pushed", "utf-8")
        tools = tools_in(folder)
        assert [name for name, _ in tools.files] == ["libLiteRt.so", "libLiteRtClGlAccelerator.so", "run_model"]
        assert tools.has_gpu
        assert tools_in(make_tools(tmp_path / "b")).there == tools.there
        (folder / "libLiteRt.so").write_bytes((folder / "libLiteRt.so").read_bytes() + b"x")
        assert tools_in(folder).there != tools.there

    def test_without_an_accelerator_has_no_gpu(self, tmp_path: Path) -> None:
        folder = make_tools(tmp_path / "tools")
        (folder / "libLiteRtClGlAccelerator.so").unlink()
        assert not tools_in(folder).has_gpu

    @pytest.mark.parametrize(
        ("spoil", "said"),
        [
            (lambda f: (f / "run_model").unlink(), "{f} holds no run_model."),
            (lambda f: (f / "run_model").write_bytes(b"MZ\x90"), "{f}/run_model is no program."),
            (lambda f: (f / "run_model").write_bytes(b""), "{f}/run_model is no program."),
            (
                lambda f: (f / "run_model").write_bytes(b"\x7fELF\x02" + bytes(13) + b"\x3e\x00"),
                "{f}/run_model is for another machine than a phone with arm64.",
            ),
            (
                lambda f: (f / "libLiteRt.so").write_bytes(b"\x7fELF\x01"),
                "{f}/libLiteRt.so is for another machine than a phone with arm64.",
            ),
            (lambda f: os.mkfifo(f / "libpipe.so"), "{f}/libpipe.so is no file."),
            (lambda f: (f / "libgone.so").symlink_to("nowhere"), "{f}/libgone.so cannot be read"),
            (
                lambda f: [(f / f"lib{i}.so").touch() for i in range(70)],
                "{f} holds 73 libraries of ",
            ),
        ],
        ids=["none", "windows", "empty", "x86", "cut", "pipe", "dangling", "many"],
    )
    def test_that_is_no_release_is_one_sentence(
        self, tmp_path: Path, spoil: Callable[[Path], object], said: str
    ) -> None:
        folder = make_tools(tmp_path / "tools")
        spoil(folder)
        with pytest.raises(UsageError) as caught:
            tools_in(folder)
        assert caught.value.message.startswith(said.format(f=folder))

    def test_that_is_none_is_one_sentence(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match=r"none cannot be read \(No such file or directory\)\."):
            tools_in(tmp_path / "none")


ADDED, HALF = f"{note(2, 0)}\n", f"{note(2, 1)}\n"


@pytest.mark.parametrize(
    ("before", "log", "after"),
    [
        (Residency(True, 5, 7, 1), ADDED, Residency(True, 5, 5, 1)),
        (Residency(False, 5, 7, 1), ADDED, Residency(True, 5, 5, 1)),
        (
            Residency(False, 4, 7, 2, ("SPLIT: no", "BITCAST: harness_bits_0_flat")),
            ADDED,
            Residency(False, 4, 5, 2, ("SPLIT: no",)),
        ),
        (Residency(False, 4, 7, 1, ("DEQUANTIZE: ",)), HALF, Residency(True, 5, 5, 1)),
        (Residency(False, 3, 7, 1, ("DEQUANTIZE: ",)), HALF, Residency(False, 3, 5, 1)),
        (Residency(False, 4, 7, 1, ("DEQUANTIZE: ",)), ADDED, Residency(False, 4, 5, 1, ("DEQUANTIZE: ",))),
        (Residency(False, 4, 5, 2), "", Residency(False, 4, 5, 2)),
        (Residency(True), ADDED, Residency(True)),
    ],
)
def test_residency_is_that_of_the_model_itself(before: Residency, log: str, after: Residency) -> None:
    assert without_added(before, log) == after
