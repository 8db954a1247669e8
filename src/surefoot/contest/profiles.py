"""How many schedules do on many tasks together: profiles, scores, and how probably one beats another.

The lower a number, the better, and no run is left out: one that diverged, or missed its target, is infinite. The definitions
are those of Dolan and Moré, of AlgoPerf and of rliable.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from surefoot import checks
from surefoot.contest.pairs import bounded, losses, resamples, unbounded

LIMIT = 4.0
"""Ratio to the best of a task above which nothing counts."""
DRAWS = 2_000
"""Samples behind an interval."""
_TAIL = 0.025


class Estimate(NamedTuple):
    """A number and its 95% interval, by a bootstrap that draws seeds within every task.

    The interval is about other seeds on the same tasks. It says nothing about other tasks.

    Attributes:
        value: As measured.
        low, high: The interval.
    """

    value: float
    low: float
    high: float


def ratios(values: Any) -> np.ndarray:
    """Every value over the lowest of its task.

    >>> ratios([[1.0, 2.0], [3.0, float("inf")]])
    array([[ 1.,  2.],
           [ 1., inf]])

    Args:
        values: Final losses, or steps to a target, of the shape (tasks, rivals): one number per task and rival, such as the
            mean or median over seeds. 0 or more; infinite for a rival that diverged or missed the target.

    Returns:
        Ratios of that shape, 1 or more. All are infinite for a task where all values are: it counts for nobody.

    Raises:
        ValueError: A value is negative, or the shape is another.
    """
    found = _shaped("values", values, "(tasks, rivals)")
    best = found.min(axis=1, keepdims=True)
    with np.errstate(over="ignore"):
        return np.where(np.isinf(found), np.inf, found / np.where(np.isinf(best), 1.0, best))


def profile(values: Any, at: Any) -> np.ndarray:
    """Performance profiles: on which share of the tasks a rival is within a ratio of the best.

    >>> profile([[1.0, 2.0], [3.0, float("inf")]], at=[1.0, 2.0, 4.0])
    array([[1. , 1. , 1. ],
           [0. , 0.5, 0.5]])

    Args:
        values: As for `ratios`.
        at: Ratios, 1 or more. Losses of good schedules differ by a few percent: `1 + numpy.geomspace(1e-3, 3, 100)` shows
            these, too.

    Returns:
        Shares from 0 to 1 of the shape (rivals, ratios).

    Reference: Dolan and Moré, 2002, Mathematical Programming 91, 201-213.
    """
    return np.asarray((ratios(values)[..., None] <= np.asarray(at, dtype=np.float64)).mean(axis=0))


def scores(values: Any, *, limit: float = LIMIT) -> np.ndarray:
    """The area under every rival's profile from ratio 1 to the limit, over the largest that there can be: 1 is the best always.

    The profile is a sum of steps, so its area is known exactly: a task adds what is left from its ratio to the limit.

    >>> scores([[1.0, 2.0], [3.0, float("inf")]]).round(3)
    array([1.   , 0.333])

    AlgoPerf takes times to a target, and sets a limit of 4. Final losses seldom differ that much: their scores lie closely
    together, and still rank.

    Args:
        values: As for `ratios`.
        limit: Ratio above which a task adds nothing, above 1.

    Returns:
        Scores from 0 to 1, one per rival.

    Reference: Dahl and others, 2023, arXiv:2306.07179, section 4.
    """
    checks.number("limit", limit, low=1.0)
    if limit == 1.0:
        raise ValueError("limit must be above 1, got 1.0 (a profile has no area there)")
    return np.asarray((np.clip(limit - ratios(values), 0.0, None) / (limit - 1.0)).mean(axis=0))


def mean_ranks(values: Any) -> np.ndarray:
    """The mean over tasks of every rival's rank, 1 for the lowest value; ties share the mean of their ranks.

    >>> mean_ranks([[1.0, 2.0, 2.0], [3.0, 1.0, float("inf")]])
    array([1.5 , 1.75, 2.75])

    Args:
        values: As for `ratios`.
    """
    found = _shaped("values", values, "(tasks, rivals)")
    below = (found[:, None] < found[..., None]).sum(axis=-1)
    same = (found[:, None] == found[..., None]).sum(axis=-1)
    return np.asarray((below + 0.5 * (same + 1)).mean(axis=0))


def interquartile_mean(log_ratios: Any, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """The mean of the middle half of the numbers of all seeds on all tasks.

    >>> [round(value, 3) for value in interquartile_mean([[0.0, 0.01, 0.02, 0.03], [0.0, 0.01, 0.02, 0.03]])]
    [0.015, 0.005, 0.025]

    Args:
        log_ratios: Of the shape (tasks, seeds), as `surefoot.contest.pairs.differences` gives them; may be infinite. Any other
            numbers that can be compared across tasks will do.
        draws: Samples behind the interval.
        seed: Of the samples.

    Returns:
        The mean and its interval. Infinite only if a quarter of the numbers are.

    Reference: Agarwal and others, 2021, arXiv:2108.13264; a quarter of the numbers, rounded down, is left out at either end.
    """
    values = bounded(np.asarray(log_ratios, dtype=np.float64))
    if values.ndim != 2 or not values.size or np.isnan(values).any():  # noqa: PLR2004
        raise ValueError(
            f"log_ratios must be numbers of the shape (tasks, seeds), none of them NaN, got the shape {values.shape}"
        )
    order = np.argsort(values, axis=None)
    once = np.ones((1, values.size), dtype=np.int64)
    drawn = resamples(values.shape[1], strata=len(values), draws=draws, seed=seed).reshape(draws, -1)
    return _estimate(*(_middle_mean(values.ravel()[order], counts[:, order]) for counts in (once, drawn)))


def improvement(ours: Any, theirs: Any, *, draws: int = DRAWS, seed: int = 0) -> Estimate:
    """How probably a run of ours ends below one of theirs on a task drawn at random; a tie counts half.

    >>> improvement([[1.0, 2.0], [3.0, 3.0]], [[2.0, 3.0], [3.0, 3.0]]).value
    0.6875

    This is the Mann-Whitney statistic of every task, averaged. It says how often, and not by how much; and it does not use that
    runs of one seed are paired.

    Args:
        ours: Final losses of the shape (tasks, seeds), infinite or NaN for a run that diverged.
        theirs: Likewise on the same tasks; perhaps of another number of seeds.
        draws: Samples behind the interval, in which the seeds of both are drawn independently.
        seed: Of the samples.

    Reference: Agarwal and others, 2021, arXiv:2108.13264.
    """
    left, right = _shaped("ours", ours, "(tasks, seeds)"), _shaped("theirs", theirs, "(tasks, seeds)")
    if len(left) != len(right):
        raise ValueError(f"ours and theirs must be of the same tasks, got {len(left)} and {len(right)}")
    wins = _wins(left, right)
    ours_drawn = resamples(left.shape[1], strata=len(left), draws=draws, seed=2 * seed)
    theirs_drawn = resamples(right.shape[1], strata=len(left), draws=draws, seed=2 * seed + 1)
    drawn = np.einsum("dti,tij,dtj->d", ours_drawn, wins, theirs_drawn, optimize=True) / wins.size
    return _estimate(wins.mean()[None], drawn)


def win_matrix(values: Any) -> np.ndarray:
    """How probably every rival ends below every other one, as `improvement` counts it.

    >>> win_matrix([[[1.0, 2.0], [2.0, 3.0]], [[3.0, 3.0], [3.0, 3.0]]])
    array([[0.5   , 0.6875],
           [0.3125, 0.5   ]])

    Args:
        values: Final losses of the shape (tasks, rivals, seeds), infinite or NaN for a run that diverged.

    Returns:
        Shares of the shape (rivals, rivals): the row against the column. With its mirror image, every one adds up to 1.
    """
    found = _shaped("values", values, "(tasks, rivals, seeds)")
    return np.asarray(sum(_wins(task[:, None], task[None]).mean(axis=(-2, -1)) for task in found) / len(found))


def _wins(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """1 where a run of the left is below one of the right, 0.5 where they tie: of the shape (..., seeds, seeds)."""
    low, high = left[..., :, None], right[..., None, :]
    return np.asarray((low < high) + 0.5 * (low == high))


def _middle_mean(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The interquartile means of samples, given by how often each of the sorted values is in them."""
    size = int(counts[0].sum())
    cut = size // 4
    last = counts.cumsum(axis=-1)
    kept = np.clip(last, cut, size - cut) - np.clip(last - counts, cut, size - cut)
    return np.asarray(kept @ values / (size - 2 * cut))


def _estimate(value: np.ndarray, drawn: np.ndarray) -> Estimate:
    ends = np.sort(drawn)[[int(_TAIL * (len(drawn) - 1)), -1 - int(_TAIL * (len(drawn) - 1))]]
    return Estimate(*(float(number) for number in unbounded(np.concatenate([value, ends]))))


def _shaped(name: str, values: Any, shape: str) -> np.ndarray:
    found = losses(name, values)
    if found.ndim != shape.count(",") + 1 or not found.size:
        raise ValueError(f"{name} must be of the shape {shape}, with at least one of each, got {found.shape}")
    return found
