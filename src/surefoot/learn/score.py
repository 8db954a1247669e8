"""What a policy is worth while it is learning: measured on runs that it never learns from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.episodes import LIMIT, Episodes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from surefoot.episodes import Task

_FIRST = 2**31  # Episodes to learn from are begun from seeds below this one.


class Score(NamedTuple):
    """What a policy was worth: natural logarithms of its final held-out losses over those of the tuned schedule.

    Attributes:
        mean: Of all runs, tasks counting equally; below 0 the policy is better.
        median: Of all runs.
        diverged: How many runs diverged, each counting as 3.
        by_task: Mean for each task.
    """

    mean: float
    median: float
    diverged: int
    by_task: list[float]


def reference(tasks: Sequence[Task], runs: int) -> list[list[float]]:
    """The final held-out losses' logarithms of each task's own schedule, from the fleet's base rate.

    That is the policy that says nothing, at the rate that is known to work well. Where even that diverges, it is the loss
    before the first step.
    """
    found = []
    for task in tasks:
        at_base = replace(task, start=(1.0, 1.0))
        final = _final(at_base, runs, lambda view: np.zeros(view.shape[1:]))
        before = Episodes(at_base, runs)
        before.begin(range(runs), _seeds(runs))
        found.append(np.where(np.isfinite(final), final, before.held_out()).tolist())
    return found


def score(tasks: Sequence[Task], references: Sequence[Sequence[float]], policy: Callable[[Any], Any]) -> Score:
    """What a policy is worth against these references, starting from the rates that each task's seeds are drawn with."""
    every = []
    for task, against in zip(tasks, references, strict=True):
        final = _final(task, len(against), policy)
        behind = np.clip(final - np.array(against), -LIMIT, LIMIT)
        every.append(np.where(np.isfinite(final), behind, np.inf))
    runs = np.stack(every)
    counted = np.where(np.isfinite(runs), runs, LIMIT)
    by_task = counted.mean(axis=1)
    return Score(float(by_task.mean()), float(np.median(counted)), int(np.isinf(runs).sum()), by_task.tolist())


def _final(task: Task, runs: int, policy: Callable[[Any], Any]) -> NDArray[np.float64]:
    """The logarithm of the held-out loss of every run at its end, NaN where it diverged."""
    episodes, awake = Episodes(task, runs), np.ones(runs, bool)
    episodes.begin(range(runs), _seeds(runs))
    has_diverged = np.zeros(runs, bool)
    while awake.any():
        actions = np.clip(policy(episodes.view().T), -1.0, 1.0)
        outcome = episodes.advance(actions, awake)
        has_diverged |= awake & outcome.has_diverged
        awake &= ~(outcome.is_over | outcome.has_diverged)
    with np.errstate(invalid="ignore"):
        final: NDArray[np.float64] = np.where(has_diverged, np.nan, episodes.held_out())
    return final


def _seeds(runs: int) -> list[int]:
    return [_FIRST + number for number in range(runs)]
