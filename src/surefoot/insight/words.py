"""Decisions in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

WORDS = {
    "progress": ("early", "half-way", "late"),
    "limited": ("no budget", "no budget", "budget known"),
    "level": ("loss far down", "loss where it began", "loss above its start"),
    "jump": ("last loss low", "last loss as usual", "last loss high"),
    "short": ("falling lately", "flat lately", "rising lately"),
    "long": ("falling for long", "flat for long", "rising for long"),
    "trend": ("trend down", "trend flat", "trend up"),
    "noise": ("little noise", "usual noise", "much noise"),
    "scale": ("rate below its base", "rate at its base", "rate above its base"),
    "change": ("rate just lowered", "rate steady", "rate just raised"),
    "quiet": ("rate just changed", "rate kept a while", "rate kept for long"),
    "alignment": ("steps turn back", "steps unrelated", "steps agree"),
    "reach": ("small steps", "usual steps", "large steps"),
    "bound": ("rate below the bound", "rate at the bound", "rate above the bound"),
}
"""How the value of a feature is called where it is clearly below 0, near it, and clearly above."""

_NEAR = 0.15
_KEPT = 1.02
_ENOUGH = 0.25
_MOST = 3


def spoken(name: str, value: float) -> str:
    """A feature's value in words.

    >>> spoken("trend", -1.3), spoken("noise", 0.01)
    ('trend down', 'usual noise')
    """
    if name not in WORDS:
        return f"{name} {value:+.2f}"
    low, near, high = WORDS[name]
    return near if abs(value) <= _NEAR else (low if value < 0.0 else high)


def sentence(factor: float, seen: Mapping[str, float], moved: Mapping[str, float]) -> str:
    """What was done, and up to three sights that spoke for it most.

    >>> sentence(0.5, {"noise": 1.0, "trend": 0.0, "level": -2.0}, {"noise": -0.7, "trend": -0.2, "level": 0.1})
    'lowered to 50%: much noise, trend flat'

    Args:
        factor: What the scale was multiplied by.
        seen: The features by name.
        moved: What each of them added to the action. Where the rate was kept, those are named that pulled most, either way.
    """
    is_kept = 1.0 / _KEPT <= factor <= _KEPT
    sign = 0.0 if is_kept else (1.0 if factor > 1.0 else -1.0)
    pull = {name: abs(value) if is_kept else sign * value for name, value in moved.items()}
    most = max(pull.values(), default=0.0)
    named = [name for name in sorted(pull, key=lambda name: -pull[name]) if most > 0.0 and pull[name] > _ENOUGH * most][:_MOST]
    done = "kept" if is_kept else (f"raised to {factor:.0%}" if sign > 0.0 else f"lowered to {factor:.0%}")
    return f"{done}: {', '.join(spoken(name, seen[name]) for name in named)}" if named else done
