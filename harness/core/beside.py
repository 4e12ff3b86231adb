"""Work in a thread beside the caller's own: what waits for another process goes on while this one computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

AGAIN_SECONDS = 0.5

Item = TypeVar("Item")
Result = TypeVar("Result")


# Its threads stay until this process ends: Linux ends a child that is to die with its parent when the thread ends that
# started it.
_THREADS = ThreadPoolExecutor(thread_name_prefix="beside")


@contextmanager
def beside(work: Callable[[], Result], abandon: Callable[[], None]) -> Iterator[Future[Result]]:
    """`work` in a thread while the block goes on. A block that ends by an exception, Ctrl-C too, calls `abandon`, which
    has to make `work` end soon, and waits for that; any other waits for its end."""
    future = _THREADS.submit(work)
    try:
        yield future
        wait([future])
    except BaseException:
        _end(future, abandon)
        raise


def one_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], abandon: Callable[[], None]
) -> Iterator[tuple[Item, Result]]:
    """Each item with what `work` makes of it, in their order. A thread works on the next one while the caller has the
    present one, so that two results are held at a time. `abandon` as in :func:`beside`, where the caller stops early.
    """
    before: tuple[Item, Future[Result]] | None = None
    try:
        for item in items:
            done = None if before is None else (before[0], before[1].result())
            before = item, _THREADS.submit(work, item)
            if done is not None:
                yield done
                del done
        if before is not None:
            yield before[0], before[1].result()
    except BaseException:
        if before is not None:
            _end(before[1], abandon)
        raise


def _end(future: Future[Result], abandon: Callable[[], None]) -> None:
    # Again and again: what is only about to start a process has none yet that could be ended.
    while not future.cancel() and not future.done():
        abandon()
        wait([future], AGAIN_SECONDS)
