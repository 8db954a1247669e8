"""Schedules of time alone: the loss is not looked at.

`step` counts the optimizer steps made so far; `at(step)` is the scale of the next one. Every rule has a last scale, at which
it stays when the run goes on for longer than `steps`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from math import log2, pi
from typing import Any, NamedTuple

from surefoot import checks
from surefoot.arithmetic import arithmetic


class TimedState(NamedTuple):
    """The scale to use next, and how many steps were made so far."""

    scale: Any
    step: Any = 0


class Timed(ABC):
    """What every schedule of time shares: a count of steps, and `at`, the scale as a function of it."""

    @abstractmethod
    def at(self, step: Any) -> Any:
        """The scale after `step` steps (a whole number, or an array of them)."""

    def init(self) -> TimedState:
        """The state before the first step."""
        return TimedState(float(self.at(0)))

    def update(self, state: TimedState, loss: Any, **_signals: Any) -> TimedState:  # noqa: ARG002 - the loss is not looked at
        """The state after one more step."""
        step = state.step + 1
        return TimedState(self.at(step), step)


def _progress(step: Any, steps: int) -> Any:
    """The elapsed fraction of `steps`, at most 1."""
    return arithmetic(step).where(step < steps, step, steps) / float(steps)


@dataclass(frozen=True)
class Constant(Timed):
    """The same rate throughout.

    >>> Constant().at(1000)
    1.0

    Attributes:
        scale: Multiple of the base rate, 0 or more.
    """

    scale: float = 1.0

    def __post_init__(self) -> None:
        checks.number("scale", self.scale, low=0.0)

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        return self.scale + 0.0 * step


@dataclass(frozen=True)
class Step(Timed):
    """Multiply the rate by `factor` at each milestone.

    For a cut every 30 steps, put `Every(Exponential(factor=0.1), steps=30)`.

    >>> [Step(milestones=(2, 4), factor=0.5).at(t) for t in range(5)]
    [1.0, 1.0, 0.5, 0.5, 0.25]

    Attributes:
        milestones: Numbers of steps after which the scale is multiplied, whole, 1 or more, each larger than the last.
        factor: What it is multiplied by, strictly between 0 and 1.
    """

    milestones: tuple[int, ...]
    factor: float = 0.1

    def __post_init__(self) -> None:
        if not isinstance(self.milestones, Iterable):
            raise TypeError(f"milestones must be a sequence of whole numbers such as (500, 750), got {self.milestones!r}")
        object.__setattr__(self, "milestones", tuple(self.milestones))
        for before, milestone in zip((0, *self.milestones), self.milestones, strict=False):
            checks.whole("milestones", milestone, low=before + 1)
        checks.fraction("factor", self.factor, advice="it multiplies the rate")

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        scale, xp = 1.0 + 0.0 * step, arithmetic(step)
        for milestone in self.milestones:
            scale = xp.where(step >= milestone, scale * self.factor, scale)
        return scale


@dataclass(frozen=True)
class Exponential(Timed):
    r"""Multiply the rate by `factor` at every step: $s_t = f^t$.

    >>> [Exponential(factor=0.5).at(t) for t in range(4)]
    [1.0, 0.5, 0.25, 0.125]

    Attributes:
        factor: What the scale is multiplied by, strictly between 0 and 1. To end at a fraction e of the base rate after T
            steps, take `e ** (1 / T)`.
    """

    factor: float

    def __post_init__(self) -> None:
        checks.fraction("factor", self.factor, advice="it multiplies the rate at every step")

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        return self.factor ** (1.0 * step)


@dataclass(frozen=True)
class Linear(Timed):
    r"""A straight line from one scale to another: $s_t = a + (b - a)\,t/T$.

    >>> [Linear(steps=4).at(t) for t in range(6)]
    [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]

    Attributes:
        steps: Steps until the line ends, 1 or more.
        start: First scale, 0 or more.
        end: Last scale, 0 or more.
    """

    steps: int
    start: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        checks.whole("steps", self.steps, low=1)
        checks.number("start", self.start, low=0.0)
        checks.number("end", self.end, low=0.0)

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        done = _progress(step, self.steps)
        return self.start * (1.0 - done) + self.end * done


def _cosine(done: Any, end: float) -> Any:
    """Half a cosine wave from 1 to `end`."""
    return end + (1.0 - end) * 0.5 * (1.0 + arithmetic(done).cos(pi * done))


@dataclass(frozen=True)
class Cosine(Timed):
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

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        return _cosine(_progress(step, self.steps), self.end)


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


@dataclass(frozen=True)
class Polynomial(Timed):
    r"""A power of the remaining fraction: $s_t = e + (1 - e)\,(1 - t/T)^p$.

    >>> [Polynomial(steps=4, power=2.0).at(t) for t in range(5)]
    [1.0, 0.5625, 0.25, 0.0625, 0.0]

    Attributes:
        steps: Steps until the end, 1 or more.
        power: Exponent, 0 or more; 1 is a straight line.
        end: Last scale, between 0 and 1.
    """

    steps: int
    power: float = 1.0
    end: float = 0.0

    def __post_init__(self) -> None:
        checks.whole("steps", self.steps, low=1)
        checks.number("power", self.power, low=0.0)
        checks.number("end", self.end, low=0.0, high=1.0)

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        return self.end + (1.0 - self.end) * (1.0 - _progress(step, self.steps)) ** self.power


@dataclass(frozen=True)
class OneCycle(Timed):
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

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        xp, done = arithmetic(step), _progress(step, self.steps)
        rises = done < self.rise
        up = xp.where(rises, done, 0.0) / (self.rise or 1.0)
        down = xp.where(rises, 0.0, done - self.rise) / ((1.0 - self.rise) or 1.0)
        return xp.where(rises, _cosine(1.0 - up, self.start), _cosine(down, self.end))


@dataclass(frozen=True)
class WarmupStableDecay(Timed):
    """Up along a line, constant, and down along a line: the trapezoid.

    >>> [WarmupStableDecay(steps=10, warmup=0.2, decay=0.5).at(t) for t in (0, 1, 2, 5, 10)]
    [0.01, 0.505, 1.0, 1.0, 0.0]

    Attributes:
        steps: Length of the run, 1 or more.
        warmup: Fraction of it spent rising, between 0 and 1.
        decay: Fraction of it spent falling, between 0 and 1; together with `warmup` at most 1.
        start: First scale if there is a warmup, between 0 and 1; at 0 the first step would be wasted.
        end: Last scale, between 0 and 1.

    Reference: Hu et al., 2024, arXiv:2404.06395; Hägele et al., 2024, arXiv:2405.18392.
    """

    steps: int
    warmup: float = 0.05
    decay: float = 0.2
    start: float = 0.01
    end: float = 0.0

    def __post_init__(self) -> None:
        checks.whole("steps", self.steps, low=1)
        for name in ("warmup", "decay", "start", "end"):
            checks.number(name, getattr(self, name), low=0.0, high=1.0)
        checks.number("warmup + decay", self.warmup + self.decay, low=0.0, high=1.0, advice="they are fractions of one run")

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        xp, done = arithmetic(step), _progress(step, self.steps)
        up, left = done / (self.warmup or 1.0), (1.0 - done) / (self.decay or 1.0)
        rising = self.start * (1.0 - up) + up
        falling = self.end + (1.0 - self.end) * left
        return xp.where(done < self.warmup, rising, xp.where(left < 1.0, falling, 1.0))
