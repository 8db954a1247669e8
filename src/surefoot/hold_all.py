"""The rule of transformers' GreedyLR: absolute rates, group by group, and stages in which nothing happens."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite
from typing import Any, NamedTuple

from surefoot import checks, improvement
from surefoot.changes import moved


class HoldAllState(NamedTuple):
    """What `HoldAll` remembers between losses.

    Attributes:
        scale: The first group's rate as a multiple of its base rate.
        rates: The rate of every group to use next.
        bases: The rate of every group to go back to at a reset.
        best: Best (smoothed) loss so far.
        good, bad: Losses in a row that were better than the best, and that were not.
        raising, cutting: Steps left of the stage after a raise, and after a cut.
        stuck: Cuts decided with all groups at their lower limits, since the last raise.
        window: The last losses, oldest first; empty without smoothing.
        total: Their running sum.
    """

    scale: float
    rates: tuple[float, ...]
    bases: tuple[float, ...]
    best: float
    good: int = 0
    bad: int = 0
    raising: int = 0
    cutting: int = 0
    stuck: int = 0
    window: tuple[float, ...] = ()
    total: float = 0.0

    def moved(self, rates: tuple[float, ...]) -> HoldAllState:
        """The same with other rates."""
        return self if rates == self.rates else self._replace(scale=_scale(rates, self.bases), rates=rates)

    def joined(self, bases: tuple[float, ...]) -> HoldAllState:
        """The same with more groups, at their base rates; the scale is a new object, so that whoever wrote it writes again."""
        rates, bases = self.rates + bases, self.bases + bases
        return self._replace(scale=_scale(rates, bases), rates=rates, bases=bases)


@dataclass(frozen=True)
class HoldAll:
    """Greedy as `transformers.optimization.GreedyLR` has it, step for step, for those who depend on that path.

    It differs from `Greedy` in this: every group has limits of its own, in absolute rates, and reaches them alone. A stage
    holds everything: no move, no count, no new best. A reset jumps back to the base rates. A move of `least_change` or less
    is left out. A relative threshold takes a negative best for a positive one. The running sum of the window is never
    formed anew. What does not differ: a loss that is not finite is forgotten.

    Rates are plain floats here, and so must losses be.

    >>> from surefoot import schedule
    >>> rule = HoldAll(bases=(0.1, 0.01), min_rates=(0.008,), factor=0.5, patience=0)
    >>> [state.rates for state in schedule(rule, [3.0, 4.0, 4.0])]
    [(0.1, 0.01), (0.2, 0.02), (0.1, 0.01), (0.05, 0.008)]

    Attributes:
        bases: The rate of every group to begin with.
        min_rates, max_rates: Limits of the rate of every group, with its base rate between them; groups beyond the last
            entry share it.
        factor: Step of the rates, strictly between 0 and 1.
        patience: Losses in a row to wait through before acting, 0 or more.
        threshold: How much better than the best a loss must be, 0 or more.
        threshold_mode: `"relative"` or `"absolute"`.
        raise_stage, cut_stage: Length in steps of the stage after a raise, and after a cut, 0 or more.
        least_change: The largest change of a rate that is not worth making, 0 or more, in units of the rate.
        smooth: Whether losses are averaged before they are compared.
        window: How many of them, 1 or more.
        reset_after: Cuts decided with all groups at their lower limits after which everything starts over; None for never.
        mode: `"min"` if lower values are better, `"max"` if higher ones are.

    Raises:
        TypeError: A setting is not a number where one is needed.
        ValueError: A setting is outside its range.
    """

    bases: tuple[float, ...] = (1.0,)
    min_rates: tuple[float, ...] = (1e-3,)
    max_rates: tuple[float, ...] = (1.0,)
    factor: float = 0.95
    patience: int = 10
    threshold: float = 1e-6
    threshold_mode: improvement.ThresholdMode = "absolute"
    raise_stage: int = 0
    cut_stage: int = 0
    least_change: float = 1e-8
    smooth: bool = False
    window: int = 50
    reset_after: int | None = 500
    mode: improvement.Mode = "min"

    def __post_init__(self) -> None:
        checks.fraction("factor", self.factor, advice="to raise and lower the rate faster, lower it")
        checks.whole("patience", self.patience, low=0)
        improvement.check(self.mode, self.threshold, self.threshold_mode)
        checks.whole("raise_stage", self.raise_stage, low=0)
        checks.whole("cut_stage", self.cut_stage, low=0)
        checks.number("least_change", self.least_change, low=0.0)
        checks.whole("window", self.window, low=1)
        if self.reset_after is not None:
            checks.whole("reset_after", self.reset_after, low=1)
        for place, base in enumerate(self.bases):
            checks.absolute_limits(place, base, entry(self.min_rates, place), entry(self.max_rates, place))

    def init(self) -> HoldAllState:
        """The state before any loss: the base rates, and no best."""
        return HoldAllState(1.0, self.bases, self.bases, best=inf if self.mode == "min" else -inf)

    def update(self, state: HoldAllState, loss: Any, **_signals: Any) -> HoldAllState:
        """The state after a step at `state.rates` that met `loss`."""
        loss = float(loss)
        if not isfinite(loss):
            return state
        if self.smooth:
            state = self._take_in(state, loss)
            loss = state.total / len(state.window)
        if state.cutting or state.raising:
            # One after the other, should both be left over in a checkpoint.
            cutting = max(state.cutting - 1, 0)
            return state._replace(good=0, bad=0, cutting=cutting, raising=state.raising if state.cutting else state.raising - 1)
        if self._is_better(loss, state.best):
            state = state._replace(best=loss, good=state.good + 1, bad=0)
        else:
            state = state._replace(good=0, bad=state.bad + 1)
        if state.good > self.patience:
            return self._raise(state)
        return self._cut(state) if state.bad > self.patience else state

    def why(self, before: HoldAllState, after: HoldAllState) -> str:
        """Why an update moved the rates, in words."""
        if self.reset_after is not None and after.best == self.init().best:
            return (
                f"{moved(before.scale, after.scale)}: back to the base rates after {self.reset_after} cuts at the lower limits"
            )
        up = after.scale > before.scale
        return f"{moved(before.scale, after.scale)}: {self.patience + 1} {'better' if up else 'not better'} in a row"

    def _take_in(self, state: HoldAllState, loss: float) -> HoldAllState:
        window, total = (*state.window, loss), state.total + loss
        if len(window) > self.window:
            total -= window[0]
            window = window[1:]
        return state._replace(window=window, total=total)

    def _is_better(self, loss: float, best: float) -> bool:
        # Not `improvement.bar`: that one understands negative losses, and would leave the path that is followed here.
        sign = 1.0 if self.mode == "max" else -1.0
        bar = best * (1.0 + sign * self.threshold) if self.threshold_mode == "relative" else best + sign * self.threshold
        return loss > bar if self.mode == "max" else loss < bar

    def _raise(self, state: HoldAllState) -> HoldAllState:
        highest = (entry(self.max_rates, place) for place in range(len(state.rates)))
        wanted = (min(rate / self.factor, high) for rate, high in zip(state.rates, highest, strict=True))
        moved = (new if new - old > self.least_change else old for old, new in zip(state.rates, wanted, strict=True))
        return state.moved(tuple(moved))._replace(good=0, raising=self.raise_stage, stuck=0)

    def _cut(self, state: HoldAllState) -> HoldAllState:
        lowest = [entry(self.min_rates, place) for place in range(len(state.rates))]
        wanted = (max(rate * self.factor, low) for rate, low in zip(state.rates, lowest, strict=True))
        moved = tuple(new if old - new > self.least_change else old for old, new in zip(state.rates, wanted, strict=True))
        stuck = state.stuck + all(rate <= low for rate, low in zip(moved, lowest, strict=True))
        if self.reset_after is not None and stuck >= self.reset_after:
            fresh = self.init()._replace(rates=state.rates, bases=state.bases)
            return fresh.moved(state.bases)._replace(cutting=self.cut_stage)
        return state.moved(moved)._replace(bad=0, cutting=self.cut_stage, stuck=stuck)


def entry(limits: tuple[float, ...], place: int) -> float:
    """The limit of the group at a place; groups beyond the last entry share it."""
    return limits[min(place, len(limits) - 1)]


def _scale(rates: tuple[float, ...], bases: tuple[float, ...]) -> float:
    """The first group's rate as a multiple of its base rate."""
    return rates[0] / bases[0] if bases[0] else 1.0
