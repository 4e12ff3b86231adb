"""What goes between a program and the farm's host: each kind of outcome comes back as it was, nonsense is refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from harness.core.errors import DeviceError, StorageError, UnresolvedError, UsageError
from harness.core.job import (
    Completed,
    Crashed,
    Job,
    Lost,
    Options,
    Outcome,
    OutputPort,
    Rejected,
    Residency,
    Sample,
    TimedOut,
)
from harness.devices.link import LinkError
from harness.farm.lent import wire

LOG = 'INFO: a "line", and ünusual\x1b one\n'
OUTPUTS = {"y": np.ones(3, np.float32)}
DONE = Completed(
    OUTPUTS,
    Residency(True, 3, 4, 1, ("ADD: no",), (1, 2), True),
    (Sample(1, 2, 3), Sample(4, 5, 6)),
    7,
    True,
    "2.3.0",
    "Mali-G715",
    LOG,
    "boot",
    "none",
)
ROUND = wire.Round(99, 1800.0, None, 0.25, 0.5, 0.0)
JOB = Job(
    b"model",
    "ab" * 32,
    {"x": np.zeros((1, 4), np.float32)},
    (OutputPort("y", 2, np.dtype(np.int8), (1, 2)), OutputPort("scalar", 0, np.dtype(np.float32), ())),
    Options(accelerator="gpu", precision="fp32", fallback="cpu"),
    warmup=2,
    iterations=5,
    timeout=12.5,
    final=True,
)


@pytest.mark.parametrize(
    "outcome",
    [
        DONE,
        replace(DONE, residency=Residency(False), samples=()),
        Rejected("no such op", ("ADD", "MUL"), LOG),
        Crashed("the worker was ended by SIGSEGV", "SIGSEGV", LOG),
        TimedOut(3.5, LOG),
        Lost("gone", LOG, "y"),
    ],
    ids=lambda outcome: type(outcome).__name__,
)
def test_an_outcome_comes_back_as_it_was(outcome: Outcome) -> None:
    found, round = wire.read_outcome(wire.outcome_document(outcome, ROUND), OUTPUTS)
    assert found == outcome
    assert round == ROUND


def test_a_job_comes_back_as_it_was() -> None:
    asked = wire.read_request(json.loads(json.dumps(wire.request_of(JOB))))
    assert wire.job_of(asked, JOB.model, JOB.inputs) == JOB


@pytest.mark.parametrize(
    "change",
    [
        {"sha256": "../../etc/passwd"},
        {"iterations": -1},
        {"warmup": 1 << 20},
        {"timeout": float("inf")},
        {"timeout": 0.0},
        {"options": {"accelerator": "abacus"}},
        {"outputs": [{"name": "y", "position": 0, "dtype": "object", "shape": [1]}]},
        {"outputs": [{"name": "y", "position": 0, "dtype": "int8", "shape": ["1"]}]},
        {"final": "yes"},
    ],
    ids=str,
)
def test_a_job_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(LinkError):
        wire.read_request({**json.loads(json.dumps(wire.request_of(JOB))), **change})


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        b'{"outcome": "completed", "facts": {}, "log": "", "round": {"wall_ns": 1}}',
        b'{"outcome": "vanished", "facts": {}, "log": "", "round": {"wall_ns": 1}}',
        b'{"outcome": "lost", "facts": {"reason": 7}, "log": "", "round": {"wall_ns": 1}}',
        b'{"outcome": "lost", "facts": {"reason": "x"}, "log": "", "round": {}}',
    ],
)
def test_an_outcome_that_is_none_is_refused(document: bytes) -> None:
    with pytest.raises(LinkError):
        wire.read_outcome(np.frombuffer(document, np.uint8), {})


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DeviceError("gone.", "Look."), DeviceError),
        (UsageError("no.", ""), UsageError),
        (StorageError("full.", "Empty it."), StorageError),
    ],
)
def test_an_error_comes_back_with_its_exit_code(error: DeviceError, kind: type[DeviceError]) -> None:
    found = wire.error_of(json.loads(json.dumps(wire.error_fields(error))))
    assert type(found) is kind and str(found) == str(error) and found.exit_code == error.exit_code


def test_an_error_of_another_kind_is_still_a_sentence() -> None:
    found = wire.error_of(wire.error_fields(UnresolvedError("it is not known.", "Ask again.")))
    assert str(found) == "it is not known. Ask again."
    assert isinstance(wire.error_of({"kind": "SystemExit", "message": "bye"}), DeviceError)


def test_a_loan_has_an_id() -> None:
    spec = wire.LoanSpec("0f" * 16, "somebody@somewhere")
    assert wire.read_loan(json.dumps(asdict(spec))) == spec
    for wrong in ('{"id": "x", "borrower": ""}', "[]", "{", json.dumps({"id": "0f" * 16, "borrower": "y" * 201})):
        with pytest.raises(UsageError, match="is no loan"):
            wire.read_loan(wrong)
