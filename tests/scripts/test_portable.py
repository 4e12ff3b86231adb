from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.portable import INSTRUCTIONS, SETTINGS, THREADS, Setting, cpu_flags, environment, refusal, threads

ROOT = Path(__file__).parents[2]
SETTING_OF = {setting.name: setting for setting in SETTINGS}
HASWELL = frozenset({"sse4_2", "avx", "avx2", "fma"})


def test_the_flags_are_read_as_linux_writes_them() -> None:
    assert cpu_flags("processor\t: 0\nflags\t\t: fpu avx2 fma\nbugs\t\t:\n") == {"fpu", "avx2", "fma"}
    assert cpu_flags("processor\t: 0\nFeatures\t: fp asimd\n") == {"fp", "asimd"}
    assert cpu_flags("") == frozenset()


def test_what_a_cpu_cannot_take_is_skipped_with_the_reason() -> None:
    avx512 = SETTING_OF["AVX-512, 1 thread"]
    assert refusal(avx512, "aarch64", frozenset()) == "for x86_64, this is aarch64"
    assert refusal(avx512, "x86_64", HASWELL | {"avx512f", "avx512bw", "avx512cd"}) == (
        "this CPU has no avx512dq, avx512vl"
    )
    assert refusal(SETTING_OF["AVX2, 1 thread"], "x86_64", HASWELL) is None


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "arm64"])
def test_every_kind_of_machine_has_a_short_setting(machine: str) -> None:
    assert [s.name for s in SETTINGS if s.short and refusal(s, machine, HASWELL) is None]


def test_a_setting_takes_away_what_the_machine_has_set_and_it_does_not_name() -> None:
    wanted: dict[str, str | None] = dict.fromkeys((*INSTRUCTIONS, *THREADS))
    assert environment(Setting("one", threads(1)), frozenset()) == wanted | dict.fromkeys(THREADS, "1")
    assert environment(SETTING_OF["as it is"], frozenset({"AVX2"})) == {}


def test_numpy_does_without_those_of_its_loops_alone_that_the_setting_lacks() -> None:
    setting = SETTING_OF["AVX2, 1 thread"]
    new, old = frozenset({"X86_V3", "X86_V4"}), frozenset({"AVX2", "FMA3", "AVX512F", "AVX512_SKX"})
    assert environment(setting, new)["NPY_DISABLE_CPU_FEATURES"] == "X86_V4"
    assert environment(setting, old)["NPY_DISABLE_CPU_FEATURES"] == "AVX512F AVX512_SKX"
    assert environment(setting, frozenset({"X86_V3"}))["NPY_DISABLE_CPU_FEATURES"] is None


@pytest.mark.parametrize(
    "setting",
    [
        pytest.param(s, id=s.name, marks=() if s.short else pytest.mark.slow)
        for s in SETTINGS
        if "ATEN_CPU_CAPABILITY" in s.env
    ],
)
def test_a_setting_takes_effect_in_torch_and_numpy(setting: Setting) -> None:
    from scripts import portable

    (stage,) = [stage for stage in portable.stages(False, []) if stage.name == setting.name]
    if stage.skip is not None:
        pytest.skip(stage.skip)
    script = (
        "import torch\n"
        "from numpy._core._multiarray_umath import __cpu_dispatch__ as loops, __cpu_features__ as has\n"
        "print(torch.backends.cpu.get_cpu_capability(), *(name for name in loops if has.get(name)))"
    )
    env = os.environ | dict(stage.env)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={name: value for name, value in env.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
        check=True,
    )
    capability, *features = done.stdout.split()
    assert capability == setting.env["ATEN_CPU_CAPABILITY"].upper()
    assert not setting.numpy_without & set(features)
