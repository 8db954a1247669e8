"""Rules without noise: the loss must not rise at any step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surefoot.nmf import (
    a_priori_edge,
    balance,
    block_edge,
    chebyshev,
    descend,
    feasible_direction,
    feasible_edge,
    quartic,
    row_edges,
    segment_edge,
)
from surefoot.nmf.verification.watching import Found, loss, norm, watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from surefoot.nmf.verification.fleets import Array, Problems

    Move = Callable[[Array, Array, Array], Array]
    """From a factor (problems, m, r), the gram of the other and the products, the factor after a step."""

BELOW = 0.999
"""The fraction of its edge at which a rule is checked, strictly below it."""
SWEEPS = 40
_MASKED_SWEEPS = 15  # With an eigenvalue for every row they take ten times as long.
_LONG = 5.0
"""Feasible directions end at the projected gradient step of this many edges."""


def multiples(fleet: Problems, below: float = BELOW) -> Array:
    """The fraction of the edge that each problem's schedule leaves at each sweep, clipped; shape (sweeps, problems).

    A third of the schedules ask for more than is allowed at every sweep, a third for anything from a hundredth of the edge to a
    hundred edges, and a third for a twentieth, with spikes of three edges.
    """
    random = np.stack([each.uniform(-2.0, 2.0, SWEEPS) for each in fleet.random(1)], axis=1)
    spikes = np.where(np.arange(SWEEPS) % 10 == 0, 3.0, 0.05)[:, None]
    asked = np.where(fleet.schedule == 0, np.inf, np.where(fleet.schedule == 1, 10.0**random, spikes))
    return np.minimum(asked, below)


def per_matrix(values: Array) -> Array:
    """One number for each problem, to multiply matrices with; where an edge is infinite there is no slope, and no step."""
    return np.where(np.isinf(values), 0.0, values)[..., None, None]


def transposed(factor: Array) -> Array:
    """Every matrix transposed."""
    return np.swapaxes(factor, -1, -2)


def sweeps(
    matrix: Array, codes: Array, parts: Array, steps: Array, move: Callable[[Array, Array, Array, Array], Array]
) -> Iterator[tuple[Array, Array]]:
    """Codes and parts at the start and after every move, of the codes and the parts in turn.

    Args:
        matrix: V; shape (problems, m, n).
        codes: W; shape (problems, m, r).
        parts: H; shape (problems, r, n).
        steps: What each sweep hands to its moves; shape (sweeps, problems).
        move: From a factor, the gram of the other, the products, and the sweep's numbers, the factor after its step.
    """
    yield codes, parts
    for step in steps:
        codes = move(codes, parts @ transposed(parts), matrix @ transposed(parts), step)
        yield codes, parts
        turned = move(transposed(parts), transposed(codes) @ codes, transposed(matrix) @ codes, step)
        parts = transposed(turned)
        yield codes, parts


def along_gradient(edge: Callable[[Array, Array], Array], *, is_projected: bool = True) -> Callable[..., Array]:
    """A move by a multiple of an edge, which is taken from gradient and gram, against the gradient."""

    def move(factor: Array, gram: Array, products: Array, multiple: Array) -> Array:
        gradient = factor @ gram - products
        moved: Array = factor - per_matrix(multiple * edge(gradient, gram)) * gradient
        return np.maximum(moved, 0.0) if is_projected else moved

    return move


def along_feasible_direction(factor: Array, gram: Array, products: Array, multiple: Array) -> Array:
    """A move by a multiple of the edge of the way to a long projected gradient step."""
    gradient = factor @ gram - products
    direction = feasible_direction(factor, gradient, _far(block_edge(gram)))
    found: Array = factor - per_matrix(np.minimum(multiple * feasible_edge(gradient, direction, gram), 1.0)) * direction
    return found


def along_cycle(*, balanced: bool = False) -> Callable[..., Array]:
    """A move by a whole Chebyshev cycle, looked at afterwards; balanced, in units in which every part has length 1."""

    def move(factor: Array, gram: Array, products: Array, _: Array) -> Array:
        moved: Array = descend(factor, gram, products, balanced=balanced)
        return moved

    return move


def along_unguarded_cycle(factor: Array, gram: Array, products: Array, _: Array) -> Array:
    """The same without the second look."""
    inverse = per_matrix(0.5 * block_edge(gram))
    for step in chebyshev():
        factor = np.maximum(factor - step * inverse * (factor @ gram - products), 0.0)
    return factor


def block(method: str = "eigen") -> Callable[[Array, Array], Array]:
    """The block edge, of the gram alone."""
    return lambda _, gram: block_edge(gram, method=method)


def alternating(fleet: Problems, move: Callable[..., Array], below: float = BELOW) -> Found:
    """Codes and parts in turn."""
    return watch(fleet.matrix, sweeps(fleet.matrix, fleet.codes, fleet.parts, multiples(fleet, below), move))


def a_priori(fleet: Problems) -> Found:
    """A constant rate from the start alone, with balancing after every sweep."""

    def moves() -> Iterator[tuple[Array, Array]]:
        codes, parts = balance(fleet.codes, fleet.parts)
        start = loss(fleet.matrix, codes, parts)
        edge = a_priori_edge(fleet.norm, start, codes.shape[-1])
        move = along_gradient(lambda *_: edge)
        yield codes, parts
        for multiple in multiples(fleet):
            yield from (made := list(sweeps(fleet.matrix, codes, parts, multiple[None], move)))[1:]
            codes, parts = balance(*made[-1])

    return watch(fleet.matrix, moves())


def masked(fleet: Problems, *, by_row: bool) -> Found:
    """Weighted entries, with an edge for each row, or with the edge of the gram without weights, which is below them all."""

    def moves() -> Iterator[tuple[Array, Array]]:
        codes, parts = fleet.codes, fleet.parts
        yield codes, parts
        for multiple in multiples(fleet)[: _MASKED_SWEEPS if by_row else SWEEPS]:
            codes = masked_move(fleet.matrix, codes, parts, fleet.weights, multiple, by_row=by_row)
            yield codes, parts
            matrix, weights = transposed(fleet.matrix), transposed(fleet.weights)
            turned = masked_move(matrix, transposed(parts), transposed(codes), weights, multiple, by_row=by_row)
            parts = transposed(turned)
            yield codes, parts

    return watch(fleet.matrix, moves(), fleet.weights)


def masked_move(matrix: Array, codes: Array, parts: Array, weights: Array, multiple: Array, *, by_row: bool) -> Array:
    """A projected step of the codes by a multiple of the edge."""
    gradient = weights**2 * (codes @ parts - matrix) @ transposed(parts)
    if by_row:
        edge = multiple[:, None] * row_edges(parts, weights)
        rate = np.where(np.isinf(edge), 0.0, edge)[..., None]
    else:
        rate = per_matrix(multiple * block_edge(parts @ transposed(parts)))
    found: Array = np.maximum(codes - rate * gradient, 0.0)
    return found


def together(fleet: Problems, move: Callable[..., tuple[Array, Array]], below: float = BELOW) -> Found:
    """Codes and parts at once."""

    def moves() -> Iterator[tuple[Array, Array]]:
        codes, parts = fleet.codes, fleet.parts
        yield codes, parts
        for multiple in multiples(fleet, below):
            codes, parts = move(fleet.matrix, codes, parts, multiple)
            yield codes, parts

    return watch(fleet.matrix, moves())


def gradients(matrix: Array, codes: Array, parts: Array) -> tuple[Array, Array, Array]:
    """Those of codes and parts, and the residual's norm."""
    residual = codes @ parts - matrix
    return residual @ transposed(parts), transposed(codes) @ residual, norm(residual)


def segment_move(matrix: Array, codes: Array, parts: Array, multiple: Array) -> tuple[Array, Array]:
    """A joint projected step by a multiple of the segment edge."""
    down, right, residual = gradients(matrix, codes, parts)
    rate = per_matrix(multiple * segment_edge(codes, parts, down, right, residual))
    return np.maximum(codes - rate * down, 0.0), np.maximum(parts - rate * right, 0.0)


def quartic_move(
    matrix: Array, codes: Array, parts: Array, multiple: Array, *, is_projected: bool = False
) -> tuple[Array, Array]:
    """A joint step along the gradients by a multiple of the quartic's first root."""
    down, right, _ = gradients(matrix, codes, parts)
    products = matrix @ transposed(right)
    change = quartic(codes, parts, down, right, codes_gradient=down, parts_gradient=right, products=products)
    rate = per_matrix(multiple * change.largest_stable_step())
    codes, parts = codes - rate * down, parts - rate * right
    return (np.maximum(codes, 0.0), np.maximum(parts, 0.0)) if is_projected else (codes, parts)


def feasible_quartic_move(matrix: Array, codes: Array, parts: Array, multiple: Array) -> tuple[Array, Array]:
    """A joint step along a feasible direction by a multiple of the quartic's first root, at most all the way."""
    down, right, _ = gradients(matrix, codes, parts)
    far = _far(2.0 / (norm(codes) ** 2 + norm(parts) ** 2))
    lower, across = feasible_direction(codes, down, far), feasible_direction(parts, right, far)
    products = matrix @ transposed(across)
    change = quartic(codes, parts, lower, across, codes_gradient=down, parts_gradient=right, products=products)
    step = per_matrix(np.minimum(multiple * change.largest_stable_step(1.0), 1.0))
    return codes - step * lower, parts - step * across


def _far(edge: Array) -> Array:
    """Five edges, at which feasible directions end; 0 where there is no slope."""
    return np.where(np.isinf(edge), 0.0, _LONG * edge)
