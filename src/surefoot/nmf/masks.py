"""Edges for missing and weighted entries: the objective is half the sum of (M_ij (WH - V)_ij)^2."""

from __future__ import annotations

from typing import Any

from surefoot import checks
from surefoot.nmf.arrays import narrow, over, sound, where_sound, wide
from surefoot.nmf.eigenvalues import METHODS, collatz_wielandt, largest_eigenvalue


def row_edges(parts: Any, weights: Any, *, method: str = "eigen", sweeps: int = 3) -> Any:
    r"""An edge for every row of W: $2/\lambda_{\max}(H\,\mathrm{diag}(M_i^2)H^\top)$.

    *Proved* (`docs/nmf/bounds.md`, "Proposition 3"): with H fixed, the masked objective is a sum over the rows of W, so that
    every row may have a rate of its own, below its own edge, projected or not. For weights from 0 to 1 none is below
    `block_edge` of the plain Gram, which is therefore always safe, and cheaper. For the columns of H hand over $W^\top$ and
    $M^\top$.

    Args:
        parts: H, shape (..., r, n).
        weights: M, shape (..., m, n): 0 or False where an entry is missing, 1 where it is there, or a weight.
        method: "eigen" makes m matrices of r x r, in float64; "collatz" bounds the eigenvalues from above with `sweeps` times
            two products of the size of a gradient's, and without these matrices: the one to take for many rows.
        sweeps: Of "collatz", 1 or more.

    Returns:
        Shape (..., m), in the precision of the parts, rounded down. Infinite for a row without weight.
    """
    xp, edges = _edges(parts, weights, method, sweeps)
    return narrow(xp, edges, parts)


def masked_edge(parts: Any, weights: Any, *, probability: float = 1.0, method: str = "eigen", sweeps: int = 3) -> Any:
    r"""One edge for all rows of W: the smallest of `row_edges`, times the probability that an entry is drawn.

    *Proved* (`docs/nmf/bounds.md`, "Proposition 3"): for a gradient made from entries drawn with probability p, whatever their
    dependence, and weighted by 1/p, every single draw's objective has at most $1/p$ times the curvature of the whole, so that
    a step below $p$ times the edge increases no draw's objective. (That says nothing about the whole objective, whose change
    depends on the noise of the draw.)

    Args:
        parts: H, shape (..., r, n).
        weights: M, shape (..., m, n), as in `row_edges`, before any drawing.
        probability: p, above 0 and at most 1.
        method: As in `row_edges`.
        sweeps: As in `row_edges`.

    Returns:
        Shape (...).
    """
    checks.number("probability", probability, low=0.0, high=1.0)
    if probability == 0.0:
        raise ValueError(
            "probability must be above 0, got 0.0: an entry that is never drawn is a missing one (set its weight to 0)"
        )
    xp, edges = _edges(parts, weights, method, sweeps)
    return narrow(xp, xp.min(edges, axis=-1) * probability, parts)


def _edges(parts: Any, weights: Any, method: str, sweeps: int) -> tuple[Any, Any]:
    """The namespace, and every row's edge in float64."""
    checks.one_of("method", method, METHODS)
    checks.whole("sweeps", sweeps, low=1)
    xp, factor, mask = wide(parts, weights)
    finite, factor, mask = sound(xp, xp.abs(factor) if method == "collatz" else factor, mask)
    bound = _eigen(xp, factor, mask**2) if method == "eigen" else _collatz(xp, factor, mask**2, sweeps)
    margin = 1.0 + (sum(parts.shape[-2:]) + 8) * float(xp.finfo(xp.float64).eps)
    return xp, where_sound(xp, finite[..., None], over(xp, 2.0, bound * margin))


def _eigen(xp: Any, factor: Any, squares: Any) -> Any:
    rank, size = factor.shape[-2:]
    pairs = xp.reshape(factor[..., :, None, :] * factor[..., None, :, :], (*factor.shape[:-2], rank * rank, size))
    grams = xp.matmul(squares, xp.matrix_transpose(pairs))
    return largest_eigenvalue(xp.reshape(grams, (*grams.shape[:-1], rank, rank)))


def _collatz(xp: Any, factor: Any, squares: Any, sweeps: int) -> Any:
    flipped = xp.matrix_transpose(factor)
    ones = xp.zeros_like(squares[..., :1]) + xp.ones_like(factor[..., None, :, 0])
    return collatz_wielandt(xp, lambda x: xp.matmul(squares * xp.matmul(x, factor), flipped), ones, sweeps)
