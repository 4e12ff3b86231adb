"""Work that takes seconds or minutes, done in a thread; pages ask how far it is, any number of them."""

from __future__ import annotations

import secrets
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any

from harness.core.errors import HarnessError

MOST_KEPT = 64


class Work:
    """One piece of work; hears of its stages as a `Progress`."""

    def __init__(self, key: object) -> None:
        self.key, self.id = key, secrets.token_hex(8)
        self.result: Any = None
        self.error = ""
        self.done = False
        self._stage, self._expected = "", 1.0
        self._fraction: float | None = None
        self._began = time.monotonic()

    def stage(self, what: str, expected_seconds: float) -> None:
        """A stage begins."""
        self._stage, self._expected, self._fraction = what, max(expected_seconds, 0.1), None
        self._began = time.monotonic()

    def fraction(self, done: float) -> None:
        """This share of the stage is done."""
        self._fraction = done

    def note(self, sentence: str) -> None:
        """Nothing: the page has no place for it."""

    def to_json(self) -> dict[str, Any]:
        """How far it is. `share` nears 1 by the clock where the stage tells none, and never reaches it."""
        spent = time.monotonic() - self._began
        share = self._fraction if self._fraction is not None else 1 - 1 / (1 + spent / self._expected)
        told = {"id": self.id, "stage": self._stage, "seconds": spent, "share": min(max(share, 0.0), 0.99)}
        if not self.done:
            return told
        return told | ({"error": self.error} if self.error else {"result": self.result})


class Works:
    """Pieces of work by their key: who asks for what is being done already is given that."""

    def __init__(self) -> None:
        self._every: dict[str, Work] = {}
        self._lock = threading.Lock()

    def begin(self, key: object, do: Callable[[Work], Any]) -> Work:
        """The work of that key that is being done, else a new one."""
        with self._lock:
            for work in self._every.values():
                if work.key == key and not work.done:
                    return work
            work = Work(key)
            self._every[work.id] = work
            for old in [w.id for w in self._every.values() if w.done][: max(len(self._every) - MOST_KEPT, 0)]:
                del self._every[old]
        threading.Thread(target=_do, args=(work, do), name=f"work {work.id}", daemon=True).start()
        return work

    def of(self, identity: str) -> Work | None:
        """The work of that id, while it is kept."""
        return self._every.get(identity)


def _do(work: Work, do: Callable[[Work], Any]) -> None:
    try:
        work.result = do(work)
    except HarnessError as error:
        work.error = str(error)
    except (CancelledError, MemoryError) as error:
        work.error = f"It was ended ({type(error).__name__})."
    except Exception as error:  # noqa: BLE001 - ours: the page says so, the terminal has the traceback
        traceback.print_exc()
        work.error = f"A defect of the harness ({type(error).__name__}); the terminal has its traceback."
    finally:
        work.done = True
