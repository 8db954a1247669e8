"""Stability edges of one block, W or H, while the other stands still: any step strictly below its edge is safe."""

from __future__ import annotations

from typing import Any

from surefoot import checks
from surefoot.nmf.arrays import bare, inner, namespace, narrow, over, sound, where_sound, wide
from surefoot.nmf.eigenvalues import bounded, check
from surefoot.nmf.single import returned, single


def block_edge(gram: Any, *, ridge: float = 0.0, method: str = "eigen", sweeps: int = 3) -> Any:
    r"""The edge $2/(\lambda_{\max}(K) + \alpha)$ of a block's projected gradient step, below which the objective never rises.

    *Proved* (`docs/nmf/bounds.md`, "Proposition 1"): for $W^+ = P(W - \eta G)$ with $G = WK - VH^\top$, $K = HH^\top$ and
    $0 < \eta < 2/L$,
    $$f(W^+) \le f(W) - \left(\frac{1}{\eta} - \frac{L}{2}\right) \|W^+ - W\|^2,$$
    with or without the projection, for any $L \ge \lambda_{\max}(K) + \alpha$, so also for the bound from above that
    `method="collatz"` takes. The ridge $\alpha$ is that of a penalty $\frac{\alpha}{2}\|W\|^2$; a linear penalty changes
    nothing. For H take $K = W^\top W$.

    >>> import numpy as np
    >>> float(block_edge(np.eye(3), ridge=1.0)) <= 1.0
    True

    Args:
        gram: $HH^\top$ for a step of W, $W^\top W$ for one of H, shape (..., r, r).
        ridge: The penalty's $\alpha$, 0 or more, in units of the Gram.
        method: How the eigenvalue is bounded, "eigen" or "collatz"; see `largest_eigenvalue`.
        sweeps: Products with the matrix that "collatz" makes.

    Returns:
        Shape (...), in the precision of the Gram, rounded down. Infinite for a zero Gram, whose gradient is zero too, and NaN
        for one that is not finite.
    """
    checks.number("ridge", ridge, low=0.0)
    check(gram, method, sweeps)
    if bound := single(gram, method, sweeps):  # Zero and NaN go the general way.
        return returned(gram, 2.0 / (bound + ridge))
    xp = namespace(gram)
    return narrow(xp, over(xp, 2.0, bounded(gram, method, sweeps) + ridge), gram)


def cauchy_edge(gradient: Any, gram: Any) -> Any:
    r"""The exact edge along one gradient, $2\|G\|^2 / \langle G, GK\rangle$: for steps *without* projection only.

    *Proved* (`docs/nmf/bounds.md`, "Proposition 2"): $f(W - \eta G) < f(W)$ if and only if $\eta$ is below it, and it is never
    below `block_edge`. *Invalid under projection*: there, steps below it are seen to increase the objective. Take
    `feasible_edge` instead.

    Args:
        gradient: G of W, shape (..., m, r); that of H transposed.
        gram: $HH^\top$ or $W^\top W$, shape (..., r, r).

    Returns:
        Shape (...). Infinite for a zero gradient, NaN for input that is not finite.
    """
    return noisy_edge(gradient, gram, 0.0)


def noisy_edge(gradient: Any, gram: Any, noise_curvature: Any) -> Any:
    r"""The exact edge of the *expected* objective when only a noisy gradient is known: for steps without projection only.

    *Proved* (`docs/nmf/bounds.md`, "Noise"): if the noise $\xi$ has mean zero, then $E f(W - \eta(G + \xi)) < f(W)$ if and only
    if
    $$\eta < \frac{2\|G\|^2}{\langle G, GK\rangle + E\|\xi H\|^2}.$$
    *Invalid under projection*, as every rule that trusts $\|G\|$: where entries are held at zero, noise can only push up.

    Args:
        gradient: The noise-free G of W, shape (..., m, r); that of H transposed.
        gram: $K$, $HH^\top$ or $W^\top W$, shape (..., r, r).
        noise_curvature: $E\|\xi H\|^2$, a number or of shape (...); $m s^2\,\mathrm{tr}(K)$ for m rows of independent entries
            of variance $s^2$.

    Returns:
        Shape (...). Infinite where nothing bends the objective, NaN for input that is not finite.
    """
    xp, slope, matrix, noise = wide(gradient, gram, noise_curvature)
    finite, slope, matrix = sound(xp, slope, matrix)
    curvature = inner(xp, slope, xp.matmul(slope, matrix)) + noise
    edge = over(xp, 2.0 * inner(xp, slope, slope), curvature)
    return narrow(xp, where_sound(xp, finite, edge), gradient, gram)


def feasible_direction(factor: Any, gradient: Any, rate: Any) -> Any:
    r"""$D = W - P(W - \eta_0 G)$: every step $W - \tau D$ with $0 \le \tau \le 1$ stays nonnegative.

    Args:
        factor: W, nonnegative, shape (..., m, r), or any other block.
        gradient: Of the same shape.
        rate: $\eta_0$, however large, a number or of shape (...).

    Returns:
        Shape of the factor. Along it the objective falls at first, unless W is stationary: $\langle G, D\rangle \ge
        \|D\|^2/\eta_0$.
    """
    xp = namespace(factor, gradient)
    rate = rate if isinstance(rate, (int, float)) else xp.astype(bare(rate), factor.dtype)[..., None, None]
    moved = factor - rate * gradient
    return factor - xp.where(moved < 0.0, 0.0, moved)  # Not a maximum with 0: PyTorch's has no plain numbers.


def feasible_edge(gradient: Any, direction: Any, gram: Any) -> Any:
    r"""The exact edge of $\tau$ in $W - \tau D$ along a feasible direction, at most 1: the Cauchy edge's safe replacement.

    *Proved* (`docs/nmf/bounds.md`, "Proposition 2"): for $D = W - P(W - \eta_0 G)$ with any $\eta_0$, every step with
    $0 < \tau < \min(1, 2\langle G, D\rangle / \langle D, DK\rangle)$ is feasible and lowers the objective, or D is zero.

    Args:
        gradient: G of W, shape (..., m, r); that of H transposed.
        direction: D, of the same shape.
        gram: $HH^\top$ or $W^\top W$, shape (..., r, r).

    Returns:
        Shape (...), from 0 to 1. NaN for input that is not finite.
    """
    xp, slope, move, matrix = wide(gradient, direction, gram)
    finite, slope, move, matrix = sound(xp, slope, move, matrix)
    edge = over(xp, 2.0 * inner(xp, slope, move), inner(xp, move, xp.matmul(move, matrix)))
    return narrow(xp, where_sound(xp, finite, xp.clip(edge, 0.0, 1.0)), gradient, direction, gram)
