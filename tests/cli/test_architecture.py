"""The shape of the package: imports go downward only, files stay readable, and nothing risky slips in."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import harness

PACKAGE = Path(harness.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# From the bottom up: rooms of one floor do not know each other, and a room may import from the floors below it.
FLOORS: tuple[tuple[str, ...], ...] = (
    ("core",),
    ("graph",),
    ("devices", "lint", "numerics", "remedies"),
    ("localize.base", "sam2.shared"),
    ("latency", "localize.probe", "report"),
    ("dashboard", "localize.explain", "localize.find"),
    ("api", "farm", "sam2.image_path", "sam2.video"),
    ("cli", "pytest_plugin"),
)

# Folders that only hold rooms.
FOLDERS_OF_ROOMS = frozenset({"localize", "sam2"})


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "__init__"


def room_of(module: str) -> str:
    """The folder of a module, of those that are divided the folder in it."""
    first, *rest = module.split(".")
    return f"{first}.{rest[0]}" if first in ("localize", "sam2") and rest else first


def floor_of(room: str) -> int:
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"harness.{room} has no place in FLOORS: give it one"
    return found[0]


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
            # `from harness.api import session` names modules, `from harness.core.errors import X` a module's content.
            inside = PACKAGE.joinpath(*base.split(".")[1:]) if base.split(".")[0] == "harness" else None
            for alias in node.names:
                is_module = inside is not None and (
                    (inside / f"{alias.name}.py").exists() or (inside / alias.name / "__init__.py").exists()
                )
                found.add(f"{base}.{alias.name}" if is_module else base)
    return {name.removeprefix("harness").lstrip(".") or "__init__" for name in found if name.split(".")[0] == "harness"}


@pytest.mark.parametrize("path", [f for f in FILES if f.parent != PACKAGE or f.stem == "pytest_plugin"], ids=module_of)
def test_imports_go_downward_only(path: Path) -> None:
    """Those inside functions too: a lazy import hides no circle."""
    room = room_of(module_of(path))
    if room in FOLDERS_OF_ROOMS:
        assert imports(path) <= {"__init__"}
        return
    others = {room_of(name) for name in imports(path)} - {room, "__init__"}
    assert {other for other in others if floor_of(other) >= floor_of(room)} == set()


def test_the_package_itself_hands_out_what_is_above_it_but_imports_nothing() -> None:
    assert imports(PACKAGE / "__init__.py", lazy=False) <= {"api.frames"}  # for type checkers


def test_no_module_needs_itself() -> None:
    graph = {module_of(path): imports(path) for path in FILES if module_of(path) != "__init__"}
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
    assert imports(PACKAGE / "devices" / "worker.py") == {"core.arrays", "devices.link"}
    assert imports(PACKAGE / "devices" / "link.py") == {"core.arrays", "core.safe_json"}
    assert imports(PACKAGE / "core" / "safe_json.py") == imports(PACKAGE / "core" / "arrays.py") == set()


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


def test_the_house_is_small_enough_to_know() -> None:
    rooms = {room_of(module_of(path)) for path in FILES} - FOLDERS_OF_ROOMS - {"__init__", "__main__"}
    assert rooms == {room for floor in FLOORS for room in floor}
    assert len(rooms) <= 20 and len(FLOORS) <= 8


def test_no_folder_has_more_than_fifteen_modules() -> None:
    folders = [path for path in PACKAGE.rglob("*") if path.is_dir()]
    counts = {str(f.relative_to(PACKAGE)): len([p for p in f.glob("*.py") if p.stem[:2] != "__"]) for f in folders}
    assert {name: count for name, count in counts.items() if count > 15} == {}
