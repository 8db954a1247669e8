"""Policies made of policies."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, nan
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot import checks
from surefoot.arithmetic import arithmetic, choose, widen
from surefoot.changes import moved, reason

if TYPE_CHECKING:
    from surefoot.policy import Policy


class WrapState(NamedTuple):
    """The scale to use next, the steps made so far, and the state of the wrapped policy."""

    scale: Any
    step: Any
    inner: Any


class EveryState(NamedTuple):
    """The state of the wrapped policy between two of its updates, and the sum of the losses it has not yet seen."""

    scale: Any
    step: Any
    inner: Any
    total: Any = 0.0
    count: Any = 0


class ThenState(NamedTuple):
    """The scale to use next, the steps made so far, and the states of both policies."""

    scale: Any
    step: Any
    first: Any
    second: Any


@dataclass(frozen=True)
class Clip:
    """Keep another policy's scale within limits.

    A policy that builds its next scale on its last, such as `Greedy`, is told of the limit: its own scale is set back too, so
    that it does not wind up outside and need as long to come back. Inside `Warmup`, `Every` and `Then` it is not.

    >>> from surefoot import Greedy, schedule
    >>> clipped = Clip(Greedy(factor=0.5, patience=0), max_scale=2.0)
    >>> [state.scale for state in schedule(clipped, [5.0, 4.0, 3.0, 2.0, 6.0])]
    [1.0, 2.0, 2.0, 2.0, 2.0, 1.0]

    Attributes:
        policy: The policy to keep within limits.
        min_scale, max_scale: The limits, as multiples of the base rate, 0 or more.
    """

    policy: Policy[Any]
    min_scale: float = 0.0
    max_scale: float = 1.0

    def __post_init__(self) -> None:
        checks.policy("policy", self.policy)
        checks.number("min_scale", self.min_scale, low=0.0)
        checks.number("max_scale", self.max_scale, low=self.min_scale, advice="it must not be below min_scale")

    def init(self) -> Any:
        """The wrapped policy's first state, within the limits."""
        return self._clip(self.policy.init())

    def update(self, state: Any, loss: Any, **signals: Any) -> Any:
        """The wrapped policy's next state, within the limits."""
        return self._clip(self.policy.update(state, loss, **signals))

    def why(self, before: Any, after: Any) -> str:
        """The wrapped policy's reason."""
        return reason(self.policy, before, after)

    def _clip(self, state: Any) -> Any:
        scale, xp = state.scale, arithmetic(state.scale)
        scale = xp.where(scale < self.min_scale, self.min_scale, scale)
        return state._replace(scale=xp.where(scale > self.max_scale, self.max_scale, scale))


@dataclass(frozen=True)
class Warmup:
    r"""Begin with a straight ramp from a small rate; the policy starts when it ends, and sees none of its losses.

    While $t < T$ the scale is $\left(a + (1 - a)\,t/T\right) s_0$, where $s_0$ is the policy's first scale.

    >>> from surefoot import Linear, schedule
    >>> [state.scale for state in schedule(Warmup(Linear(steps=2), steps=2, start=0.5), [1.0] * 4)]
    [0.5, 0.75, 1.0, 0.5, 0.0]

    Attributes:
        policy: The policy to follow afterwards.
        steps: Length of the ramp, 1 or more.
        start: Where it starts, as a fraction of the policy's first scale, between 0 and 1; at 0 the first step would be wasted.
    """

    policy: Policy[Any]
    steps: int
    start: float = 0.01

    def __post_init__(self) -> None:
        checks.policy("policy", self.policy)
        checks.whole("steps", self.steps, low=1)
        checks.number("start", self.start, low=0.0, high=1.0)

    def init(self) -> WrapState:
        """The start of the ramp."""
        inner = self.policy.init()
        return WrapState(self._ramp(0) * inner.scale, 0, inner)

    def update(self, state: WrapState, loss: Any, **signals: Any) -> WrapState:
        """One step up the ramp, or one update of the policy."""
        inner = choose(state.step >= self.steps, lambda: self.policy.update(state.inner, loss, **signals), state.inner)
        step = state.step + 1
        return WrapState(self._ramp(step) * inner.scale, step, inner)

    def why(self, before: WrapState, after: WrapState) -> str:
        """That the ramp is over, in words, and then the policy's reasons; empty on the ramp."""
        if before.step >= self.steps:
            return reason(self.policy, before.inner, after.inner)
        return "raised: the warmup is over" if after.step == self.steps else ""

    def _ramp(self, step: Any) -> Any:
        done = arithmetic(step).where(step < self.steps, step, self.steps) / float(self.steps)
        return self.start * (1.0 - done) + done


@dataclass(frozen=True)
class Every:
    """Update another policy only every so many steps, with the mean of the losses in between.

    Losses that are not finite are left out of the mean; if none is finite, the policy is handed a NaN.

    >>> from surefoot import Exponential, schedule
    >>> [state.scale for state in schedule(Every(Exponential(factor=0.5), steps=2), [1.0] * 5)]
    [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]

    Attributes:
        policy: The policy to slow down.
        steps: Steps from one of its updates to the next, 1 or more.
    """

    policy: Policy[Any]
    steps: int

    def __post_init__(self) -> None:
        checks.policy("policy", self.policy)
        checks.whole("steps", self.steps, low=1)

    def init(self) -> EveryState:
        """The policy's first state, and no losses."""
        inner = self.policy.init()
        return EveryState(inner.scale, 0, inner)

    def update(self, state: EveryState, loss: Any, **signals: Any) -> EveryState:
        """Put the loss aside, and hand on the mean when it is time."""
        xp, losses, loss = arithmetic(state.step), arithmetic(loss, state.total), widen(loss)
        known = abs(loss) < inf
        total = losses.where(known, state.total + loss, state.total)
        count = losses.where(known, state.count + 1, state.count)
        mean = losses.where(count > 0, total / losses.where(count > 0, count, 1), nan)
        step = state.step + 1
        due = step % self.steps == 0
        inner = choose(due, lambda: self.policy.update(state.inner, mean, **signals), state.inner)
        return EveryState(inner.scale, step, inner, xp.where(due, 0.0, total), xp.where(due, 0, count))

    def why(self, before: EveryState, after: EveryState) -> str:
        """The policy's reason, which is about means."""
        said = reason(self.policy, before.inner, after.inner)
        return f"{said} (means of {self.steps} losses)" if said else ""


@dataclass(frozen=True)
class Then:
    """One policy after another; either may be driven by the loss.

    The second policy starts fresh at the hand-over. For more than two, put a `Then` into a `Then`.

    >>> from surefoot import Constant, Linear, schedule
    >>> [state.scale for state in schedule(Then(Constant(), Linear(steps=2), after=2), [1.0] * 4)]
    [1.0, 1.0, 1.0, 0.5, 0.0]

    Greedy first, and from wherever it has got to in a line to zero:

    >>> from surefoot import Greedy
    >>> both = Then(Greedy(factor=0.5, patience=0), Linear(steps=2), after=2, carry=True)
    >>> [state.scale for state in schedule(both, [5.0, 4.0, 3.0, 2.0])]
    [1.0, 2.0, 4.0, 2.0, 0.0]

    Attributes:
        first: The policy of the first `after` steps.
        second: The policy of all others.
        after: Steps until the hand-over, 1 or more.
        carry: Whether the second policy's scale counts from the first one's last (True) or from the base rate (False).
    """

    first: Policy[Any]
    second: Policy[Any]
    after: int
    carry: bool = False

    def __post_init__(self) -> None:
        checks.policy("first", self.first)
        checks.policy("second", self.second)
        checks.whole("after", self.after, low=1)

    def init(self) -> ThenState:
        """The first states of both policies."""
        first = self.first.init()
        return ThenState(first.scale, 0, first, self.second.init())

    def update(self, state: ThenState, loss: Any, **signals: Any) -> ThenState:
        """One update of the policy whose turn it is."""
        xp = arithmetic(state.step)
        is_first = state.step < self.after
        first = choose(is_first, lambda: self.first.update(state.first, loss, **signals), state.first)
        second_turn = xp.where(is_first, False, True)
        second = choose(second_turn, lambda: self.second.update(state.second, loss, **signals), state.second)
        step = state.step + 1
        later = second.scale * first.scale if self.carry else second.scale
        return ThenState(xp.where(step < self.after, first.scale, later), step, first, second)

    def why(self, before: ThenState, after: ThenState) -> str:
        """The reason of the policy whose turn it is; at the hand-over, that."""
        if after.step == self.after:
            return f"{moved(before.scale, after.scale)}: the next policy takes over"
        first = after.step < self.after
        return reason(self.first, before.first, after.first) if first else reason(self.second, before.second, after.second)
