"""Pages served on this machine to its user alone: who may ask, and how serving begins and ends.

A server on 127.0.0.1 is reached by every program of every user here, and by each page that a browser has open, whoever
made it. So an address has a token in its path that is made anew for each start; a request has to name the server as the
address does (a page that has a name of its own resolve to 127.0.0.1 does not) and, where it says which page or site it
comes from, come from the server's own; what changes something has to say so. Whatever the answer, its headers let a
page load nothing from elsewhere, be framed by nothing, and tell nobody its address.
"""

from __future__ import annotations

import asyncio
import errno
import secrets
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from harness.core.errors import UsageError, install_extra
from harness.core.signals import ENDING

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
"""An ASGI application, such as one of starlette's."""

HOST = "127.0.0.1"
POLICY = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""For answers that have no policy of their own."""
_HEADERS = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
_OPEN_ANEW = "Open the address that was printed: it has a token, which is new with each start."
_TICK = 0.1
_GRACE_SECONDS = 2
_TAKEN = (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL)


@dataclass(frozen=True)
class Address:
    """Where pages are served: `http://127.0.0.1:PORT/TOKEN/`."""

    port: int
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)

    @property
    def host(self) -> str:
        """What a request's Host header has to be."""
        return f"{HOST}:{self.port}"

    @property
    def origin(self) -> str:
        """What its Origin header has to be, where it has one."""
        return f"http://{self.host}"

    def url(self, path: str = "") -> str:
        """The address of a path below the token."""
        return f"{self.origin}/{self.token}/{path}"


def require() -> None:
    """That what serves is installed. Raises UsageError, with the command that installs it."""
    try:
        import starlette
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UsageError(f"Serving needs {error.name}, which is not installed.", install_extra("serve")) from None
    del starlette


def listen(port: int = 0) -> tuple[socket.socket, Address]:
    """A socket on 127.0.0.1 that `serve` takes, and its address; 0 for a port that is free.

    Raises:
        UsageError: the port is taken, or not this user's to take.
    """
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        if error.errno not in _TAKEN:
            raise
        raise UsageError(f"Port {port} cannot be had ({error.strerror}).", "Name another; 0 is any free one.") from None
    return listener, Address(listener.getsockname()[1])


class Guard:
    """Lets those requests through to `app` that come by the address, and puts the headers on every answer.

    What the app sees as `path` begins with the token, which is its `root_path`: starlette's routes are written without
    it. An answer keeps a Content-Security-Policy of its own, and any other of the headers that it has set. A request
    with a body of over `most_bytes`, or that does not say how large it is, is refused before the app sees it. `policy`
    is for answers that have none of their own.
    """

    def __init__(self, app: App, address: Address, *, most_bytes: int = 0, policy: str = POLICY) -> None:
        self.app = app
        self.address = address
        self.most_bytes = most_bytes
        self._more = {"content-security-policy": policy} | _HEADERS

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # no WebSocket: what there is to say is asked for
            await send({"type": "websocket.close", "code": 1008})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = list(message.get("headers", ()))
                there = {name.lower() for name, _ in own}
                own += [(n.encode(), v.encode()) for n, v in self._more.items() if n.encode() not in there]
                message = {**message, "headers": own}
            await send(message)

        headers = {name.lower(): value for name, value in scope["headers"]}
        refused = self._refused(scope["path"], headers) or self._barred(scope["method"], headers)
        if refused:
            await _say(guarded, *refused)
            return
        await self.app({**scope, "root_path": f"/{self.address.token}"}, receive, guarded)

    def _refused(self, path: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Why whoever asks is not let in."""
        host, origin = headers.get(b"host", b""), headers.get(b"origin")
        if host != self.address.host.encode():
            return 403, f"There is no {_shown(host)} here. {_OPEN_ANEW}"
        token = path.split("/", 2)[1] if path.startswith("/") else ""
        # In constant time, so that it cannot be found by trying.
        if not secrets.compare_digest(token.encode("utf-8", "surrogateescape"), self.address.token.encode()):
            return 404, f"Not found. {_OPEN_ANEW}"
        if origin is not None and origin != self.address.origin.encode():
            return 403, f"A page of {_shown(origin)} may not ask here. {_OPEN_ANEW}"
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
            return 403, f"A page of another site may not ask here. {_OPEN_ANEW}"
        return None

    def _barred(self, method: str, headers: dict[bytes, bytes]) -> tuple[int, str] | None:
        """Why this is not done, or the body not read. The server itself holds a body to the length that was said."""
        if method not in ("GET", "HEAD", "POST"):
            return 405, f"{method[:20]} is nothing that can be asked here."
        if method == "POST" and b"origin" not in headers:
            return 403, f"A request without an origin may not ask here. {_OPEN_ANEW}"
        length = headers.get(b"content-length", b"" if method == "POST" else b"0")
        # Chunks are read whatever length is said beside them.
        if b"transfer-encoding" in headers or not length.isdigit():
            return 411, "A request has to say how long it is."
        if len(length) > 18 or int(length) > self.most_bytes:
            return 413, f"At most {self.most_bytes:,} bytes are taken."
        return None


def _shown(value: bytes) -> str:
    return repr(value[:80].decode("latin-1"))


async def _say(send: Send, status: int, sentence: str) -> None:
    """An answer of one line, after which the connection ends: a body that was sent is not read."""
    text = sentence.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(text)).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def serve(
    app: App,
    listener: socket.socket,
    *,
    work: Callable[[threading.Event], object] | None = None,
    ending: threading.Event | None = None,
) -> int:
    """Answer requests, each by `app` (a `Guard` around it), until SIGINT, SIGTERM, SIGHUP or `ending`; the listener is
    closed then. Returns the exit code that a shell gives for the signal, or 0.

    `work` runs in a thread meanwhile, and should return soon after the event that it gets is set; when it returns or
    raises by itself, serving ends too, and what it raised is raised here. Signals are taken in the main thread only.
    """
    import uvicorn

    class Server(uvicorn.Server):
        def capture_signals(self) -> Any:
            return nullcontext()  # they are taken below

    ended = ending if ending is not None else threading.Event()
    failed: list[BaseException] = []
    code = 0

    def working() -> None:
        try:
            assert work is not None
            work(ended)
        except BaseException as error:  # noqa: BLE001 - raised where serving was asked for
            failed.append(error)
        finally:
            ended.set()

    def end(number: int) -> None:
        nonlocal code
        code = 128 + number
        ended.set()

    async def whole() -> None:
        if threading.current_thread() is threading.main_thread():
            for number in ENDING:
                asyncio.get_running_loop().add_signal_handler(number, end, number)
        config = uvicorn.Config(
            app,
            access_log=False,
            log_config=None,
            ws="none",
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        server = Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not ended.is_set() and not serving.done():
            await asyncio.sleep(_TICK)
        server.should_exit = True
        await serving

    thread = threading.Thread(target=working, name="beside the server", daemon=True) if work else None
    before = {n: signal.getsignal(n) for n in ENDING}
    try:
        if thread:
            thread.start()
        asyncio.run(whole())
    finally:
        ended.set()
        listener.close()
        if threading.current_thread() is threading.main_thread():
            for n, handler in before.items():
                signal.signal(n, handler)
        if thread:
            thread.join()
    if failed:
        raise failed[0]
    return code
