"""Runs the numeric tests as other CPUs would: with other instruction sets, other BLAS kernels, one thread and two.

Each setting asks every library with kernels of its own for the same instruction set: MKL and oneDNN (inside torch),
torch's vectorized loops, OpenBLAS and the loops of numpy. XNNPACK, inside LiteRT, takes what the CPU has; there is no
asking it. A setting that this CPU cannot take is skipped with the reason. `--short` runs a few settings, none of which
`make test` has otherwise, on the most sensitive tests; `--list` shows the settings.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scripts.stages import Stage, run

TESTS = (
    "tests/numerics",
    "tests/remedies",
    "tests/graph",
    "tests/sam2",
    *(
        f"tests/localize/{name}.py"
        for name in (
            "base/test_reference",
            "explain/test_classify",
            "explain/test_context",
            "explain/test_shrink",
            "find/test_impact",
            "probe/test_search",
        )
    ),
)
SENSITIVE = (
    "tests/numerics",
    "tests/remedies",
    *(f"tests/sam2/shared/test_{name}.py" for name in ("attention", "clicks", "image", "prompt", "sums")),
)
TIMEOUT = 3600.0

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
INSTRUCTIONS = (
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
    "NPY_DISABLE_CPU_FEATURES",
)

AVX2_FLAGS = frozenset({"avx", "avx2", "fma"})
AVX512_FLAGS = AVX2_FLAGS | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
# The features that numpy chooses loops by, from its oldest name for them to its newest.
NUMPY_AVX512 = frozenset({"X86_V4", "AVX512F", "AVX512CD", "AVX512_SKX", "AVX512_CLX", "AVX512_CNL", "AVX512_ICL",
                          "AVX512_SPR"})  # fmt: skip
NUMPY_AVX2 = frozenset({"X86_V3", "AVX", "F16C", "FMA3", "AVX2"})


@dataclass(frozen=True)
class Setting:
    """One way to run the tests. Variables of `INSTRUCTIONS` and `THREADS` that it does not name are taken away, so
    that what the machine has set already does not mix with it."""

    name: str
    env: Mapping[str, str] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    """CPU flags, as Linux names them."""
    only_on: frozenset[str] = frozenset()
    """The kinds of machines that it is for, where it is not for all."""
    numpy_without: frozenset[str] = frozenset()
    """Features that numpy is not to use, where it has them."""
    as_set: bool = False
    """Leave the machine's own variables alone."""
    short: bool = False


def threads(count: int) -> dict[str, str]:
    """The variables that make every library use so many threads."""
    return dict.fromkeys(THREADS, str(count))


X86 = frozenset({"x86_64"})
ARM = frozenset({"aarch64", "arm64"})
SETTINGS = (
    Setting("as it is", as_set=True),
    Setting("all the CPU has, 1 thread", threads(1)),
    Setting("all the CPU has, 2 threads", threads(2)),
    Setting(
        "AVX-512, 1 thread",
        {"MKL_ENABLE_INSTRUCTIONS": "AVX512", "ATEN_CPU_CAPABILITY": "avx512", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
         "OPENBLAS_CORETYPE": "SkylakeX", **threads(1)},
        AVX512_FLAGS, X86,
    ),
    Setting(
        "AVX2, 1 thread",
        {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
         "OPENBLAS_CORETYPE": "Haswell", **threads(1)},
        AVX2_FLAGS, X86, NUMPY_AVX512, short=True,
    ),
    Setting(
        "AVX2 of AMD, 2 threads",
        {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2",
         "OPENBLAS_CORETYPE": "Zen", **threads(2)},
        AVX2_FLAGS, X86, NUMPY_AVX512,
    ),
    Setting(
        "AVX without fused products, 2 threads",
        {"MKL_ENABLE_INSTRUCTIONS": "AVX", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "AVX",
         "OPENBLAS_CORETYPE": "Sandybridge", **threads(2)},
        frozenset({"avx"}), X86, NUMPY_AVX512 | NUMPY_AVX2,
    ),
    Setting(
        "SSE4.2, 2 threads",
        {"MKL_ENABLE_INSTRUCTIONS": "SSE4_2", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41",
         "OPENBLAS_CORETYPE": "Nehalem", **threads(2)},
        frozenset({"sse4_2"}), X86, NUMPY_AVX512 | NUMPY_AVX2, short=True,
    ),
    Setting(
        "MKL alike on every CPU, 1 thread", {"MKL_CBWR": "COMPATIBLE", **threads(1)}, only_on=X86
    ),
    Setting(
        "Arm without what torch adds, 1 thread",
        {"ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "ARMV8", **threads(1)},
        only_on=ARM, short=True,
    ),
)  # fmt: skip


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """The flags in what /proc/cpuinfo says; empty where it names none."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def numpy_features() -> frozenset[str]:
    """The features that this numpy has loops for beyond its baseline, and this CPU has."""
    script = (
        "from numpy._core._multiarray_umath import __cpu_dispatch__ as loops, __cpu_features__ as has\n"
        "print(*(name for name in loops if has.get(name)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False)
    return frozenset(done.stdout.split())


def refusal(setting: Setting, machine: str, flags: frozenset[str]) -> str | None:
    """Why a CPU of that kind with those flags cannot take the setting; None when it can."""
    if setting.only_on and machine not in setting.only_on:
        return f"for {' and '.join(sorted(setting.only_on))}, this is {machine}"
    if missing := setting.needs - flags:
        return f"this CPU has no {', '.join(sorted(missing))}"
    return None


def environment(setting: Setting, features: frozenset[str]) -> dict[str, str | None]:
    """The changes to the environment, for a numpy that chooses loops by `features`."""
    if setting.as_set:
        return {}
    # numpy refuses to do without what it does not have.
    without = " ".join(sorted(setting.numpy_without & features))
    changes = dict.fromkeys((*INSTRUCTIONS, *THREADS), None) | dict(setting.env)
    return changes | ({"NPY_DISABLE_CPU_FEATURES": without} if without else {})


def stages(short: bool, arguments: list[str]) -> list[Stage]:
    """The settings as stages, for this machine."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpu_flags(cpuinfo.read_text(errors="replace")) if cpuinfo.exists() else frozenset()
    features = numpy_features()
    tests = SENSITIVE if short else TESTS
    command = [sys.executable, "-m", "pytest", *tests, "-m", "not slow and not gpu", "-q", "-p", "no:cacheprovider"]
    return [
        Stage(
            setting.name,
            [*command, *arguments],
            {name: value for name, value in environment(setting, features).items() if value or name in os.environ},
            refusal(setting, platform.machine(), flags),
        )
        for setting in SETTINGS
        if setting.short or not short
    ]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.portable", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--short", action="store_true", help="a few settings, the most sensitive tests")
    parser.add_argument("--list", action="store_true", help="show the settings and run nothing")
    parser.add_argument("pytest", nargs="*", metavar="PYTEST_ARG", help="more arguments to pytest, after --")
    given = parser.parse_args()
    chosen = stages(given.short, given.pytest)
    if given.list:
        for stage in chosen:
            print(f"{stage.name}: {stage.skip or ' '.join(f'{k}={v}' for k, v in stage.env.items()) or 'nothing'}")
        return 0
    already = [f"{name}={os.environ[name]}" for name in (*INSTRUCTIONS, *THREADS) if name in os.environ]
    print(f"This {platform.machine()} has set already: {', '.join(already) or 'nothing'}.")
    return run(chosen, TIMEOUT)


if __name__ == "__main__":
    sys.exit(main())
