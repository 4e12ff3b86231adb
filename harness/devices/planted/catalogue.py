"""The planted bugs by name. To add one: its module, and its line in `BUGS`."""

from __future__ import annotations

from harness.core.errors import UsageError
from harness.devices.planted.blocks import CONVOLUTION, RESIDUAL
from harness.devices.planted.bug import Bug
from harness.devices.planted.layout import LOW_RANK, RESIZE
from harness.devices.planted.reductions import HALF_SUMS, MULTI_AXIS
from harness.devices.planted.refusals import REFUSALS

PREFIX = "planted:"

BUGS = (MULTI_AXIS, RESIDUAL, RESIZE, CONVOLUTION, HALF_SUMS, REFUSALS, LOW_RANK)
# Of the bugs that one op meets, the first shows.
SETS = {"mali": BUGS, "none": ()}


def names() -> tuple[str, ...]:
    """What may come behind the prefix."""
    return (*SETS, *(bug.name for bug in BUGS))


def bugs_of(device: str) -> tuple[Bug, ...]:
    """The bugs of a device's name: `planted:` and a set, a bug, or several bugs with `+` between them.

    Raises:
        UsageError: there is no such bug.
    """
    chosen = device.removeprefix(PREFIX)
    if chosen in SETS:
        return SETS[chosen]
    known = {bug.name: bug for bug in BUGS}
    names = chosen.split("+")
    for name in names:
        if name not in known:
            raise UsageError(
                f"There is no planted bug '{name}'.",
                f"Use {', '.join(SETS)}, or one or several, with + between them, of: {', '.join(known)}.",
            )
    return tuple(bug for bug in BUGS if bug.name in names)
