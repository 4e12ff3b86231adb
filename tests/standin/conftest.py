"""The app's own Kotlin on the JVM, or a clear word why it cannot run here."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.standin.app import App
from tests.standin.build import Build, MissingPart, build


@pytest.fixture(scope="session")
def standin_build() -> Build:
    """The built app. Where its parts cannot be had, CI fails; elsewhere the summary says what to install."""
    try:
        return build()
    except MissingPart as missing:
        if os.environ.get("CI"):
            pytest.fail(str(missing), pytrace=False)
        pytest.skip(str(missing))


@pytest.fixture(scope="module")
def app(standin_build: Build, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    running = App(tmp_path_factory.mktemp("app"))
    yield running
    running.close()
