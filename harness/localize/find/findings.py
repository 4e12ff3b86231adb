"""What was found and how sure it is: culprits, what their errors do to the outputs together, and the rule by which a
finding is certified. Nothing here asks a device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.localize.base.op_record import OpRecord
from harness.localize.base.result import Culprit, Impact, OutputVerdict

# The share of an output's error that the culprits may leave over. Injected errors of true culprits leave what rounding
# on top of a wrong state makes; those of a lying tap leave all of it, or add to it.
UNEXPLAINED = 0.5


@dataclass(frozen=True)
class Findings:
    """Culprits by their ops, and what their errors, injected into the exact model together, do to its outputs."""

    culprits: tuple[Culprit, ...] = ()
    explained: tuple[Impact, ...] = ()
    notes: tuple[str, ...] = ()

    def having(self, culprits: Iterable[Culprit]) -> Findings:
        """The same with other culprits."""
        return replace(self, culprits=tuple(culprits))

    def noting(self, notes: Iterable[str]) -> Findings:
        """The same with more notes."""
        return replace(self, notes=(*self.notes, *notes))

    @property
    def named(self) -> frozenset[OpRecord]:
        """The records of the culprits."""
        return frozenset(culprit.record for culprit in self.culprits)

    def account_for(self, outputs: Sequence[OutputVerdict]) -> bool:
        """Whether there are culprits whose errors make every failing output fail."""
        return bool(self.culprits) and accounts_for(self.explained, outputs)

    def certified(self, outputs: Sequence[OutputVerdict], *, unchanged: bool) -> bool:
        """Whether the culprits are beyond doubt: reading left the model as it was (`unchanged`), each was read in two
        ways that agree, their errors make every failing output fail, and they make of the outputs what the device
        does, unless each fails in isolation as well."""
        sure = unchanged and self.account_for(outputs) and all(culprit.certified for culprit in self.culprits)
        return sure and (explains(self.explained, outputs) or all(culprit.isolated for culprit in self.culprits))

    def unaccounted(self, outputs: Sequence[OutputVerdict]) -> list[str]:
        """A note for each failing output that no culprit's error makes fail, where errors could be injected at all."""
        if not (self.culprits and self.explained):
            return []
        left = [o for o in outputs if not o.explained and not accounts_for(self.explained, [o])]
        return [f"Output '{output.name}' is wrong, and no culprit accounts for it." for output in left]


NOTHING = Findings()


def accounts_for(explained: Sequence[Impact], outputs: Sequence[OutputVerdict]) -> bool:
    """Whether the culprits' errors, injected into the exact model, make every failing output fail."""
    failed = {impact.output for impact in explained if not impact.judgement.ok}
    return all(output.explained or output.name in failed for output in outputs)


def explains(explained: Sequence[Impact], outputs: Sequence[OutputVerdict]) -> bool:
    """Whether the outputs with the culprits' errors injected are the device's own, as far as it matters: a tap that
    lies makes an error that the outputs do not show."""
    wrong = {output.name for output in outputs if not output.explained}
    return all(impact.unexplained <= UNEXPLAINED for impact in explained if impact.output in wrong)
