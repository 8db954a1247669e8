"""Schedules of time alone: the loss is not looked at.

`step` counts the optimizer steps made so far; `at(step)` is the scale of the next one. Every rule made for a budget has a last
scale, at which it stays when the run goes on for longer than `steps`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
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


class Budgeted(Timed):
    """What every schedule made for a budget shares: the scale is a function of the fraction of it that is used up.

    That is counted in steps. Where the signal `progress` is given, it is followed instead, and the budget may be anything:
    seconds, epochs, tokens.

    >>> rule = Linear(steps=100)
    >>> rule.update(rule.init(), 3.0).scale, rule.update(rule.init(), 3.0, progress=0.5).scale
    (0.99, 0.5)
    """

    steps: int

    @abstractmethod
    def along(self, done: Any) -> Any:
        """The scale once a fraction `done` of the budget is used up, between 0 and 1."""

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        return self.along(_elapsed(step, self.steps))

    def update(self, state: TimedState, loss: Any, *, progress: Any = None, **_signals: Any) -> TimedState:  # noqa: ARG002 - see above
        """The state after one more step.

        Args:
            state: What `init` or the last `update` returned.
            loss: Not looked at.
            progress: The fraction of the budget that is used up by now, between 0 and 1, more counting as 1; None, or anything
                below 0, if steps are to be counted.
            **_signals: Not looked at, either.
        """
        step = state.step + 1
        return TimedState(self.at(step) if progress is None else self.along(self._told(step, progress)), step)

    def _told(self, step: Any, progress: Any) -> Any:
        counted = _elapsed(step, self.steps)
        progress = progress + 0.0 * counted
        xp = arithmetic(progress)
        return xp.where(progress >= 0.0, xp.where(progress < 1.0, progress, 1.0), counted)


def _elapsed(step: Any, steps: int) -> Any:
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

    def why(self, _before: TimedState, after: TimedState) -> str:
        """Which milestone was reached, in words."""
        return f"lowered: milestone {self.milestones.index(after.step) + 1}, after {after.step} steps"


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
class InverseTime(Timed):
    r"""Fall as a power of the time: $s_t = (1 + t/T)^{-p}$.

    The rates that stochastic approximation was first proved to converge with: the sum of the steps grows without limit, so that
    any distance can be covered, and for a power above 1/2 that of their squares does not, so that noise averages out.

    >>> [InverseTime(steps=2).at(t) for t in (0, 2, 6, 14)]
    [1.0, 0.5, 0.25, 0.125]

    Attributes:
        steps: Steps after which the scale is $2^{-p}$ of the first, 1 or more; it goes on falling.
        power: Exponent, above 0 and at most 1.

    Reference: Robbins and Monro, 1951, doi:10.1214/aoms/1177729586.
    """

    steps: int
    power: float = 1.0

    def __post_init__(self) -> None:
        checks.whole("steps", self.steps, low=1)
        checks.number("power", self.power, low=0.0, high=1.0)
        if self.power == 0.0:
            raise ValueError("power must be above 0: at 0 the rate is Constant()")

    def at(self, step: Any) -> Any:
        """The scale after `step` steps."""
        return (1.0 + step / float(self.steps)) ** -self.power


@dataclass(frozen=True)
class Linear(Budgeted):
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

    def along(self, done: Any) -> Any:
        """The scale once a fraction `done` of the budget is used up."""
        return self.start * (1.0 - done) + self.end * done


@dataclass(frozen=True)
class Polynomial(Budgeted):
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

    def along(self, done: Any) -> Any:
        """The scale once a fraction `done` of the budget is used up."""
        return self.end + (1.0 - self.end) * (1.0 - done) ** self.power


@dataclass(frozen=True)
class WarmupStableDecay(Budgeted):
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

    def along(self, done: Any) -> Any:
        """The scale once a fraction `done` of the budget is used up."""
        xp = arithmetic(done)
        up, left = done / (self.warmup or 1.0), (1.0 - done) / (self.decay or 1.0)
        rising = self.start * (1.0 - up) + up
        falling = self.end + (1.0 - self.end) * left
        return xp.where(done < self.warmup, rising, xp.where(left < 1.0, falling, 1.0))

    def why(self, before: TimedState, after: TimedState) -> str:
        """Which part begins, in words; empty on the way."""
        if after.scale == 1.0:
            return "raised: the warmup is over"
        return "lowered: the decay begins" if before.scale == 1.0 else ""
