"""The range test: a rate that rises from step to step until the loss explodes, and the rate that its curve recommends."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot import checks

if TYPE_CHECKING:
    from collections.abc import Sequence

STEPS = 100
LOWEST, HIGHEST = 1e-6, 10.0
"""The test's first and last rate."""
_SMOOTHING = 0.9
_EXPLODED = 4.0


class RangeState(NamedTuple):
    """How far the test is."""

    scale: Any = 1.0
    step: Any = 0


@dataclass(frozen=True)
class RangeTest:
    """Rates that grow by one factor at every step, from the base rate to `high` times it.

    >>> from surefoot import schedule
    >>> [round(state.scale) for state in schedule(RangeTest(high=100.0, steps=3), [1.0] * 2)]
    [1, 10, 100]

    Attributes:
        high: The last scale, above 1.
        steps: Steps of the test, 2 or more.

    Reference: Smith, 2015, arXiv:1506.01186, section 3.3.
    """

    high: float = HIGHEST / LOWEST
    steps: int = STEPS

    def __post_init__(self) -> None:
        checks.number("high", self.high, low=1.0)
        checks.whole("steps", self.steps, low=2)

    def init(self) -> RangeState:
        """The base rate."""
        return RangeState()

    def update(self, state: RangeState, loss: Any, **_: Any) -> RangeState:
        """The next rate, whatever the loss."""
        step = state.step + 1
        del loss
        return RangeState(self.high ** (step / (self.steps - 1)), step)


def steepest(losses: Sequence[float], rates: Sequence[float]) -> float:
    """The rate at which the smoothed loss falls fastest, per factor of the rate.

    The losses are averaged with a weight of 0.9 for what was before, and looked at until one is four times the least.

    >>> steepest([4.0, 4.0, 4.0, 1.0, 0.9, 0.9, 90.0], [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0])
    0.1

    Args:
        losses: The training losses of a range test, in its order; from the first that is not finite they are ignored.
        rates: The rates that each of them was followed by, above 0.

    Returns:
        One of the rates; the lowest if fewer than three losses are left to look at.

    Reference: Smith, 2015, arXiv:1506.01186, section 3.3; what falls fastest, as is custom, rather than what falls at all.
    """
    smoothed: list[float] = []
    mean = 0.0
    for count, loss in enumerate(losses, 1):
        mean = _SMOOTHING * mean + (1.0 - _SMOOTHING) * loss if isfinite(loss) else loss
        smoothed.append(mean / (1.0 - _SMOOTHING**count))
        if not (isfinite(mean) and smoothed[-1] <= _EXPLODED * min(smoothed)):
            smoothed.pop()
            break
    if len(smoothed) < 3:  # noqa: PLR2004 - No slope to speak of.
        return float(rates[0])
    slopes = np.gradient(np.array(smoothed), np.log(np.array(rates[: len(smoothed)])))
    return float(rates[int(np.argmin(slopes))])
