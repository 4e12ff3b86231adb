"""The shape of the package: imports go downward only, files stay readable, and nothing risky slips in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import harness

PACKAGE = Path(harness.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up. A module may import from its own room and from lower ones; a file outranks its folder.
ROOMS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            "counted",
            "errors",
            "foreign_files",
            "foreign_json",
            "job",
            "private",
            "progress",
            "typed_json",
            "visible",
            "__init__",
        }
    ),
    frozenset({"devices.link"}),
    frozenset({"graph", "results"}),
    frozenset({"numerics", "inputs", "memory", "remedies", "lint", "devices.worker"}),
    frozenset({"devices"}),
    frozenset({"localize", "latency", "markup", "report", "sam2"}),
    frozenset({"dashboard"}),
    frozenset({"opening"}),
    frozenset({"commands", "doctor", "frames"}),
    frozenset({"bisect_runtime", "on_device", "terminal", "request_options"}),
    frozenset({"demo", "pytest_plugin"}),
    frozenset({"sam2_commands", "bench_command", "dashboard_command", "lint_command"}),
    frozenset({"sam2_video_commands"}),
    frozenset({"cli", "entry"}),
)


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


def rank(module: str) -> int:
    """The room of a module, found by its own name first and by its folder's then."""
    for name in (module, module.split(".")[0]):
        for number, room in enumerate(ROOMS):
            if name in room:
                return number
    raise AssertionError(f"harness.{module} has no place in ROOMS: give it one")


def imports(path: Path, *, lazy: bool = True) -> set[str]:
    """Modules of the package that a file imports: wherever in the file, or only when it is imported itself."""
    found: set[str] = set()
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree) if lazy else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} imports relatively"
            base = node.module or ""
            # `from harness import commands` names modules, `from harness.errors import X` names a module's content.
            inside = PACKAGE.joinpath(*base.split(".")[1:]) if base.split(".")[0] == "harness" else None
            for alias in node.names:
                is_module = inside is not None and (
                    (inside / f"{alias.name}.py").exists() or (inside / alias.name / "__init__.py").exists()
                )
                found.add(f"{base}.{alias.name}" if is_module else base)
    return {name.removeprefix("harness").lstrip(".") or "__init__" for name in found if name.split(".")[0] == "harness"}


@pytest.mark.parametrize("path", FILES, ids=[module_of(path) for path in FILES])
def test_imports_go_downward_only(path: Path) -> None:
    module = module_of(path)
    # The package's face hands out what lies above it, lazily: importing it must stay light.
    upward = {name for name in imports(path, lazy=module != "__init__") if rank(name) > rank(module)}
    assert upward == set()


def test_no_module_needs_itself_to_be_imported() -> None:
    graph = {module_of(path): imports(path, lazy=False) for path in FILES}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail, module))
        if module not in done:
            for name in sorted(graph.get(module, ())):
                visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_the_worker_imports_the_wire_and_nothing_else_of_the_package() -> None:
    assert imports(PACKAGE / "devices" / "worker.py") == {"devices.link"}
    assert imports(PACKAGE / "devices" / "link.py") == {"foreign_json"}
    assert imports(PACKAGE / "foreign_json.py") == set()


@pytest.mark.parametrize("path", FILES, ids=[module_of(path) for path in FILES])
def test_no_file_is_over_400_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 400


@pytest.mark.parametrize("path", FILES, ids=[module_of(path) for path in FILES])
def test_nothing_runs_a_shell_a_pickle_or_a_print(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & {"pickle", "marshal", "shelve", "dill"}
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in ("pickle", "marshal", "shelve", "dill")
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in ("print", "eval", "exec", "os.system", "os.popen"), f"{called} in line {node.lineno}"
        for keyword in node.keywords:
            on = not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
            assert not (keyword.arg in ("shell", "allow_pickle") and on), f"line {node.lineno}"
        if called.endswith("torch.load"):
            assert any(k.arg == "weights_only" for k in node.keywords), f"torch.load in line {node.lineno}"


def test_every_room_is_inhabited() -> None:
    modules = {module_of(path) for path in FILES} | {module_of(path).split(".")[0] for path in FILES}
    empty = {name for room in ROOMS for name in room if name not in modules}
    assert empty == set()
