"""A policy folded over losses that something else drove."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surefoot.changes import Change
from surefoot.runner import runner

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from surefoot.policy import Policy


@dataclass(frozen=True)
class Replayed:
    """What one policy would have done.

    Attributes:
        label: What the policy is called.
        scales: The scale after each loss.
        changes: The changes that were decided.
    """

    label: str
    scales: list[float]
    changes: list[Change]


def replay(
    policy: Policy[Any],
    losses: Sequence[float],
    *,
    steps: Sequence[int] | None = None,
    base: float | None = None,
    signals: Mapping[str, Sequence[float]] | None = None,
    label: str = "",
) -> Replayed:
    """Fold a policy over losses, and note every decision.

    Nothing is trained: the losses are those that the rates of then led to, and would have been others had the policy driven.

    >>> from surefoot import Greedy
    >>> found = replay(Greedy(factor=0.5, patience=0, window=1), [3.0, 2.0, 4.0], base=0.1)
    >>> [(change.step, change.rates, change.reason) for change in found.changes][-1]
    (3, (0.2,), 'lowered: 1 not better in a row')

    Args:
        policy: The policy.
        losses: Its losses, in their order.
        steps: After how many optimizer steps each was noted; 1, 2, 3 and so on if None.
        base: The base rate, if it is known, 0 or more.
        signals: What else it sees, by name, one value for each loss.
        label: What it is called; what it says of itself if empty.

    Raises:
        ValueError: The policy sees signals that are not given.
    """
    driver, given = runner(policy), signals or {}
    scale, scales, changes = float(driver.state.scale), [], []
    for place, loss in enumerate(losses):
        before, scale = scale, float(driver.advance(loss, **{name: values[place] for name, values in given.items()}))
        scales.append(scale)
        if why := driver.why():
            rates = () if base is None else (base * scale,)
            changes.append(Change(steps[place] if steps else place + 1, before, scale, why, loss, rates))
    return Replayed(label or repr(policy), scales, changes)
