"""What rows say: ratios to rivals, sensitivity to the start, and how many runs of a search one run is worth."""

from __future__ import annotations

from itertools import permutations
from math import comb, exp
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from surefoot import stats
from surefoot.judge.study import score

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from surefoot.judge.rows import Row
    from surefoot.judge.study import Outcome

BUDGETS = (1, 2, 4, 8, 16, 36)
"""Runs of a search."""
WITHIN = 1.10
_SMALLEST = 1e-30


class Search(NamedTuple):
    """A search against one run.

    Attributes:
        budgets: Runs of the search.
        ratios: The run over the best of so many, in what counts at the end.
        worth: The largest of the budgets that the run is at least as good as; 0 if it is not as good as a single one.
    """

    budgets: tuple[int, ...]
    ratios: tuple[stats.Ratio, ...]

    @property
    def worth(self) -> int:
        """The largest of the budgets whose best the run equals or beats in the geometric mean; 0 if none."""
        return max((runs for runs, found in zip(self.budgets, self.ratios, strict=True) if found.mean <= 1.0), default=0)


def values(rows: Sequence[Row]) -> NDArray[np.float64]:
    """What counts at the end; of runs that failed, what it was before training."""
    return np.array([row.value for row in rows])


def diverged(rows: Sequence[Row]) -> int:
    """How many runs did."""
    return sum(row.has_diverged for row in rows)


def failed(rows: Sequence[Row]) -> int:
    """How many runs diverged, or ended above where they began."""
    return sum(row.has_failed for row in rows)


def ratio(rows: Sequence[Row], others: Sequence[Row]) -> stats.Ratio:
    """Rows against others of the same seeds."""
    return stats.ratio(values(rows), values(others))


def limits_of(found: Outcome, label: str) -> str:
    """The limits under which a candidate did best from the seeds of tuning, as those of its rivals are chosen."""
    every = found.tuning.get(label, {})
    known = [limits for limits in found.arena.limits if every.get(limits)]
    return min(known, key=lambda limits: score(every[limits])) if known else found.arena.limits[0]


def ours(found: Outcome, label: str) -> dict[float, list[Row]]:
    """A candidate's rows by start, under those limits."""
    return found.ours[label][limits_of(found, label)]


def best_constant(found: Outcome) -> NDArray[np.float64]:
    """Of every judged seed, what the best constant rate of its search came to."""
    constants = [values(rows) for (name, _), rows in found.cells.items() if name == "constant"]
    best: NDArray[np.float64] = np.min(constants, axis=0)
    return best


def expected_best(chosen_by: NDArray[np.float64], measured: NDArray[np.float64], runs: int) -> float:
    """The mean logarithm of what the best of so many runs, drawn at random without replacement, comes to.

    >>> chosen_by = measured = np.array([1.0, np.e])
    >>> expected_best(chosen_by, measured, 1), expected_best(chosen_by, measured, 2)
    (0.5, 0.0)

    Args:
        chosen_by: What the best is chosen by, the lowest; shape (cells,).
        measured: What it then comes to; shape (cells,).
        runs: How many are drawn, 1 up to the number of cells.
    """
    cells = len(chosen_by)
    weights = np.array([comb(cells - 1 - place, runs - 1) / comb(cells, runs) for place in range(cells)])
    return float(weights @ np.log(np.maximum(measured[np.argsort(chosen_by, kind="stable")], _SMALLEST)))


def search(found: Outcome, label: str) -> Search | None:
    """One run of a candidate, started at the tuned rate, against searches; None where there was none.

    On a factorisation the search's runs are on the judged matrix, and the best is that with the lowest loss. On a network each
    is made from one seed of tuning, chosen by its held-out loss, and counts as what the same settings come to from the others.
    """
    if not found.cells:
        return None
    table = np.array([values(rows) for rows in found.cells.values()])
    if found.arena.searches == "judging":
        rows, pairs = ours(found, label)[1.0], [(seed, seed) for seed in range(table.shape[1])]
    else:
        rows, pairs = found.tuning[label][limits_of(found, label)], list(permutations(range(table.shape[1]), 2))
    budgets = tuple(runs for runs in BUDGETS if runs <= len(table))
    run = values(rows)
    ratios = [
        stats.ratio(
            [run[counts] for _, counts in pairs],
            [exp(expected_best(table[:, by], table[:, counts], runs)) for by, counts in pairs],
        )
        for runs in budgets
    ]
    return Search(budgets, tuple(ratios))


def pooled(searches: Sequence[Search]) -> Search:
    """The geometric mean of searches over problems."""
    budgets = min((each.budgets for each in searches), key=len)
    means = [[each.ratios[place].mean for each in searches] for place in range(len(budgets))]
    return Search(budgets, tuple(stats.ratio(each, np.ones(len(each))) for each in means))


def steps_to(rows: Sequence[Row], target: float, steps: int) -> list[float]:
    """After how many steps each run's held-out loss was first at or below the target; infinite if never."""
    found = []
    for row in rows:
        hit = next((place for place, loss in enumerate(row.curve, start=1) if loss <= target), None)
        found.append(float("inf") if hit is None or row.has_failed else steps * hit / len(row.curve))
    return found
