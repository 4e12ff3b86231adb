"""An environment's files are those that were installed, or it is said which is not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.devices.host.installed import damage, record

PACKAGE = "lib/python3.11/site-packages/ai_edge_litert"
LIBRARY = f"{PACKAGE}/libLiteRt.so"
COMPILED = f"{PACKAGE}/__pycache__/__init__.cpython-311.pyc"


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A tree as an installation leaves it: a library, code and its compiled form, links to a program and a folder."""
    folder = tmp_path / "environment"
    (folder / "bin").mkdir(parents=True)
    (tmp_path / "python3").write_text("a program")
    (folder / "bin" / "python").symlink_to(tmp_path / "python3")
    library = folder / LIBRARY
    library.parent.mkdir(parents=True)
    (folder / "lib64").symlink_to("lib")
    library.write_bytes(bytes(range(256)) * 4096)
    (library.parent / "__init__.py").write_text("")
    (library.parent / "__pycache__").mkdir()
    (folder / COMPILED).write_bytes(b"compiled")
    record(folder, tmp_path / "files.json")
    return folder


def truncate(folder: Path) -> None:
    os.truncate(folder / LIBRARY, 4096)


def flip(folder: Path) -> None:
    """One bit, with size and times as they were."""
    path = folder / LIBRARY
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def lose(folder: Path) -> None:
    (folder / LIBRARY).unlink()


def shadow(folder: Path) -> None:
    (folder / LIBRARY).with_name("numpy.py").write_text("")


def compile_otherwise(folder: Path) -> None:
    (folder / COMPILED).write_bytes(b"otherwise")


def lead_elsewhere(folder: Path) -> None:
    (folder / "bin" / "python").unlink()
    (folder / "bin" / "python").symlink_to("/bin/sh")


def replace_by_folder(folder: Path) -> None:
    lose(folder)
    (folder / LIBRARY).mkdir()


def replace_by_pipe(folder: Path) -> None:
    lose(folder)
    os.mkfifo(folder / LIBRARY)


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (truncate, f"{LIBRARY} is not as it was installed"),
        (flip, f"{LIBRARY} is not as it was installed"),
        (lose, f"{LIBRARY} is missing"),
        (shadow, f"{PACKAGE}/numpy.py was not installed with it"),
        (compile_otherwise, f"{COMPILED} is not as it was installed"),
        (lead_elsewhere, "bin/python is not as it was installed"),
        (replace_by_folder, f"{LIBRARY} is missing"),
        (replace_by_pipe, f"{LIBRARY} is not as it was installed"),
    ],
)
def test_what_is_not_as_it_was_is_named(environment: Path, harm: Callable[[Path], None], said: str) -> None:
    assert damage(environment, environment.with_name("files.json")) == ""
    harm(environment)
    assert damage(environment, environment.with_name("files.json")) == said


def test_a_python_that_is_gone_from_the_machine_is_damage(environment: Path, tmp_path: Path) -> None:
    (tmp_path / "python3").unlink()
    said = damage(environment, tmp_path / "files.json")
    assert said == f"{environment / 'bin' / 'python'} cannot be read (No such file or directory)"


def test_code_compiled_later_for_other_options_is_no_damage(environment: Path, tmp_path: Path) -> None:
    (environment / COMPILED).with_name("__init__.cpython-311.opt-1.pyc").write_bytes(b"compiled")
    assert damage(environment, tmp_path / "files.json") == ""


@pytest.mark.parametrize("name", [".DS_Store", f"{PACKAGE}/.DS_Store", "bin/.nfs000000000123"])
def test_what_file_browsers_and_file_systems_leave_is_no_damage(environment: Path, tmp_path: Path, name: str) -> None:
    (environment / name).write_bytes(b"")
    assert damage(environment, tmp_path / "files.json") == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "there is no record of its files"),
        ("", "the record of its files cannot be read (Expecting value: line 1 column 1 (char 0))"),
        ("[]", "the record of its files is none"),
        ("{}", "bin/python was not installed with it"),
    ],
)
def test_without_its_record_an_environment_is_not_believed(
    environment: Path, tmp_path: Path, content: str | None, said: str
) -> None:
    file = tmp_path / "files.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert damage(environment, file) == said


def test_an_environment_that_is_gone_is_damage(tmp_path: Path) -> None:
    (tmp_path / "files.json").write_text("{}")
    said = damage(tmp_path / "environment", tmp_path / "files.json")
    assert said == f"{tmp_path / 'environment'} cannot be read (No such file or directory)"
