"""Changes the code a little in many places, and sees whether the tests notice: `make mutants SEED=0 COUNT=20`.

A mutant is one operator of Cosmic Ray applied at one place. Places are drawn first and then what is done there, so that
one comparison counts as much as another, however many ways there are to change it. What leaves the code as it was, such
as a change of an annotation, is not drawn. Each mutant is written into a copy of the tree and run against the fast
tests that concern its module, those of its own file first; the tree itself is never touched. One that takes the tests
beyond their time counts as killed, and that is said.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

# What is mutated, and the tests that concern it beside its own.
TESTS: dict[str, tuple[str, ...]] = {
    "harness/localize": ("tests/localize", "tests/numerics"),
    "harness/numerics": ("tests/numerics", "tests/localize"),
    "harness/graph": ("tests/graph", "tests/remedies"),
    "harness/remedies": ("tests/remedies", "tests/localize/test_remedy.py"),
    "harness/devices": ("tests/devices",),
    "harness/latency/stats.py": ("tests/latency/test_stats.py",),
}
# They start processes or search for long: minutes each, and nothing that the others do not ask as well.
LONG = ("campaign", "kill", "old_release", "reference", "refused", "scale", "unsteady")
SECONDS = 290.0

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
    found = [root / p if p.endswith(".py") else root / p / "**/*.py" for p in TESTS]
    files = {f for pattern in found for f in root.glob(str(pattern.relative_to(root)))}
    return sorted(str(f.relative_to(root)) for f in files if f.name != "__init__.py")


def tests_of(path: str, root: Path) -> list[str]:
    """The tests that a file's mutants are run against, those named like it first."""
    (chosen,) = (tests for prefix, tests in TESTS.items() if path.startswith(prefix))
    own = f"tests/{Path(path).parent.name}/test_{Path(path).stem}.py"
    files = [str(f.relative_to(root)) for t in chosen for f in sorted((root / t).glob("test_*.py"))] or list(chosen)
    files += [t for t in chosen if t.endswith(".py") and t not in files]
    rest = [f for f in files if f != own and Path(f).stem.removeprefix("test_") not in LONG]
    return [own, *rest] if (root / own).exists() else rest


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


def run_tests(copy: Path, tests: list[str], seconds: float) -> Ending:
    """Whether the tests notice. Raises SystemExit where there were none."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    words = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", *words, *tests],
        cwd=copy, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        code = process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.wait()
        return "out of time"
    if code == 5:
        raise SystemExit(f"{' '.join(tests)} hold no test that runs here.")
    return "killed" if code else "survived"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--part", default="", help="only files whose path has this in it")
    chosen = parser.parse_args()
    root = Path(__file__).resolve().parent.parent
    mutants = drawn(root, chosen.seed, chosen.count, chosen.part)
    if not mutants:
        raise SystemExit(f"There is nothing to mutate in files named like '{chosen.part}'.")
    endings: list[tuple[Mutant, str, Ending]] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copy = Path(folder)
        copied(root, copy)
        healthy: dict[tuple[str, ...], Ending] = {}
        for mutant, code in mutants:
            tests = tests_of(mutant.path, root)
            key = tuple(sorted(tests))
            if key not in healthy:
                healthy[key] = run_tests(copy, tests, SECONDS)
            if healthy[key] != "survived":
                raise SystemExit(f"Without a mutant these fail, or take over {SECONDS:.0f} s: {' '.join(tests)}.")
            before = (copy / mutant.path).read_text(encoding="utf-8")
            (copy / mutant.path).write_text(code, encoding="utf-8")
            begun = time.monotonic()
            ending = run_tests(copy, tests, SECONDS)
            (copy / mutant.path).write_text(before, encoding="utf-8")
            print(f"{ending:<12} {time.monotonic() - begun:4.0f} s  {mutant}", flush=True)
            lines = difflib.unified_diff(before.splitlines(), code.splitlines(), mutant.path, "mutant", "", "", 1, "")
            endings.append((mutant, "\n".join(lines), ending))
    for _, difference, ending in endings:
        if ending == "survived":
            print(f"\n{difference}")
    counts = {word: sum(e == word for _, _, e in endings) for word in ("killed", "out of time", "survived")}
    print(f"\n{len(endings)} mutants, seed {chosen.seed}: " + ", ".join(f"{n} {word}" for word, n in counts.items()))


if __name__ == "__main__":
    main()
