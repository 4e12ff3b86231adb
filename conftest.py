"""The plugin comes by its entry point; nothing is needed for it here when the package is installed."""

from __future__ import annotations

import os

import pytest

STRICT = "HARNESS_STRICT"
"""Makes warnings errors: for CI and development with the locked packages. A newer package that warns of what it will
change one day is no fault of whoever runs the tests with it."""

FIRST = "HARNESS_TESTS_FIRST"
"""Files and folders whose tests come before all others, in this order, with blanks between: what takes longest."""
BETWEEN = "HARNESS_TESTS_BETWEEN"
"""A folder whose files come evenly between those of all others: its tests wait more than they compute."""

IGNORED = (
    # torch.export deep-copies a class that warns about itself; nothing here uses it.
    r"ignore:.isinstance\(treespec, LeafSpec\). is deprecated:FutureWarning:copyreg",
)


def pytest_configure(config: pytest.Config) -> None:
    # What is added last is looked at first.
    for line in (*(("error",) if os.environ.get(STRICT) else ()), *IGNORED):
        config.addinivalue_line("filterwarnings", line)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = os.environ.get(FIRST, "").split()

    def place(item: pytest.Item) -> int:
        return next((at for at, path in enumerate(first) if item.nodeid.startswith(path)), len(first))

    items.sort(key=place)
    between = os.environ.get(BETWEEN, "")
    files: tuple[dict[str, None], dict[str, None]] = {}, {}
    for item in items:
        files[bool(between) and item.nodeid.startswith(between)][_file(item)] = None
    share = {file: (at + 0.5) / len(half) for half in files for at, file in enumerate(half)}
    items.sort(key=lambda item: share[_file(item)])


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
