"""`python -m benchmarks lint [FOLDER ...]`: what `harness lint` says of a file against what the device does with it.

The files: the corpus, its refused graphs, the forms beside the patterns of the catalogue, the patterns of bugs known
from phones (each on the planted phone that has the bug), and all .tflite files of the folders given, with NAME.npz
beside NAME.tflite as inputs. Each is compared with the CPU on this machine's GPU, or on its planted phone, on random
inputs.

Counted for each effect: *true* where lint is certain of it and the device shows it, *false* where it is certain and the
device does not, *missed* where the device shows it and lint is not certain; those it calls at risk are told besides.
Precision is true / (true + false), recall true / (true + missed). A file that is refused shows nothing of its values:
for what is wrong without a word it does not count. The answer is 1 where anything is false.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from rich.console import Console

from device_tests import knowledge_forms, knowledge_swept, lint_forms
from device_tests.corpus import CORPUS
from device_tests.corpus.refused import REFUSED
from harness.api.on_device import OnDevice
from harness.api.opening import as_in_the_file, as_linted
from harness.core.arrays import Array
from harness.core.choices import Precision
from harness.core.errors import DeviceError, HarnessError
from harness.core.job import Options, Rejected
from harness.devices.execute import make_job
from harness.devices.registry import open_device
from harness.graph.model import Model
from harness.lint.finding import Finding
from harness.lint.knowledge.target import HOST_PACKAGE, Target, target_of
from harness.lint.lint import lint
from tests.localize.patterns import PATTERNS

Truth = Literal["right", "wrong", "precision", "refused", "died", "no verdict"]
Effect = Literal["silent", "refused", "crash"]
SHOWS: dict[Effect, Truth] = {"silent": "wrong", "refused": "refused", "crash": "died"}
TIMEOUT = 120.0
# Of what lint says of a file, the gravest.
SAID = ("silent", "refused", "crash", "precision", "slow")


@dataclass(frozen=True)
class Subject:
    """A file of a group, the device that it is compared on, and what lint looks at: the file, unless `looked_at` is
    what it takes for one that leaves shapes open."""

    group: str
    name: str
    model: Model
    device: str = "host"
    inputs: dict[str, Array] | None = None
    precision: Precision = "default"
    bug: str = ""
    looked_at: Model | None = None

    @property
    def target(self) -> Target:
        """What lint looks at it for."""
        if not self.bug:
            return target_of("host")
        return Target(self.device, "planted", planted=frozenset({self.bug}))


@dataclass(frozen=True)
class Row:
    """What the device did with a file, and what lint says of it."""

    subject: Subject
    truth: Truth
    findings: tuple[Finding, ...]

    def says(self, effect: Effect, *, risks: bool = False) -> bool:
        """Whether lint is certain of an effect, or calls it a risk."""
        return any(f.effect == effect and (risks or f.sure == "certain") for f in self.findings)

    @property
    def said(self) -> str:
        """The gravest that lint says, in a word."""
        certain = {f.effect for f in self.findings if f.sure == "certain"}
        word = next((effect for effect in SAID if effect in certain), "")
        return word or ("at risk" if self.findings else "nothing")


def subjects(folders: Sequence[Path]) -> Iterator[Subject]:
    """Every file."""
    for bug in CORPUS:
        yield Subject("corpus", bug.name, bug.build())
    for refused in (each for each in REFUSED if not each.release):
        yield Subject("refused graphs", refused.name, refused.build())
    for form in (*knowledge_forms.FORMS, *knowledge_swept.FORMS):
        yield Subject("forms", f"{form.entry}, {form.name}", form.model())
    for rule, forms in lint_forms.FORMS.items():
        for part in forms:
            model = lint_forms.packed([part])
            yield Subject("forms", f"{rule}, {part.name}", model, inputs=lint_forms.whole_numbers(model))
    for pattern in PATTERNS:
        device = f"planted:{pattern.bug}"
        yield Subject(
            "planted phones",
            f"{pattern.bug}, {pattern.name}",
            pattern.model(),
            device,
            None,
            pattern.precision,
            pattern.bug,
        )
    for folder in folders:
        for path in sorted(folder.rglob("*.tflite")):
            try:
                model, looked_at, _ = as_linted(path)
                as_in_the_file(path)
            except HarnessError:
                continue  # no model that a command runs, and nothing to compare
            beside = path.with_suffix(".npz")
            given = dict(np.load(beside, allow_pickle=False)) if beside.exists() else None
            yield Subject(folder.name, str(path.relative_to(folder)), model, inputs=given, looked_at=looked_at)


def truth_of(subject: Subject, runs: Path) -> Truth:
    """What the device does with a file."""
    on_device = OnDevice(subject.device, runs, TIMEOUT)
    try:
        if refused(subject):
            return "refused"
        found = on_device.compare(subject.model, subject.inputs, precision=subject.precision)
    except DeviceError as error:
        words: dict[str, Truth] = {"refused": "refused", "crashed": "died", "silent": "died"}
        return words.get(error.trouble, "no verdict")
    except HarnessError:
        return "no verdict"
    if found.ok:
        return "right"
    return "wrong" if not found.explained else "precision"


def refused(subject: Subject) -> bool:
    """Whether the device does not take the file as it is: a comparison computes constants ahead. Raises
    HarnessError."""
    with open_device(subject.device) as device:
        job = make_job(
            subject.model, {}, Options(precision=subject.precision), timeout=TIMEOUT, wanted=(), iterations=0
        )
        return isinstance(device.run(job), Rejected)


def counts(rows: Sequence[Row], effect: Effect) -> dict[str, list[Row]]:
    """Rows that are true, false, missed though at risk, and missed."""
    found: dict[str, list[Row]] = {"true": [], "false": [], "at risk": [], "missed": []}
    for row in rows:
        shown = row.truth == SHOWS[effect]
        ended = row.truth == "died" and effect != "crash"
        if row.truth == "no verdict" or ended or (effect == "silent" and row.truth == "refused"):
            continue
        if row.says(effect):
            found["true" if shown else "false"].append(row)
        elif shown:
            found["at risk" if row.says(effect, risks=True) else "missed"].append(row)
    return found


def share(part: int, other: int) -> str:
    """A precision or recall, with its counts."""
    return f"{part} of {part + other}" if part + other else "none"


def main(words: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks lint", description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path, help="folders with further .tflite files")
    parser.add_argument("--only", default="", help="groups, or names of files, that have this in them")
    asked = parser.parse_args(list(words))
    console = Console(soft_wrap=True, highlight=False)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects(asked.folders):
            if asked.only in f"{subject.group}: {subject.name}":
                row = Row(
                    subject, truth_of(subject, Path(folder)), lint(subject.looked_at or subject.model, subject.target)
                )
                rows.append(row)
                console.print(f"{subject.group}: {subject.name}: {row.truth}; lint says {row.said}")
    console.print(f"\nlint for {HOST_PACKAGE} {target_of('host').release}; what the device does, and what lint says:\n")
    told = Counter((row.subject.group, row.truth, row.said) for row in rows)
    groups = dict.fromkeys((row.subject.group, row.truth) for row in rows)
    said = ("silent", "refused", "crash", "precision", "at risk", "nothing")
    console.print(f"| files | on the device | files | {' | '.join(said)} |")
    console.print(f"|---|---|{'---|' * (len(said) + 1)}")
    for group, truth in groups:
        cells = [told[group, truth, word] for word in said]
        console.print(f"| {group} | {truth} | {sum(cells)} | {' | '.join(map(str, cells))} |")
    false = 0
    console.print("\n| effect | true | false | at risk only | missed | precision | recall | recall with risks |")
    console.print("|---|---|---|---|---|---|---|---|")
    for effect in SHOWS:
        found = counts(rows, effect)
        true, wrong, risk, missed = (len(found[name]) for name in ("true", "false", "at risk", "missed"))
        shares = [share(true, wrong), share(true, risk + missed), share(true + risk, missed)]
        console.print(f"| {effect} | {true} | {wrong} | {risk} | {missed} | {' | '.join(shares)} |")
        false += wrong
        for name in ("false", "missed"):
            for row in found[name]:
                console.print(f"{effect}, {name}: {row.subject.group}: {row.subject.name} ({row.truth})", style="dim")
    return 1 if false else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
