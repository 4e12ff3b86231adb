"""The server: on 127.0.0.1 alone, until it is told to stop."""

from __future__ import annotations

import asyncio
import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from harness.core.errors import UsageError
from harness.sam2.image_path.tap_page.guard import Guard

HOST = "127.0.0.1"
GRACE_SECONDS = 1
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
    with listening(port) as listener:
        number, token = listener.getsockname()[1], secrets.token_urlsafe(24)
        server = _Server(
            uvicorn.Config(
                Guard(app, token, number),
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
            ready(f"http://{HOST}:{number}/{token}/")
            await asyncio.wait((serving, asyncio.ensure_future(stopping.wait())), return_when="FIRST_COMPLETED")
        finally:
            server.should_exit = True
            # First the devices: what waits for them is answered by their end.
            await asyncio.get_running_loop().run_in_executor(None, close)
            await serving


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket at that port; 0: at any that is free. Raises `UsageError` where it is taken."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise UsageError(
                f"Port {port} of {HOST} cannot be had ({error.strerror}).", "Give another, or 0 for any that is free."
            ) from None
        listener.listen()  # who is told the address is answered
        yield listener
