"""The server: on 127.0.0.1 alone, until it is told to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from harness.report.serving import Guard, listen

GRACE_SECONDS = 1
MOST_BODY = 1 << 16
"""Bytes of a request's body: a tap of many points has a few thousand."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
MOST_REQUESTS = 100
"""At one time."""


class _Server(uvicorn.Server):
    """Leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: ASGIApp, close: Callable[[], None], port: int, ready: Callable[[str], None], stopping: asyncio.Event
) -> None:
    """Serve a page until `stopping` is set; `ready` is told the address. `close` ends its devices before it returns.

    Raises:
        UsageError: the port is taken.
    """
    listener, address = listen(port)
    with listener:
        server = _Server(
            uvicorn.Config(
                Guard(app, address, most_bytes=MOST_BODY, policy=POLICY),
                loop="asyncio",
                http="h11",
                ws="none",
                lifespan="off",
                log_level="error",
                access_log=False,
                server_header=False,
                limit_concurrency=MOST_REQUESTS,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        serving = asyncio.ensure_future(server.serve([listener]))
        try:
            ready(address.url())
            await asyncio.wait((serving, asyncio.ensure_future(stopping.wait())), return_when="FIRST_COMPLETED")
        finally:
            server.should_exit = True
            # First the devices: what waits for them is answered by their end.
            await asyncio.get_running_loop().run_in_executor(None, close)
            await serving
