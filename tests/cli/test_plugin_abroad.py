"""The pytest plugin in other people's suites: it takes no name from them, and says plainly what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import models
from tests.cli.conftest import ROOT

LOADED = ("-p", "pytest_litert_harness")


def pytest_in(
    folder: Path, *words: str, python_path: str = str(ROOT), plugin: tuple[str, ...] = LOADED
) -> tuple[int, str]:
    """The exit code and the output of pytest in a folder, with no plugin of this environment but ours."""
    environment = dict(os.environ, PYTHONPATH=python_path, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", COLUMNS="120")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *plugin, *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.returncode, done.stdout + done.stderr


def suite(folder: Path, test: str, conftest: str = "") -> None:
    (folder / "conftest.py").write_text(conftest)
    (folder / "test_it.py").write_text(test)


def test_a_suite_with_a_device_option_of_its_own_keeps_it(tmp_path: Path) -> None:
    suite(
        tmp_path,
        "def test_it(request, device):\n    assert (request.config.getoption('--device'), device) == ('cuda', 'mine')\n"
        "    assert request.config.getoption('--litert-device') == ['host']\n",
        "import pytest\n"
        "def pytest_addoption(parser):\n    parser.addoption('--device', default='cpu')\n"
        "    parser.addoption('--results', default='')\n"
        "@pytest.fixture\ndef device():\n    return 'mine'\n",
    )
    code, said = pytest_in(tmp_path, "--device", "cuda", "--litert-device", "host")
    assert code == 0, said


def test_the_short_names_are_there_where_nobody_else_wants_them(tmp_path: Path) -> None:
    test = "def test_it(device_name, litert_device_name):\n    assert device_name == litert_device_name\n"
    suite(tmp_path, test)
    code, said = pytest_in(tmp_path, "--device", "host", "-v")
    assert code == 0, said
    assert "devices: host" in said and "test_it[host]" in said


def test_a_suite_that_asks_for_no_device_imports_nothing_of_the_package(tmp_path: Path) -> None:
    suite(tmp_path, "import sys\ndef test_it():\n    assert 'harness' not in sys.modules\n")
    code, said = pytest_in(tmp_path)
    assert code == 0, said
    assert "devices:" not in said


def test_the_former_name_of_the_plugin_loads_it_once(tmp_path: Path) -> None:
    suite(tmp_path, "def test_it(device_name):\n    assert device_name == 'host'\n")
    for plugin in (("-p", "harness.pytest_plugin"), (*LOADED, "-p", "harness.pytest_plugin")):
        code, said = pytest_in(tmp_path, plugin=plugin)
        assert code == 0 and "1 passed" in said, said


def test_a_folder_called_harness_is_no_trouble_until_a_device_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "harness").mkdir()
    (tmp_path / "harness" / "__init__.py").write_text("MINE = True\n")
    (tmp_path / "plugin").mkdir()
    (tmp_path / "plugin" / "pytest_litert_harness.py").symlink_to(ROOT / "pytest_litert_harness.py")
    suite(tmp_path, "import harness\ndef test_it():\n    assert harness.MINE\n")
    path = os.pathsep.join((str(tmp_path), str(tmp_path / "plugin"), str(ROOT)))
    code, said = pytest_in(tmp_path, python_path=path)
    assert code == 0, said
    code, said = pytest_in(tmp_path, "--device", "host", python_path=path)
    assert code == pytest.ExitCode.USAGE_ERROR and "Traceback" not in said
    assert "Another package called 'harness'" in said and "hides the one of litert-device-harness" in said


def test_a_device_that_is_none_ends_the_session_in_a_sentence(tmp_path: Path) -> None:
    suite(tmp_path, "def test_it():\n    pass\n")
    code, said = pytest_in(tmp_path, "--device", "host@not-a-release")
    assert code == pytest.ExitCode.USAGE_ERROR and "--device host@not-a-release" in said


def test_a_users_mistake_ends_at_the_line_that_made_it(tmp_path: Path) -> None:
    suite(tmp_path, "def test_it(on_device):\n    on_device.compare('nowhere.tflite')\n")
    code, said = pytest_in(tmp_path)
    assert code == 1
    assert "nowhere.tflite does not exist" in said
    assert "test_it.py:2: UsageError" in said, said
    assert "harness/" not in said.replace("pytest_litert_harness", "")
    _, whole = pytest_in(tmp_path, "--full-trace")
    assert "harness/api/" in whole


@pytest.mark.gpu
def test_assert_right_passes_a_right_model_and_names_what_breaks_a_wrong_one(tmp_path: Path) -> None:
    (tmp_path / "right.tflite").write_bytes(models.right().to_bytes())
    (tmp_path / "wrong.tflite").write_bytes(models.wrong().to_bytes())
    suite(
        tmp_path,
        "def test_right(on_device):\n    on_device.assert_right('right.tflite')\n"
        "def test_wrong(on_device):\n    on_device.assert_right('wrong.tflite')\n"
        "def test_plain(on_device):\n    assert on_device.compare('wrong.tflite').ok\n",
    )
    code, said = pytest_in(tmp_path, "--results", "kept", "--junitxml", "junit.xml")
    assert code == 1 and "2 failed, 1 passed" in said, said
    wrong = said[said.index("_ test_wrong[host] _") : said.index("_ test_plain[host] _")]
    for words in ("wrong.tflite on host: FAIL: output 'y' is wrong", "ADD #0", "kernel", "limit", "report: kept/"):
        assert words in wrong, wrong
    assert "harness/" not in wrong.replace("pytest_litert_harness", "")
    assert "ModelComparison: FAIL: output 'y' is wrong" in said
    assert "ADD #0" in (tmp_path / "junit.xml").read_text()


@pytest.mark.parametrize("option", [("--device", "host"), ("--device=host",), ("--job-timeout", "60")])
def test_options_of_a_conftest_in_testpaths_are_found(tmp_path: Path, option: tuple[str, ...]) -> None:
    """What follows a short name is no path, where pytest looks for the first conftest.py."""
    checks = tmp_path / "checks"
    checks.mkdir()
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = checks\n")
    suite(
        checks,
        "def test_it(request):\n    assert request.config.getoption('--mine') == 'yes'\n",
        "def pytest_addoption(parser):\n    parser.addoption('--mine')\n",
    )
    code, said = pytest_in(tmp_path, "--mine=yes", *option)
    assert code == 0, said


def test_a_folder_called_like_a_device_is_not_looked_into(tmp_path: Path) -> None:
    (tmp_path / "host").mkdir()
    (tmp_path / "host" / "conftest.py").write_text("raise RuntimeError('looked into')\n")
    suite(tmp_path, "def test_it():\n    pass\n")
    code, said = pytest_in(tmp_path, "--device", "host", "test_it.py")
    assert code == 0, said


def test_a_conftest_may_name_the_plugin(tmp_path: Path) -> None:
    for name in ("harness.pytest_plugin", "pytest_litert_harness"):
        suite(
            tmp_path, "def test_it(device_name):\n    assert device_name == 'host'\n", f"pytest_plugins = ['{name}']\n"
        )
        code, said = pytest_in(tmp_path, "--device=host", plugin=())
        assert code == 0, said


def test_a_tests_own_failure_is_told_without_the_terminal_plugin(tmp_path: Path) -> None:
    suite(tmp_path, "import harness.core.errors\ndef test_it():\n    assert 1 == 2\n")
    code, _ = pytest_in(tmp_path, "-p", "no:terminal", "--junitxml", "junit.xml")
    assert code == 1 and "assert 1 == 2" in (tmp_path / "junit.xml").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--farm-no-tls",), "--farm-no-tls says how a farm is reached, and none is named: give --farm ADDRESS."),
        (
            ("--farm", "nowhere", "--farm-no-tls"),
            "--farm nowhere: 'nowhere' is no address of a scheduler without a port.",
        ),
        (("--litert-farm", "lab1:8786"), "--farm lab1:8786: No certificates are named. Give --farm-certificates DIR"),
        (("--farm", "lab1:8786", "--farm-no-tls", "--device", "a,b"), "which names two devices at once"),
        (("--farm", "lab1:8786", "--farm-no-tls", "--apk", "a.apk"), "--apk is of this machine"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_farm_that_cannot_be_meant_ends_the_session_in_a_sentence(
    tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    pytest.importorskip("distributed")
    suite(tmp_path, "def test_it(device):\n    pass\n")
    code, out = pytest_in(tmp_path, *words)
    assert code == 4 and said in out and "Traceback" not in out


def test_a_farm_without_the_extra_is_a_sentence(tmp_path: Path) -> None:
    suite(tmp_path, "def test_it(device):\n    pass\n", "import sys\nsys.modules['distributed'] = None\n")
    code, out = pytest_in(tmp_path, "--farm", "lab1:8786", "--farm-no-tls")
    assert code == 4 and "The farm needs distributed, which is not installed. pip install" in out


def test_a_flag_takes_no_path_from_pytest(tmp_path: Path) -> None:
    """What follows an option with a value is no path; what follows one without is."""
    checks = tmp_path / "checks"
    checks.mkdir()
    suite(
        checks,
        "def test_it(request):\n    assert request.config.getoption('--mine') == 'yes'\n",
        "def pytest_addoption(parser):\n    parser.addoption('--mine')\n",
    )
    code, out = pytest_in(tmp_path, "--farm-no-tls", "checks", "--mine", "yes")
    assert code == 4 and "says how a farm is reached" in out, out
