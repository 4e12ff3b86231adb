"""Of an op that a device gets wrong, localize tries other ops in its place, and finds those right."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_tests.mended import MENDED
from harness.api.on_device import OnDevice
from harness.devices.planted import catalogue as planted
from harness.devices.planted.bug import Bug
from harness.remedies import catalogue
from tests.localize.broken import rolled

CASES = {case.name: case for case in MENDED}


@pytest.mark.parametrize(
    ("case", "kind", "remedies"),
    [
        ("transposed, VALID, bias", "TRANSPOSE_CONV", (catalogue.STUFFED,)),
        ("repeated heads", "BROADCAST_TO", (catalogue.PRODUCT_WITH_ONES, catalogue.COPIES)),
        ("maximum behind RELU", "PADV2", (catalogue.ZERO_BORDER,)),
        ("a strided slice", "STRIDED_SLICE", (catalogue.POOLED,)),
        ("places", "GATHER_ND", (catalogue.ONE_LIST,)),
    ],
)
def test_an_op_that_is_wrong_is_mended_by_others(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    case: str,
    kind: str,
    remedies: tuple[catalogue.Rewrite, ...],
) -> None:
    monkeypatch.setattr(planted, "BUGS", (Bug("rolled", "results are shifted by one", plant=rolled(kind)),))
    phone = OnDevice("planted:rolled", tmp_path, 60)
    (culprit,) = phone.localize(CASES[case].build(), explain=True).culprits
    # What is of rank 5 is not read: there it is the RESHAPE back that shows.
    assert culprit.record.op == (kind if kind != "BROADCAST_TO" else "RESHAPE")
    assert {remedy.name for remedy in remedies} <= {found.name for found in culprit.remedies if found.ok}
