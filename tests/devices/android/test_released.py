"""The APK that a release pins: taken by its digest alone, whatever the other side sends."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import DeviceError
from harness.devices.android.released import ReleasedApk, pinned, released_apk
from scripts.pin_apk import pin
from tests.sites import Site

DATA = b"PK" + bytes(range(256)) * 10_000
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(DATA) as running:
        yield running


def apk_at(site: Site) -> ReleasedApk:
    return ReleasedApk("9.9.9", site.address("app.apk"), DIGEST, len(DATA))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_it_is_fetched_once_and_kept_by_its_digest(site: Site, tmp_path: Path) -> None:
    said: list[str] = []
    found = released_apk(apk_at(site), said.append, tmp_path)
    assert found == released_apk(apk_at(site), said.append, tmp_path)
    assert (found.read_bytes(), site.asked, files(tmp_path)) == (DATA, 1, [f"{DIGEST}.apk"])
    assert said == ["fetching the app 9.9.9 (3 MB, once)"]


def test_one_that_was_damaged_in_the_cache_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    (tmp_path / f"{DIGEST}.apk").write_bytes(DATA[:-1])
    assert released_apk(apk_at(site), folder=tmp_path).read_bytes() == DATA


@pytest.mark.parametrize("sent", [DATA[:-1] + b"x", DATA + b"more", DATA[:5], b""])
def test_another_file_is_refused_and_nothing_of_it_stays(site: Site, tmp_path: Path, sent: bytes) -> None:
    site.sent = sent
    with pytest.raises(DeviceError, match=f"is not the app of this release: its SHA-256 is .*, not {DIGEST[:16]}"):
        released_apk(apk_at(site), folder=tmp_path)
    assert files(tmp_path) == []


def test_no_more_is_taken_than_the_release_states(site: Site, tmp_path: Path) -> None:
    site.sent = bytes(50_000_000)
    small = replace(apk_at(site), bytes=1000)
    with pytest.raises(DeviceError) as refused:
        released_apk(small, folder=tmp_path)
    assert hashlib.sha256(bytes(1001)).hexdigest()[:16] in refused.value.message


def test_a_line_that_breaks_is_one_sentence_with_what_to_do(site: Site, tmp_path: Path) -> None:
    site.sent, site.length = DATA[:1000], len(DATA)
    with pytest.raises(DeviceError):
        released_apk(apk_at(site), folder=tmp_path)
    assert files(tmp_path) == []
    site.sent, site.length = DATA, 0
    assert released_apk(apk_at(site), folder=tmp_path).read_bytes() == DATA


def test_an_address_with_nothing_there_is_named_with_the_code(site: Site, tmp_path: Path) -> None:
    site.code = 404
    with pytest.raises(DeviceError) as refused:
        released_apk(apk_at(site), folder=tmp_path)
    assert refused.value.message == f"The app is not at {apk_at(site).address} (HTTP 404)."
    assert refused.value.next_step == f"Fetch {apk_at(site).address} yourself and give it with --apk FILE."


def test_no_network_is_one_sentence(site: Site, tmp_path: Path) -> None:
    apk = replace(apk_at(site), address="http://127.0.0.1:1/app.apk")
    with pytest.raises(DeviceError, match=r"cannot be fetched from http://127\.0\.0\.1:1/app\.apk"):
        released_apk(apk, folder=tmp_path)


def test_a_folder_that_cannot_be_made_is_one_sentence(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeviceError, match="cannot be fetched to"):
        released_apk(apk_at(site), folder=tmp_path / "file" / "apk")


def test_what_a_release_pins_is_what_the_harness_reads(tmp_path: Path) -> None:
    apk, file = tmp_path / "a.apk", tmp_path / "released.json"
    apk.write_bytes(DATA)
    pin(apk, "https://example.com/v1/a.apk", file)
    found = pinned(file)
    assert found is not None
    assert (found.address, found.sha256, found.bytes) == ("https://example.com/v1/a.apk", DIGEST, len(DATA))


def test_a_clone_pins_none() -> None:
    assert pinned() is None


@pytest.mark.parametrize(
    "change",
    [
        {"address": "http://example.com/a.apk"},
        {"address": "file:///etc/passwd"},
        {"address": "https://["},
        {"sha256": DIGEST[:-1]},
        {"sha256": DIGEST.upper()},
        {"sha256": None},
        {"bytes": 0},
        {"bytes": 1 << 40},
        {"bytes": "12"},
        {"version": 1},
    ],
)
def test_a_pin_that_says_less_is_not_followed(tmp_path: Path, change: dict[str, Any]) -> None:
    file = tmp_path / "released.json"
    good = {"version": "1.0.0", "address": "https://example.com/a.apk", "sha256": DIGEST, "bytes": len(DATA)}
    file.write_text(json.dumps(good))
    assert pinned(file) == ReleasedApk(**good)  # type: ignore[arg-type]
    file.write_text(json.dumps(good | change))
    with pytest.raises(DeviceError, match="does not say which APK belongs to this release"):
        pinned(file)


@pytest.mark.parametrize("text", ["", "[]", "{", "\x00"])
def test_a_damaged_pin_is_one_sentence(tmp_path: Path, text: str) -> None:
    file = tmp_path / "released.json"
    file.write_text(text)
    with pytest.raises(DeviceError, match="does not say which APK"):
        pinned(file)
