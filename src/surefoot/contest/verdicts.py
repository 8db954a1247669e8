"""Whether a schedule is better than another, equal or worse: in a cell, and on a task."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log1p, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.contest.pairs import bounded, bounds, differences, losses, t_bounds, unbounded

if TYPE_CHECKING:
    from collections.abc import Sequence

LABELS = ("better", "equal", "inconclusive", "worse")
"""From the best to the worst."""
MARGIN = 0.01
"""A loss that is higher by less than this fraction is no worse."""
FEWEST = 2
"""Seeds that a verdict needs; 10 that a claim needs."""


@dataclass(frozen=True)
class PairedVerdict:
    """What paired runs from the same seeds say about a schedule against another.

    Attributes:
        label: One of `LABELS`.
        ratio: Geometric mean of its losses over the other's: 1.01 is 1% higher. Infinite if it diverged from more seeds than
            the other, 0 if from fewer.
        lower: One-sided 95% lower bound of the ratio.
        upper: One-sided 95% upper bound of the ratio.
        deviation: Paired sample standard deviation of the log ratios, over seeds: 0.015 is 1.5%. NaN with fewer than two that
            are finite.
        seeds: How many.
        lost: Pairs in which it alone diverged.
        gained: Pairs in which the other alone diverged.
        both: Pairs in which both diverged, which count as ties.
        check: The label by the bounds of Student's t instead, which counts for nothing but is printed beside.
    """

    label: str
    ratio: float
    lower: float
    upper: float
    deviation: float
    seeds: int
    lost: int
    gained: int
    both: int
    check: str

    @property
    def is_behind(self) -> bool:
        """Whether it is equal, and yet proved to be worse by some fraction of the margin."""
        return self.label == "equal" and self.lower > 1.0


@dataclass(frozen=True)
class TaskVerdict:
    """What all cells of a task say together.

    Attributes:
        whole: The verdict on the mean over cells, seed by seed. This one counts.
        cells: The verdict on every cell, in the order they came.
    """

    whole: PairedVerdict
    cells: tuple[PairedVerdict, ...]

    @property
    def label(self) -> str:
        """One of `LABELS`, by the mean over cells."""
        return self.whole.label

    @property
    def strict(self) -> str:
        """The label of the worst cell, so that "equal" means that none is worse than that."""
        return max((cell.label for cell in self.cells), key=LABELS.index)


def verdict(ours: Any, theirs: Any, *, seed: int = 0) -> PairedVerdict:
    """Judge a schedule against another by their final held-out losses in one cell.

    The first of these that holds: "worse" if ours diverged from more seeds than theirs; "better" if the upper bound of the
    ratio is below 1; "equal" if it is below 1.01; "worse" if the lower bound is above 1; otherwise "inconclusive". So a ratio
    that is proved to be above 1 and proved to be below 1.01 is equal: `PairedVerdict.is_behind` tells.

    >>> found = verdict([0.50, 0.48, 0.52, 0.47, 0.51], [0.55, 0.54, 0.56, 0.50, 0.57])
    >>> found.label, round(found.ratio, 3), round(found.upper, 3), found.check
    ('better', 0.912, 0.927, 'better')

    Args:
        ours: Final losses, one per seed, 2 or more; infinite or NaN for a run that diverged. Below 1e-12 they count as that.
        theirs: As many, from the same seeds in the same order.
        seed: Of the bootstrap.

    Raises:
        ValueError: There are not two pairs, or a loss is negative.
    """
    pairs, both = _pairs(ours, theirs, 1, "a list of losses, one per seed, 2 or more")
    return _judged(pairs[None], [pairs], [both], seed)[0]


def task_verdict(ours: Any, theirs: Any, *, seed: int = 0) -> TaskVerdict:
    """Judge a schedule against another on a task: one cell per optimizer.

    What counts is the mean of the log ratios over cells, seed by seed, and the bootstrap draws whole seeds: cells of a task
    share data, and at one seed the network that they start from, so they are not independent, and are not drawn as if.

    >>> task_verdict([[0.50, 0.48, 0.52], [0.50, 0.50, 0.51]], [[0.55, 0.54, 0.56], [0.48, 0.50, 0.50]]).label
    'better'

    Args:
        ours: Final losses of the shape (cells, seeds), like those of `verdict`.
        theirs: Of the same shape.
        seed: Of the bootstrap.

    Raises:
        ValueError: There are not two pairs in a cell, or a loss is negative.
    """
    pairs, both = _pairs(ours, theirs, 2, "losses by cell and seed, of 1 cell or more and 2 seeds or more")
    rows = np.concatenate([unbounded(bounded(pairs).mean(axis=0))[None], pairs])
    whole, *cells = _judged(rows, [pairs, *pairs], [both, *both], seed)
    return TaskVerdict(whole, tuple(cells))


def best_baseline(tuning: Any) -> np.ndarray:
    """Which baseline is the best of its cell: the opponent "best baseline of each task".

    Give it losses of the *tuning* seeds. The lowest of several losses is low by luck as well, so an opponent chosen by the test
    seeds would be flattered by exactly the luck that it is then compared with.

    >>> best_baseline([[0.5, 0.5], [0.3, float("inf")], [0.4, 0.4]])
    array(2)

    Args:
        tuning: Final losses of the shape (..., baselines, seeds), each at its own tuned rate.

    Returns:
        Places of the best, of the leading shape: fewest diverged runs first, then the lowest geometric mean of the others, then
        the first.
    """
    found = losses("tuning", tuning)
    diverged = np.isinf(found)
    finite = np.maximum(found.shape[-1] - diverged.sum(axis=-1), 1)
    mean = np.log(np.where(diverged, 1.0, found)).sum(axis=-1) / finite
    fewest = diverged.sum(axis=-1) == diverged.sum(axis=-1).min(axis=-1, keepdims=True)
    return np.asarray(np.where(fewest, mean, np.inf).argmin(axis=-1))


def _pairs(ours: Any, theirs: Any, dimensions: int, form: str) -> tuple[np.ndarray, np.ndarray]:
    """The log ratios, and how many of them are ties of runs that both diverged."""
    pairs = differences(ours, theirs)
    if pairs.ndim != dimensions or pairs.shape[-1] < FEWEST or not pairs.size:
        raise ValueError(f"ours and theirs must be {form}, got arrays of the shape {pairs.shape}")
    return pairs, (np.isinf(losses("ours", ours)) & np.isinf(losses("theirs", theirs))).sum(axis=-1)


def _judged(rows: np.ndarray, pairs: Sequence[np.ndarray], both: Sequence[np.ndarray], seed: int) -> list[PairedVerdict]:
    """A verdict on every row of log ratios, with counts of the pairs that it was made of."""
    found, check = bounds(rows, seed=seed), t_bounds(rows)
    with np.errstate(over="ignore"):
        mean, lower, upper = np.exp(found)
    return [
        PairedVerdict(
            label=_label(*(float(part[place]) for part in found)),
            ratio=float(mean[place]),
            lower=float(lower[place]),
            upper=float(upper[place]),
            deviation=_deviation(row[np.isfinite(row)]),
            seeds=len(row),
            lost=int(np.sum(pairs[place] == inf)),
            gained=int(np.sum(pairs[place] == -inf)),
            both=int(both[place].sum()),
            check=_label(*(float(part[place]) for part in check)),
        )
        for place, row in enumerate(rows)
    ]


def _label(mean: float, lower: float, upper: float) -> str:
    if mean == inf:
        return "worse"
    if upper < log1p(MARGIN):
        return "better" if upper < 0.0 else "equal"
    return "worse" if lower > 0.0 else "inconclusive"


def _deviation(finite: np.ndarray) -> float:
    return float(finite.std(ddof=1)) if len(finite) > 1 else nan
