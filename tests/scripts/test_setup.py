"""`scripts/setup.sh` in a folder of its own, with a Python and a uv that write down what they are asked."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import InvalidRequirement, Requirement

from scripts.torch_build import build_of, main

ROOT = Path(__file__).parents[2]
TORCH = "torch==2.13.0"
CPU, CUDA = "2.13.0+cpu, 2.13.0, 2.12.1", "2.13.0, 2.12.1+cpu, 2.12.1"

# Takes the words that the script uses and no others.
PYTHON = """#!/bin/bash
case "$*" in
--version) echo "Python 3.12.0" ;;
"-c "*) ;;
"-m venv --clear "*) rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
*/vulkan_adapter.py) echo "an adapter: suits" ;;
*/torch_build.py\\ *) exec "$REAL_PYTHON" -c "$HIDE_TORCH" "$@" ;;
"-m pip index versions torch") [[ -n "$OFFERED" ]] && printf 'torch (2.14.1)\\nAvailable versions: %s\\n' "$OFFERED" ;;
"-m pip install "*)
    while [[ $# -gt 0 ]]; do
        case "$1" in
        -c | --target) shift ;;
        -m | pip | install | -e) ;;
        *) echo "pip $1" >>"$ASKED"; [[ "$1" != "${REFUSED:-}" ]] || exit 1 ;;
        esac
        shift
    done ;;
"-m pip check") ;;
*) echo "unknown: $*" >>"$ASKED"; exit 99 ;;
esac
"""
# The script in question, in a Python that has no torch.
HIDE_TORCH = """
import importlib.metadata, runpy, sys
real = importlib.metadata.version
def version(name):
    if name == "torch": raise importlib.metadata.PackageNotFoundError(name)
    return real(name)
importlib.metadata.version = version
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
UV = """#!/bin/bash
case "$*" in
"pip install --help") echo "--torch-backend" ;;
"pip install --python "*"/.venv/bin/python --no-deps --torch-backend cpu $WANTED_TORCH")
    echo "uv $WANTED_TORCH" >>"$ASKED"; [[ -z "${NO_CPU_BUILD:-}" ]] ;;
*) echo "unknown: uv $*" >>"$ASKED"; exit 99 ;;
esac
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the part about builds for CUDA is Linux's")


class Checkout:
    """A folder with the script and what it reads."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "checkout"
        for name in ("scripts/setup.sh", "scripts/torch_build.py", "requirements/locked.txt", "pyproject.toml"):
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)
        self.asked = folder / "asked"
        tools = folder / "tools"
        tools.mkdir()
        for name, script in (("python", PYTHON), ("uv", UV), ("java", ""), ("npm", "")):
            (tools / name).write_text(script, "utf-8")
            (tools / name).chmod(0o755)
        self.env = {
            "PATH": f"{tools}:/usr/bin:/bin",
            "PYTHON": str(tools / "python"),
            "REAL_PYTHON": sys.executable,
            "HARNESS_SYSTEM_PACKAGES": "no",
            "ASKED": str(self.asked),
            "OFFERED": CPU,
            "HIDE_TORCH": HIDE_TORCH,
            "WANTED_TORCH": TORCH,
            "HOME": str(folder),
        }

    def run(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(self.root / "scripts/setup.sh"), *words],
            env=self.env | env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def installed(self, *words: str, **env: str) -> list[str]:
        """What one run that ends well asks to be installed, with the checkout as `.`."""
        self.asked.write_text("", "utf-8")
        done = self.run(*words, **env)
        assert done.returncode == 0, done.stdout + done.stderr
        return self.asked.read_text("utf-8").replace(str(self.root), ".").splitlines()


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


LIGHT = ["pip ."]
CONVERT = [*LIGHT, f"pip {TORCH}", "pip .[sam2]"]
ALL = [*LIGHT, f"pip {TORCH}", "pip .[sam2,model-explorer,farm,docs,dev]"]


@pytest.mark.parametrize(("words", "wanted"), [([], LIGHT), (["light"], LIGHT), (["convert"], CONVERT), (["all"], ALL)])
def test_each_part_installs_what_it_is_for_and_the_second_time_nothing(
    checkout: Checkout, words: list[str], wanted: list[str]
) -> None:
    assert checkout.installed(*words) == wanted
    assert checkout.installed(*words) == []


@pytest.mark.parametrize(
    ("first", "then", "wanted"),
    [
        ("light", "convert", CONVERT[1:]),
        ("light", "all", ALL[1:]),
        ("convert", "light", []),
        ("convert", "all", ALL[1:]),
        ("all", "light", []),
        ("all", "convert", []),
    ],
)
def test_a_smaller_part_after_a_larger_one_changes_nothing(
    checkout: Checkout, first: str, then: str, wanted: list[str]
) -> None:
    checkout.installed(first)
    assert checkout.installed(then) == wanted
    assert checkout.installed(first) == [], "what was there is there"


def test_what_a_change_of_the_packages_left_behind_is_made_up_for_by_the_part_that_needs_it(checkout: Checkout) -> None:
    checkout.installed("all")
    with (checkout.root / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# another\n")
    assert checkout.installed("light") == LIGHT
    assert checkout.installed("all") == ALL[1:]


def test_another_torch_is_nothing_to_the_light_part(checkout: Checkout) -> None:
    checkout.installed("all")
    other = {"HARNESS_TORCH": "torch>=2.14", "OFFERED": "2.14.0+cpu, 2.13.0"}
    assert checkout.installed("light", **other) == []
    assert checkout.installed("convert", **other) == ["pip torch>=2.14", "pip .[sam2]"]
    assert checkout.installed("convert") == CONVERT[1:]


def test_a_run_that_failed_is_no_set_up(checkout: Checkout) -> None:
    checkout.installed("all")
    with (checkout.root / "pyproject.toml").open("a", encoding="utf-8") as file:
        file.write("# another\n")
    assert checkout.run("all", REFUSED=str(checkout.root)).returncode == 1
    (checkout.root / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    assert checkout.installed("light") == LIGHT, "of the packages before, nobody knows what is left"
    assert checkout.run("all", REFUSED=f"{checkout.root}[sam2,model-explorer,farm,docs,dev]").returncode == 1
    assert checkout.installed("light") == [], "what failed was no part of it"
    assert checkout.installed("all") == ALL[1:]


def test_the_cpu_build_is_asked_for_where_pip_would_take_the_one_for_cuda(checkout: Checkout) -> None:
    assert checkout.installed("convert", OFFERED=CUDA) == [*LIGHT, f"uv {TORCH}", f"pip {TORCH}", "pip .[sam2]"]


def test_a_build_for_cuda_is_not_taken_unasked_for_the_demo(checkout: Checkout) -> None:
    done = checkout.run("convert", OFFERED=CUDA, NO_CPU_BUILD="yes")
    assert done.returncode == 1
    assert "HARNESS_TORCH_BUILD=any make demo" in done.stderr and "MODELS=FOLDER" in done.stderr
    assert f"pip {TORCH}" not in checkout.asked.read_text("utf-8")
    asked = checkout.installed("convert", OFFERED=CUDA, NO_CPU_BUILD="yes", HARNESS_TORCH_BUILD="any")
    assert asked == CONVERT[1:]


def test_for_the_tests_any_build_will_do_and_that_is_said(checkout: Checkout) -> None:
    done = checkout.run("all", OFFERED=CUDA, NO_CPU_BUILD="yes")
    assert done.returncode == 0 and "going on with the build for CUDA, 3 GB to download" in done.stdout
    asked = checkout.asked.read_text("utf-8").replace(str(checkout.root), ".").splitlines()
    assert asked == [*LIGHT, f"uv {TORCH}", *ALL[1:]]


def test_a_part_that_there_is_not_is_refused(checkout: Checkout) -> None:
    done = checkout.run("torch")
    assert (done.returncode, done.stdout) == (2, "")
    assert "there is no part torch: light, convert or all" in done.stderr
    assert not (checkout.root / ".venv").exists()


def test_a_torch_that_nobody_offers_is_a_sentence(checkout: Checkout) -> None:
    done = checkout.run("all", OFFERED="2.9.1, 2.9.0")
    assert done.returncode == 1
    assert f"pip finds no {TORCH}: HARNESS_TORCH='torch>=2.13' make develop takes another release" in done.stderr


@pytest.mark.parametrize(
    ("wanted", "installed", "offered", "build"),
    [
        ("torch==2.13.0", None, "2.13.0+cpu, 2.13.0", "cpu"),
        ("torch==2.13.0", None, "2.14.1, 2.13.0, 2.12.0+cpu", "unmarked"),
        ("torch==2.13.0", None, "2.13.0+cu130, 2.13.0", "unmarked"),
        ("torch>=2.13", None, "2.14.1, 2.13.0+cpu", "unmarked"),
        ("torch>=2.13", None, "2.14.1+cpu, 2.13.0", "cpu"),
        ("torch==2.13.0", "2.13.0+cpu", "2.13.0", "there"),
        ("torch==2.13.0", "2.12.0+cpu", "2.13.0", "unmarked"),
        ("torch @ file:///torch.whl", None, "2.13.0", "there"),
    ],
)
def test_the_build_is_that_of_the_newest_release_that_suits(
    wanted: str, installed: str | None, offered: str, build: str
) -> None:
    said = f"torch (2.14.1)\nAvailable versions: {offered}\n  INSTALLED: 9\n"
    assert build_of(Requirement(wanted), installed, said) == build


def test_a_wheel_that_is_named_is_there_and_other_words_are_no_requirement() -> None:
    assert main("./torch-2.13.0-cp313-linux.whl", "") == "there"
    with pytest.raises(InvalidRequirement):
        main("torch 2.13", "")


def test_a_list_that_cannot_be_had_is_not_called_a_release_that_is_missing(checkout: Checkout) -> None:
    done = checkout.run("convert", OFFERED="")
    assert done.returncode == 1
    assert "pip could not list the releases of PyTorch: HARNESS_TORCH_BUILD=any" in done.stderr


@pytest.mark.parametrize("said", ["", "torch (2.9)\nAvailable versions: 2.9\n"])
def test_where_nothing_suits_there_is_no_build(said: str) -> None:
    with pytest.raises(ValueError, match="no torch==2"):
        build_of(Requirement(TORCH), None, said)


def test_make_has_everything_set_up_for_what_needs_it() -> None:
    rules = {}
    for line in (ROOT / "Makefile").read_text("utf-8").splitlines():
        name, colon, rest = line.partition(":")
        if colon and name.isalpha() and "##" in rest:
            rules[name] = rest.partition("##")[0].split()
    assert (rules.pop("setup"), rules.pop("develop"), rules.pop("demo")) == ([], [], ["setup"])
    assert {name: needs for name, needs in rules.items() if needs != ["develop"]} == {"help": [], "clean": []}
    assert os.access(ROOT / "scripts/setup.sh", os.X_OK)
