"""HTTP for a clip's page. `Guard` stands before it."""

from __future__ import annotations

from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from harness.core.errors import HarnessError, UsageError
from harness.sam2.image_path.tap_page.asked import (
    attachment,
    body_of,
    called,
    how_far,
    json_reply,
    page_file,
    sentence,
    tap_of,
    word_of,
)
from harness.sam2.image_path.tap_page.clip import MOST_OBJECTS, ClipDesk, Prompts
from harness.sam2.shared.clicks import Tap


class _Pages:
    def __init__(self, desk: ClipDesk) -> None:
        self._desk = desk

    async def page(self, request: Request) -> Response:
        request.path_params["name"] = "clip.html"
        return await page_file(request)

    async def state(self, request: Request) -> Response:
        return json_reply(self._desk.state())

    async def open(self, request: Request) -> Response:
        await body_of(request)
        return json_reply(self._desk.open().to_json())

    async def work(self, request: Request) -> Response:
        return how_far(self._desk.works, request)

    async def frame(self, request: Request) -> Response:
        content = await called(partial(self._desk.frame, request.path_params["number"]))
        return Response(content, media_type="image/jpeg")

    async def mask(self, request: Request) -> Response:
        told = request.path_params
        content = await called(partial(self._desk.mask, told["run"], told["object"], told["frame"]))
        return Response(content, 200 if content else 204, media_type="image/png")

    async def track(self, request: Request) -> Response:
        body = await body_of(request)
        return json_reply((await called(partial(self._desk.track, _prompts(body), word_of(body, "tab")))).to_json())

    async def download(self, request: Request) -> Response:
        told = request.path_params
        content, kind, name = await called(partial(self._desk.download, told["run"], told["kind"]))
        return attachment(content, kind, name)


def make_clip_app(desk: ClipDesk) -> Starlette:
    """The page and what it asks, without the guard."""
    pages = _Pages(desk)
    routes = [
        Route("/", pages.page),
        Route("/static/{name}", page_file),
        Route("/state", pages.state),
        Route("/open", pages.open, methods=["POST"]),
        Route("/work/{id}", pages.work),
        Route("/frame/{number:int}.jpg", pages.frame),
        Route("/track", pages.track, methods=["POST"]),
        Route("/tracked/{run}/mask/{object:int}/{frame:int}.png", pages.mask),
        Route("/tracked/{run}/{kind}", pages.download),
    ]
    return Starlette(routes=routes, exception_handlers={HarnessError: sentence})


def _prompts(body: dict[str, Any]) -> Prompts:
    """What a request asks, by frame and object, both as words of digits."""
    told = body.get("prompts")
    if not isinstance(told, dict):
        raise UsageError("The request has no prompts.")
    found: dict[int, dict[int, Tap]] = {}
    for frame, objects in told.items():
        if not isinstance(objects, dict):
            raise UsageError(f"The prompts of frame {frame[:20]!r} are no object.")
        taps = {_number(name, 1, MOST_OBJECTS): tap_of({"tap": tap}) for name, tap in objects.items()}
        if taps:
            found[_number(frame, 0, 10**6)] = taps
    return found


def _number(word: str, least: int, most: int) -> int:
    if not (word.isdecimal() and len(word) < 8 and least <= int(word) <= most):
        raise UsageError(f"{word[:20]!r} is no number from {least} to {most}.")
    return int(word)
