"""Which trainings to learn from: more of those in which the policy is still behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surefoot import checks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def select(slots: Sequence[int], behind: Sequence[float], moved: float) -> list[int]:
    """How many slots each task has from now on.

    Each task gives up the share `moved` of its slots, all but one at most. They are dealt out in proportion to how far the
    policy is behind in each task, to none in which it is level or ahead; where it is behind in none, all stay as they are.

    >>> select([4, 4, 4], [0.0, 0.3, -0.5], moved=0.5)
    [2, 8, 2]

    Args:
        slots: How many each task had at first, 1 or more.
        behind: How far the policy is behind in each: the mean of `surefoot.learn.score.Score.by_task`.
        moved: From 0 to 1.

    Returns:
        As many in all as there were, and at least one for each.

    Reference: for selecting instances to learn from, Benjamins et al., 2024, arXiv:2407.13513, who choose by what the policy
    does there; this is simpler, and chooses by what comes of it.
    """
    checks.number("moved", moved, low=0.0, high=1.0)
    weights = np.maximum(np.array(behind, np.float64), 0.0)
    if not weights.any():
        return list(slots)
    kept = np.array([max(count - int(moved * count), 1) for count in slots])
    chosen: list[int] = (kept + _shared(sum(slots) - int(kept.sum()), weights)).tolist()
    return chosen


def turn(slots: Sequence[int], together: int | None, seed: int, number: int) -> list[int]:
    """How many slots each task has in a round, in which only some of them take part.

    They take turns: each takes part once before any does so twice, in an order that is drawn anew after that.

    >>> turn([4, 4, 8, 4], 2, seed=0, number=0), turn([4, 4, 8, 4], 2, seed=0, number=1)
    ([10, 0, 0, 10], [0, 7, 13, 0])

    Args:
        slots: How many each task has when all take part, 1 or more.
        together: How many take part; all of them if None.
        seed: Of the order, 0 or more.
        number: Of the round, from 0.

    Returns:
        As many in all as there are, in proportion to theirs for those that take part, and 0 for the others.
    """
    count = len(slots)
    if together is None or together >= count:
        return list(slots)
    turns = -(-count // together)
    order = np.random.default_rng((seed, number // turns, 13)).permutation(count)
    present = np.take(order, np.arange(together) + together * (number % turns), mode="wrap")
    weights = np.zeros(count)
    weights[present] = np.array(slots)[present]
    dealt = np.zeros(count, int)
    dealt[present] = 1
    shared: list[int] = (dealt + _shared(sum(slots) - together, weights)).tolist()
    return shared


def _shared(count: int, weights: NDArray[np.float64]) -> NDArray[np.intp]:
    """Whole numbers of that sum, as nearly in proportion to the weights as can be."""
    due = count * weights / weights.sum()
    dealt: NDArray[np.intp] = np.floor(due).astype(np.intp)
    order = np.argsort(dealt - due, kind="stable")  # The largest remainders first, and of equals the first task.
    dealt[order[: count - int(dealt.sum())]] += 1
    return dealt
