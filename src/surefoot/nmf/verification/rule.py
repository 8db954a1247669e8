"""A way to choose rates, and what is claimed of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from surefoot.nmf.verification.fleets import FLEET

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.nmf.verification.fleets import Problems
    from surefoot.nmf.verification.watching import Found

Claim = Literal["proved", "held", "above", "invalid", "measured"]
CLAIMS: dict[Claim, str] = {
    "proved": "Proved: no failure may be found",
    "held": "Not proved, but never seen to fail: no failure may be found",
    "above": "Just above an edge: failures must be found",
    "invalid": "Documented as invalid: failures must be found",
    "measured": "Measured, with nothing expected",
}


EXPECTED: dict[Claim, Literal["none", "some", "any"]] = {
    "proved": "none",
    "held": "none",
    "above": "some",
    "invalid": "some",
    "measured": "any",
}
_OF_FLEET, _OF_FLEETS = 5, 4


@dataclass(frozen=True)
class Rule:
    """A way to choose rates, and what is claimed of it.

    Attributes:
        name: Lower-case words with hyphens.
        says: What is done, and what counts as a failure.
        claim: What is expected of it.
        check: From a fleet, what is found.
        version: Goes up whenever earlier findings can no longer be compared with new ones.
        few: Whether a twentieth of the problems is enough, because each takes long.
    """

    name: str
    says: str
    claim: Claim
    check: Callable[[Problems], Found]
    version: int = 1
    few: bool = False

    def concerns(self, seed: int) -> bool:
        """Whether it is checked on the problem of this seed: five problems of every fourth fleet are few."""
        return not self.few or (seed % FLEET < _OF_FLEET and seed // FLEET % _OF_FLEETS == 0)

    @property
    def expects(self) -> Literal["none", "some", "any"]:
        """Whether no failures are expected, some are, or any number is fine."""
        return EXPECTED[self.claim]

    def is_met(self, failing: int) -> bool:
        """Whether that many failing problems are what is expected."""
        return {"none": failing == 0, "some": failing > 0, "any": True}[self.expects]
