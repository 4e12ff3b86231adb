"""The pytest plugin under its first name: `-p harness.pytest_plugin` loads `pytest_litert_harness`."""

from __future__ import annotations

import sys

import pytest

PLUGIN = "pytest_litert_harness"


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    """Load it, unless the package's entry point has done so."""
    if PLUGIN not in sys.modules or not pluginmanager.is_registered(sys.modules[PLUGIN]):
        pluginmanager.import_plugin(PLUGIN)
