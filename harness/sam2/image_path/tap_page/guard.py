"""Who may ask: the page that this address was given to, and nobody else.

A server on 127.0.0.1 is reached by every program of every user of the machine, and by every web page in the user's
browser. So the address holds a token; `Host` must be the address itself, which a name that somebody else's DNS points
here is not; and where a browser says which page asks (`Origin`, `Sec-Fetch-Site`), it must be this one. What is sent
here is small, and is not read further than that.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_BODY = 1 << 16
"""Bytes of a request's body: a tap of many points has a few thousand."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",  # the token is in the address
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

_OPEN_ANEW = "Open the address that `harness sam2 serve` printed."


class Guard:
    """Refuses requests that do not come from the page, and passes the others on without the token in their path."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
        given, _, rest = scope["path"].removeprefix("/").partition("/")
        refusal = self._refusal(scope["method"], headers, given)
        if refusal is not None:
            await PlainTextResponse(refusal[1] + "\n", refusal[0], HEADERS | {"Connection": "close"})(
                scope, receive, send
            )
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                have = {key.lower() for key, _ in message["headers"]}
                more = [(key.encode(), value.encode()) for key, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in more if pair[0].lower() not in have)]
            await send(message)

        inner: dict[str, Any] = {**scope, "path": f"/{rest}", "raw_path": f"/{rest}".encode()}
        await self._app(inner, receive, with_headers)

    def _refusal(self, method: str, headers: Mapping[str, str], given: str) -> tuple[int, str] | None:
        """Status and sentence, or None for a request that may pass."""
        host = headers.get("host", "")
        if host not in self._hosts:
            return 421, f"There is no {host[:80]!r} here. {_OPEN_ANEW}"
        # In constant time, so that it cannot be found by trying.
        if not secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode()):
            return 403, f"The address has no token, or an old one. {_OPEN_ANEW}"
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return 403, f"A page of {origin[:80]!r} may not ask here. {_OPEN_ANEW}"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, f"A page of another site may not ask here. {_OPEN_ANEW}"
        if method not in ("GET", "HEAD", "POST"):
            return 405, f"{method[:20]} is nothing that can be asked here."
        if method == "POST":
            if origin is None:
                return 403, f"A request without an origin may not ask here. {_OPEN_ANEW}"
            length = headers.get("content-length", "")
            # Chunks are read whatever length is said beside them.
            if not length.isdecimal() or "transfer-encoding" in headers:
                return 411, "A request has to say how long it is."
            if int(length) > MOST_BODY:
                return 413, f"A request of {int(length):,} bytes is too large: at most {MOST_BODY:,} are read."
        return None
