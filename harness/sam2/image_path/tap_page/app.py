"""HTTP for the page: what is asked of the desk, and the page's own files. `Guard` stands before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from harness.core.errors import HarnessError, UsageError
from harness.core.run_folder import to_json
from harness.sam2.image_path.tap_page.answers import SIDES, Answer, Kind, Side, comparison
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
from harness.sam2.image_path.tap_page.desk import Desk, Place, Question
from harness.sam2.image_path.tap_page.engine import Superseded
from harness.sam2.image_path.tap_page.photos import picture

REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; sandbox allow-scripts"
)
"""A report has its scripts in itself, known by their digests to a policy of its own. In a sandbox it is of no origin:
nothing in it can ask this server."""
_KINDS: dict[str, Kind] = {"mask.png": "mask", "cutout.png": "cutout"}


class _Pages:
    """The routes' functions, each a question to the desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def state(self, request: Request) -> Response:
        return json_reply(self._desk.state())

    async def photo(self, request: Request) -> Response:
        name = request.query_params.get("name", "")
        return Response(await called(lambda: picture(self._desk.photo(name))), media_type="image/jpeg")

    async def open(self, request: Request) -> Response:
        place = self._place(await body_of(request))
        return json_reply(self._desk.open(place).to_json())

    async def work(self, request: Request) -> Response:
        return how_far(self._desk.works, request)

    async def tap(self, request: Request) -> Response:
        body = await body_of(request)
        slot = (word_of(body, "tab"), word_of(body, "object"))
        question = Question(self._place(body), tap_of(body), slot)
        work = await called(lambda: self._desk.needs(question))
        if work is not None:
            return json_reply({"work": work.to_json()}, 202)
        return StreamingResponse(self._lines(question), media_type="application/x-ndjson")

    async def _lines(self, question: Question) -> AsyncIterator[bytes]:
        """A line for each side as soon as it is there, and one that compares them. On one machine the sides take turns:
        together each would measure the other."""
        found: dict[Side, Answer] = {}
        if self._desk.at_once(question.place):
            every = [asyncio.ensure_future(self._side(question, side)) for side in SIDES]
            for done in asyncio.as_completed(every):
                line, answer = await done
                if answer is not None:
                    found[answer.side] = answer
                yield line
        else:
            for side in SIDES:
                line, answer = await self._side(question, side)
                if answer is not None:
                    found[side] = answer
                yield line
        if len(found) == len(SIDES):
            yield _line({"comparison": await run_in_threadpool(comparison, found["device"], found["cpu"])})

    async def _side(self, question: Question, side: Side) -> tuple[bytes, Answer | None]:
        try:
            name, answer = await asyncio.wrap_future(self._desk.ask(question, side))
        except Superseded:
            return _line({"side": side, "superseded": True}), None
        except HarnessError as error:
            return _line({"side": side, "error": str(error)}), None
        told = await run_in_threadpool(answer.to_json)
        return _line(told | {"answer": name}), answer

    async def download(self, request: Request) -> Response:
        kind = _KINDS.get(request.path_params["kind"])
        if kind is None:
            raise UsageError("There is no such picture.", "Choose the mask or the cut-out.")
        made, name = await called(partial(self._desk.picture, request.path_params["answer"], kind))
        return attachment(made, "image/png", name)

    async def known_ops(self, request: Request) -> Response:
        decoder, back_end = (request.query_params.get(name, "") for name in ("decoder", "back_end"))
        tokens = request.query_params.get("tokens", "2")
        if not (tokens.isdecimal() and len(tokens) <= 3):
            raise UsageError(f"{tokens[:20]!r} is no number of tokens.")
        return json_reply({"found": await called(lambda: self._desk.known_ops(decoder, back_end, int(tokens)))})

    async def find_ops(self, request: Request) -> Response:
        body = await body_of(request)
        question = Question(self._place(body), tap_of(body))
        work = await called(lambda: self._desk.needs(question) or self._desk.find_ops(question))
        return json_reply(work.to_json())

    async def report(self, request: Request) -> Response:
        page = await called(lambda: self._desk.run_file(request.path_params["run"]))
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})

    def _place(self, body: dict[str, Any]) -> Place:
        return self._desk.place(word_of(body, "photo"), word_of(body, "decoder"), word_of(body, "back_end"))


def make_app(desk: Desk) -> Starlette:
    """The page and what it asks, without the guard."""
    pages = _Pages(desk)
    routes = [
        Route("/", page_file),
        Route("/static/{name}", page_file),
        Route("/state", pages.state),
        Route("/photo", pages.photo),
        Route("/open", pages.open, methods=["POST"]),
        Route("/work/{id}", pages.work),
        Route("/tap", pages.tap, methods=["POST"]),
        Route("/ops", pages.known_ops),
        Route("/ops", pages.find_ops, methods=["POST"]),
        Route("/run/{run}/report.html", pages.report),
        Route("/answer/{answer}/{kind}", pages.download),
    ]
    return Starlette(routes=routes, exception_handlers={HarnessError: sentence})


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(to_json(document)).encode() + b"\n"
