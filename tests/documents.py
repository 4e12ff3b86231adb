"""Every JSON document that the package prints or writes under a test has the form that its schema says.

`watch` stands between: it sees what commands print, in this process and in others, and what is saved by the package
itself. What a test makes up is its own affair.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

import harness
from harness.core.run_folder import RunFolder
from harness.localize.probe.journal.log import Journal
from harness.report import schemas

PACKAGE = str(Path(harness.__file__).parent)
# Of one test: some continue a search hundreds of times, and the hundredth record is no other kind of document.
MOST_SAVED = 100
# Where the package writes a document through `write_bytes`.
_WRITERS = ("cli.sam2_video", "sam2.image_path.click", "sam2.video.contract", "sam2.video.track")
_CONTEXT = import_module(typer.Context.__mro__[1].__module__.rpartition(".")[0] + ".globals")


@functools.cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(schemas.schema(name))


@functools.cache
def _places() -> tuple[dict[str, str], dict[str, str]]:
    """The schema of what each command prints, by its last word, and of each file, by its name."""
    told = schemas.catalogue()
    printed = {_key(command): entry["name"] for entry in told for command in entry["commands"]}
    return printed, {Path(file).name: entry["name"] for entry in told for file in entry["files"]}


def _key(command: str) -> str:
    """A command's last word; of the farm's, which has a `run` of its own, both."""
    return command if command.startswith("farm ") else command.split()[-1]


def check(name: str, document: Any) -> None:
    """Fail where a document is not as its schema says."""
    error = best_match(validator(name).iter_errors(document))
    if error is not None:
        pytest.fail(f"schema {name}, at {error.json_path}: {error.message[:600]}")


def check_printed(command: str, document: dict[str, Any]) -> None:
    """What `harness COMMAND --json` printed; `command` is its last word, or `farm …`."""
    failed = document.get("status") == "failed" and "models" not in document
    printed = _places()[0]
    assert failed or command in printed, f"what `{command}` prints has no schema in harness/schemas/"
    check("failure" if failed else printed[command], document)


def check_file(path: Path) -> None:
    """A file that holds one document."""
    check(_places()[1][path.name], json.loads(path.read_text("utf-8")))


def check_run(folder: Path) -> None:
    """The record of a run, and every line of its journal."""
    check_file(folder / "run.json")
    journal = folder / "journal" / "log"
    for line in journal.read_bytes().splitlines() if journal.exists() else ():
        check("journal-line", json.loads(line.partition(b" ")[2]))


def documents(text: str) -> Iterator[Any]:
    """Every document of a stream of them."""
    at, decoder = 0, json.JSONDecoder()
    while text[at:].strip():
        found, at = decoder.raw_decode(text, at + len(text[at:]) - len(text[at:].lstrip()))
        yield found


def check_stdout(words: Sequence[str], text: str) -> list[dict[str, Any]]:
    """The documents that `harness WORDS` printed, once they are checked; none where it was not asked for any."""
    told = list(documents(text)) if "--json" in words else []
    for document in told:
        check_printed(command_of(words), document)
    return told


def words_of(command: Any) -> list[str]:
    """The words behind `python -m harness`; none where that is not what is run."""
    if not isinstance(command, list | tuple):
        return []
    words = [str(word) for word in command]
    at = next(
        (i for i, word in enumerate(words[:-1]) if word == "-m" and words[i + 1] in ("harness", "harness.cli")), -2
    )
    return words[at + 2 :]


def command_of(words: Sequence[str]) -> str:
    """`track` of `sam2 track …`, `runs` of `runs …`, `farm run` of `farm run …`."""
    if words[:1] == ["farm"]:
        return " ".join(words[:2])
    return words[1] if words[:1] == ["sam2"] and len(words) > 1 else words[0] if words else ""


def _asked_by_a_test(besides: str) -> bool:
    """Whether the caller of the function that asks is a test; frames of the module `besides` are passed over."""
    frame = sys._getframe(2)
    while frame.f_back and frame.f_code.co_filename.endswith((besides, "contextlib.py")):
        frame = frame.f_back
    return not frame.f_code.co_filename.startswith(PACKAGE)


def watch(patch: pytest.MonkeyPatch) -> None:
    """Check every document from now on."""
    _watch_stdout(patch)
    _watch_files(patch)


def _watch_stdout(patch: pytest.MonkeyPatch) -> None:
    from harness.cli import screen

    printing, communicate = screen.print_json, subprocess.Popen.communicate

    def print_json(document: dict[str, Any]) -> None:
        context = _CONTEXT.get_current_context(silent=True)
        printing(document)
        from harness.core.run_folder import to_json

        names = [each.info_name for each in (context.parent, context) if each] if context else [""]
        check_printed(command_of(names) if names[0] == "farm" else names[-1], to_json(document))

    def communicated(process: Any, *words: Any, **more: Any) -> Any:
        out, err = communicate(process, *words, **more)
        asked = words_of(process.args)
        if out and process.returncode is not None and process.returncode >= 0:
            check_stdout(asked, out if isinstance(out, str) else out.decode())
        return out, err

    patch.setattr(screen, "print_json", print_json)
    patch.setattr(subprocess.Popen, "communicate", communicated)


def _watch_files(patch: pytest.MonkeyPatch) -> None:
    save, append, left = RunFolder.save, Journal.append, iter(range(MOST_SAVED))

    def saved(run: RunFolder, **fields: Any) -> None:
        save(run, **fields)
        if _asked_by_a_test("run_folder.py"):
            vars(run)["made_up"] = True
        elif "made_up" not in vars(run) and next(left, None) is not None:
            check_file(run.path / "run.json")

    def appended(journal: Journal, entry: str, **fields: Any) -> None:
        append(journal, entry, **fields)
        if not _asked_by_a_test("log.py") and next(left, None) is not None:
            check("journal-line", json.loads(json.dumps({"entry": entry, "utc": "", **fields})))

    patch.setattr(RunFolder, "save", saved)
    patch.setattr(Journal, "append", appended)
    for name in _WRITERS:
        module = sys.modules.get(f"harness.{name}")
        if module is not None and hasattr(module, "write_bytes"):
            patch.setattr(module, "write_bytes", _checked(module.write_bytes))
    explaining = sys.modules.get("harness.localize.explain.remedy_trials")
    if explaining is not None:
        write = explaining._write_chain

        def write_chain(folder: Path, chain: Any) -> None:
            write(folder, chain)
            check_file(folder / "chain.json")

        patch.setattr(explaining, "_write_chain", write_chain)


def _checked(write: Callable[[Path, Any], None]) -> Callable[[Path, Any], None]:
    def written(path: Path, content: Any) -> None:
        write(path, content)
        if path.suffix == ".json":
            check_file(path)

    return written
