"""The base install neither needs nor imports what the farm runs on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import environment

# As if the extra were not installed.
_WITHOUT = (
    "import sys; sys.modules['distributed'] = None; sys.argv[0] = 'harness'; from harness.cli import main; main()"
)


def test_without_the_extra_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT, "farm", "status", "lab1:8786", "--json"],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"].startswith(
        "The farm needs distributed, which is not installed. pip install"
    )
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("words", [("--help",), ("devices", "--json"), ("schema",)])
def test_other_commands_do_not_import_it(words: tuple[str, ...], tmp_path: Path) -> None:
    script = (
        f"import atexit, sys; sys.argv = ['harness', *{words!r}]\n"
        "atexit.register(lambda: print([m for m in ('dask', 'distributed', 'cryptography') if m in sys.modules], "
        "file=sys.stderr))\n"
        "from harness.cli import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment(), cwd=tmp_path
    )
    assert done.stderr.splitlines()[-1] == "[]"
