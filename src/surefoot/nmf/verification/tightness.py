"""How much higher than its bound a rate may be set, problem by problem, before a run is no longer stable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surefoot.nmf import a_priori_edge, balance, block_edge
from surefoot.nmf.verification.descent import per_matrix, segment_move, transposed
from surefoot.nmf.verification.watching import Found, has_collapsed, loss

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.nmf.verification.fleets import Array, Problems

SWEEPS = 60
_OCTAVES, _HALVINGS = 5.0, 10


def largest_stable(is_stable: Callable[[Array], Array], problems: int) -> Array:
    """The largest multiple, between 1/32 and 32 and to 1%, that bisection finds stable; 0 if the lowest is not."""
    low, high = np.full(problems, -_OCTAVES), np.full(problems, _OCTAVES)
    sound = is_stable(2.0**low)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        stable = is_stable(2.0**middle)
        low, high = np.where(stable, middle, low), np.where(stable, high, middle)
    found: Array = np.where(sound, 2.0**low, 0.0)
    return found


def alternating(fleet: Problems, edge: Callable[[Problems, Array, Array], Callable[[Array], Array]]) -> Found:
    """Of runs that step codes and parts in turn, projected, at one multiple of an edge.

    Args:
        fleet: The problems.
        edge: From the problems and the balanced codes and parts at the start, a function from grams to edges.
    """
    matrix, (codes, parts) = fleet.matrix, balance(fleet.codes, fleet.parts)
    of_gram = edge(fleet, codes, parts)

    def step(factor: Array, other: Array, matrix: Array, multiple: Array) -> Array:
        gram = other @ transposed(other)
        gradient = factor @ gram - matrix @ transposed(other)
        found: Array = np.maximum(factor - per_matrix(multiple * of_gram(gram)) * gradient, 0.0)
        return found

    def sweep(codes: Array, parts: Array, multiple: Array) -> tuple[Array, Array]:
        codes = step(codes, parts, matrix, multiple)
        return codes, transposed(step(transposed(parts), transposed(codes), transposed(matrix), multiple))

    return _found(fleet, codes, parts, sweep)


def joint(fleet: Problems) -> Found:
    """Of runs that step both at once, at one multiple of the segment edge."""
    return _found(fleet, *balance(fleet.codes, fleet.parts), lambda *now: segment_move(fleet.matrix, *now))


def now(_: Problems, __: Array, ___: Array) -> Callable[[Array], Array]:
    """The edge at every step."""
    return block_edge


def at_start(_: Problems, codes: Array, parts: Array) -> Callable[[Array], Array]:
    """The edge at the start, kept."""
    edge = np.minimum(block_edge(transposed(codes) @ codes), block_edge(parts @ transposed(parts)))
    return lambda _: edge


def a_priori(fleet: Problems, codes: Array, parts: Array) -> Callable[[Array], Array]:
    """The constant from the start alone."""
    edge = a_priori_edge(fleet.norm, loss(fleet.matrix, codes, parts), codes.shape[-1])
    return lambda _: edge


def _found(fleet: Problems, codes: Array, parts: Array, sweep: Callable[[Array, Array, Array], tuple[Array, Array]]) -> Found:
    first = loss(fleet.matrix, codes, parts)

    def is_stable(multiple: Array) -> Array:
        w, h = codes, parts
        for _ in range(SWEEPS):
            w, h = sweep(w, h, multiple)
        stable: Array = (loss(fleet.matrix, w, h) < first) & ~has_collapsed(fleet, w, h)
        return stable

    largest = largest_stable(is_stable, len(fleet.seeds))
    ones = np.ones(len(fleet.seeds), np.int64)
    return Found(ones, (largest < 1.0).astype(np.int64), {"worst": largest})
