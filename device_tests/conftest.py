"""The SAM 2.1 image path for the tests on devices: converted once and cached, or of the files that `--models` names."""

from __future__ import annotations

from typing import NoReturn

import pytest

from harness.cli.sam2_options import DecoderWords, published_models
from harness.core.errors import HarnessError, UsageError
from harness.core.progress import SILENT
from harness.devices.cache import cache_folder
from harness.sam2.image_path.published import PublishedModels
from harness.sam2.image_path.workload import Workload, prepare, workload_of


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("sam2", "SAM 2.1 on devices")
    group.addoption(
        "--models",
        metavar="SOURCE",
        help="test_decoder.py and test_image_path.py on files: `published` or a folder; without torch (default: own)",
    )
    group.addoption("--variant", metavar="NAME", help="with --models: v1, v2 or the name of a decoder's file")


FILES = pytest.StashKey[PublishedModels | None]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """Find what `--models` names before the first test, where one wants it. Ends pytest with 4 where that cannot be."""
    config = session.config
    source, variant = config.getoption("--models"), config.getoption("--variant")
    wanted = any("files" in getattr(item, "fixturenames", ()) for item in session.items)
    try:
        if variant is not None and source is None:
            raise UsageError("--variant names one of the decoders of --models.", "Give --models, or leave it out.")
        found = published_models(source, DecoderWords(variant=variant), SILENT) if wanted else None
    except HarnessError as error:
        raise pytest.UsageError(f"--models {source}: {error}" if source else str(error)) from None
    config.stash[FILES] = found


@pytest.fixture(scope="session")
def files(request: pytest.FixtureRequest) -> PublishedModels | None:
    """What `--models` names; None where models are converted here."""
    return request.config.stash[FILES]


@pytest.fixture(scope="session")
def decoder(files: PublishedModels | None) -> Workload:
    """The mask decoder, the sample portrait's features and a tap on the face; random weights where none can be had."""
    return prepare(cache_folder() / "sam2") if files is None else workload_of(files)


def cannot(name: str, why: str) -> NoReturn:
    """Skip a test that a file is no model for, by the file's name."""
    pytest.skip(f"{name} {why}")
