r"""How a rise of the loss is told from rounding.

The loss $f = \tfrac12\|WH - V\|^2$ is always that of the residual itself, in float64: the cheaper sum of three inner products
loses all digits where the fit is good. What is stored of a step is $W$ and $H$ rounded, by up to half a unit in the last place
of each entry. That alone moves the residual by up to about $\epsilon\|W\|\|H\|$, so a loss counts as risen when it is more than

$$(1 + 10^{-9}) f + \delta\sqrt{2f} + \tfrac12\delta^2,\qquad \delta = 8\epsilon\,(\|W\|\|H\| + \|V\|),$$

where the terms in $\delta$ are what a residual longer by $\delta$ adds. They matter below a relative error of about $10^{-6}$
only. What they excuse is counted, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from surefoot.nmf.verification.fleets import Array, Problems

RELATIVE = 1e-9
ROUNDING = 8.0 * float(np.finfo(np.float64).eps)
GROWN = 10.0
"""A run whose loss grows to more than this many times the loss at its start has diverged; a noisy one may be allowed more."""
DEAD = 0.02
"""A product WH whose norm ends below this fraction of the matrix's, and below where it began, has collapsed onto 0."""


class Found(NamedTuple):
    """What a check found, problem by problem.

    Attributes:
        steps: How many steps, or runs, were checked; shape (problems,).
        failures: In how many of them what the rule promises did not hold; shape (problems,).
        measured: What else was measured, by name; each of shape (problems,).
    """

    steps: Array
    failures: Array
    measured: Mapping[str, Array]


def loss(matrix: Array, codes: Array, parts: Array, weights: Array | None = None) -> Array:
    """Half the squared norm of the residual, weighted by entry; shape (problems,)."""
    residual = codes @ parts - matrix
    if weights is not None:
        residual *= weights
    found: Array = 0.5 * np.sum(residual * residual, axis=(-2, -1))
    return found


def norm(factor: Array) -> Array:
    """The Frobenius norm; shape (problems,)."""
    found: Array = np.sqrt(np.sum(factor * factor, axis=(-2, -1)))
    return found


def watch(matrix: Array, moves: Iterable[tuple[Array, Array]], weights: Array | None = None) -> Found:
    """Count the steps at which the loss rose.

    Args:
        matrix: V; shape (problems, m, n).
        moves: Codes and parts at the start and then after every step; shapes (problems, m, r) and (problems, r, n).
        weights: Weights of the entries, 0 to 1.

    Returns:
        The failures are rises; `worst` is the largest change of the loss in a step as a fraction of it, `end` the last loss
        over the first, and `rounding` how many rises were put down to rounding.
    """
    iterator, size = iter(moves), norm(matrix)
    codes, parts = next(iterator)
    first = before = loss(matrix, codes, parts, weights)
    steps, failures, excused = (np.zeros(len(matrix), np.int64) for _ in range(3))
    worst = np.full(len(matrix), -np.inf)
    for codes, parts in iterator:
        after = loss(matrix, codes, parts, weights)
        slack = ROUNDING * (norm(codes) * norm(parts) + size)
        has_not_risen = after <= before * (1.0 + RELATIVE)
        allowed = before * (1.0 + RELATIVE) + slack * (np.sqrt(2.0 * before) + 0.5 * slack)
        is_rounding = ~has_not_risen & (after <= allowed) & np.isfinite(after)
        steps, failures, excused = steps + 1, failures + ~(has_not_risen | is_rounding), excused + is_rounding
        change = (after - before) / before
        worst = np.where(is_rounding | ~(before > 0.0), worst, np.fmax(worst, np.where(np.isnan(change), np.inf, change)))
        before = after
    worst = np.where(np.isneginf(worst), 0.0, worst)  # There was nothing to lower: all weights are 0, say.
    end = np.divide(before, first, out=np.zeros_like(first), where=first > 0.0)
    return Found(steps, failures, {"worst": worst, "end": end, "rounding": excused})


def joined(first: Found, second: Found) -> Found:
    """Two checks of one rule as one, with the worse `worst` of both; of what else was measured, that of the first."""
    worst = np.fmax(first.measured["worst"], second.measured["worst"])
    measured = {**first.measured, "worst": worst}
    return Found(first.steps + second.steps, first.failures + second.failures, measured)


def has_collapsed(fleet: Problems, codes: Array, parts: Array) -> Array:
    """Whether a run ended at 0, a stationary point that fits nothing; shape (problems,)."""
    product = norm(codes @ parts)
    return (product < DEAD * fleet.norm) & (product < norm(fleet.codes @ fleet.parts))


def fate(fleet: Problems, codes: Array, parts: Array, highest: Array, allowed: Array | float = GROWN) -> Found:
    """Whether runs diverged, and apart from that whether they collapsed: both are failures.

    Args:
        fleet: The problems.
        codes: W at the end.
        parts: H at the end.
        highest: The highest loss on the way over that at the start, not finite if a loss was not.
        allowed: What that may be.
    """
    diverged = ~(highest <= allowed)
    collapsed = ~diverged & has_collapsed(fleet, codes, parts)
    end = loss(fleet.matrix, codes, parts)
    error = np.sqrt(2.0 * end) / fleet.norm
    ones, failures = np.ones(len(fleet.seeds), np.int64), (diverged | collapsed).astype(np.int64)
    return Found(ones, failures, {"collapsed": collapsed.astype(np.int64), "worst": highest, "end": error})
