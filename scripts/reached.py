"""A pytest plugin that notes which tests reach each line of the harness, and how long each takes.

`pytest -p scripts.reached` with the environment's `REACHED` set to a folder, where every process of the run leaves one
file. Only tests that passed are noted. What a fixture runs counts for the first test that asked for it; lines that
run while modules are imported count for no test.
"""

from __future__ import annotations

import json
import os
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

FOLDER = "REACHED"


@dataclass
class Reached:
    """Of each file and line, the tests that ran it; of each test, its seconds, set-up included."""

    tests: dict[str, dict[int, set[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Reached:
        """What all processes noted. Raises OSError or ValueError."""
        made = cls()
        for file in sorted(folder.glob("*.json")):
            noted = json.loads(file.read_text(encoding="utf-8"))
            made.seconds.update(noted["seconds"])
            for path, lines in noted["lines"].items():
                held = made.tests.setdefault(path, {})
                for line, numbers in lines.items():
                    passed = {noted["tests"][n] for n in numbers} & noted["seconds"].keys()
                    held.setdefault(int(line), set()).update(passed)
        return made

    def of(self, path: str, lines: range) -> set[str]:
        """The tests that ran one of these lines."""
        held = self.tests.get(path, {})
        return set().union(*(held.get(line, ()) for line in lines))

    def of_file(self, path: str) -> set[str]:
        """The tests that ran any line of the file."""
        return set().union(*self.tests.get(path, {}).values())

    def quickest(self, tests: set[str], seconds: float) -> list[str]:
        """As many of them as fit, those that take the least time first."""
        chosen, total = [], 0.0
        for test in sorted(tests, key=lambda t: (self.seconds[t], t)):
            total += self.seconds[test]
            if total > seconds:
                break
            chosen.append(test)
        return chosen


class _Noting:
    def __init__(self, folder: Path, root: Path) -> None:
        import coverage

        self._folder, self._root = folder, root
        self._coverage = coverage.Coverage(data_file=None, source=[str(root / "harness")], config_file=False)
        self._coverage.start()
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self._coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            self._coverage.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid] = self._seconds.get(report.nodeid, 0.0) + report.duration
        if report.outcome != "passed":
            self._failed.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._coverage.stop()
        data = self._coverage.get_data()
        tests = sorted(data.measured_contexts())
        numbers = {test: n for n, test in enumerate(tests)}
        lines = {
            str(Path(file).relative_to(self._root)): {
                line: [numbers[test] for test in those if test] for line, those in data.contexts_by_lineno(file).items()
            }
            for file in data.measured_files()
        }
        passed = {test: round(s, 3) for test, s in self._seconds.items() if test not in self._failed}
        noted = json.dumps({"tests": tests, "lines": lines, "seconds": passed})
        (self._folder / f"{os.getpid()}.json").write_text(noted, encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """In each process of the run; one that only hands out tests to others has nothing to note."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    config.pluginmanager.register(_Noting(Path(os.environ[FOLDER]), config.rootpath), "reached-noting")
