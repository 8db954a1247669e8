"""How far pairs of runs scatter, which decides how small a difference can be proved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surefoot.contest.pairs import bounded, differences, unbounded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from surefoot.contest.outcome import Outcome

ENOUGH = 0.015
"""A paired deviation below which ten seeds can prove that schedules are equal, more often than not."""


def deviations(found: Outcome, rival: str, opponent: str = "cosine", regime: str = "A") -> dict[str, float]:
    """The paired standard deviation of a rival's log ratios, by task: that of the mean over cells, as verdicts have it.

    NaN where fewer than two of them are finite.
    """
    made = {}
    for task, pair in found.pairs(rival, opponent, regime).items():
        whole = unbounded(bounded(differences(*pair)).mean(axis=0))
        finite = whole[np.isfinite(whole)]
        made[task] = float(finite.std(ddof=1)) if len(finite) > 1 else float("nan")
    return made


def typical(found: Outcome, opponent: str = "cosine", regime: str = "A") -> dict[str, float]:
    """The median of these deviations over all rivals, by task."""
    every = [deviations(found, rival.name, opponent, regime) for rival in found.study.rivals if rival.name != opponent]
    tasks = [task.name for task in found.study.tasks if any(task.name in each for each in every)]
    return {task: float(np.nanmedian([each[task] for each in every if task in each])) for task in tasks}


def small(values: Iterable[float]) -> int:
    """On how many tasks the deviation is small enough."""
    return sum(value < ENOUGH for value in values)
