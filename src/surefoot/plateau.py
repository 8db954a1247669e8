"""Lower the rate when the loss stops improving."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from surefoot import checks, improvement
from surefoot.arithmetic import choose, meet


class PlateauState(NamedTuple):
    """What `Plateau` remembers: scale, best loss (negated in `max` mode), losses in a row without a better one, rest left."""

    scale: Any = 1.0
    best: Any = inf
    bad: Any = 0
    rest: Any = 0


@dataclass(frozen=True)
class Plateau:
    """Multiply the rate by `factor` whenever the loss has not improved for more than `patience` losses.

    The rule of PyTorch's `ReduceLROnPlateau`, decision for decision, except that a loss that is not finite is forgotten and
    that a relative threshold also works for negative losses.

    >>> from surefoot import schedule
    >>> [state.scale for state in schedule(Plateau(factor=0.5, patience=1), [3.0, 2.0, 2.0, 2.0, 1.0])]
    [1.0, 1.0, 1.0, 1.0, 0.5, 0.5]

    Attributes:
        factor: What the scale is multiplied by, strictly between 0 and 1.
        patience: Losses in a row without improvement to wait through before acting, 0 or more.
        threshold: How much better than the best a loss must be, 0 or more: a fraction of the best loss's magnitude, or a
            difference in the loss's own units.
        threshold_mode: `"relative"` or `"absolute"`.
        cooldown: Losses after a cut during which none counts as bad, 0 or more.
        min_scale: Lower limit of the scale, between 0 and 1, as a multiple of the base rate.
        mode: `"min"` if lower values are better, `"max"` if higher ones are.

    Raises:
        TypeError: A setting is not a number where one is needed.
        ValueError: A setting is outside its range.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    threshold_mode: improvement.ThresholdMode = "relative"
    cooldown: int = 0
    min_scale: float = 0.0
    mode: improvement.Mode = "min"

    def __post_init__(self) -> None:
        checks.fraction("factor", self.factor, advice="to lower the rate faster, lower it")
        checks.whole("patience", self.patience, low=0)
        improvement.check(self.mode, self.threshold, self.threshold_mode)
        checks.whole("cooldown", self.cooldown, low=0)
        checks.limits(self.min_scale, 1.0)

    def init(self) -> PlateauState:
        """The state before any loss: the base rate, and no best."""
        return PlateauState()

    def update(self, state: PlateauState, loss: Any, **_signals: Any) -> PlateauState:
        """The state after a step at `state.scale` that met `loss`."""
        xp, state, loss = meet(state, loss)
        value = loss if self.mode == "min" else -loss
        return choose(xp.isfinite(loss), lambda: self._heed(xp, state, value), state)

    def why(self, _before: PlateauState, _after: PlateauState) -> str:
        """Why an update lowered the scale, in words."""
        return f"lowered: {self.patience + 1} not better in a row"

    def _heed(self, xp: Any, state: PlateauState, value: Any) -> PlateauState:
        better = value < improvement.bar(xp, state.best, self.threshold, self.threshold_mode)
        resting = state.rest > 0
        bad = xp.where(better | resting, 0, state.bad + 1)
        cut = bad > self.patience
        lower = state.scale * self.factor
        lower = xp.where(lower > self.min_scale, lower, self.min_scale)
        return PlateauState(
            scale=xp.where(cut, lower, state.scale),
            best=xp.where(better, value, state.best),
            bad=xp.where(cut, 0, bad),
            rest=xp.where(cut, self.cooldown, xp.where(resting, state.rest - 1, 0)),
        )
