"""Changes the code a little in many places, and sees whether the tests notice: `make mutants SEED=0 COUNT=20`.

A mutant is one operator of Cosmic Ray applied at one place. Places are drawn first and then what is done there, so that
one comparison counts as much as another, however many ways there are to change it. What leaves the code as it was, such
as a change of an annotation, is not drawn. Each mutant is written into a copy of the tree, which the fast tests pass
once before while `scripts.reached` notes which lines each of them reaches: a mutant is given to the tests that reach
its statement, the quickest first, and, where those pass, to the others of their files. The tree itself is never
touched. One that takes the tests far beyond their time counts as killed, and that is said. `--reached` keeps the notes
for the next run on the same code, and for others beside it, each with a `--share` of the mutants.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from scripts.reached import FOLDER, Reached

# What is mutated.
MUTATED = ("localize", "numerics", "graph", "remedies", "devices", "latency/stats.py")
# What may notice, and what takes minutes or needs a browser and asks nothing that the others do not ask as well.
TESTS = (
    "localize",
    "numerics",
    "graph",
    "remedies",
    "devices",
    "latency",
    "core",
    "standin",
    "api",
    "cli",
    "report",
    "lint",
)
LONG = ("campaign", "kill", "old_release", "refused", "scale", "unsteady")
# Of the tests that a mutant is given to, as they took it in the first run, and of the rest of their files.
SECONDS = 150.0
# The tests may take so much longer than they did then, before they count as not ending.
PATIENCE = 4.0
START = 60.0
# For all tests once.
FIRST_SECONDS = 7200.0

Ending = Literal["killed", "out of time", "survived"]


@dataclass(frozen=True)
class Mutant:
    """One operator of Cosmic Ray at one place of a file: its `occurrence`th there."""

    path: str
    line: int
    operator: str
    occurrence: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line} {self.operator.removeprefix('core/')}"


def sources(root: Path) -> list[str]:
    """The files that are mutated."""
    found = [
        f
        for p in MUTATED
        for f in ([root / "harness" / p] if p.endswith(".py") else (root / "harness" / p).rglob("*.py"))
    ]
    return sorted(str(f.relative_to(root)) for f in found if f.name != "__init__.py")


def fast_tests(root: Path) -> list[str]:
    """The files of the tests that may notice."""
    found = [f for folder in TESTS for f in (root / "tests" / folder).rglob("test_*.py")]
    return sorted(str(f.relative_to(root)) for f in found if f.stem.removeprefix("test_") not in LONG)


def statement(code: str, line: int) -> range | None:
    """The lines of the innermost statement that holds a line, of a compound one its head; None where it is run while
    the module is imported."""
    found: list[tuple[ast.stmt, bool]] = []

    def look(node: ast.AST, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt) and child.lineno <= line <= (child.end_lineno or child.lineno):
                found.append((child, inside))
            look(child, inside or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    look(ast.parse(code), False)
    if not found or not found[-1][1]:
        return None
    held = found[-1][0]
    body = getattr(held, "body", None)
    return range(held.lineno, body[0].lineno if body else (held.end_lineno or held.lineno) + 1)


def given(mutant: Mutant, code: str, reached: Reached) -> tuple[list[str], list[str]]:
    """The tests that reach a mutant, and the others of their files, each the quickest first. One that is run in other
    processes alone is given to those that run its file and to those of its folder."""
    lines = statement(code, mutant.line)
    first = reached.of(mutant.path, lines) if lines else reached.of_file(mutant.path)
    if not first:
        room = f"tests/{Path(mutant.path).parent.relative_to('harness').as_posix()}/"
        first = reached.of_file(mutant.path) | {test for test in reached.seconds if test.startswith(room)}
    files = {test.partition("::")[0] for test in first}
    others = {test for test in reached.seconds if test.partition("::")[0] in files} - first
    return reached.quickest(first, SECONDS), reached.quickest(others, SECONDS)


def places(path: str, code: str) -> Iterator[tuple[tuple[int, int], Mutant]]:
    """Every mutant of a file with where it is."""
    from cosmic_ray.ast import get_ast
    from cosmic_ray.plugins import get_operator, operator_names

    def nodes(node: Any) -> Iterator[Any]:
        yield node
        for child in getattr(node, "children", ()):
            yield from nodes(child)

    every = list(nodes(get_ast(code)))
    for name in sorted(operator_names()):
        kind = get_operator(name)
        if kind.arguments():
            continue  # one that is to be told what to replace
        operator = kind()
        found = [start for node in every for start, _ in operator.mutation_positions(node)]
        yield from ((start, Mutant(path, start[0], name, i)) for i, start in enumerate(found))


def mutated(mutant: Mutant, code: str) -> str | None:
    """The changed code; None where it means the same."""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    changed = mutate_code(code, get_operator(mutant.operator)(), mutant.occurrence)
    if changed is None or _meaning(changed) in (_meaning(code), None):
        return None
    return str(changed)


def _meaning(code: str) -> str | None:
    """The code without what no interpreter looks at: annotations, which are text here. None where it is no Python."""

    class Bare(ast.NodeTransformer):
        def visit_arg(self, node: ast.arg) -> ast.arg:
            node.annotation = None
            return node

        def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
            node.returns = None
            return self.generic_visit(node)

        def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
            node.annotation = ast.Constant("")
            return self.generic_visit(node)

    try:
        return ast.dump(Bare().visit(ast.parse(code)))
    except SyntaxError:
        return None


def drawn(root: Path, seed: int, count: int, part: str) -> list[tuple[Mutant, str]]:
    """Mutants and their code, by seed."""
    rng = random.Random(seed)
    by_place: dict[tuple[str, tuple[int, int]], list[Mutant]] = {}
    codes = {path: (root / path).read_text(encoding="utf-8") for path in sources(root) if part in path}
    for path, code in codes.items():
        for start, mutant in places(path, code):
            by_place.setdefault((path, start), []).append(mutant)
    order = sorted(by_place)
    rng.shuffle(order)
    chosen: list[tuple[Mutant, str]] = []
    for place in order:
        if len(chosen) == count:
            break
        mutant = rng.choice(by_place[place])
        changed = mutated(mutant, codes[mutant.path])
        if changed is not None:
            chosen.append((mutant, changed))
    return chosen


def copied(root: Path, to: Path) -> None:
    """What git has and what it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)


def pytest(copy: Path, words: list[str], seconds: float, **variables: str) -> int | None:
    """The exit code of pytest on the copy; None where it did not end in time."""
    # A mutant may leave temporary files without number.
    scratch = copy.parent / f"{copy.name}-tmp"
    scratch.mkdir(exist_ok=True)
    environment = {
        **os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(scratch), **variables,
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu", *words]
    process = subprocess.Popen(
        command, cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def run_tests(copy: Path, tests: list[str], seconds: float, changed: Path, before: str) -> Ending:
    """Whether the tests notice; where there are none, they do not. `changed` is the mutated file, and `before` what it
    held."""
    if not tests:
        return "survived"
    listed = copy / ".chosen-tests"
    listed.write_text("\n".join(tests), encoding="utf-8")
    code = pytest(copy, ["-x", f"@{listed}"], seconds)
    if code in (3, 4, 5):  # pytest's own words: a defect of it, a test that is not there, none at all
        # A mutant that a plugin or a conftest.py cannot import ends so too.
        after = changed.read_text(encoding="utf-8")
        changed.write_text(before, encoding="utf-8")
        if pytest(copy, ["--collect-only", f"@{listed}"], START + seconds) != 0:
            raise SystemExit(f"pytest ended with {code} on {listed.read_text(encoding='utf-8')[:200]}.")
        changed.write_text(after, encoding="utf-8")
    return "out of time" if code is None else "killed" if code else "survived"


def note_reached(copy: Path, folder: Path, jobs: str) -> Reached:
    """Run the fast tests once. Raises SystemExit where none passes."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob("*.json")):
        pytest(copy, ["-p", "scripts.reached", "-n", jobs, *fast_tests(copy)], FIRST_SECONDS, **{FOLDER: str(folder)})
    reached = Reached.read(folder)
    if not reached.seconds:
        raise SystemExit("No test passes on the code as it is: make test says why.")
    return reached


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--part", default="", help="only files whose path has this in it")
    parser.add_argument("--reached", type=Path, help="a folder for what is noted of the tests, used again if it has it")
    parser.add_argument("--share", default="1/1", metavar="I/N", help="the Ith of N shares of what is drawn, from 1 on")
    chosen = parser.parse_args()
    share = re.fullmatch(r"([1-9]\d?)/([1-9]\d?)", chosen.share)
    if share is None or int(share[1]) > int(share[2]):
        parser.error(f"--share {chosen.share} is no I/N")
    root = Path(__file__).resolve().parent.parent
    mutants = drawn(root, chosen.seed, chosen.count, chosen.part)[int(share[1]) - 1 :: int(share[2])]
    if not mutants:
        raise SystemExit(f"There is nothing to mutate in files named like '{chosen.part}'.")
    endings: list[Ending] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder) / "tree"
        copied(root, copy)
        print("the tests run once on the code as it is, which takes minutes", flush=True)
        reached = note_reached(copy, chosen.reached or Path(folder) / "reached", os.environ.get("JOBS") or "2")
        print(f"{len(reached.seconds)} tests pass", flush=True)
        for mutant, code in mutants:
            before = (copy / mutant.path).read_text(encoding="utf-8")
            (copy / mutant.path).write_text(code, encoding="utf-8")
            begun = time.monotonic()
            ending: Ending = "survived"
            for tests in given(mutant, before, reached):
                if ending == "survived":
                    seconds = START + PATIENCE * sum(reached.seconds[t] for t in tests)
                    ending = run_tests(copy, tests, seconds, copy / mutant.path, before)
            (copy / mutant.path).write_text(before, encoding="utf-8")
            print(f"{ending:<12} {time.monotonic() - begun:4.0f} s  {mutant}", flush=True)
            if ending == "survived":
                lines = before.splitlines(), code.splitlines()
                print(*difflib.unified_diff(*lines, mutant.path, "mutant", "", "", 1, ""), sep="\n", flush=True)
            endings.append(ending)
    counts = {word: endings.count(word) for word in ("killed", "out of time", "survived")}
    print(f"\n{len(endings)} mutants, seed {chosen.seed}: " + ", ".join(f"{n} {word}" for word, n in counts.items()))


if __name__ == "__main__":
    main()
