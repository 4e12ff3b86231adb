"""A large file by its digest: continued where the line broke, and never used before it is whole."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from harness.core.errors import StorageError, UsageError
from harness.devices.fetched.reach import does_answer
from harness.devices.fetched.resumed import AGAIN, ResumedDownload
from tests.mounts import in_mount
from tests.sites import Site

DATA = bytes(range(251)) * 20_000
DIGEST = hashlib.sha256(DATA).hexdigest()
PART = f".model.tflite.{DIGEST[:16]}.part"
LOCK = ".model.tflite.lock"


@pytest.fixture
def site() -> Iterator[Site]:
    with Site(DATA) as running:
        running.ranges = True
        yield running


def wanted(site: Site) -> ResumedDownload:
    return ResumedDownload("model.tflite", site.address("model.tflite"), DIGEST, len(DATA), "Do something else.")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_it_is_fetched_once_with_its_share_told(site: Site, tmp_path: Path) -> None:
    shares: list[float] = []
    kept = tmp_path / "models" / "model.tflite"
    assert wanted(site).into(kept, shares.append) == wanted(site).into(kept) == kept
    assert (kept.read_bytes(), site.asked, files(kept.parent)) == (DATA, 1, {kept.name, LOCK})
    assert len(shares) > 2 and shares == sorted(shares) and shares[-1] == 1.0


def test_a_line_that_broke_is_gone_on_with(site: Site, tmp_path: Path) -> None:
    kept = tmp_path / "model.tflite"
    site.sent, site.length = DATA[:1_000_000], len(DATA)
    with pytest.raises(UsageError) as broken:
        wanted(site).into(kept)
    assert f"broke off after 1,000,000 of {len(DATA):,} bytes" in broken.value.message
    assert broken.value.next_step == AGAIN
    assert files(tmp_path) == {PART, LOCK}
    site.sent = DATA
    assert wanted(site).into(kept).read_bytes() == DATA
    assert site.begun == [0, 1_000_000]
    assert files(tmp_path) == {"model.tflite", LOCK}


def test_a_server_that_sends_the_whole_again_is_taken_at_its_word(site: Site, tmp_path: Path) -> None:
    (tmp_path / PART).write_bytes(DATA[:7])
    site.ranges = False
    assert wanted(site).into(tmp_path / "model.tflite").read_bytes() == DATA
    assert site.begun == [7]


def test_a_page_in_its_place_leaves_what_came_before_as_it_was(site: Site, tmp_path: Path) -> None:
    (tmp_path / PART).write_bytes(DATA[:7])
    site.sent, site.ranges = b"<html>Log in first.</html>", False
    with pytest.raises(UsageError, match=f"has 26 bytes, model.tflite {len(DATA):,}"):
        wanted(site).into(tmp_path / "model.tflite")
    assert (tmp_path / PART).read_bytes() == DATA[:7]


def test_all_that_came_but_had_no_name_yet_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    (tmp_path / PART).write_bytes(DATA)
    assert wanted(site).into(tmp_path / "model.tflite").read_bytes() == DATA
    assert site.asked == 0


@pytest.mark.parametrize("sent", [DATA[:-1] + b"x", DATA + b"more"])
def test_another_file_is_refused_and_nothing_of_it_stays(site: Site, tmp_path: Path, sent: bytes) -> None:
    site.sent, site.length = sent, -1
    with pytest.raises(UsageError, match=f"was published: its SHA-256 is .*, not {DIGEST[:16]}"):
        wanted(site).into(tmp_path / "model.tflite")
    assert files(tmp_path) == {LOCK}


def test_no_more_is_taken_than_the_file_has(site: Site, tmp_path: Path) -> None:
    site.sent, site.length = bytes(50_000_000), -1
    with pytest.raises(UsageError) as refused:
        replace(wanted(site), size=1000).into(tmp_path / "model.tflite")
    assert hashlib.sha256(bytes(1001)).hexdigest()[:16] in refused.value.message


def test_a_file_that_is_too_short_is_never_used(site: Site, tmp_path: Path) -> None:
    site.sent, site.length = DATA[:-5], -1
    for _ in range(2):
        with pytest.raises(UsageError, match=rf"broke off after 5,019,995 of {len(DATA):,} bytes|HTTP 416"):
            wanted(site).into(tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()


def test_what_was_begun_with_other_bytes_is_dropped_and_had_anew(site: Site, tmp_path: Path) -> None:
    (tmp_path / PART).write_bytes(b"other")
    with pytest.raises(UsageError, match="its SHA-256 is"):
        wanted(site).into(tmp_path / "model.tflite")
    assert wanted(site).into(tmp_path / "model.tflite").read_bytes() == DATA


def test_a_damaged_file_is_fetched_anew(site: Site, tmp_path: Path) -> None:
    (tmp_path / "model.tflite").write_bytes(DATA[:-1])
    assert wanted(site).into(tmp_path / "model.tflite").read_bytes() == DATA


def test_no_network_and_no_such_file_are_a_sentence_each(site: Site, tmp_path: Path) -> None:
    away = replace(wanted(site), address="http://127.0.0.1:1/model.tflite")
    with pytest.raises(UsageError, match=r"^http://127\.0\.0\.1:1/model\.tflite cannot be reached .*Do something else"):
        away.into(tmp_path / "model.tflite")
    site.code = 404
    with pytest.raises(UsageError, match=r"model\.tflite is not at http://.* \(HTTP 404\)\. Do something else\."):
        wanted(site).into(tmp_path / "model.tflite")
    assert not (tmp_path / "model.tflite").exists()


@pytest.mark.parametrize(
    "address", ["huggingface.co/model.tflite", "http://[::1/model.tflite", "http://a b/model.tflite"]
)
def test_what_is_no_address_is_a_sentence(site: Site, tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match=r"leads to no address \(.*\)\. Do something else\."):
        replace(wanted(site), address=address).into(tmp_path / "model.tflite")
    assert not does_answer(address, 1.0)


def test_too_little_room_is_said_before_anything_is_asked(site: Site, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"needs 9223372036855 MB more, and .* has \d+ MB\. Free some space"):
        replace(wanted(site), size=1 << 63).into(tmp_path / "model.tflite")
    assert site.asked == 0


def test_a_disk_that_fills_up_is_one_sentence(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "small"
    folder.mkdir()
    script = (
        "import sys; from pathlib import Path; from harness.core.errors import StorageError\n"
        "from harness.devices.fetched import resumed\n"
        "resumed.ResumedDownload._check_room = lambda *_: None\n"
        f"job = resumed.ResumedDownload('model.tflite', {site.address('m')!r}, {DIGEST!r}, {len(DATA)}, '')\n"
        "try: job.into(Path(sys.argv[1]) / 'model.tflite')\n"
        "except StorageError as error: print(error)\n"
    )
    done = in_mount(folder, "size=1m", [sys.executable, "-c", script, str(folder)])
    assert "model.tflite cannot be kept in" in done.stdout and "No space left on device" in done.stdout, done
    assert not (folder.with_name("small.kept") / "model.tflite").exists()


def test_a_folder_that_cannot_be_made_is_one_sentence(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot be kept in .*File exists"):
        wanted(site).into(tmp_path / "file" / "model.tflite")


def test_of_two_at_once_one_fetches_and_the_other_waits(site: Site, tmp_path: Path) -> None:
    both = [threading.Thread(target=wanted(site).into, args=(tmp_path / "model.tflite",)) for _ in range(2)]
    for each in both:
        each.start()
    for each in both:
        each.join(60)
    assert (tmp_path / "model.tflite").read_bytes() == DATA and site.asked == 1
    assert files(tmp_path) == {"model.tflite", LOCK}
