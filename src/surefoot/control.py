"""A policy with an empty chair: it sees and schedules, and somebody else decides."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log2
from typing import TYPE_CHECKING, Any, NamedTuple

from surefoot import checks
from surefoot.features import Features, FeatureState
from surefoot.numbers import numbers, together
from surefoot.timed import Constant

if TYPE_CHECKING:
    from surefoot.policy import Policy

_FURTHEST = 40.0


class ControlState(NamedTuple):
    """The scale to use next, and where everything stands.

    Attributes:
        scale: The schedule's scale times the correction.
        step: Steps made.
        wait: Steps until the next decision; 0 if one is due.
        decision: Decisions made.
        correction: Logarithm to the base 2 of what the decisions and alarms have multiplied the schedule by.
        alarms: Alarms so far.
        calm: Steps since the last one, which is when another may follow; a whole window of them at first.
        schedule: The state of the schedule.
        seen: The state of the features.
    """

    scale: Any
    step: Any
    wait: Any
    decision: Any
    correction: Any
    alarms: Any
    calm: Any
    schedule: Any
    seen: FeatureState


@dataclass(frozen=True)
class Control:
    """A schedule that is corrected by decisions: the policy of a learner, without the learner.

    Now and then a decision is due. `view` is what there is to decide by, and `act` takes the decision in: an action between -1
    and 1, which multiplies the scale from then on. In between, `update` folds the losses and follows the schedule. Without any
    decision this is the schedule itself, so a learner that says nothing does something sane. An environment asks an agent for
    its actions and a learned policy its network; everything else they share is here.

    What is too urgent for that is an *alarm*: a loss that is not finite, or far above the usual. The scale is divided by
    `rescue` at once, a decision is due, and the short first windows begin again. At most one comes in a window, or a loss that
    stays high for a while would take the scale to nothing.

    >>> control = Control(Features(window=2), rise=2.0, cut=4.0)
    >>> state = control.act(control.init(), 1.0)
    >>> state = control.update(control.update(state, 5.0), 4.0)
    >>> control.due(state), state.scale, control.act(state, -0.5).scale
    (True, 2.0, 1.0)

    Attributes:
        features: What is seen; a decision is due every `features.window` steps.
        schedule: What is corrected; a constant rate by default.
        steps: The budget in steps, 1 or more, for the entry `progress` of the view; None if it is not known. A signal
            `progress`, for a budget in seconds, takes precedence.
        first: Lengths of the first windows where they differ, each 1 or more: with `(1, 2)` a decision is due before the first
            step, after the first and after the third, before much can go wrong.
        rise: The largest factor of one decision, which is that of action 1, above 1.
        cut: What action -1 divides the scale by, above 1.
        alarm: The multiple of the usual loss, its mean over the last window, above which there is an alarm, above 1; infinite
            for none at all.
        rescue: What an alarm divides the scale by, above 1.
        warmup: Steps over which the scale is led up to the schedule's, evenly in its logarithm, 0 or more. A starting rate that
            is too high is then met from below, where its first signs do no harm.
        begin: The fraction of the schedule's scale at which that begins, above 0 and at most 1.
        settle: How many decisions have their full weight, 1 or more, from the start and again from every alarm; after them the
            n-th has settle / n of it. A small action taken again and again then makes a power of time, where it would have made
            an exponential: what is learned on short trainings does not drift away in long ones. None if all have.
    """

    features: Features = Features()  # noqa: RUF009 - it is frozen
    schedule: Policy[Any] = Constant()  # noqa: RUF009 - so is this
    steps: int | None = None
    first: tuple[int, ...] = ()
    rise: float = 2.0
    cut: float = 2.0
    alarm: float = inf
    rescue: float = 4.0
    warmup: int = 0
    begin: float = 2.0**-8
    settle: int | None = None

    def __post_init__(self) -> None:
        checks.policy("schedule", self.schedule)
        if self.steps is not None:
            checks.whole("steps", self.steps, low=1)
        object.__setattr__(self, "first", tuple(self.first))
        for length in self.first:
            checks.whole("first", length, low=1)
        for name in ("rise", "cut", "rescue") + ("alarm",) * (self.alarm != inf):
            checks.number(name, getattr(self, name), low=1.0)
            if getattr(self, name) == 1.0:
                raise ValueError(f"{name} must be above 1, got 1 (at 1 it would change nothing)")
        checks.whole("warmup", self.warmup, low=0)
        checks.number("begin", self.begin, low=0.0, high=1.0)
        if self.begin == 0.0:
            raise ValueError("begin must be above 0, got 0 (a rate of 0 would stay 0, whatever it is multiplied by)")
        if self.settle is not None:
            checks.whole("settle", self.settle, low=1)

    def init(self) -> ControlState:
        """Nothing seen and nothing decided; a decision is due."""
        schedule = self.schedule.init()
        seen = self.features.init(-1.0 if self.steps is None else 0.0)
        scale = schedule.scale * self._lead(0)
        return ControlState(scale, 0, 0, 0, 0.0, 0, self.features.window, schedule, seen)

    def update(self, state: ControlState, loss: Any, **signals: Any) -> ControlState:
        """One more step, at `state.scale`: see `Features.update` for the signals, which the schedule is told as well."""
        state, loss = together(state, loss)
        xp = numbers(state.scale)
        signals = {"scale": state.scale} | signals
        schedule = self.schedule.update(state.schedule, loss, **signals)
        signals = {"progress": self._progress(xp, state.seen.step + 1.0)} | signals
        is_alarm = self._is_alarm(state, loss)
        correction = xp.where(
            is_alarm, _within_reach(xp, state.correction - log2(self.rescue), state.correction), state.correction
        )
        return ControlState(
            scale=schedule.scale * xp.exp2(correction) * self._lead(state.step + 1),
            step=state.step + 1,
            wait=xp.where(is_alarm, 0 * state.wait, xp.where(state.wait > 1, state.wait - 1, 0 * state.wait)),
            decision=xp.where(is_alarm, 0 * state.decision, state.decision),
            correction=correction,
            alarms=state.alarms + xp.where(is_alarm, 1 + 0 * state.alarms, 0 * state.alarms),
            calm=xp.where(is_alarm, 0 * state.calm, state.calm + 1),
            schedule=schedule,
            seen=self.features.update(state.seen, loss, **signals),
        )

    def due(self, state: ControlState) -> Any:
        """Whether a decision is due."""
        return state.wait == 0

    def view(self, state: ControlState) -> Any:
        """What there is to decide by: `Features.view`."""
        return self.features.view(state.seen)

    def act(self, state: ControlState, action: Any) -> ControlState:
        """Decide.

        Args:
            state: One at which a decision is due.
            action: Between -1 and 1, whatever lies outside counting as the nearer end: at 1 the scale is multiplied by `rise`,
                at -1 it is divided by `cut`, at 0 nothing changes. That is if the decision has its full weight: see `settle`.
        """
        xp = numbers(action, state.scale)
        action = xp.where(action > -1.0, action, -1.0)
        action = xp.where(action < 1.0, action, 1.0)
        action = action * xp.where(action > 0.0, log2(self.rise) + 0.0 * action, log2(self.cut))
        correction = state.correction + action * self._weight(state.decision)
        correction = _within_reach(xp, correction, state.correction)
        wait = self.features.window + 0 * state.decision
        for place, length in enumerate(self.first):
            wait = numbers(wait).where(state.decision == place, length, wait)
        return state._replace(
            scale=state.schedule.scale * xp.exp2(correction) * self._lead(state.step),
            wait=wait,
            decision=state.decision + 1,
            correction=correction,
        )

    def _weight(self, decision: Any) -> Any:
        """What a decision weighs, given how many there were before it."""
        if self.settle is None:
            return 1.0
        xp = numbers(decision)
        return xp.where(decision < self.settle, 1.0 + 0.0 * decision, self.settle / (decision + 1.0))

    def _lead(self, step: Any) -> Any:
        """The fraction of the schedule's scale that the warmup has come to."""
        if not self.warmup:
            return 1.0
        xp = numbers(step)
        left = xp.where(step < self.warmup, self.warmup - step, 0 * step)
        return self.begin ** (left / float(self.warmup))

    def _is_alarm(self, state: ControlState, loss: Any) -> Any:
        """Whether the loss is no number, or far above the usual of the last window."""
        if self.alarm == inf:
            return state.step < 0  # Never, in the state's arithmetic.
        xp, seen = numbers(loss), state.seen
        usual = seen.first * xp.exp2(seen.fast)
        is_high = (seen.count > 0.0) & (loss > self.alarm * usual)
        return (state.calm >= self.features.window) & xp.where(abs(loss) < inf, is_high, state.step >= 0)

    def _progress(self, xp: Any, step: Any) -> Any:
        return -1.0 if self.steps is None else xp.where(step < self.steps, step / self.steps, 1.0)


def _within_reach(xp: Any, correction: Any, before: Any) -> Any:
    """The correction, or the one before if it goes too far."""
    return xp.where(abs(correction) < _FURTHEST, correction, before)
