"""The sample of mutants: which files, which tests, the same again by the same seed, and nothing that means the same."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from scripts.mutants import LONG, TESTS, Mutant, copied, drawn, mutated, places, run_tests, sources
from scripts.mutants import tests_of as concerning

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
    def test_every_file_that_is_mutated_has_tests_that_are_there(self) -> None:
        found = sources(ROOT)
        assert PART in found
        assert "harness/localize/localize.py" in found
        assert not [path for path in found if path.endswith("__init__.py")]
        for path in found:
            tests = concerning(path, ROOT)
            assert tests, path
            assert all((ROOT / test).is_file() for test in tests)
            assert len(set(tests)) == len(tests)

    def test_the_tests_named_like_a_file_come_first(self) -> None:
        tests = concerning("harness/localize/impact.py", ROOT)
        assert tests[0] == "tests/localize/test_impact.py"
        assert "tests/localize/test_localize.py" in tests
        assert "tests/numerics/test_metrics.py" in tests
        assert not [test for test in tests if test.startswith("tests/devices")]

    def test_single_files_among_the_tests_of_a_folder_are_run_too(self) -> None:
        assert "tests/localize/test_remedy.py" in concerning("harness/remedies/rescale.py", ROOT)
        assert concerning(PART, ROOT) == ["tests/latency/test_stats.py"]

    def test_long_tests_are_left_out_but_for_those_of_the_file_itself(self) -> None:
        own = "tests/localize/test_unsteady.py"
        assert concerning("harness/localize/unsteady.py", ROOT)[0] == own
        assert own not in concerning("harness/localize/impact.py", ROOT)
        for name in LONG:
            assert (ROOT / f"tests/localize/test_{name}.py").is_file()

    def test_a_file_that_is_not_mutated_has_none(self) -> None:
        with pytest.raises(ValueError, match="not enough values"):
            concerning("harness/cli/main.py", ROOT)
        assert all(not "harness/cli/main.py".startswith(prefix) for prefix in TESTS)


class TestDrawing:
    """With Cosmic Ray, which is an extra of its own."""

    @pytest.fixture(autouse=True)
    def cosmic_ray(self) -> None:
        pytest.importorskip("cosmic_ray")

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
        assert of_types == {(9, False), (12, False)}
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
        assert run_tests(self.tree(tmp_path, body), ["test_it.py"], 60) == ending

    def test_one_that_does_not_end_is_out_of_time(self, tmp_path: Path) -> None:
        body = "def test_it():\n    time.sleep(60)"
        assert run_tests(self.tree(tmp_path, body), ["test_it.py"], 3) == "out of time"

    def test_where_no_test_runs_there_is_nothing_to_say(self, tmp_path: Path) -> None:
        (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow: long\n", encoding="utf-8")
        body = "@pytest.mark.slow\ndef test_it():\n    pass"
        with pytest.raises(SystemExit, match=r"test_it\.py hold no test that runs here"):
            run_tests(self.tree(tmp_path, body), ["test_it.py"], 60)

    def test_the_copy_has_what_git_has_and_what_it_does_not_ignore(self, tmp_path: Path) -> None:
        copied(ROOT, tmp_path)
        assert (tmp_path / PART).read_bytes() == (ROOT / PART).read_bytes()
        assert (tmp_path / "tests/scripts/test_mutants.py").is_file()
        assert not (tmp_path / ".git").exists()
        assert not (tmp_path / ".venv").exists()
