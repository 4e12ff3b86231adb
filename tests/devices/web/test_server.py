"""The page's server: who is answered, with what, and how frames pass."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from harness.devices.link import Link
from harness.devices.web import server as module
from harness.devices.web.server import PageServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PageServer]:
    (tmp_path / "page.js").write_text("1;", encoding="utf-8")
    made = PageServer({"page/page.js": tmp_path / "page.js", "page/gone.js": tmp_path / "gone.js"})
    yield made
    made.close()


def ask(
    server: PageServer, path: str, *, host: str = "", body: bytes | None = None, token: str = ""
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = {"Host": host or f"127.0.0.1:{server.port}"}
    connection.request("GET" if body is None else "POST", f"/{token or server.token}/{path}", body, headers)
    answer = connection.getresponse()
    got = answer.status, answer.read(), {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return got


def test_a_file_comes_with_what_threads_need_and_from_nowhere_else(server: PageServer) -> None:
    status, content, headers = ask(server, "page/page.js")
    assert (status, content, headers["content-type"]) == (200, b"1;", "text/javascript")
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cross-origin-embedder-policy"] == "require-corp"
    assert headers["content-security-policy"].startswith("default-src 'self'")


@pytest.mark.parametrize(
    "path", ["page/gone.js", "page/none.js", "page/../page/page.js", "", "../../etc/passwd", "%2e%2e/page.js"]
)
def test_what_is_not_listed_is_not_there(server: PageServer, path: str) -> None:
    assert ask(server, path)[0] == 404


def test_without_the_token_or_by_another_name_nothing_is_answered(server: PageServer) -> None:
    server.connect().close()
    assert ask(server, "page/page.js", token="x" * 32)[0] == 404
    assert ask(server, "page/page.js", host="attacker.example")[0] == 404
    assert ask(server, "answer", token="x" * 32, body=b"LDH1")[0] == 404
    assert ask(server, "gone", host=f"localhost:{server.port}", body=b"bye")[0] == 404 and server.gone == ""


def test_it_listens_on_this_machine_alone(server: PageServer) -> None:
    assert server.address.startswith(f"http://127.0.0.1:{server.port}/{server.token}/")
    assert len(server.token) >= 32


def test_frames_pass_both_ways_as_they_are(server: PageServer) -> None:
    here = Link(server.connect())
    values = np.arange(200_000, dtype=np.float32)
    sending = threading.Thread(target=lambda: here.send("put", 7, None, [("model", values)], sha256="ab"))
    sending.start()
    status, frame, _ = ask(server, "next")
    sending.join()
    assert status == 200 and len(frame) == here.sent_bytes
    posting = threading.Thread(target=ask, args=(server, "answer"), kwargs={"body": frame})
    posting.start()
    back = here.receive(None)
    posting.join()
    assert (back.type, back.id, back.fields) == ("put", 7, {"sha256": "ab"})
    assert np.array_equal(back.payloads["model"], values)


def test_a_page_that_waits_is_told_to_ask_again(server: PageServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.05)
    here = server.connect()
    assert ask(server, "next")[0] == 204
    here.close()


def test_a_page_without_a_harness_is_sent_away(server: PageServer) -> None:
    assert ask(server, "next")[0] == 410
    assert ask(server, "answer", body=b"LDH1")[0] == 410


def test_what_is_no_frame_ends_the_request(server: PageServer) -> None:
    here = server.connect()
    here.sendall(b"JUNKJUNKJUNK")
    assert ask(server, "next")[0] == 410


def test_a_page_that_gives_up_ends_the_connection_and_says_why_once(server: PageServer) -> None:
    here = server.connect()
    assert ask(server, "gone", body=b"the  GPU\nis lost" + b"!" * 1000)[0] == 200
    assert server.gone.startswith("the GPU is lost!!!") and len(server.gone) <= module.LONGEST_WORD
    assert here.recv(1) == b""
    here.close()
    server.connect().close()
    assert server.gone == ""


def test_a_new_connection_ends_the_one_before(server: PageServer) -> None:
    first = server.connect()
    second = server.connect()
    assert first.recv(1) == b""
    second.setblocking(False)
    with pytest.raises(BlockingIOError):
        second.recv(1)
    for each in (first, second):
        each.close()


def test_a_broken_connection_is_no_noise(server: PageServer, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as rude:
        rude.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        rude.sendall(b"GET /")
    assert ask(server, "page/page.js")[0] == 200
    assert capfd.readouterr() == ("", "")
