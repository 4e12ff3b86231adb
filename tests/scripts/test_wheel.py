"""The wheel that a stranger installs: built once from a copy of the sources, without a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("setuptools", minversion="77", reason="the build backend is not installed")

ROOT = Path(__file__).parents[2]
SOURCES = ["LICENSE", "README.md", "pyproject.toml", "pytest_litert_harness.py"]

pytestmark = pytest.mark.slow


def run(command: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=folder, env=kept | environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copy(ROOT / name, folder / name)
    shutil.copytree(ROOT / "harness", folder / "harness", ignore=shutil.ignore_patterns("__pycache__"))
    built = run([sys.executable, "-c", "from setuptools import build_meta; build_meta.build_wheel('dist')"], folder)
    assert built.returncode == 0, built.stderr
    said = [line for line in (built.stdout + built.stderr).splitlines() if "warning" in line.lower()]
    assert [line for line in said if "byte-compiling is disabled" not in line] == []
    (path,) = (folder / "dist").glob("*.whl")
    return path


def test_it_holds_every_file_of_the_package_and_no_other(wheel: Path) -> None:
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "harness").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == sources | {"pytest_litert_harness.py"}
    kinds = [
        "harness/py.typed",
        "harness/devices/profiles.toml",
        "/pinned/",
        "report/templates/",
        "dashboard/templates/",
    ]
    for kind in [*kinds, "localize/explain/templates/"]:
        assert any(kind in name for name in held), kind


def test_a_fresh_environment_answers(wheel: Path, tmp_path: Path) -> None:
    assert run([sys.executable, "-m", "venv", "fresh"], tmp_path).returncode == 0
    binaries = tmp_path / "fresh" / "bin"
    installed = run([str(binaries / "pip"), "install", "--no-index", "--no-deps", str(wheel)], tmp_path)
    assert installed.returncode == 0, installed.stderr
    # The dependencies are those of this environment; its editable install of the harness does not come with them.
    packages = sysconfig.get_paths()["purelib"]
    where = run(
        [str(binaries / "python"), "-c", "import harness; print(harness.__file__)"], tmp_path, PYTHONPATH=packages
    )
    assert where.stdout.startswith(str(tmp_path)), where.stdout + where.stderr
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    told = run([str(binaries / "harness"), "--version"], tmp_path, PYTHONPATH=packages)
    assert told.returncode == 0 and version in told.stdout, told.stderr
    asked = run([str(binaries / "harness"), "--help"], tmp_path, PYTHONPATH=packages)
    assert asked.returncode == 0 and "localize" in asked.stdout, asked.stderr
