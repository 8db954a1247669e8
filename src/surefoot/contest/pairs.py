"""Pairs of losses from the same seeds: their log ratios, and what the mean of these is proved to be."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

DRAWS = 10_000
"""Samples that a verdict draws."""
SMALLEST = 1e-12
"""The least that a loss counts as, since ratios of lower ones would be rounding errors."""
ERROR = 0.05
"""The error that every one-sided bound is meant to have."""
_BLOCK = 200
_DIVERGED, _BEYOND = 1e8, 1e4
"""What stands for an infinite log ratio, and the mean above which one must have been in it: a finite one is 737 at most."""


class Bounds(NamedTuple):
    """A mean of log ratios with its one-sided 95% bounds, each an array or a number.

    Attributes:
        mean: The mean over seeds.
        lower: The mean is above this.
        upper: The mean is below this.
    """

    mean: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


def losses(name: str, values: Any) -> np.ndarray:
    """Final losses as an array of float64; a run that ended at NaN diverged, as one that ended at infinity did.

    Raises:
        ValueError: A loss is negative.
    """
    array = np.asarray(values, dtype=np.float64)
    if (array < 0.0).any():
        raise ValueError(
            f"{name} must be losses of 0 or more, as they are compared by their ratios, got {np.nanmin(array):g} "
            "(compare a loss that can be negative by a bounded one, or by its distance to a known lowest value)"
        )
    return np.asarray(np.where(np.isnan(array), np.inf, np.maximum(array, SMALLEST)))


@lru_cache(maxsize=16)
def resamples(seeds: int, *, strata: int = 1, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """How often every seed is in a sample of as many, drawn with replacement, within each stratum on its own.

    >>> counts = resamples(10, strata=3, draws=4)
    >>> counts.shape, bool((counts.sum(axis=-1) == 10).all())
    ((4, 3, 10), True)

    The same arguments give the same samples, so that no result depends on what else was asked for before it.

    Args:
        seeds: How many there are, 1 or more.
        strata: How many strata, 1 or more: tasks, say.
        draws: How many samples.
        seed: Of the draws.

    Returns:
        Whole numbers of the shape (draws, strata, seeds); read-only.
    """
    counts: np.ndarray = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1.0 / seeds), size=(draws, strata))
    counts.setflags(write=False)
    return counts


def bounded(log_ratios: np.ndarray) -> np.ndarray:
    """Infinite log ratios as finite ones that outweigh all others, and each other: one of each sign leaves nothing."""
    return np.asarray(np.clip(log_ratios, -_DIVERGED, _DIVERGED))


def unbounded(means: np.ndarray) -> np.ndarray:
    """Means of `bounded` log ratios, infinite where more of one infinite sign than of the other went into them."""
    return np.asarray(np.where(np.abs(means) > _BEYOND, np.copysign(np.inf, means), means))


def differences(ours: Any, theirs: Any) -> np.ndarray:
    """Log ratios of final losses, pair by pair.

    >>> differences([1.0, 2.0, float("inf"), 0.5], [1.0, 1.0, 1.0, float("inf")]).round(3)
    array([0.   , 0.693,   inf,  -inf])

    Args:
        ours: Losses, 0 or more; infinite or NaN for a run that diverged.
        theirs: As many, from the same seeds.

    Returns:
        An array of their shape: infinite where ours alone diverged, minus infinity where theirs alone did, and 0 where both
        did: a diverged run ranks last, and two of them tie.

    Raises:
        ValueError: The shapes differ, or a loss is negative.
    """
    left, right = losses("ours", ours), losses("theirs", theirs)
    if left.shape != right.shape:
        raise ValueError(
            f"ours and theirs must be pairs, from the same seeds in the same order, got {left.shape} and {right.shape}"
        )
    both = np.isinf(left) & np.isinf(right)
    return np.log(np.where(both, 1.0, left)) - np.log(np.where(both, 1.0, right))


def bounds(log_ratios: np.ndarray, *, seed: int = 0) -> Bounds:
    """The mean over seeds and its bounds, by the 5% and 95% quantiles of 10,000 samples of whole seeds.

    >>> mean, lower, upper = bounds(np.array([0.01, 0.02, 0.03, 0.02, 0.01]))
    >>> [round(float(value), 3) for value in (mean, lower, upper)]
    [0.018, 0.012, 0.024]

    Args:
        log_ratios: Of the shape (..., seeds); may be infinite, as `differences` says.
        seed: Of the samples, which are the same for every row, so that no row depends on its neighbours.

    Returns:
        Arrays of the leading shape. Infinite if more of one infinite sign than of the other is in them.
    """
    rows = bounded(log_ratios).reshape(-1, log_ratios.shape[-1])
    shares = _shares(rows.shape[-1], seed)
    # The quantiles are sample means themselves, and the outer ones: between a finite and an infinite one there is nothing.
    low = int(ERROR * (shares.shape[-1] - 1))
    ends = [low, shares.shape[-1] - 1 - low]
    found = [np.partition(rows[at : at + _BLOCK] @ shares, ends, axis=-1)[:, ends] for at in range(0, len(rows), _BLOCK)]
    lower, upper = np.concatenate(found).T
    parts = (unbounded(part).reshape(log_ratios.shape[:-1]) for part in (rows.mean(axis=-1), lower, upper))
    return Bounds(*parts)


@lru_cache(maxsize=4)
def _shares(seeds: int, seed: int) -> np.ndarray:
    """What every seed has of the mean of every sample, of the shape (seeds, samples)."""
    return np.ascontiguousarray(resamples(seeds, seed=seed)[:, 0].T / seeds)


def t_bounds(log_ratios: np.ndarray) -> Bounds:
    """The same by Student's t, which is exact where log ratios are normal; without bounds where one of them is infinite."""
    from scipy.special import stdtrit

    count = log_ratios.shape[-1]
    mean = unbounded(bounded(log_ratios).mean(axis=-1))
    finite = np.isfinite(log_ratios)
    reach = stdtrit(count - 1, 1.0 - ERROR) * np.where(finite, log_ratios, 0.0).std(axis=-1, ddof=1) / count**0.5
    reach = np.where(finite.all(axis=-1), reach, np.inf)
    with np.errstate(invalid="ignore"):  # An infinite mean without bounds.
        return Bounds(mean, np.where(np.isinf(reach), -np.inf, mean - reach), np.where(np.isinf(reach), np.inf, mean + reach))
