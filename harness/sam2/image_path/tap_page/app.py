"""HTTP for the page: what is asked of the desk, and the page's own files. `Guard` stands before it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from harness.core import safe_json
from harness.core.errors import HarnessError, UsageError
from harness.core.run_folder import to_json
from harness.sam2.image_path.tap_page.answers import SIDES, Answer, Kind, Side, comparison
from harness.sam2.image_path.tap_page.desk import Desk, Place, Question
from harness.sam2.image_path.tap_page.engine import Superseded
from harness.sam2.image_path.tap_page.photos import picture
from harness.sam2.shared.clicks import MAX_POINTS, Tap

T = TypeVar("T")

TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
}
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; sandbox allow-scripts"
)
"""A report has its scripts in itself, known by their digests to a policy of its own. In a sandbox it is of no origin:
nothing in it can ask this server."""
_STATIC = files("harness.sam2.image_path.tap_page").joinpath("static")
_KINDS: dict[str, Kind] = {"mask.png": "mask", "cutout.png": "cutout"}
_LONGEST_WORD = 300


class _Pages:
    """The routes' functions, each a question to the desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def state(self, request: Request) -> Response:
        return _json(self._desk.state())

    async def photo(self, request: Request) -> Response:
        name = request.query_params.get("name", "")
        return Response(await _called(lambda: picture(self._desk.photo(name))), media_type="image/jpeg")

    async def open(self, request: Request) -> Response:
        place = self._place(await _body(request))
        return _json(self._desk.open(place).to_json())

    async def work(self, request: Request) -> Response:
        work = self._desk.works.of(request.path_params["id"])
        if work is None:
            raise UsageError("That work is no longer known.", "Load the page again.")
        return _json(work.to_json())

    async def tap(self, request: Request) -> Response:
        body = await _body(request)
        slot = (_word(body, "tab"), _word(body, "object"))
        question = Question(self._place(body), _tap(body), slot)
        work = await _called(lambda: self._desk.needs(question))
        if work is not None:
            return _json({"work": work.to_json()}, 202)
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
        made, name = await _called(partial(self._desk.picture, request.path_params["answer"], kind))
        # The name is a file's: what a header cannot hold is left out of it.
        plain = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "_" for c in name)
        return Response(
            made, media_type="image/png", headers={"Content-Disposition": f'attachment; filename="{plain}"'}
        )

    async def known_ops(self, request: Request) -> Response:
        decoder, back_end = (request.query_params.get(name, "") for name in ("decoder", "back_end"))
        tokens = request.query_params.get("tokens", "2")
        if not (tokens.isdecimal() and len(tokens) <= 3):
            raise UsageError(f"{tokens[:20]!r} is no number of tokens.")
        return _json({"found": await _called(lambda: self._desk.known_ops(decoder, back_end, int(tokens)))})

    async def find_ops(self, request: Request) -> Response:
        body = await _body(request)
        question = Question(self._place(body), _tap(body))
        work = await _called(lambda: self._desk.needs(question) or self._desk.find_ops(question))
        return _json(work.to_json())

    async def report(self, request: Request) -> Response:
        page = await _called(lambda: self._desk.run_file(request.path_params["run"]))
        return Response(page, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})

    def _place(self, body: dict[str, Any]) -> Place:
        return self._desk.place(_word(body, "photo"), _word(body, "decoder"), _word(body, "back_end"))


def make_app(desk: Desk) -> Starlette:
    """The page and what it asks, without the guard."""
    pages = _Pages(desk)
    routes = [
        Route("/", _file),
        Route("/static/{name}", _file),
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
    return Starlette(routes=routes, exception_handlers={HarnessError: _sentence})


async def _file(request: Request) -> Response:
    name = request.path_params.get("name", "page.html")
    kind = TYPES.get(PurePosixPath(name).suffix)
    if kind is None or name not in {entry.name for entry in _STATIC.iterdir()}:
        return _json({"error": "There is no such file."}, 404)
    return Response(_STATIC.joinpath(name).read_bytes(), media_type=kind)


async def _sentence(request: Request, error: Exception) -> Response:
    return _json({"error": str(error)}, 400 if isinstance(error, UsageError) else 503)


async def _called(work: Callable[[], T]) -> T:
    return await run_in_threadpool(work)


async def _body(request: Request) -> dict[str, Any]:
    """The request's object; the guard has seen to its size."""
    try:
        body = safe_json.loads(await request.body())
    except ValueError as error:
        raise UsageError(f"The request is no JSON ({error}).") from None
    if not isinstance(body, dict):
        raise UsageError("The request is no object.")
    return body


def _word(body: dict[str, Any], name: str) -> str:
    word = body.get(name, "")
    if not isinstance(word, str) or len(word) > _LONGEST_WORD:
        raise UsageError(f"The request's {name!r} is no short word.")
    return word


def _tap(body: dict[str, Any]) -> Tap:
    told = body.get("tap")
    if not isinstance(told, dict):
        raise UsageError("The request has no tap.")
    box = told.get("box")
    left, top, right, bottom = _numbers(box, 4) if box is not None else (0.0,) * 4
    edges = None if box is None else (left, top, right, bottom)
    return Tap(_points(told.get("positive", [])), _points(told.get("negative", [])), edges)


def _points(told: Any) -> tuple[tuple[float, float], ...]:
    if not isinstance(told, list) or len(told) > MAX_POINTS:
        raise UsageError(f"A tap's points are a list of at most {MAX_POINTS}.")
    return tuple((x, y) for x, y in (_numbers(point, 2) for point in told))


def _numbers(told: Any, count: int) -> tuple[float, ...]:
    if (
        not isinstance(told, list)
        or len(told) != count
        or not all(isinstance(n, int | float) and not isinstance(n, bool) and abs(n) < 1e9 for n in told)
    ):
        raise UsageError(f"A place in a photo is {count} numbers.")
    return tuple(float(n) for n in told)


def _json(document: dict[str, Any], status: int = 200) -> Response:
    return JSONResponse(to_json(document), status)


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(to_json(document)).encode() + b"\n"
