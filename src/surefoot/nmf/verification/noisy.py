r"""Long runs with noise of fixed size on every gradient: divergence, and collapse onto 0.

Below a cap $\beta$ and the edge, the mean loss after $T$ sweeps is proved to be at most $f_0 + 2T\beta\sigma^2$, where
$\sigma^2$ is the variance of a block's noise. A run has diverged, whatever its rule, if its loss is not finite, or on the way
was more than ten times that at the start and more than this bound for a cap of half the edge at the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surefoot.nmf import balance, block_edge, limited
from surefoot.nmf.verification.descent import per_matrix, transposed
from surefoot.nmf.verification.watching import GROWN, Found, fate, loss, norm

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.nmf.verification.fleets import Array, Problems

    Rates = Callable[[Problems, Array, Array], Array]
    """From the problems, their edges now and at the start, the rates."""

SWEEPS = 80
_PURPOSE = 5


def cap_and_clip(scale: float = 0.5) -> Rates:
    """The same multiple of the edge now and of that at the start, whichever is lower."""
    return lambda _, edge, start: limited(scale, edge, scale * start)


def clip_alone(_: Problems, edge: Array, __: Array) -> Array:
    """Half the edge, 1 / L, at every step."""
    return 0.5 * edge


def cap_alone(_: Problems, __: Array, start: Array) -> Array:
    """Half the edge at the start, kept."""
    return 0.5 * start


def as_set(fleet: Problems, _: Array, start: Array) -> Array:
    """Each problem's own random multiple of the edge at the start, kept."""
    return fleet.rate * start


def as_set_and_clipped(fleet: Problems, edge: Array, start: Array) -> Array:
    """The same, limited by half the edge now and by half the edge at the start."""
    found: Array = np.minimum(fleet.rate * start, limited(0.5, edge, 0.5 * start))
    return found


def run(fleet: Problems, rates: Rates) -> Found:
    """Alternate noisy projected steps from a balanced start, with the same noise whatever the rates."""
    matrix, (codes, parts) = fleet.matrix, balance(fleet.codes, fleet.parts)
    grams = parts @ transposed(parts), transposed(codes) @ codes
    start = np.minimum(*(block_edge(gram) for gram in grams))
    slopes = norm(codes @ grams[0] - matrix @ transposed(parts)), norm(grams[1] @ parts - transposed(codes) @ matrix)
    spread = [fleet.noise * slope / np.sqrt(each[0].size) for slope, each in zip(slopes, (codes, parts), strict=True)]
    first = loss(matrix, codes, parts)
    streams, highest = fleet.random(_PURPOSE), np.ones(len(fleet.seeds))

    def move(factor: Array, other: Array, matrix: Array, spread: Array) -> Array:
        gram = other @ transposed(other)
        drawn = np.stack([each.standard_normal(factor.shape[1:]) for each in streams])
        gradient = factor @ gram - matrix @ transposed(other) + spread[:, None, None] * drawn
        rate = per_matrix(rates(fleet, block_edge(gram), start))
        found: Array = np.maximum(factor - rate * gradient, 0.0)
        return found

    for _ in range(SWEEPS):
        codes = move(codes, parts, matrix, spread[0])
        parts = transposed(move(transposed(parts), transposed(codes), transposed(matrix), spread[1]))
        highest = np.maximum(highest, loss(matrix, codes, parts) / first)  # NaN is passed on.
    variance = np.maximum(*(fleet.noise * slope for slope in slopes)) ** 2
    found = fate(fleet, codes, parts, highest, np.maximum(GROWN, 1.0 + SWEEPS * start * variance / first))
    return found._replace(measured={**found.measured, "noise": fleet.noise, "rate": fleet.rate})
