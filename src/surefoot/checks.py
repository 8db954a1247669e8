"""Checks at the door: what must hold, what came, what to do."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any


def number(name: str, value: Any, *, low: float = -inf, high: float = inf, advice: str = "") -> None:
    """Raise unless `value` is a finite number from `low` to `high`, both included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (isfinite(value) and low <= value <= high):
        raise ValueError(f"{name} must {_range(low, high)}, got {value}{advice and f' ({advice})'}")


def fraction(name: str, value: Any, *, advice: str = "") -> None:
    """Raise unless `value` lies strictly between 0 and 1."""
    number(name, value)
    if not 0.0 < value < 1.0:
        raise ValueError(f"{name} must lie strictly between 0 and 1, got {value}{advice and f' ({advice})'}")


def whole(name: str, value: Any, *, low: int) -> None:
    """Raise unless `value` is a whole number, `low` or more."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {value!r}")
    if value < low:
        raise ValueError(f"{name} must be a whole number, {low} or more, got {value}")


def one_of(name: str, value: Any, allowed: tuple[str, ...]) -> None:
    """Raise unless `value` is one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def limits(min_scale: Any, max_scale: Any) -> None:
    """Raise unless the limits of a scale that starts at 1 have 1 between them."""
    number("min_scale", min_scale, low=0.0, high=1.0, advice="limits are multiples of the base rate, which is scale 1")
    number("max_scale", max_scale, low=1.0, advice="limits are multiples of the base rate, which is scale 1")


def absolute_limits(place: int, base: float, low: Any, high: Any) -> None:
    """Raise unless the limits of one group's rate have its base rate between them."""
    number("min_lr", low, low=0.0)
    number("max_lr", high, low=0.0)
    if not low <= base <= high:
        advice = f"set min_lr to {base / 100:g}" if base < low else f"set max_lr to {base * 10:g}"
        raise ValueError(
            f"the limits of a rate must have the base rate between them, got {low:g} to {high:g} around {base:g} in group "
            f"{place} ({advice}, say: absolute limits have to be chosen for every base rate, min_scale and max_scale suit all)"
        )


def policy(name: str, value: Any) -> None:
    """Raise unless `value` has the two methods of a policy."""
    if isinstance(value, type) or not (callable(getattr(value, "init", None)) and callable(getattr(value, "update", None))):
        given = f"the class {value.__name__} (call it to make one)" if isinstance(value, type) else repr(value)
        raise TypeError(f"{name} must be a policy, such as Greedy() or Cosine(steps=1000), got {given}")


def _range(low: float, high: float) -> str:
    if high == inf:
        return "be finite" if low == -inf else f"be finite and {low:g} or more"
    return f"lie between {low:g} and {high:g}" if low > -inf else f"be finite and at most {high:g}"
