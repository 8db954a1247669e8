"""Schedules of time along cosine waves."""

from __future__ import annotations

from dataclasses import dataclass
from math import log2, pi
from typing import Any

from surefoot import checks
from surefoot.arithmetic import arithmetic
from surefoot.timed import Budgeted, Timed, TimedState


def _cosine(done: Any, end: float) -> Any:
    """Half a cosine wave from 1 to `end`."""
    return end + (1.0 - end) * 0.5 * (1.0 + arithmetic(done).cos(pi * done))


@dataclass(frozen=True)
class Cosine(Budgeted):
    r"""Half a cosine wave: $s_t = e + (1 - e)\,\tfrac12\,(1 + \cos \pi t/T)$.

    >>> [round(Cosine(steps=4).at(t), 3) for t in range(5)]
    [1.0, 0.854, 0.5, 0.146, 0.0]

    Attributes:
        steps: Steps until the wave ends, 1 or more.
        end: Last scale, between 0 and 1.

    Reference: Loshchilov and Hutter, 2017, arXiv:1608.03983, equation 5 without restarts.
    """

    steps: int
    end: float = 0.0

    def __post_init__(self) -> None:
        checks.whole("steps", self.steps, low=1)
        checks.number("end", self.end, low=0.0, high=1.0)

    def along(self, done: Any) -> Any:
        """The scale once a fraction `done` of the budget is used up."""
        return _cosine(done, self.end)


@dataclass(frozen=True)
class CosineRestarts(Timed):
    r"""Half cosine waves one after another, each `growth` times as long as the one before.

    The i-th wave takes $T_i = T\,g^i$ steps and starts at scale 1 again.

    >>> [round(CosineRestarts(steps=2).at(t), 2) for t in range(5)]
    [1.0, 0.5, 1.0, 0.5, 1.0]
    >>> [round(CosineRestarts(steps=1, growth=2).at(t), 2) for t in range(7)]
    [1.0, 1.0, 0.5, 1.0, 0.85, 0.5, 0.15]

    Attributes:
        steps: Length of the first wave, 1 or more.
        growth: How many times longer each wave is than the one before; whole, 1 or more.
        end: Scale at which every wave ends, between 0 and 1.

    Reference: Loshchilov and Hutter, 2017, arXiv:1608.03983, equation 5.
    """

    steps: int
    growth: int = 1
    end: float = 0.0

    def __post_init__(self) -> None:
        checks.whole("steps", self.steps, low=1)
        checks.whole("growth", self.growth, low=1)
        checks.number("end", self.end, low=0.0, high=1.0)

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        xp = arithmetic(step)
        if self.growth == 1:
            return _cosine((step % self.steps) / float(self.steps), self.end)
        # The i-th wave begins after T (g^i - 1) / (g - 1) steps. The half step keeps the logarithm off whole numbers.
        waves = 1.0 + (step + 0.5) * (self.growth - 1.0) / self.steps
        wave = xp.floor(xp.log2(waves) / log2(self.growth))
        length = self.steps * float(self.growth) ** wave
        first = (length - self.steps) / (self.growth - 1.0)
        return _cosine((step - first) / length, self.end)

    def why(self, before: TimedState, after: TimedState) -> str:
        """That a wave begins, in words; empty on the way."""
        return "raised: another wave begins" if after.scale > before.scale else ""


@dataclass(frozen=True)
class OneCycle(Budgeted):
    r"""Up from a small rate to the base rate and down to almost nothing, both along half a cosine wave.

    The base rate is the peak.

    >>> [round(OneCycle(steps=10, rise=0.5).at(t), 3) for t in (0, 5, 10)]
    [0.04, 1.0, 0.0]

    Attributes:
        steps: Length of the cycle, 1 or more.
        rise: Fraction of it spent rising, between 0 and 1.
        start: First scale, between 0 and 1.
        end: Last scale, between 0 and 1.

    Reference: Smith and Topin, 2018, arXiv:1708.07120; the cosine form and the defaults are those made common by fastai.
    """

    steps: int
    rise: float = 0.3
    start: float = 0.04
    end: float = 4e-6

    def __post_init__(self) -> None:
        checks.whole("steps", self.steps, low=1)
        for name in ("rise", "start", "end"):
            checks.number(name, getattr(self, name), low=0.0, high=1.0)

    def along(self, done: Any) -> Any:
        """The scale once a fraction `done` of the budget is used up."""
        xp = arithmetic(done)
        rises = done < self.rise
        up = xp.where(rises, done, 0.0) / (self.rise or 1.0)
        down = xp.where(rises, 0.0, done - self.rise) / ((1.0 - self.rise) or 1.0)
        return xp.where(rises, _cosine(1.0 - up, self.start), _cosine(down, self.end))
