"""The terminal itself: progress with the time left on stderr, sentences and documents on stdout; and how every command
ends. Light to import."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.errors import MarkupError
from rich.padding import Padding
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from harness.core.errors import (
    EXIT_DEVICE,
    EXIT_MISUSE,
    EXIT_OK,
    EXIT_UNRESOLVED,
    EXIT_WRONG,
    FREE_MEMORY,
    HarnessError,
    Trouble,
    UsageError,
)
from harness.core.markup import escape
from harness.core.progress import Progress as Listener
from harness.core.signals import ENDING
from harness.core.visible import visible
from harness.report import figures

if TYPE_CHECKING:
    import asyncio

# Longer than any path.
LONGEST_LINE = 8000

T = TypeVar("T")
_WORST_FIRST = (EXIT_WRONG, EXIT_UNRESOLVED, EXIT_DEVICE, EXIT_MISUSE)


class Screen(Console):
    """A console to which no name can give orders: control and formatting characters are shown as escapes, what is no
    markup is text, and a line has an end."""

    def render_str(self, text: str, **how: Any) -> Text:
        """Text with markup, each line's characters visible."""
        shown = "\n".join(figures.name(line, LONGEST_LINE) for line in text.split("\n"))
        try:
            return super().render_str(shown, **how)
        except MarkupError:
            return super().render_str(shown, **how | {"markup": False})


out = Screen(highlight=False, soft_wrap=True, emoji=False)
# A table is not broken to fit a narrow terminal; the terminal does that.
TABLE_WIDTH = 140
err = Screen(stderr=True, highlight=False, soft_wrap=True, emoji=False)


class ProgressBar:
    """Draws stages as bars: one that tells its share of work done by that, the others by the clock against a guess.

    A guess overrun slows the bar down rather than letting it stand at the end: it nears 100 % and never claims it.
    """

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("[progress.description]{task.description}"),
            BarColumn(28),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[left]}"),
            console=err,
            transient=err.is_terminal,
        )
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._task: Any = None
        self._began = self._expected = 0.0
        self._done: float | None = None
        self._ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> ProgressBar:
        self._ticker.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._finish(complete=kind is None)
        self._stop.set()
        self._ticker.join()
        if self._bars.tasks:
            self._bars.stop()

    def stage(self, what: str, expected_seconds: float) -> None:
        """A stage begins."""
        with self._lock:
            self._bars.start()  # not before: a fault that shows at once is told without an empty line for the bars
            self._finish(complete=True)
            self._began, self._expected, self._done = time.monotonic(), max(expected_seconds, 0.1), None
            self._task = self._bars.add_task(escape(what), total=1.0, left="")

    def note(self, sentence: str) -> None:
        """A sentence that stays."""
        err.print(escape(sentence))

    def fraction(self, done: float) -> None:
        """This share of the stage is done."""
        with self._lock:
            self._done = done

    def _finish(self, *, complete: bool) -> None:
        if self._task is not None:
            if complete:
                # A log needs no line for what took no time.
                seen = err.is_terminal or time.monotonic() - self._began >= 1
                self._bars.update(self._task, completed=1.0, left="", visible=seen)
            self._bars.stop_task(self._task)
            self._task = None

    def _tick(self) -> None:
        while not self._stop.wait(0.25):
            with self._lock:
                if self._task is None:
                    continue
                spent = time.monotonic() - self._began
                if self._done:
                    share, left = self._done, spent * (1 - self._done) / self._done
                else:
                    share = (
                        spent / self._expected if spent < 0.8 * self._expected else 1 - 0.16 * self._expected / spent
                    )
                    left = max(self._expected - spent, 0.0)
                text = f"about {left:.0f} s left" if left >= 1 else "almost done"
                self._bars.update(self._task, completed=min(share, 0.99), left=text if self._expected > 2 else "")


def say(sentence: str) -> None:
    """A sentence on stdout, broken at words where a person reads it and whole where a program does."""
    out.print(sentence, soft_wrap=not out.is_terminal)


def print_text(text: str) -> None:
    """A document on stdout: as it is for a program, with nothing that gives orders for a person."""
    sys.stdout.write("\n".join(map(visible, text.split("\n"))) if sys.stdout.isatty() else text)


def print_json(document: dict[str, Any]) -> None:
    """One JSON document on stdout."""
    from harness.core.run_folder import to_json

    sys.stdout.write(json.dumps(to_json(document), indent=1) + "\n")


def answers(
    subjects: Sequence[tuple[str, Callable[[Listener], T]]],
    *,
    as_json: bool,
    document: Callable[[T], dict[str, Any]],
    show: Callable[[T], None],
    code: Callable[[T], int],
) -> None:
    """As `answer`, for several subjects by name: one that cannot be asked does not keep the others from it. The
    document has all under `models`; the code is 1 where any is wrong, else 4, 3 or 2 where any ends with that."""
    if len(subjects) == 1:
        answer(subjects[0][1], as_json=as_json, document=document, show=show, code=code)
    documents: list[dict[str, Any]] = []
    codes: set[int] = set()
    for number, (name, work) in enumerate(subjects):
        if not as_json:
            out.print(("\n" if number else "") + f"[bold]{escape(name)}[/]")
        try:
            with ProgressBar() as progress:
                found = work(progress)
        except (HarnessError, MemoryError) as fault:
            error = fault if isinstance(fault, HarnessError) else no_memory(fault)
            print_error(error)
            documents.append({"status": "failed", "error": str(error), "model": {"path": name}})
            codes.add(error.exit_code)
            continue
        except BaseException:
            if as_json and documents:  # what is known is not lost with the rest
                print_json({"schema": 1, "status": "failed", "error": "Interrupted.", "models": documents})
                sys.stdout.flush()
                _end_stdout()
            raise
        codes.add(code(found))
        if as_json:
            documents.append({"model": {"path": name}} | document(found))
        else:
            show(found)
    if as_json:
        print_json({"schema": 1, "models": documents})
    raise typer.Exit(worst_code(codes))


def worst_code(codes: Collection[int]) -> int:
    """The code of a command that asked for several answers: 1 where any is wrong, else 4, 3 or 2 where any ends so."""
    return next((each for each in _WORST_FIRST if each in codes), EXIT_OK)


def no_memory(error: MemoryError) -> UsageError:
    """A want of memory that no estimate foresaw, in a sentence."""
    why = str(error)[:200].rstrip(".") or "none was left"
    return UsageError(f"This machine's memory does not suffice ({why}).", FREE_MEMORY)


def indented(markup: str, columns: int) -> None:
    """A paragraph, broken at words where a person reads it and whole where a program does."""
    if out.is_terminal:
        out.print(Padding.indent(out.render_str(markup), columns), soft_wrap=False)
    else:
        out.print(" " * columns + markup)


def print_error(error: HarnessError) -> None:
    """A fault of the user's or the device's, in a sentence with the next step."""
    err.print(f"[red]{escape(error.message)}[/] {escape(error.next_step)}".rstrip())


def print_failure(sentence: str, words: Sequence[str] | None = None, trouble: Trouble | None = None) -> None:
    """The document that a command leaves when it cannot do what it was asked, where `words`, by default the process's,
    ask for one. `trouble`: what device trouble it was, where it was that."""
    if "--json" in (sys.argv[1:] if words is None else words):
        try:
            more = {"trouble": trouble} if trouble is not None else {}
            print_json({"schema": 1, "status": "failed", "error": sentence} | more)
            sys.stdout.flush()
        except BrokenPipeError:  # the exit code is what is left to tell
            _end_stdout()


def _end_stdout() -> None:
    """Nothing more is said on stdout: whoever read it is gone, or has the last document."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def answer(
    work: Callable[[Listener], T],
    *,
    as_json: bool,
    show: Callable[[T], None],
    document: Callable[[T], dict[str, Any]] = lambda found: found.to_json(),  # type: ignore[attr-defined]
    code: Callable[[T], int] = lambda _: EXIT_OK,
) -> None:
    """Do the work, tell its answer (as `document`, by default its own JSON, or by `show`), and end with its code.
    Errors of the user's and the device's pass through."""
    with ProgressBar() as progress:
        found = work(progress)
    if as_json:
        print_json(document(found))
    else:
        show(found)
    raise typer.Exit(code(found))


def until_ended(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> NoReturn:
    """Run `work`, which ends soon after the event is set, until a signal; the exit code is then the one that a shell
    gives it."""
    import asyncio

    code = EXIT_OK

    async def whole() -> None:
        stopping, loop = asyncio.Event(), asyncio.get_running_loop()

        def end(number: int) -> None:
            nonlocal code
            code = 128 + number
            stopping.set()

        for number in ENDING:
            loop.add_signal_handler(number, end, number)
        await work(stopping)

    asyncio.run(whole())
    raise typer.Exit(code)
