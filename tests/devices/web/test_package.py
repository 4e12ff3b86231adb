"""LiteRT.js is fetched once, by its digest; what npm is, a script stands in for."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from harness.api.across.asking import prepared_for
from harness.api.compare import compare_command
from harness.api.session import ModelRequest
from harness.core.errors import DeviceError, UsageError
from harness.core.job import Options
from harness.core.progress import SILENT
from harness.devices.captured import Captured
from harness.devices.registry import check_options
from harness.devices.web import package
from harness.devices.web.package import CORE, UTILS, available_releases, package_folder, pinned, release_of

NPM = f"""#!{sys.executable}
import json, pathlib, shutil, sys
here = pathlib.Path(__file__).parent
(here / "asked").open("a").write(" ".join(sys.argv[1:4]) + "\\n")
if (here / "fails").exists():
    sys.exit((here / "fails").read_text())
if (here / "absent").exists() and sys.argv[1] == "pack":
    sys.exit((here / "absent").read_text())
if sys.argv[1] == "view":
    print((here / "versions").read_text())
else:
    name = next(word for word in sys.argv if word.startswith("@litertjs/")).partition("/")[2].partition("@")[0]
    into = sys.argv[sys.argv.index("--pack-destination") + 1]
    shutil.copy(here / (name + ".archive"), pathlib.Path(into) / (name + "-1.tgz"))
"""


def archive(files: dict[str, str], *, links: bool = False) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as packed:
        for name, text in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(text.encode())
            packed.addfile(about, io.BytesIO(text.encode()))
        if links:
            about = tarfile.TarInfo("package/link")
            about.type, about.linkname = tarfile.SYMTYPE, "/etc/passwd"
            packed.addfile(about)
    return raw.getvalue()


ABOUT = json.dumps({"version": "9.0.0", "dependencies": {UTILS: "^9.0.0"}})
CONTENT = {
    "core": archive(
        {"package/package.json": ABOUT, "package/dist/index.js": "core", "package/../../out": "evil"}, links=True
    ),
    "wasm-utils": archive({"package/dist/index.js": "utils"}),
}


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an npm that gives `CONTENT`, the only program on PATH; the cache is an empty one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "npm").write_text(NPM, encoding="utf-8")
    (folder / "npm").chmod(0o755)
    for name, content in CONTENT.items():
        (folder / f"{name}.archive").write_bytes(content)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    return folder


def digest(content: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, dict[str, str]]]:
    """What is pinned: release 9.0.0, as `CONTENT` has it."""
    names = {CORE: "core", UTILS: "wasm-utils"}
    release = {package: {"version": "9.0.0", "integrity": digest(CONTENT[name])} for package, name in names.items()}
    pins = {"9.0.0": release}
    monkeypatch.setattr(package, "pinned", lambda: pins)
    return pins


@pytest.mark.usefixtures("known")
def test_a_release_is_fetched_once_and_only_its_own_files_are_kept(npm: Path, tmp_path: Path) -> None:
    folder = package_folder("9.0.0")
    assert (folder / "core/dist/index.js").read_text() == "core"
    assert (folder / "wasm-utils/dist/index.js").read_text() == "utils"
    assert not list(tmp_path.rglob("out")) and not list(tmp_path.rglob("link"))
    asked = (npm / "asked").read_text()
    assert asked.count("pack") == 2
    (npm / "npm").unlink()
    assert package_folder("9.0.0") == folder


@pytest.mark.usefixtures("known")
def test_a_damaged_release_is_fetched_again(npm: Path) -> None:
    folder = package_folder("9.0.0")
    (folder / "core/dist/index.js").write_text("changed")
    said: list[str] = []
    assert package_folder("9.0.0", said.append) == folder
    assert (folder / "core/dist/index.js").read_text() == "core"
    assert said == ["index.js is not as it was installed", f"fetching {CORE} 9.0.0 (again)"]


def test_another_file_than_the_pinned_one_is_not_used(npm: Path, known: dict[str, dict[str, dict[str, str]]]) -> None:
    known["9.0.0"][UTILS]["integrity"] = "sha512-AAAA"
    with pytest.raises(DeviceError, match=r"wasm-utils@9\.0\.0 is not used: .* not sha512-AAAA"):
        package_folder("9.0.0")
    assert not list((npm.parent / "cache" / "litertjs").iterdir())


def test_a_release_without_a_known_digest_says_so(npm: Path, known: dict[str, dict[str, dict[str, str]]]) -> None:
    known.clear()
    said: list[str] = []
    assert (package_folder("9.0.0", said.append) / "wasm-utils/dist/index.js").read_text() == "utils"
    assert said == [f"no known digests for {CORE} 9.0.0", f"fetching {CORE} 9.0.0 (once)"]


@pytest.mark.usefixtures("known")
def test_without_npm_or_a_connection_one_sentence_says_so(npm: Path) -> None:
    (npm / "fails").write_text(
        "npm error code ENOTFOUND\nnpm error syscall getaddrinfo\nnpm error network request failed."
    )
    with pytest.raises(DeviceError, match=r"core@9\.0\.0 cannot be fetched \(network request failed\)"):
        package_folder("9.0.0")
    (npm / "npm").unlink()
    with pytest.raises(DeviceError, match=r"core@9\.0\.0 is not in the cache, and npm is not on PATH") as caught:
        package_folder("9.0.0")
    assert "Install npm" in caught.value.next_step


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("code", ["ETARGET", "E404"])
def test_a_release_that_is_not_there_is_said_to_be_none_with_those_that_are(npm: Path, code: str) -> None:
    (npm / "versions").write_text('["2.0.0", "2.5.3"]')
    (npm / "absent").write_text(f"npm error code {code}\nnpm error notarget No matching version found.")
    with pytest.raises(UsageError, match=r"There is no @litertjs/core@9\.0\.0\.") as caught:
        package_folder("9.0.0")
    assert caught.value.next_step == "Its releases are 2.0.0, 2.5.3."


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("npm error code E500\nnpm error 500 Internal Server Error - GET\n", "500 Internal Server Error - GET"),
        ("npm error code ECONNREFUSED\nnpm error errno ECONNREFUSED\n", "code ECONNREFUSED"),
        ("something else\nat the end\n", "at the end"),
        ("", "npm said nothing"),
    ],
)
def test_why_npm_gave_up_is_its_first_sentence(output: str, said: str) -> None:
    assert package._last_words(Captured(output, 1)) == said


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("web", Options(accelerator="npu"), "not on an NPU"),
        ("web:chrome-on-pixel8a", Options(accelerator="npu"), "not on an NPU"),
        ("web", Options(backend="opencl", priority="low"), "no choice of --backend, --priority"),
        ("web", Options(precision="fp16-fp32acc"), "no fp16 with float32 sums"),
        ("web", Options(accelerator="cpu", precision="fp16"), "CPU computes in float32, not in fp16"),
        ("web@2.0.0", Options(precision="fp32"), "2.0.0 has no choice of precision"),
        ("web@2.0.0", Options(fallback="cpu"), "2.0.0 has no build for CPU and GPU together"),
    ],
)
def test_options_that_litertjs_lacks_are_misuse(name: str, options: Options, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence) as caught:
        check_options(name, options)
    assert caught.value.next_step


def test_they_are_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model need not even be there."""
    monkeypatch.setenv("HARNESS_BROWSER", "nowhere")
    request = ModelRequest(tmp_path / "none.tflite", "web", Options(accelerator="npu"), out=tmp_path / "runs")
    with pytest.raises(UsageError, match="not on an NPU"):
        compare_command(request)
    with pytest.raises(UsageError, match="not on an NPU"):
        prepared_for(replace(request, device="host"), ["host", "web"], SILENT)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("web", Options(precision="fp32", fallback="cpu")),
        ("web@2.0.0", Options()),
        ("web", Options(accelerator="cpu", precision="fp32")),
        ("host", Options(accelerator="npu", backend="opencl")),
    ],
)
def test_other_options_are_left_to_the_device(name: str, options: Options) -> None:
    check_options(name, options)


@pytest.mark.usefixtures("known")
def test_an_archive_that_is_none_or_too_large_is_refused(
    npm: Path, known: dict[str, dict[str, dict[str, str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    (npm / "core.archive").write_bytes(b"no archive")
    known["9.0.0"][CORE]["integrity"] = digest(b"no archive")
    with pytest.raises(DeviceError, match=r"LiteRT\.js 9\.0\.0 is damaged"):
        package_folder("9.0.0")
    (npm / "core.archive").write_bytes(CONTENT["core"])
    known["9.0.0"][CORE]["integrity"] = digest(CONTENT["core"])
    monkeypatch.setattr(package, "MOST_BYTES", 3)
    with pytest.raises(DeviceError, match="more than 2000 files or 3 bytes"):
        package_folder("9.0.0")


def test_releases_are_listed_from_the_oldest_that_works(npm: Path) -> None:
    (npm / "versions").write_text('["0.1.1", "2.5.2", "2.0.0", "10.0.0", "3.0.0-beta.1", "weird"]')
    assert available_releases() == ("2.0.0", "2.5.2", "3.0.0-beta.1", "10.0.0")
    (npm / "fails").write_text("npm error code ENOTFOUND")
    with pytest.raises(DeviceError, match=r"cannot be listed \(code ENOTFOUND\)"):
        available_releases()


@pytest.mark.parametrize(("name", "release"), [("web", "2.5.3"), ("web@2.0.0", "2.0.0"), ("web@3.1.0", "3.1.0")])
def test_a_name_has_a_release(name: str, release: str) -> None:
    assert release_of(name) == release


@pytest.mark.parametrize(
    ("name", "complaint"),
    [("web@", "'' is not a release"), ("web@latest", "'latest' is not a release"), ("web@0.2.1", "has another API")],
)
def test_what_is_no_release_is_misuse(name: str, complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        release_of(name)


def test_every_pinned_release_has_both_packages() -> None:
    assert package.DEFAULT in pinned()
    for release, packages in pinned().items():
        assert set(packages) == {CORE, UTILS} and packages[CORE]["version"] == release
        for about in packages.values():
            raw = base64.b64decode(about["integrity"].removeprefix("sha512-"), validate=True)
            assert about["integrity"].startswith("sha512-") and len(raw) == 64
