"""Whether a server answers at all: a short look, where a fetch would wait and try again for much longer."""

from __future__ import annotations

import http.client
import threading
import urllib.error
import urllib.request


def does_answer(address: str, seconds: float) -> bool:
    """Whether anything answers for that address, a refusal too, within about that many seconds."""
    answered = threading.Event()

    def ask() -> None:
        try:
            request = urllib.request.Request(address, method="HEAD")
            urllib.request.urlopen(request, timeout=seconds).close()
        except urllib.error.HTTPError as refusal:
            refusal.close()
        except (OSError, ValueError, http.client.HTTPException):
            return
        answered.set()

    # Name resolution has no timeout of its own, hence the thread.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(seconds + 1)
    return answered.is_set()
