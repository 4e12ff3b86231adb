"""Work in a thread beside the caller's own: what waits for another process goes on while this one computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

AGAIN_SECONDS = 0.5

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def beside(work: Callable[[], Result], abandon: Callable[[], None]) -> Iterator[Future[Result]]:
    """`work` in a thread while the block goes on. A block that ends by an exception, Ctrl-C too, calls `abandon`, which
    has to make `work` end soon, and waits for that."""
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(work)
        try:
            yield future
        except BaseException:
            _end([future], abandon)
            raise


def one_ahead(
    work: Callable[[Item], Result], items: Iterable[Item], abandon: Callable[[], None]
) -> Iterator[tuple[Item, Result]]:
    """Each item with what `work` makes of it, in their order. A thread works on the next one while the caller has the
    present one, so that two results are held at a time. `abandon` as in :func:`beside`, where the caller stops early.
    """
    with ThreadPoolExecutor(1) as thread:
        asked: deque[tuple[Item, Future[Result]]] = deque()
        try:
            for item in items:
                asked.append((item, thread.submit(work, item)))
                if len(asked) > 1:
                    yield asked[0][0], asked[0][1].result()
                    asked.popleft()
            if asked:
                yield asked[0][0], asked[0][1].result()
        except BaseException:
            _end([future for _, future in asked], abandon)
            raise


def _end(futures: Sequence[Future[Result]], abandon: Callable[[], None]) -> None:
    for future in reversed(futures):  # what waits must not begin once the one before it has ended
        future.cancel()
    # Again and again: what is only about to start a process has none yet that could be ended.
    while not all(future.done() for future in futures):
        abandon()
        wait(futures, AGAIN_SECONDS)
