"""What the requests and answers of both pages share: bodies that are looked at before they are believed, the pages' own
files, and faults as sentences."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any, TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from harness.core import safe_json
from harness.core.errors import UsageError
from harness.core.run_folder import to_json
from harness.sam2.image_path.tap_page.work import Works
from harness.sam2.shared.clicks import MAX_POINTS, Tap

T = TypeVar("T")

TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_STATIC = files("harness.sam2.image_path.tap_page").joinpath("static")
_LONGEST_WORD = 300


async def page_file(request: Request) -> Response:
    """One of the page's own files."""
    name = request.path_params.get("name", "page.html")
    kind = TYPES.get(PurePosixPath(name).suffix)
    if kind is None or name not in {entry.name for entry in _STATIC.iterdir()}:
        return json_reply({"error": "There is no such file."}, 404)
    return Response(_STATIC.joinpath(name).read_bytes(), media_type=kind)


async def sentence(request: Request, error: Exception) -> Response:
    """A fault of the user's or the device's."""
    return json_reply({"error": str(error)}, 400 if isinstance(error, UsageError) else 503)


async def called(work: Callable[[], T]) -> T:
    """What `work` gives, in a thread."""
    return await run_in_threadpool(work)


async def body_of(request: Request) -> dict[str, Any]:
    """The request's object; the guard has seen to its size."""
    try:
        body = safe_json.loads(await request.body())
    except ValueError as error:
        raise UsageError(f"The request is no JSON ({error}).") from None
    if not isinstance(body, dict):
        raise UsageError("The request is no object.")
    return body


def word_of(body: dict[str, Any], name: str) -> str:
    """A short word of a request; empty where it has none. Raises `UsageError`."""
    word = body.get(name, "")
    if not isinstance(word, str) or len(word) > _LONGEST_WORD:
        raise UsageError(f"The request's {name!r} is no short word.")
    return word


def tap_of(body: dict[str, Any]) -> Tap:
    """A request's tap. Raises `UsageError` where it has none."""
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


def attachment(content: bytes, kind: str, name: str) -> Response:
    """A file to keep, of a media type. Of its name, what a header cannot hold is left out."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-._") else "_" for c in name)
    return Response(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{plain}"'})


def how_far(works: Works, request: Request) -> Response:
    """How far the piece of work is that a request names. Raises `UsageError` where it is forgotten."""
    work = works.of(request.path_params["id"])
    if work is None:
        raise UsageError("That work is no longer known.", "Load the page again.")
    return json_reply(work.to_json())


def json_reply(document: dict[str, Any], status: int = 200) -> Response:
    """A document."""
    return JSONResponse(to_json(document), status)
