"""What counts as a better loss than the best so far."""

from __future__ import annotations

from typing import Any, Literal

from surefoot import checks

Mode = Literal["min", "max"]
ThresholdMode = Literal["relative", "absolute"]


def check(mode: Any, threshold: Any, threshold_mode: Any) -> None:
    """Raise unless these three settings make sense together."""
    checks.one_of("mode", mode, ("min", "max"))
    checks.one_of("threshold_mode", threshold_mode, ("relative", "absolute"))
    checks.number("threshold", threshold, low=0.0)
    if threshold_mode == "relative":
        checks.number("threshold", threshold, low=0.0, high=0.999, advice="relative thresholds are fractions of the best loss")


def bar(xp: Any, best: Any, threshold: float, threshold_mode: ThresholdMode) -> Any:
    """The value below which a loss is better than `best`.

    A relative threshold is a fraction of the magnitude of `best`, so that a negative best is beaten by going further down:
    the common `best * (1 - threshold)` would call a worse value better there.
    """
    if threshold_mode == "absolute":
        return best - threshold
    return best * xp.where(best > 0.0, 1.0 - threshold, 1.0 + threshold)
