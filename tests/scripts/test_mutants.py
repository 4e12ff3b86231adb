"""The sample of mutants: which files, which tests, the same again by the same seed, and nothing that means the same."""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

import pytest

from scripts.mutants import (
    LONG,
    Mutant,
    copied,
    drawn,
    fast_tests,
    given,
    mutated,
    note_reached,
    places,
    run_tests,
    sources,
    statement,
)
from scripts.reached import Reached

ROOT = Path(__file__).parents[2]
PART = "harness/latency/stats.py"

CODE = '''"""A file."""

from __future__ import annotations

from dataclasses import dataclass

@dataclass(frozen=True)
class Kept:
    count: int | float = 1


def larger(a: int | float, b: int | float = 1) -> int | float:
    """The larger one."""
    return a if a > b else b
'''


class TestFiles:
    def test_every_file_that_is_mutated_is_there_and_every_test_that_may_notice(self) -> None:
        found = sources(ROOT)
        assert PART in found
        assert "harness/localize/find/localizer.py" in found
        assert not [path for path in found if path.endswith("__init__.py")]
        assert all((ROOT / path).is_file() for path in [*found, *fast_tests(ROOT)])

    def test_long_tests_are_left_out(self) -> None:
        tests = fast_tests(ROOT)
        assert "tests/localize/find/test_impact.py" in tests
        for name in LONG:
            (found,) = (ROOT / "tests" / "localize").rglob(f"test_{name}.py")
            assert str(found.relative_to(ROOT)) not in tests


class TestStatement:
    @pytest.mark.parametrize(
        ("line", "lines"),
        [
            (1, None),  # run at import
            (4, None),
            (5, None),
            (6, range(6, 9)),  # the head of a compound statement
            (7, range(6, 9)),
            (9, range(9, 10)),
            (10, range(10, 14)),
            (12, range(10, 14)),  # one statement on four lines
            (14, range(14, 15)),
        ],
    )
    def test_is_the_innermost_one_that_a_line_is_of(self, line: int, lines: range | None) -> None:
        code = (
            "A = 1\n\n\ndef f(\n    a: int = 2):\n    if (\n        a > 1\n    ):\n        a += 1\n"
            "    b = max(\n        a,\n        2,\n    )\n    return b\n"
        )
        assert statement(code, line) == lines


class TestGiven:
    CODE = "A = 1\n\n\ndef f():\n    return A\n\n\ndef g():\n    return 2\n\n\ndef h():\n    return 3\n"

    @staticmethod
    def given(line: int) -> tuple[list[str], list[str]]:
        tests = {"harness/devices/m.py": {5: {"tests/x.py::slow", "tests/x.py::quick"}, 9: {"tests/x.py::other"}}}
        seconds = {"tests/x.py::slow": 5.0, "tests/x.py::quick": 1.0, "tests/x.py::other": 2.0, "tests/x.py::long": 1e3,
                   "tests/y.py::far": 1.0, "tests/devices/z.py::near": 0.5}  # fmt: skip
        return given(Mutant("harness/devices/m.py", line, "core/AddNot", 0), TestGiven.CODE, Reached(tests, seconds))

    def test_the_tests_that_reach_it_come_first_the_quickest_of_them_ahead(self) -> None:
        assert self.given(5) == (["tests/x.py::quick", "tests/x.py::slow"], ["tests/x.py::other"])

    def test_what_runs_at_import_is_given_to_all_that_run_the_file(self) -> None:
        assert self.given(1)[0] == ["tests/x.py::quick", "tests/x.py::other", "tests/x.py::slow"]

    def test_what_only_other_processes_run_is_given_to_the_tests_of_its_folder_too(self) -> None:
        first = self.given(13)[0]
        assert first == ["tests/devices/z.py::near", "tests/x.py::quick", "tests/x.py::other", "tests/x.py::slow"]

    def test_no_test_is_given_beyond_the_time_there_is(self) -> None:
        assert "tests/x.py::long" not in [test for tests in self.given(5) for test in tests]


class TestReached:
    """The plugin, on a small tree."""

    @pytest.mark.parametrize("jobs", ["0", "2"])
    def test_each_line_has_the_tests_that_ran_it_and_none_that_failed(self, tmp_path: Path, jobs: str) -> None:
        copied(ROOT, tmp_path)
        shutil.rmtree(tmp_path / "harness")
        shutil.rmtree(tmp_path / "tests")
        (tmp_path / "harness").mkdir()
        (tmp_path / "conftest.py").unlink()
        (tmp_path / "harness/__init__.py").touch()
        (tmp_path / "harness/it.py").write_text("def f(a):\n    if a:\n        return 1\n    return 2\n", "utf-8")
        body = (
            "from harness.it import f\ndef test_a(): assert f(1) == 1\ndef test_b(): assert f(0) == 2\n"
            "def test_c(): assert f(0) == 3\n"
        )
        (tmp_path / "tests/graph").mkdir(parents=True)
        (tmp_path / "tests/graph/test_it.py").write_text(body, "utf-8")
        found = note_reached(tmp_path, tmp_path / "reached", jobs)
        a, b = "tests/graph/test_it.py::test_a", "tests/graph/test_it.py::test_b"
        assert found.seconds.keys() == {a, b}
        assert {n: found.of("harness/it.py", range(n, n + 1)) for n in (1, 2, 3, 4)} == {
            1: set(),
            2: {a, b},
            3: {a},
            4: {b},
        }
        assert found.of_file("harness/it.py") == {a, b}

    def test_where_nothing_passes_there_is_nothing_to_go_by(self, tmp_path: Path) -> None:
        (tmp_path / "tests").mkdir()
        with pytest.raises(SystemExit, match="No test passes"):
            note_reached(tmp_path, tmp_path / "reached", "0")


class TestDrawing:
    def test_one_seed_draws_the_same_mutants_and_another_one_others(self) -> None:
        first = drawn(ROOT, 3, 6, PART)
        assert len(first) == 6
        assert drawn(ROOT, 3, 6, PART) == first
        assert drawn(ROOT, 4, 6, PART) != first

    def test_a_larger_sample_begins_with_the_smaller_one(self) -> None:
        assert drawn(ROOT, 3, 6, PART)[:2] == drawn(ROOT, 3, 2, PART)

    def test_no_more_is_drawn_than_there_is_nor_from_other_files(self) -> None:
        assert drawn(ROOT, 0, 5, "no such file") == []
        assert {mutant.path for mutant, _ in drawn(ROOT, 0, 5, PART)} == {PART}

    def test_what_is_drawn_is_another_program_on_the_line_that_it_names(self) -> None:
        before = (ROOT / PART).read_text(encoding="utf-8").splitlines()
        for mutant, code in drawn(ROOT, 5, 8, PART):
            after = code.splitlines()
            assert ast.dump(ast.parse(code)) != ast.dump(ast.parse("\n".join(before)))
            assert after[: mutant.line - 1] == before[: mutant.line - 1]
            assert after[mutant.line - 1] != before[mutant.line - 1]

    def test_a_change_of_an_annotation_is_none(self) -> None:
        """The operands of `|` between types are text here, and no test could tell."""
        found = [mutant for _, mutant in places("f.py", CODE)]
        kinds = {(m.line, m.operator.removeprefix("core/"), mutated(m, CODE) is not None) for m in found}
        of_types = {(line, meant) for line, operator, meant in kinds if "BinaryOperator_BitOr" in operator}
        assert {meant for _, meant in of_types} == {False}
        changed = {line for line, _, meant in kinds if meant}
        assert changed == {7, 9, 12, 14}  # a decorator, a value, a default, a comparison

    def test_a_mutant_says_where_it_is_and_what_it_does(self) -> None:
        assert str(Mutant("f.py", 3, "core/AddNot", 0)) == "f.py:3 AddNot"


class TestRunning:
    """In a copy of the tree; the tree itself is left alone."""

    @staticmethod
    def tree(folder: Path, body: str) -> Path:
        (folder / "test_it.py").write_text(f"import pytest, time\n\n\n{body}\n", encoding="utf-8")
        return folder

    @pytest.mark.parametrize(
        ("body", "ending"),
        [
            ("def test_it():\n    assert True", "survived"),
            ("def test_it():\n    assert False", "killed"),
            ("def test_it(:\n    assert True", "killed"),
        ],
    )
    def test_a_mutant_is_killed_where_a_test_fails(self, tmp_path: Path, body: str, ending: str) -> None:
        tree = self.tree(tmp_path, body)
        assert run_tests(tree, ["test_it.py"], 60, tree / "test_it.py", "") == ending

    def test_one_that_does_not_end_is_out_of_time(self, tmp_path: Path) -> None:
        body = "def test_it():\n    time.sleep(60)"
        tree = self.tree(tmp_path, body)
        assert run_tests(tree, ["test_it.py"], 3, tree / "test_it.py", "") == "out of time"

    def test_one_that_pytest_itself_cannot_start_with_is_killed(self, tmp_path: Path) -> None:
        tree = self.tree(tmp_path, "def test_it():\n    assert True")
        changed = tree / "conftest.py"
        changed.write_text("import no_such_module\n", encoding="utf-8")
        assert run_tests(tree, ["test_it.py"], 60, changed, "import pytest\n") == "killed"
        assert changed.read_text(encoding="utf-8") == "import no_such_module\n"

    def test_a_test_that_is_not_there_without_the_mutant_either_ends_it_all(self, tmp_path: Path) -> None:
        tree = self.tree(tmp_path, "def test_it():\n    assert True")
        with pytest.raises(SystemExit, match=r"pytest ended with 4 on test_it\.py::test_other"):
            run_tests(tree, ["test_it.py::test_other"], 60, tree / "test_it.py", (tree / "test_it.py").read_text())

    def test_where_no_test_is_given_nothing_notices(self, tmp_path: Path) -> None:
        assert run_tests(tmp_path, [], 60, tmp_path / "test_it.py", "") == "survived"

    def test_the_copy_has_what_git_has_and_what_it_does_not_ignore(self, tmp_path: Path) -> None:
        copied(ROOT, tmp_path)
        assert (tmp_path / PART).read_bytes() == (ROOT / PART).read_bytes()
        assert (tmp_path / "tests/scripts/test_mutants.py").is_file()
        assert not (tmp_path / ".git").exists()
        assert not (tmp_path / ".venv").exists()
