"""What can go wrong outside this program, each with the exit code that the command line gives it.

Two roots: :class:`HarnessError` is the fault of an input, a device or the surroundings; it is shown as one sentence
and the next step, never as a traceback. Anything else that escapes is a defect of the harness and keeps its traceback.
"""

from pathlib import Path
from typing import ClassVar, Literal

from harness.core.visible import visible

EXIT_OK = 0
EXIT_WRONG = 1
EXIT_MISUSE = 2
EXIT_DEVICE = 3
EXIT_UNRESOLVED = 4
EXIT_DEFECT = 70  # EX_SOFTWARE of sysexits.h


Trouble = Literal["refused", "reference", "crashed", "silent", "lost"]
"""What device trouble was: the runtime did not take the model, the host's own CPU did not, the process on the device
crashed, gave no answer in time, or the device is not there, or anything else of it."""

FREE_MEMORY = "Free memory, or export the model for smaller shapes."
"""The next step where memory does not suffice."""


def in_a_clone() -> bool:
    """Whether the package runs from a clone of its repository, where `make` sets things up."""
    return (Path(__file__).parents[2] / "Makefile").is_file()


def install_extra(extra: str) -> str:
    """The command that installs one of the package's extras, where the user is: in a clone or not."""
    return f"pip install -e '.[{extra}]'" if in_a_clone() else f"pip install 'litert-device-harness[{extra}]'"


class HarnessError(Exception):
    """A fault outside the harness: `message` names the offending value, `next_step` says what mends it."""

    exit_code = EXIT_MISUSE

    def __init__(self, message: str, next_step: str = "") -> None:
        if message.endswith("..") and not message.endswith("..."):
            message = message[:-1]  # the words of a runtime that it quotes had a full stop of their own
        super().__init__(message if not next_step else f"{message} {next_step}")
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        """Both, with nothing that gives orders to a terminal: pytest, for one, prints it as it is."""
        return visible(super().__str__())


class UsageError(HarnessError):
    """A bad file, name, shape or option (exit code 2)."""


class StorageError(HarnessError):
    """A folder that cannot be written, or a full disk (exit code 2)."""


class DeviceError(HarnessError):
    """A device that is absent, lost, crashed, timed out or refused the model (exit code 3). `log` is what the runtime
    said."""

    exit_code = EXIT_DEVICE
    trouble: ClassVar[Trouble] = "lost"

    def __init__(self, message: str, next_step: str = "", log: str = "") -> None:
        super().__init__(message, next_step)
        self.log = log


class DeviceRefused(DeviceError):
    """A device whose runtime did not take a model: what was being done, its `reason`, and the `ops` that it names, if
    it names any."""

    trouble: ClassVar[Trouble] = "refused"

    def __init__(
        self,
        message: str,
        next_step: str = "",
        log: str = "",
        *,
        reason: str,
        ops: tuple[str, ...],
        doing: str = "",
    ) -> None:
        super().__init__(message, next_step, log)
        self.reason = reason
        self.ops = ops
        self.doing = doing


class NoReference(DeviceError):
    """A model that the host's CPU runtime does not compute, so that there is nothing to compare with, however often it
    is asked."""

    trouble: ClassVar[Trouble] = "reference"


class DeviceDied(DeviceError):
    """The process on the device crashed, or gave no answer in time and was ended: a property of the model, maybe."""

    trouble: ClassVar[Trouble] = "crashed"


class DeviceSilent(DeviceDied):
    """The process gave no answer in time and was ended: it may have been slow."""

    trouble: ClassVar[Trouble] = "silent"


class UnresolvedError(HarnessError):
    """The question could not be answered with what the device gave (exit code 4)."""

    exit_code = EXIT_UNRESOLVED
