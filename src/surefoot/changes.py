"""Why a rate changed: one event for every decision, in numbers and in words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

Because = tuple[Callable[..., str], tuple[Any, ...]]
"""A reason that was not put into words yet, as a function that does so and what it needs."""


class Change(NamedTuple):
    """A change of the scale that was decided, as opposed to one that a smooth schedule makes at every step.

    >>> change = Change(step=120, before=1.0, scale=0.5, reason="lowered: 11 not better in a row", loss=0.7, rates=(0.05,))
    >>> change.told()
    {'surefoot/rate': 0.05, 'surefoot/scale': 0.5, 'surefoot/reason': 'lowered: 11 not better in a row'}

    Attributes:
        step: Optimizer steps made until then.
        before: The scale until then.
        scale: The scale from then on.
        reason: Why, in a few words.
        loss: The loss that it was decided on, in its own units.
        rates: The new rate of every parameter group; empty where the base rate is not known.
    """

    step: int
    before: float
    scale: float
    reason: str
    loss: float
    rates: tuple[float, ...] = ()

    def told(self) -> dict[str, Any]:
        """What trackers are told, by the names that they show: numbers, and the reason as text."""
        rate = {"surefoot/rate": self.rates[0]} if self.rates else {}
        return {**rate, "surefoot/scale": self.scale, "surefoot/reason": self.reason}


def reason(policy: Any, before: Any, after: Any) -> str:
    """Why a policy's update changed the scale, in a few words; empty if it did not, or if nothing was decided.

    A policy says so by a third method, `why(before, after)`. One without it, such as a smooth schedule of time, has nothing to
    say.

    >>> from surefoot import Greedy
    >>> policy = Greedy(factor=0.5, patience=0, window=1)
    >>> before = policy.init()
    >>> reason(policy, before, policy.update(before, 3.0))
    'raised: 1 better in a row'

    Args:
        policy: The policy.
        before: Its state before the update, in plain numbers.
        after: Its state after it.
    """
    if after.scale == before.scale or not hasattr(policy, "why"):
        return ""
    said: str = policy.why(before, after)
    return said


def moved(before: Any, after: Any) -> str:
    """What happened to the scale, in one word.

    >>> moved(1.0, 0.5)
    'lowered'
    """
    return "raised" if after > before else "lowered"
