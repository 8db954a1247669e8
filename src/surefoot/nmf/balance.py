"""The bound that is known before the first step: a constant rate for a whole run, from nonnegativity."""

from __future__ import annotations

from math import sqrt
from typing import Any

from surefoot import checks
from surefoot.nmf.arrays import bare, narrow, over, wide


def a_priori_edge(norm: Any, objective: Any, rank: int) -> Any:
    r"""The edge $2/L$ with $L = \sqrt{r}\,(\|V\|_F + \sqrt{2f_0})$ of a whole run that is kept balanced, both blocks.

    *Proved* (`docs/nmf/bounds.md`, "Proposition 4"): at nonnegative factors that `balance` has balanced, whose objective is at
    most $f_0$ and whose product is not zero, $\|W\|_F^2$ and $\|H\|_F^2$ are at most $L$. So one constant rate below $2/L$,
    with `balance` before every step of a block, never increases the objective if $f_0 < \frac12\|V\|^2$. It is several times
    smaller than the edges on the way. *Invalid* without balancing, without nonnegativity, under noise (where the objective
    need not stay below $f_0$), and for missing entries (whose product nothing bounds).

    >>> round(float(a_priori_edge(norm=3.0, objective=0.5, rank=4)), 6)
    0.25

    Args:
        norm: $\|V\|_F$, a number or of shape (...).
        objective: $f_0 = \frac12\|V - WH\|_F^2$ at the start, a number or of shape (...).
        rank: r, the number of parts, 1 or more.

    Returns:
        Shape (...). Infinite if V and the objective are zero.
    """
    checks.whole("rank", rank, low=1)
    xp, length, start = wide(norm, objective)
    bound = sqrt(rank) * (length + xp.sqrt(2.0 * start)) * (1.0 + 8 * float(xp.finfo(xp.float64).eps))
    return narrow(xp, over(xp, 2.0, bound), norm, objective)


def balance(codes: Any, parts: Any) -> tuple[Any, Any]:
    r"""Rescale each part and its codes to equal lengths, $\|w_k\| = \|h_k\|$; the product WH stays what it is.

    A component of which only one side is zero contributes nothing, and cannot be balanced. Its other side is rescaled to the
    squared length $\|(\|w_l\|\|h_l\|)_l\| / (\sqrt{r} + \sqrt{r-d})$, with d the number of components that contribute nothing:
    so much that `a_priori_edge` stays proved. If none contributes anything, all stay as they are.

    It is for exact gradients. Under noise of a fixed size it was seen to do harm (*in numbers*: `docs/nmf/bounds.md`, "What
    only held in numbers").

    >>> import numpy as np
    >>> codes, parts = balance(np.asarray([[8.0], [0.0]]), np.asarray([[2.0]]))
    >>> codes.tolist(), parts.tolist()
    ([[4.0], [0.0]], [[4.0]])

    Args:
        codes: W, shape (..., m, r).
        parts: H, shape (..., r, n).

    Returns:
        New codes and parts, in their precision.
    """
    xp, w, h = wide(codes, parts)
    codes_length, parts_length = xp.sqrt(xp.sum(w * w, axis=-2)), xp.sqrt(xp.sum(h * h, axis=-1))
    alive = (codes_length > 0.0) & (parts_length > 0.0)
    share = xp.where(alive, codes_length, 0.0) * xp.where(alive, parts_length, 0.0)
    rank, living = share.shape[-1], xp.sum(xp.astype(alive, xp.float64), axis=-1, keepdims=True)
    whole = xp.sqrt(xp.sum(share * share, axis=-1, keepdims=True))
    target = xp.sqrt(xp.where(alive, share, whole / (sqrt(rank) + xp.sqrt(living))))
    return (
        _rescaled(codes, codes_length, target, whole, xp)[..., None, :] * bare(codes),
        _rescaled(parts, parts_length, target, whole, xp)[..., None] * bare(parts),
    )


def _rescaled(factor: Any, length: Any, target: Any, whole: Any, xp: Any) -> Any:
    changes = (length > 0.0) & (whole > 0.0)
    return xp.astype(xp.where(changes, target / xp.where(changes, length, 1.0), 1.0), factor.dtype)
