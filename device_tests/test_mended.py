"""What is refused, here or on phones, is taken and right once it is written anew."""

from __future__ import annotations

import pytest

from device_tests.corpus.refused import REFUSED, Refused
from device_tests.mended import MENDED, Mended
from harness.api.on_device import OnDevice
from harness.core.choices import Precision
from harness.graph.rebuild import CannotRewrite
from harness.lint.knowledge.entry import Entry
from harness.lint.knowledge.reading import entries
from harness.remedies import catalogue

REWRITES = {made.name: made for made in vars(catalogue).values() if isinstance(made, catalogue.Rewrite)}
TOLD = {name: known for known in entries() for each in known.evidence for name in each.corpus}
# Not to be written otherwise without another input or output; or of what helps the entry has words alone.
LEFT = {"refused_rank_5", "refused_int64"} | {r.name for r in REFUSED if TOLD[r.name].remedy is None}


def told(refused: Refused) -> Entry:
    """The entry that knows a refused graph."""
    return TOLD[refused.name]


@pytest.mark.parametrize("refused", [r for r in REFUSED if r.name not in LEFT], ids=lambda refused: refused.name)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_what_the_delegate_refuses_is_right_by_the_entry_s_rewrite(
    on_device: OnDevice, refused: Refused, precision: Precision
) -> None:
    rewrite = REWRITES[told(refused).remedy or ""]
    model = rewrite.apply(refused.build(), frozenset({refused.op[0]}), {})
    assert on_device.compare(model, precision=precision).ok


@pytest.mark.parametrize("case", MENDED, ids=lambda case: case.name)
@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_what_phones_refuse_is_right_as_other_ops(on_device: OnDevice, case: Mended, precision: Precision) -> None:
    assert on_device.compare(case.written(), precision=precision).ok


def test_what_is_left_has_no_rewrite_that_fits() -> None:
    for refused in REFUSED:
        if refused.name in LEFT and (name := told(refused).remedy) is not None:
            with pytest.raises(CannotRewrite):
                REWRITES[name].apply(refused.build(), frozenset({refused.op[0]}), {})
