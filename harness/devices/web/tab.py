"""One page in a browser: shown, listened to, and closed. What its console says goes to a log."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from harness.devices.host.log_file import LogFile
from harness.devices.web.devtools import DevToolsClient, DevToolsError

ANSWER_SECONDS = 60.0
FENCE_SECONDS = 2.0
LONGEST_LINE = 8192
"""Characters of one message of the console that go to the log."""
_LEVELLED = re.compile(r"(?:INFO|WARNING|ERROR|FATAL): |[IWEF]\d{4} ")


class Tab:
    """From another thread, `ended` is called when the page has gone by itself, and `uncaught` with what it threw and
    did not catch."""

    def __init__(self, log: LogFile, ended: Callable[[], None], uncaught: Callable[[str], None]) -> None:
        self._log = log
        self._told_end, self._told_uncaught = ended, uncaught
        self._tools: DevToolsClient | None = None
        self._session = self._target = ""
        self._writing = threading.Lock()
        self.crash = ""
        """How the page's process ended, in a sentence, where it did."""

    def show(self, tools: DevToolsClient, address: str) -> None:
        """Open the page at that address. Raises DevToolsError."""
        self.crash = ""
        self._tools = tools
        made = tools.call("Target.createTarget", ANSWER_SECONDS, url="about:blank")
        self._target = str(made.get("targetId"))
        attached = tools.call("Target.attachToTarget", ANSWER_SECONDS, targetId=self._target, flatten=True)
        self._session = str(attached.get("sessionId"))
        for domain in ("Inspector", "Runtime", "Log", "Page"):
            tools.call(f"{domain}.enable", ANSWER_SECONDS, self._session)
        # Not on the command line, which every user of this machine can read.
        shown = tools.call("Page.navigate", ANSWER_SECONDS, self._session, url=address)
        if shown.get("errorText"):
            raise DevToolsError(f"it does not show its page ({str(shown['errorText'])[:100]})")

    def fence(self) -> None:
        """Wait until the log has all that the page's console said so far; in vain where the page is stuck or gone."""
        if self._tools is not None and not self.crash:
            with suppress(DevToolsError):
                self._tools.call("Runtime.evaluate", FENCE_SECONDS, self._session, expression="0")

    def close(self) -> None:
        """Close the page alone, where the browser stays; one that is stuck is closed by the browser in its own time."""
        if self._tools is not None and self._target:
            with suppress(DevToolsError):
                self._tools.call("Target.closeTarget", FENCE_SECONDS, targetId=self._target)
        self.forget()

    def forget(self) -> None:
        """There is no page any more."""
        self._tools, self._target, self._session, self.crash = None, "", "", ""

    def note(self, text: str) -> None:
        """Put words into the log."""
        self._say("info", text)

    def event(self, method: str, about: dict[str, Any]) -> None:
        """What the browser tells."""
        if method == "Runtime.consoleAPICalled":
            self._say(str(about.get("type")), " ".join(map(_value, _list(about.get("args")))))
        elif method == "Runtime.exceptionThrown":
            details = about.get("exceptionDetails")
            thrown = details if isinstance(details, dict) else {}
            exception = thrown.get("exception")
            said = exception.get("description") if isinstance(exception, dict) else thrown.get("text")
            self._say("error", f"uncaught: {said}")
            self._told_uncaught(str(said))
        elif method == "Log.entryAdded":
            entry = about.get("entry")
            if isinstance(entry, dict):
                self._say(str(entry.get("level")), str(entry.get("text")))
        elif method == "Inspector.targetCrashed" or self._is_of_mine(method, about):
            how = str(about.get("status") or "crashed")
            self.crash = self.crash or f"the page's process ended ({how})"
            self._told_end()

    def _is_of_mine(self, method: str, about: dict[str, Any]) -> bool:
        return method == "Target.targetCrashed" and about.get("targetId") in (self._target, None)

    def _say(self, level: str, text: str) -> None:
        known = _LEVELLED.match(text)
        told = {"error": "ERROR: ", "assert": "ERROR: ", "warning": "WARNING: "}.get(level, "INFO: ")
        line = (text if known else told + text)[:LONGEST_LINE].rstrip()
        with suppress(OSError), self._writing, self._log.path.open("ab") as log:  # a full disk ends no job
            log.write(line.encode("utf-8", "replace") + b"\n")


def _value(argument: Any) -> str:
    if not isinstance(argument, dict):
        return ""
    return str(argument.get("value", argument.get("description", argument.get("unserializableValue", ""))))


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
