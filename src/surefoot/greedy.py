"""GreedyLR: raise the rate while the loss keeps falling, lower it when it does not."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, Literal, NamedTuple

from surefoot import checks, improvement
from surefoot.arithmetic import choose, lift, meet
from surefoot.changes import moved
from surefoot.evidence import judge

LEAST_WINDOW = 8
"""The shortest window, in losses, whose trend can be told from its scatter."""


class GreedyState(NamedTuple):
    """What `Greedy` remembers between losses.

    Attributes:
        scale: Multiple of the base rate to use next.
        best: Best (smoothed) loss so far; in `max` mode its negative, so that lower is always better. Unused with evidence.
        good, bad: Losses in a row that were better, and that were not. With evidence, the first counts the losses since the
            trend was last judged, and the second is unused.
        raising, cutting: Steps left of the stage after a raise, and after a cut.
        stuck: Cuts decided while already at the lower limit.
        climbing: Whether the scale is on its way back to 1 after a reset.
        count: Losses that went into the window so far.
        scatter: Sum of squares of the window about its mean when evidence of falling last raised the scale; 0 before.
        window: The last losses, oldest first, zeros in front until it is full; empty without smoothing.
    """

    scale: Any = 1.0
    best: Any = inf
    good: Any = 0
    bad: Any = 0
    raising: Any = 0
    cutting: Any = 0
    stuck: Any = 0
    climbing: Any = False
    count: Any = 0
    scatter: Any = 0.0
    window: Any = ()


@dataclass(frozen=True)
class Greedy:
    """Raise the rate while the loss keeps improving, lower it when it stops.

    A loss counts as better if it beats the best so far by more than `threshold`. After more than `patience` better losses in
    a row the scale is divided by `factor`; after as many others in a row it is multiplied by it. A loss that is not finite is
    forgotten: it leaves the state as it was.

    With `evidence`, no best is kept. Once every `patience` + 1 losses, a straight line is laid through the last `window` of
    them. If it falls by more than `evidence` of its standard errors, the scale is raised. If it rises by as much, the scale is
    lowered; also if it falls by less than half as much, unless no fall has raised the scale before, or losses scatter twice as
    widely as at the last one that did. In between, nothing is done.

    Made to be fed with the noisy training loss of every optimizer step, so losses are averaged before they are compared. Fed
    with a held-out loss once an epoch, take `window=1`.

    >>> from surefoot import schedule
    >>> [state.scale for state in schedule(Greedy(factor=0.5, patience=0, window=1), [3.0, 2.0, 4.0])]
    [1.0, 2.0, 4.0, 2.0]

    Attributes:
        factor: Step of the scale, strictly between 0 and 1; 0.95 changes it by about 5%.
        patience: Losses to wait through before acting, 0 or more: in a row, or with `evidence` any.
        window: Losses that are averaged before they are compared, 1 (no smoothing) or more; the mean of those there are, until
            there are that many.
        evidence: Standard errors of the slope that are asked for, above 0, for judging by the trend; None for comparing with
            the best.
        threshold: How much better than the best a loss must be, 0 or more: a fraction of the best loss's magnitude, or a
            difference in the loss's own units. Unused with `evidence`.
        threshold_mode: `"relative"` or `"absolute"`. Both work for negative losses.
        raise_stage: Length in steps of the stage after a raise (the paper calls it warmup), 0 or more.
        cut_stage: Length in steps of the stage after a cut (the paper calls it cooldown), 0 or more.
        stage: What happens in a stage. `"continue"`: keep moving the same way every step, even if the trend reverses.
            `"hold"`: do not move the same way again; the opposite move may act.
        min_scale, max_scale: Limits of the scale, as multiples of the base rate, with 1 between them; `min_scale` is above 0.
        reset_after: Cuts decided at the lower limit after which everything is forgotten and the scale climbs back to 1, by one
            factor a step; None for never.
        mode: `"min"` if lower values are better, `"max"` if higher ones are.

    Raises:
        TypeError: A setting is not a number where one is needed.
        ValueError: A setting is outside its range.

    Reference: Subramanian, Krishnamoorthy and Murthy, 2025, arXiv:2512.14527, Algorithm 2. Its stages are `stage="hold"`;
    its text, and the default here, is `"continue"`.
    """

    factor: float = 0.95
    patience: int = 10
    window: int = 50
    evidence: float | None = None
    threshold: float = 1e-6
    threshold_mode: improvement.ThresholdMode = "relative"
    raise_stage: int = 0
    cut_stage: int = 0
    stage: Literal["continue", "hold"] = "continue"
    min_scale: float = 0.01
    max_scale: float = 10.0
    reset_after: int | None = None
    mode: improvement.Mode = "min"

    def __post_init__(self) -> None:
        checks.fraction("factor", self.factor, advice="to raise and lower the rate faster, lower it")
        checks.whole("patience", self.patience, low=0)
        checks.whole("window", self.window, low=1)
        if self.evidence is not None:
            checks.number("evidence", self.evidence, low=0.0)
            if self.evidence == 0.0:
                raise ValueError("evidence must be above 0: with none, every wiggle would count")
            if self.window < LEAST_WINDOW:
                raise ValueError(f"window must be {LEAST_WINDOW} or more to show a trend, got {self.window}")
        improvement.check(self.mode, self.threshold, self.threshold_mode)
        checks.whole("raise_stage", self.raise_stage, low=0)
        checks.whole("cut_stage", self.cut_stage, low=0)
        checks.one_of("stage", self.stage, ("continue", "hold"))
        checks.limits(self.min_scale, self.max_scale)
        if self.min_scale == 0.0:
            raise ValueError("min_scale must be above 0: a scale of 0 could never be raised again")
        if self.reset_after is not None:
            checks.whole("reset_after", self.reset_after, low=1)

    def init(self) -> GreedyState:
        """The state before any loss: the base rate, and no best."""
        return GreedyState(window=(0.0,) * self.window if self.window > 1 else ())

    def update(self, state: GreedyState, loss: Any, **_signals: Any) -> GreedyState:
        """The state after a step at `state.scale` that met `loss`."""
        xp, state, loss = meet(state, loss)
        known = xp.isfinite(loss)
        value = xp.where(known, loss if self.mode == "min" else -loss, 0.0)  # Sums of what is forgotten anyway would warn.
        return choose(known, lambda: self._heed(xp, state, value), state)

    def why(self, before: GreedyState, after: GreedyState) -> str:
        """Why an update moved the scale, in words."""
        return self.explain(before.raising, before.cutting, before.climbing, before.scale, after.scale)

    def explain(self, raising: int, cutting: int, climbing: bool, before: float, after: float) -> str:
        """The same from what it goes by: the stages before the update, and the scales before and after it."""
        done, up = moved(before, after), after > before
        stage, left = (self.raise_stage, raising) if up else (self.cut_stage, cutting)
        if climbing:
            return f"{done}: on the way back to the base rate after a reset"
        if self.stage == "continue" and left:
            return f"{done}: step {stage - left + 1} of {stage} of the stage after that"
        if self.evidence is not None:
            return f"{done}: the loss {'falls' if up else 'falls no more'}"
        return f"{done}: {self.patience + 1} {'better' if up else 'not better'} in a row"

    def _heed(self, xp: Any, state: GreedyState, value: Any) -> GreedyState:
        window, count = self._slide(xp, state, value)
        raising, cutting = state.raising > 0, state.cutting > 0
        mute_raise, mute_cut = raising | state.climbing, cutting | state.climbing
        if self.stage == "continue":
            mute_raise = mute_cut = mute_raise | mute_cut
        decide = self._compare if self.evidence is None else self._judge
        start_raise, start_cut, new = decide(xp, state._replace(window=window, count=count), value, mute_raise, mute_cut)
        raises, cuts = start_raise, start_cut
        if self.stage == "continue":
            raises, cuts = raises | raising, cuts | cutting

        scale = self._move(xp, state, raises, cuts)
        stuck = xp.where(start_cut & (state.scale <= self.min_scale), state.stuck + 1, state.stuck)
        new = new._replace(
            scale=scale,
            raising=xp.where(start_raise, self.raise_stage, xp.where(raising, state.raising - 1, 0)),
            cutting=xp.where(start_cut, self.cut_stage, xp.where(cutting, state.cutting - 1, 0)),
            stuck=xp.where(raises, 0, stuck),
            climbing=state.climbing & (scale < 1.0),
        )
        if self.reset_after is None:
            return new
        fresh = lift(self.init()._replace(climbing=True), value)
        return choose(new.stuck >= self.reset_after, lambda: fresh._replace(scale=scale), new)

    def _slide(self, xp: Any, state: GreedyState, value: Any) -> tuple[Any, Any]:
        if self.window == 1:
            return (), state.count
        return xp.stack((*state.window[1:], value)), state.count + 1

    def _compare(self, xp: Any, state: GreedyState, value: Any, mute_raise: Any, mute_cut: Any) -> tuple[Any, Any, GreedyState]:
        """Count losses that are better than the best in a row, and others: whether to raise, whether to cut, and the counts."""
        if self.window > 1:
            # Not a running sum: one huge loss would leave its rounding error in it for ever.
            value = xp.sum(state.window, 0) / xp.where(state.count < self.window, state.count, self.window)
        better = value < improvement.bar(xp, state.best, self.threshold, self.threshold_mode)
        good = xp.where(better, xp.where(mute_raise, 0, state.good + 1), 0)
        bad = xp.where(better | mute_cut, 0, state.bad + 1)
        raises, cuts = good > self.patience, bad > self.patience
        best = xp.where(better, value, state.best)
        return raises, cuts, state._replace(best=best, good=xp.where(raises, 0, good), bad=xp.where(cuts, 0, bad))

    def _judge(self, xp: Any, state: GreedyState, _value: Any, mute_raise: Any, mute_cut: Any) -> tuple[Any, Any, GreedyState]:
        """Judge the trend when it is time: whether to raise, whether to cut, and the count of losses until the next time."""
        since = state.good + 1
        due = since > self.patience
        falls, has_stopped, rises, spread = judge(xp, state.window, self.window, self.evidence or 1.0, state.scatter)
        known = due & (state.count >= self.window)
        raises = known & falls & xp.where(mute_raise, False, True)
        cuts = known & (rises | has_stopped) & xp.where(mute_cut, False, True)
        return raises, cuts, state._replace(good=xp.where(due, 0, since), scatter=xp.where(raises, spread, state.scatter))

    def _move(self, xp: Any, state: GreedyState, raises: Any, cuts: Any) -> Any:
        up, down = state.scale / self.factor, state.scale * self.factor
        up = xp.where(up < self.max_scale, up, self.max_scale)
        down = xp.where(down > self.min_scale, down, self.min_scale)
        scale = xp.where(raises, up, xp.where(cuts, down, state.scale))
        if self.reset_after is None:
            return scale
        return xp.where(state.climbing, xp.where(up < 1.0, up, 1.0), scale)
