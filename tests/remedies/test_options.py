"""Remedies by options: which precision each has, and when it is worth a try."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.core.job import Options
from harness.remedies.options import FLOAT32, LONG_SUMS, OTHER_OPTIONS


def test_each_changes_the_precision_and_nothing_else() -> None:
    options = Options(precision="fp16")
    assert FLOAT32.how(options) == replace(options, precision="fp32")
    assert LONG_SUMS.how(options) == replace(options, precision="fp16-fp32acc")
    assert OTHER_OPTIONS == (FLOAT32, LONG_SUMS)
    assert [one.how(options).precision in one.note for one in OTHER_OPTIONS] == [True, True]


@pytest.mark.parametrize("mended", [True, False])
def test_float32_is_worth_a_try_unless_it_is_there_and_long_sums_where_they_mended_a_culprit(mended: bool) -> None:
    for options in (Options(precision="fp16"), Options(precision="fp32")):
        assert FLOAT32.worth_trying(options, mended) is options.half
        assert LONG_SUMS.worth_trying(options, mended) is mended
    assert Options(precision="fp16").half is not Options(precision="fp32").half
