"""How long a run is: a policy made for a length is told it, in steps or by a clock."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any

from surefoot import checks
from surefoot.combine import Clip, Every, Warmup
from surefoot.timed import InverseTime
from surefoot.waves import CosineRestarts

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.policy import Policy

_OF_A_PART = (CosineRestarts, Every, InverseTime, Warmup)
"""Policies whose `steps` are not the length of the run."""


def in_steps(policy: Policy[Any], steps: int) -> Policy[Any]:
    """The same policy with its setting `steps` replaced by a budget.

    >>> from surefoot import Cosine
    >>> in_steps(Clip(Cosine(steps=1), max_scale=0.5), 1000)
    Clip(policy=Cosine(steps=1000, end=0.0), min_scale=0.0, max_scale=0.5)

    Args:
        policy: One with a setting `steps` that is the length of the run, or a `Clip` of one.
        steps: The budget in optimizer steps, 1 or more.

    Raises:
        TypeError: The budget is no whole number.
        ValueError: The budget is less than 1, or the policy is not made for one.
    """
    checks.whole("total_steps", steps, low=1)
    if isinstance(policy, Clip):
        return replace(policy, policy=in_steps(policy.policy, steps))
    if isinstance(policy, _OF_A_PART) or not _has(policy, "steps"):
        raise ValueError(
            f"total_steps is for policies whose `steps` are the length of the run, such as Cosine or Learned, got {policy!r} "
            "(leave it out)"
        )
    return replace(policy, steps=steps)  # type: ignore[type-var] # It is a dataclass, as has been seen.


def by_clock(policy: Policy[Any]) -> Policy[Any]:
    """The same policy, ready to be told by the signal `progress` how much of its budget is used up.

    Those with a setting `timed`, such as `Learned`, have it set; others either follow the signal as they are or never do.
    """
    if isinstance(policy, Clip):
        return replace(policy, policy=by_clock(policy.policy))
    if not _has(policy, "timed"):
        return policy
    return replace(policy, timed=True)  # type: ignore[type-var] # The same.


def _has(policy: Any, name: str) -> bool:
    return is_dataclass(policy) and name in {setting.name for setting in fields(policy)}


@dataclass
class Stopwatch:
    """A budget in seconds, which goes on where it was when it is copied or loaded.

    >>> times = iter([100.0, 103.0, 105.0, 111.0])
    >>> watch = Stopwatch(10.0, clock=lambda: next(times))
    >>> watch.progress(), watch.elapsed, watch.progress()
    (0.3, 5.0, 1.0)

    Attributes:
        total: The budget in seconds, above 0.
        clock: What tells the time, in seconds from anywhere.
        before: Seconds that had passed when the watch was started.

    Raises:
        TypeError: The budget is no number.
        ValueError: It is not above 0.
    """

    total: float
    clock: Callable[[], float] = monotonic
    before: float = 0.0
    _began: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks.number("total_seconds", self.total, low=0.0)
        if not self.total > 0.0:
            raise ValueError(f"total_seconds must be above 0, got {self.total}")
        self._began = self.clock()

    @property
    def elapsed(self) -> float:
        """Seconds that have passed since the run was begun, without those in which it was not running."""
        return self.before + self.clock() - self._began

    def progress(self) -> float:
        """The fraction of the budget that is used up, at most 1."""
        return min(1.0, self.elapsed / self.total)

    def set(self, elapsed: float) -> None:
        """Go on as if so many seconds had passed."""
        self.before, self._began = elapsed, self.clock()

    def __getstate__(self) -> dict[str, Any]:
        return {"total": self.total, "clock": self.clock, "before": self.elapsed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.total, self.clock = state["total"], state["clock"]
        self.set(state["before"])
