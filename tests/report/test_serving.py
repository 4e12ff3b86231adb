"""Serving on 127.0.0.1: who is let in, what every answer carries, and how it ends."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from harness.core.errors import StorageError, UsageError
from harness.report.serving import POLICY, Address, Guard, listen, require, serve


@dataclass
class Served:
    address: Address
    paths: list[str] = field(default_factory=list)

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> tuple[int, str]:
        status, text, _ = self.whole(path, method, body, **headers)
        return status, text

    def whole(
        self, path: str, method: str = "GET", body: bytes | None = None, **headers: str
    ) -> tuple[int, str, dict[str, str]]:
        line = http.client.HTTPConnection("127.0.0.1", self.address.port, timeout=20)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        line.request(method, path, body, named)
        answer = line.getresponse()
        text = answer.read().decode()
        line.close()
        return answer.status, text, {name.lower(): value for name, value in answer.getheaders()}


@pytest.fixture
def served() -> Iterator[Served]:
    async def page(request: Request) -> PlainTextResponse:
        server.paths.append(request.url.path)
        return PlainTextResponse(f"page {len(await request.body())}")

    async def own(request: Request) -> PlainTextResponse:
        return PlainTextResponse("own", headers={"Content-Security-Policy": "default-src 'self'"})

    listener, address = listen()
    server = Served(address)
    routes = [Route("/page", page, methods=["GET", "POST"]), Route("/own", own)]
    ending = threading.Event()
    app = Guard(Starlette(routes=routes), address, most_bytes=10)
    thread = threading.Thread(target=serve, args=(app, listener), kwargs={"ending": ending})
    thread.start()
    yield server
    ending.set()
    thread.join(20)
    assert not thread.is_alive()


def test_the_address_has_a_token_of_its_own_and_only_that_is_answered(served: Served) -> None:
    token = served.address.token
    assert served.address.url("page") == f"http://127.0.0.1:{served.address.port}/{token}/page"
    assert len(token) == 32 and token != Address(1).token and token not in repr(served.address)
    assert served.ask(f"/{token}/page") == (200, "page 0")
    for path in ("/page", "/", "/x/page", f"/{token[:-1]}/page", f"/{token}x/page", f"//{token}/page", "/%ff/page"):
        assert served.ask(path)[0] == 404, path
    assert served.ask(f"/{token}/other")[0] == 404
    assert served.paths == [f"/{token}/page"]


@pytest.mark.parametrize("host", ["localhost:{}", "evil.example:{}", "127.0.0.1", "[::1]:{}", ""])
def test_who_comes_by_another_name_of_this_machine_is_not_let_in(host: str, served: Served) -> None:
    status, said = served.ask(f"/{served.address.token}/page", Host=host.format(served.address.port))
    assert status == 403 and said.startswith("There is no ") and "Open the address that was printed" in said
    assert served.paths == []


def test_pages_from_elsewhere_are_not_let_in(served: Served) -> None:
    path = f"/{served.address.token}/page"
    for origin in ("null", "https://evil.example", "http://127.0.0.1:1", f"https://{served.address.host}"):
        status, said = served.ask(path, "POST", b"x", Origin=origin)
        assert status == 403 and said.startswith(f"A page of '{origin}' may not ask here.")
    for site in ("cross-site", "same-site"):
        assert served.ask(path, Sec_Fetch_Site=site)[0] == 403
    assert served.paths == []
    assert served.ask(path, "POST", b"x", Origin=served.address.origin) == (200, "page 1")


def test_a_body_is_taken_up_to_its_bound_and_only_with_its_length(served: Served) -> None:
    path, own = f"/{served.address.token}/page", served.address.origin
    assert served.ask(path, "POST", b"x" * 10, Origin=own) == (200, "page 10")
    assert served.ask(path, "POST", b"x" * 11, Origin=own) == (413, "At most 10 bytes are taken.")
    assert served.ask(path, "GET", b"x" * 11)[0] == 413
    assert served.ask(path, "POST", b"", Content_Length="9" * 30, Origin=own)[0] in (400, 413)
    assert served.ask(path, "POST", b"1\r\nx\r\n0\r\n\r\n", Transfer_Encoding="chunked", Origin=own)[0] == 411
    assert len(served.paths) == 1


def test_what_changes_something_says_where_it_comes_from_and_no_other_method_is_taken(served: Served) -> None:
    path, own = f"/{served.address.token}/page", served.address.origin
    assert served.ask(path, "POST", b"x")[0] == 403
    assert served.ask(path, "PUT", b"x", Origin=own) == (405, "PUT is nothing that can be asked here.")
    assert served.paths == []


def test_every_answer_says_what_a_browser_may_do_with_it(served: Served) -> None:
    for path in (f"/{served.address.token}/page", f"/{served.address.token}/none", "/none"):
        _, _, headers = served.whole(path)
        assert headers["content-security-policy"] == POLICY and headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer" and headers["cache-control"] == "no-store"
        assert headers["cross-origin-resource-policy"] == headers["cross-origin-opener-policy"] == "same-origin"
        assert headers["x-frame-options"] == "DENY" and "server" not in headers
    _, _, headers = served.whole(f"/{served.address.token}/own")
    assert headers["content-security-policy"] == "default-src 'self'"


def test_it_listens_to_this_machine_alone_and_says_when_a_port_is_taken() -> None:
    listener, address = listen()
    assert listener.getsockname() == ("127.0.0.1", address.port)
    with pytest.raises(UsageError, match=rf"Port {address.port} cannot be had \(Address already in use\)\."):
        listen(address.port)
    listener.close()
    again, same = listen(address.port)
    again.close()
    assert same.port == address.port and same.token != address.token


async def nothing(scope: object, receive: object, send: object) -> None:
    raise AssertionError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_its_code_and_what_took_signals_before_takes_them_again(number: signal.Signals) -> None:
    listener, address = listen()
    taken: list[int] = []
    before = signal.signal(number, lambda got, _: taken.append(got))

    def kill_once_it_answers(ending: threading.Event) -> None:
        Served(address).ask("/")
        os.kill(os.getpid(), number)
        assert ending.wait(20)

    try:
        assert serve(Guard(nothing, address), listener, work=kill_once_it_answers) == 128 + number
        assert taken == []
        os.kill(os.getpid(), number)
        assert taken == [number]
    finally:
        signal.signal(number, before)
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", address.port), 1)


def test_an_open_connection_does_not_keep_it_from_ending() -> None:
    listener, address = listen()
    held: list[socket.socket] = []

    def hold(ending: threading.Event) -> None:
        held.append(socket.create_connection(("127.0.0.1", address.port), 5))
        held[0].sendall(b"GET / HTTP/1.1\r\n")

    assert serve(Guard(nothing, address), listener, work=hold) == 0
    held[0].close()


def test_what_fails_beside_it_ends_it_and_is_raised() -> None:
    listener, address = listen()

    def fail(ending: threading.Event) -> None:
        raise StorageError("The disk is full.")

    with pytest.raises(StorageError, match="full"):
        serve(Guard(nothing, address), listener, work=fail)


def test_without_its_packages_the_command_that_installs_them_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require()
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match=r"Serving needs uvicorn, which is not installed\. pip install .*\[serve\]"):
        require()
