"""Real delegate bugs: on a release that has one, exactly its op is named; elsewhere the model is right."""

import pytest

from device_tests.corpus import CORPUS, Bug
from device_tests.corpus.web import OTHERWISE, REFUSED, UNSTEADY, WEB, culprits_on_web
from device_tests.without_app import compiles_each_time
from harness.api.on_device import OnDevice
from harness.core.errors import DeviceRefused
from harness.devices.web.package import DEFAULT
from harness.remedies.cause import Cause

MEASURED = {name for bug in CORPUS for name in bug.broken}


def tellings(bug: Bug) -> list[tuple[tuple[int, str, str], ...]]:
    """The bug's ops with their causes. What was never written may differ between two runs: where each run is a process
    of its own, that is what shows. And it may be any bits, those of an infinity too."""
    others = (Cause.NONDETERMINISTIC, Cause.OVERFLOW) if bug.unwritten else ()
    return [bug.culprits, *(tuple((index, op, cause) for index, op, _ in bug.culprits) for cause in others)]


def check_on_web(web: OnDevice, bug: Bug) -> None:
    if bug.name in REFUSED:
        with pytest.raises(DeviceRefused) as caught:
            web.localize(bug.build())
        assert caught.value.reason.startswith(REFUSED[bug.name])
        return
    answer = web.localize(bug.build())
    named = tuple((c.record.index, c.record.op, c.cause) for c in answer.culprits)
    if bug.name in UNSTEADY:
        ((index, _, _),) = bug.culprits
        within = [
            (c.record.first <= index <= c.record.index, c.cause) == (True, Cause.NONDETERMINISTIC)
            for c in answer.culprits
        ]
        assert (answer.status, named) in (("unresolved", ()), ("culprits", bug.culprits)) or within == [True]
        return
    expected = culprits_on_web(bug)
    assert (answer.status, named) == ("culprits" if expected else "pass", expected)
    if bug.name not in OTHERWISE and expected:
        single = tuple(index for index, _, _ in expected)
        assert tuple(c.record.first for c in answer.culprits) == (single if bug.first is None else (bug.first,))


@pytest.mark.parametrize("bug", CORPUS, ids=lambda bug: bug.name)
def test_a_known_bug_is_named_exactly_and_nothing_else_is(
    on_device: OnDevice, bug: Bug, request: pytest.FixtureRequest
) -> None:
    if on_device.name in (WEB, f"{WEB}@{DEFAULT}"):
        check_on_web(on_device, bug)
        return
    if bug.pending and (on_device.name in bug.pending or on_device.name not in MEASURED):
        reason = bug.pending.get(on_device.name, "answered wrongly elsewhere")
        request.applymarker(pytest.mark.xfail(reason=reason, strict=on_device.name in MEASURED))
    answer = on_device.localize(bug.build())
    named = tuple((c.record.index, c.record.op, c.cause) for c in answer.culprits)
    if on_device.name in bug.broken:
        assert answer.status == "culprits"
        assert named in tellings(bug)
        single = tuple(index for index, _, _ in bug.culprits)
        assert tuple(c.record.first for c in answer.culprits) == (single if bug.first is None else (bug.first,))
    elif on_device.name in MEASURED or not bug.culprits:
        assert (answer.status, named) == ("pass", ())
    else:
        # A device nobody has measured yet: right, or wrong in the one known way.
        assert (answer.status, named) in (("pass", ()), *(("culprits", told) for told in tellings(bug)))
    # A suspect that is not certified is run once more, by itself; a pattern is searched window by window.
    if bug.first is None and not compiles_each_time(on_device):
        assert answer.device_compiles <= 3 + (0 if answer.certified else len(answer.culprits))


def test_residency_comes_from_the_runtime(on_device: OnDevice) -> None:
    found = on_device.compare(CORPUS[-1].build())
    assert found.ok
    assert found.done.residency.full
