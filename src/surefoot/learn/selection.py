"""Which trainings to learn from: more of those in which the policy is still behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surefoot import checks

if TYPE_CHECKING:
    from collections.abc import Sequence


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
    free = sum(slots) - int(kept.sum())
    due = free * weights / weights.sum()
    dealt = np.floor(due).astype(int)
    order = np.argsort(dealt - due, kind="stable")  # The largest remainders first, and of equals the first task.
    dealt[order[: free - int(dealt.sum())]] += 1
    chosen: list[int] = (kept + dealt).tolist()
    return chosen
