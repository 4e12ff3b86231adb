"""Who may ask the page's server, and for what."""

from __future__ import annotations

import http.client
import os
import time
from pathlib import Path
from typing import Any

import pytest

from harness.core.errors import UsageError
from harness.sam2.image_path.tap_page.photos import Photos
from harness.sam2.image_path.tap_page.serving import MOST_BODY, POLICY
from tests.sam2.image_path.tap_page.conftest import Served, asked


def test_the_page_is_given_with_its_token_alone(page: Served) -> None:
    status, said = page.ask("")
    assert status == 200 and b"<!doctype html>" in said
    for root in ("/", "/wrong/", page.root[:-2] + "/", page.root.upper()):
        status, said = page.ask("", root=root)
        assert (status, b"Open the address" in said) == (404, True), root
    assert page.ask("state", root="/")[0] == page.ask("static/page.js", root="/")[0] == 404


def test_every_answer_has_the_strict_policy(page: Served) -> None:
    for root in (page.root, "/"):
        connection = http.client.HTTPConnection(page.host, timeout=30)
        connection.request("GET", root)
        headers = {name.lower(): value for name, value in connection.getresponse().getheaders()}
        assert headers["content-security-policy"] == POLICY and "unsafe" not in POLICY
        assert (headers["cache-control"], headers["referrer-policy"]) == ("no-store", "no-referrer")
        connection.close()


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "localhost:1", "localhost:{port}"])
def test_another_host_is_refused(page: Served, host: str) -> None:
    name = host.format(port=page.host.partition(":")[2])
    status, said = page.ask("state", Host=name)
    assert status == 403 and name in said.decode()


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://{host}", "http://localhost:1"])
def test_another_origin_is_refused(page: Served, origin: str) -> None:
    for body in (None, asked()):
        status, said = page.ask("tap" if body else "state", body, Origin=origin.format(host=page.host))
        assert status == 403 and b"may not ask here" in said


def test_a_page_of_another_site_is_refused_where_the_browser_says_so(page: Served) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        assert page.ask("state", Sec_Fetch_Site=site)[0] == status


def test_what_changes_something_says_where_it_comes_from(page: Served) -> None:
    assert page.ask("open", asked(), Origin="")[0] == 403
    assert page.ask("open", method="PUT")[0] == 405


def test_an_upload_is_refused_before_it_is_read(page: Served) -> None:
    began = time.monotonic()
    status, said = page.ask("tap", b"{", Content_Length=str(200 << 20))
    assert status == 413 and f"At most {MOST_BODY:,} bytes" in said.decode()
    assert time.monotonic() - began < 30
    assert page.ask("tap", b" " * (MOST_BODY + 1))[0] == 413
    connection = http.client.HTTPConnection(page.host, timeout=30)
    connection.request("POST", page.root + "tap", iter([b"{}"]), {"Origin": page.origin}, encode_chunked=True)
    assert connection.getresponse().status == 411
    connection.close()
    # HTTP goes by the chunks then, and not by the length.
    assert page.ask("tap", b"2\r\n{}\r\n0\r\n\r\n", Content_Length="2", Transfer_Encoding="chunked")[0] == 411
    assert page.ask("state")[0] == 200


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "..%2Fsecret.png", "noise.png/../../secret.png", ""])
def test_a_photo_outside_the_folder_is_refused(page: Served, photos: Path, name: str) -> None:
    (photos.parent / "secret.png").write_bytes((photos / "noise.png").read_bytes())
    status, said = page.ask(f"photo?name={name}")
    assert status == 400 and b"There is no photo" in said
    status, said = page.ask("open", asked(photo=name))
    assert status == 400 and b"There is no photo" in said


def test_a_photo_that_became_a_link_to_elsewhere_is_refused(page: Served, photos: Path) -> None:
    secret = photos.parent / "secret.png"
    (photos / "wide.png").rename(secret)
    (photos / "wide.png").symlink_to(secret)
    status, said = page.ask("photo?name=wide.png")
    assert status == 400 and b"leads out of its folder" in said


def test_the_only_photo_of_a_folder_that_became_a_link_is_refused(photos: Path) -> None:
    (photos / "wide.png").unlink()
    alone = Photos.of(photos)
    (photos / "noise.png").rename(photos.parent / "secret.png")
    (photos / "noise.png").symlink_to(photos.parent / "secret.png")
    with pytest.raises(UsageError, match="leads out of its folder"):
        alone.load("noise.png")
    assert Photos.of(photos / "noise.png").load("noise.png").shape == (90, 120, 3)  # the user's own words


def test_a_photo_whose_name_no_document_can_hold_is_not_offered(photos: Path) -> None:
    odd = photos / os.fsdecode(b"odd\xff.png")
    odd.write_bytes((photos / "noise.png").read_bytes())
    assert Photos.of(photos).names == ("noise.png", "wide.png")
    with pytest.raises(UsageError, match="no text"):
        Photos.of(odd)


@pytest.mark.parametrize("path", ["static/..%2fguard.py", "static/guard.py", "static/", "run/..%2f..%2fx/report.html"])
def test_no_other_file_is_given(page: Served, path: str) -> None:
    assert page.ask(path)[0] in (400, 404)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"decoder": "v9"}, "no decoder 'v9'"),
        ({"back_end": "host/gpu"}, "no back end"),
        ({"tab": 7}, "no short word"),
        ({"object": "x" * 1000}, "no short word"),
        ({"tap": None}, "no tap"),
        ({"tap": {"positive": "x"}}, "are a list"),
        ({"tap": {"positive": [[1]]}}, "2 numbers"),
        ({"tap": {"positive": [[1, True]]}}, "2 numbers"),
        ({"tap": {"positive": [[1, 1e300]]}}, "2 numbers"),
        ({"tap": {"positive": [[1, 2]] * 33}}, "at most 32"),
        ({"tap": {"positive": [[-1, 2]]}}, "outside the photo"),
        ({"tap": {"positive": []}}, "asks for nothing"),
        ({"tap": {"box": [5, 5, 1, 1]}}, "is not one"),
    ],
)
def test_a_request_that_is_none_gets_a_sentence(page: Served, change: dict[str, Any], sentence: str) -> None:
    status, said = page.ask("tap", asked(**change))
    assert status == 400 and sentence in said.decode()


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"\xff\xfe", b"[" * 60_000])
def test_a_body_that_is_no_object_gets_a_sentence(page: Served, body: bytes) -> None:
    status, said = page.ask("tap", body)
    assert status == 400 and b"The request is no" in said
