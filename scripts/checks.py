"""What `make test` runs, all of it, whatever fails on the way. Names of stages as arguments choose some of them.

JOBS=3 is the number of processes for the tests that measure no time, one more than there are cores when nobody says:
they rarely wait for what is no process of their own, and each of them looks through all tests first. `--quick` has one
for each core. PYTEST_ARGS are arguments to every pytest.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys

from scripts.stages import Stage, run

# What measures time: by itself.
MEASURING = ("bench", "measure", "per_op", "profiler", "validity")
ALONE = (*(f"tests/latency/test_{name}.py" for name in MEASURING), "device_tests/test_latency.py")
# What takes longest is begun first: the last file of all is one that a second process would wait for (conftest.py).
LONGEST_FIRST = (
    "device_tests/test_corpus.py",
    "device_tests/test_decoder.py",
    "device_tests/test_image_path.py",
    "tests/sam2",
    "tests/docs/test_blocks.py",
    "tests/localize/whole",
)
# Its tests wait for a phone more than they compute: one after the other at the end they would leave a core idle.
WAITING = "tests/standin"
FIRST, BETWEEN = "HARNESS_TESTS_FIRST", "HARNESS_TESTS_BETWEEN"
IN_THAT_ORDER = ("--dist", "loadfile", "--no-loadscope-reorder")
THROUGH_ADB = tuple(f"device_tests/test_{name}.py" for name in ("corpus", "explained", "latency"))
# Bugs that were reported by others, and healthy models beside them. What is left out, and float32, which takes a
# software GPU minutes, is in `make slow`; tests/standin holds every model of the corpus to the host's bits besides.
REPORTED = "9272 or 8593 or 8599 or healthy or residency"
QUICKER = ("-k", f"not in_float32 and (test_latency or {REPORTED})")
OLD_RELEASE = "host@2.1.5"
TIMEOUT = 3 * 3600.0
MOST_JOBS = 8
"""A process that has torch takes more than a GB."""
# The theme's advertisement for its successor is no warning of ours.
SITE = {"NO_MKDOCS_2_WARNING": "1"}
# What `make quick` leaves out besides tests marked slow or gpu: a phone's stand-in, torch, a browser, whole commands,
# whole localizations, hundreds of processes or of broken files.
UNHURRIED = (
    "tests/api/fixing/test_fix.py",
    "tests/api/test_frames.py",
    "tests/api/test_functions.py",
    "tests/api/test_growth.py",
    "tests/api/test_on_device.py",
    "tests/api/test_opening.py",
    "tests/cli/across",
    "tests/cli/test_answers.py",
    "tests/cli/test_bisect_runtime.py",
    "tests/cli/test_continue_and_export.py",
    "tests/cli/test_interrupt.py",
    "tests/cli/test_lint.py",
    "tests/cli/test_lint_fix.py",
    "tests/cli/test_misuse.py",
    "tests/cli/test_plugin_abroad.py",
    "tests/cli/test_precision.py",
    "tests/cli/test_private.py",
    "tests/cli/test_several_models.py",
    "tests/dashboard/matrix/test_page.py",
    "tests/dashboard/support/test_kept.py",
    "tests/dashboard/test_browser.py",
    "tests/dashboard/test_serve.py",
    "tests/dashboard/test_watch.py",
    "tests/devices",
    "tests/docs/test_blocks.py",
    "tests/farm",
    "tests/fuzz",
    "tests/graph/test_verify.py",
    "tests/latency",
    "tests/lint/test_matrix.py",
    "tests/localize/base/test_reference.py",
    "tests/localize/explain/test_explainer.py",
    "tests/localize/explain/test_limits.py",
    "tests/localize/explain/test_other_ops.py",
    "tests/localize/explain/test_refused.py",
    "tests/localize/explain/test_refused_parts.py",
    "tests/localize/explain/test_reproducer_page.py",
    "tests/localize/find/test_doubtful.py",
    "tests/localize/find/test_localizer.py",
    "tests/localize/find/test_scale.py",
    "tests/localize/find/test_trouble.py",
    "tests/localize/find/test_unsteady.py",
    "tests/localize/probe/journal",
    "tests/localize/whole",
    "tests/report/test_browser.py",
    "tests/report/test_hostile.py",
    "tests/sam2",
    "tests/scripts",
    "tests/standin",
)


def stages(jobs: str, more: list[str]) -> list[Stage]:
    """All stages in their order, with `more` arguments to every pytest."""
    python = sys.executable

    def pytest(*arguments: str, before: tuple[str, ...] = ()) -> tuple[str, ...]:
        return (*before, python, "-m", "pytest", *arguments, *more)

    rest = [f"--ignore={path}" for path in ALONE]
    standin = (python, "-m", "tests.standin")
    not_slow = ("-m", "not slow")
    return [
        Stage("ruff", (python, "-m", "ruff", "check", "."), beside=True),
        Stage("format", (python, "-m", "ruff", "format", "--check", "."), beside=True),
        Stage("types", (python, "-m", "mypy", "--strict"), beside=True),
        Stage("docs", (python, "-m", "mkdocs", "build", "--strict", "--quiet"), SITE, beside=True),
        Stage("portable", (python, "-m", "scripts.portable", "--short"), beside=True),
        Stage(
            "tests",
            pytest("tests", "device_tests", "--device", "host", *not_slow, "-n", jobs, *IN_THAT_ORDER, *rest),
            {FIRST: " ".join(LONGEST_FIRST), BETWEEN: WAITING},
        ),
        Stage("alone", pytest(*ALONE, "--device", "host", *not_slow)),
        Stage("adb", pytest(*THROUGH_ADB, *QUICKER, "--device", "pixel8a", *not_slow, before=standin), beside=True),
        Stage(
            "old-release",
            pytest("device_tests/test_corpus.py", "-k", REPORTED, "--device", OLD_RELEASE),
            beside=True,
        ),
        Stage(
            "old-explained",
            pytest("device_tests/test_explained.py", "--device", OLD_RELEASE, "-k", "8599", *not_slow),
            beside=True,
        ),
    ]


def slow(jobs: str, more: list[str]) -> list[Stage]:
    """What `stages` leaves out: tests marked slow, the whole corpus on an old release, and all through adb."""
    pytest = (sys.executable, "-m", "pytest")
    together = ("-n", jobs, "--dist", "loadfile", *(f"--ignore={path}" for path in ALONE))
    through_adb = (*pytest, "device_tests", "--device", "pixel8a", "-m", "not slow", *more)
    standin = (sys.executable, "-m", "tests.standin")
    return [
        Stage("slow", (*pytest, "tests", "device_tests", "--device", "host", "-m", "slow", *together, *more)),
        Stage("slow-alone", (*pytest, *ALONE, "--device", "host", "-m", "slow", *more)),
        Stage("old-corpus", (*pytest, "device_tests/test_corpus.py", "--device", OLD_RELEASE, *more)),
        Stage("adb-all", (*standin, *through_adb)),
        Stage("adb-no-app", (*standin, "--no-app", *through_adb)),
    ]


def quick(jobs: str, more: list[str]) -> list[Stage]:
    """What says within a minute whether a change has broken something: ruff, and the tests that need little."""
    ignored = [f"--ignore={path}" for path in UNHURRIED]
    chosen = ("-m", "not slow and not gpu", *ignored, *more)
    tests = (sys.executable, "-m", "pytest", "tests", "-q", "-n", jobs, "--dist", "worksteal", *chosen)
    lint = [stage for stage in stages(jobs, more) if stage.name in ("ruff", "format")]
    return [*lint, Stage("quick", tests)]


def main() -> int:
    cores = os.cpu_count() or 1
    jobs = os.environ.get("JOBS") or str(min(MOST_JOBS, cores + 1))
    asked = jobs, shlex.split(os.environ.get("PYTEST_ARGS", ""))
    known = stages(*asked)
    parser = argparse.ArgumentParser(prog="python -m scripts.checks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("stage", nargs="*", metavar="STAGE", help=", ".join(stage.name for stage in known))
    parser.add_argument("--quick", action="store_true", help="only what takes a minute")
    parser.add_argument("--slow", action="store_true", help="only what is left out otherwise, which takes hours")
    words = parser.parse_args()
    chosen = words.stage
    # Many images of containers set it. Without compiled files each of thousands of processes compiles all it imports.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    # Threads of torch that wait keep a core busy otherwise, of which there are fewer than processes here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if words.quick:
        return run(quick(os.environ.get("JOBS") or str(min(MOST_JOBS, cores)), asked[1]), TIMEOUT)
    if words.slow:
        return run(slow(*asked), TIMEOUT)
    if unknown := set(chosen) - {stage.name for stage in known}:
        parser.error(f"there is no stage {sorted(unknown)[0]!r}; choose from {', '.join(s.name for s in known)}")
    return run([stage for stage in known if not chosen or stage.name in chosen], TIMEOUT)


if __name__ == "__main__":
    sys.exit(main())
