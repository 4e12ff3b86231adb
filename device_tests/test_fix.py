"""`lint --fix` against a real delegate: what it writes anew is right there, for every pattern that has a rewrite."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from device_tests.corpus import CORPUS
from device_tests.test_knowledge import FORMS, MEASURED
from harness.api.on_device import OnDevice
from harness.devices.cache import cache_folder
from harness.graph.model import Model
from harness.lint.knowledge.reading import entries
from harness.lint.knowledge.target import target_of
from harness.lint.lint import lint, silent
from harness.sam2.image_path.published import PublishedModels
from harness.sam2.image_path.workload import Workload, prepare
from harness.sam2.shared.contract import CARD, PUBLISHED_V1, DecoderVariant

pytestmark = pytest.mark.slow

# Those that lint is certain of, by what entries say of themselves: built when their test comes.
KNOWN = {each.name: each for each in entries() if each.listed and each.at(target_of("host")) == ("silent", "certain")}
SHOWN = {name for entry in KNOWN.values() for evidence in entry.evidence for name in evidence.corpus}
SILENT: dict[str, Callable[[], Model]] = {
    **{bug.name: bug.build for bug in CORPUS if bug.name in SHOWN},
    **{f"{form.entry}, {form.name}": form.model for form in FORMS if form.accused and form.entry in KNOWN},
}


# A border of such a value is an output there, and no float16: what the rewrite mends is everything beside it.
BEYOND = pytest.mark.xfail(strict=True, raises=AssertionError, reason="float16 has no such number")
IN_NO_HALF = ("pad-beyond-half, -1e9", "pad-beyond-half, channels")


@pytest.mark.parametrize("name", [pytest.param(name, marks=BEYOND if name in IN_NO_HALF else ()) for name in SILENT])
def test_what_is_written_anew_is_right(on_device: OnDevice, name: str) -> None:
    model = SILENT[name]()
    assert silent(lint(model))
    found = on_device.fix(model)
    if found.rewritten is None:
        assert found.left, "nothing was done, and no reason was told"
        pytest.skip(f"left as it is: {found.left[0].why}")
    assert found.device is not None and found.check is not None
    assert not silent(lint(found.model)) and found.device.ok, found.device.after.sentence
    assert found.device.word == "fixed" or on_device.name not in MEASURED


CONSTANTS, SUMS = {"low-rank-constant": 3}, {"attention-over-many": 3}


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("variant", "rules"), [(CARD, SUMS), (PUBLISHED_V1, CONSTANTS | SUMS)], ids=["card", "v1"])
def test_the_mask_decoder_written_anew_passes(
    on_device: OnDevice, files: PublishedModels | None, variant: DecoderVariant, rules: dict[str, int]
) -> None:
    """Sums over all image tokens, and constants of which the GPU reads row 0; random weights."""
    if files is not None:
        pytest.skip("it is about decoders that are converted here, and --models gives files")
    decoder: Workload = prepare(cache_folder() / "sam2", variant=variant)
    found = on_device.fix(decoder.model_path, decoder.inputs)
    assert {step.rule: len(step.ops) for step in found.steps} == rules and found.left == ()
    assert found.check is not None and found.check.worst.float16_steps < 1
    assert found.device is not None
    assert found.device.word == "fixed", found.device.after.sentence
