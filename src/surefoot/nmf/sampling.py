"""Bounds that do not look at the batch just drawn, and the limit of a rate."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple

from surefoot import checks
from surefoot.nmf.arrays import alike, bare, gram_of, narrow, sound, where_sound, wide
from surefoot.nmf.eigenvalues import largest_eigenvalue

_EPSILON = 2.0**-52


def expected_smoothness(codes: Any, batch_size: int, *, gram: Any = None, method: str = "eigen", sweeps: int = 3) -> Any:
    r"""How curved a batch's estimate of the objective is in H, in mean square over all batches of b of the m rows.

    $$L(b) = \frac{m(b-1)}{b(m-1)}\,\lambda_{\max}(W^\top W) + \frac{m-b}{b(m-1)}\,m\max_i\|w_i\|^2.$$

    It belongs to the unbiased gradient $\frac mb \sum_{i \in B} w_i^\top(w_i H - v_i)$. *Proved* (`docs/nmf/bounds.md`,
    "Minibatches"): if one $H^* \ge 0$ fits all rows, a projected step below $2/L(b)$ brings H closer to it in mean square, W
    standing still. Otherwise noise remains, and a scale of 0.5, $1/L(b)$, is recommended. That both blocks then go down
    together only *held in numbers*.

    >>> import numpy as np
    >>> codes = np.asarray([[1.0], [2.0], [2.0]])
    >>> [round(float(expected_smoothness(codes, b)), 6) for b in (1, 2, 3)]
    [12.0, 9.75, 9.0]

    Args:
        codes: W, shape (..., m, r), from before the batch was drawn.
        batch_size: b, from 1 to m.
        gram: $W^\top W$, shape (..., r, r), if the caller keeps it up to date anyway.
        method: How its eigenvalue is bounded; see `largest_eigenvalue`.
        sweeps: Of "collatz".

    Returns:
        Shape (...), in the precision of the codes, rounded up. NaN for codes that are not finite.
    """
    checks.whole("batch_size", batch_size, low=1)
    m, b = codes.shape[-2], batch_size
    if b > m:
        raise ValueError(f"batch_size must be at most the number of rows of the codes, {m}, got {b}")
    xp, factor = wide(codes)
    finite, factor = sound(xp, factor)
    largest = wide(largest_eigenvalue(gram_of(xp, factor) if gram is None else gram, method=method, sweeps=sweeps))[1]
    longest = xp.max(xp.sum(factor * factor, axis=-1), axis=-1) if b < m else 0.0
    return narrow(xp, where_sound(xp, finite, smoothness(largest, longest, tuple(codes.shape[-2:]), b)), codes, up=True)


def smoothness(largest: Any, longest: Any, shape: tuple[int, int], batch_size: int) -> Any:
    """The expected smoothness, not narrowed, from the largest eigenvalue and the largest squared norm of a row, in float64."""
    (m, rank), b = shape, batch_size
    if b < m:
        largest = m * ((b - 1) * largest + (m - b) * longest) / (b * (m - 1))
    return largest * (1.0 + (m + rank + 8) * _EPSILON)


class RunningMaximumState(NamedTuple):
    """The largest curvature seen, slowly forgotten; a plain number or of shape (...)."""

    value: Any


@dataclass(frozen=True)
class RunningMaximum:
    r"""Remember the largest curvature among the batches so far, so that the rate does not follow the batch just drawn.

    Take in the batch at hand first, then make its step: it may be steeper than all before it, and with the maximum of earlier
    batches alone long runs were seen to diverge (`docs/nmf/verification.md`). Once all rows have been met, the maximum hardly
    depends on the batch any more. *Proved* (`docs/nmf/bounds.md`, "Why not the batch's own edge"): a rate by the batch's own
    curvature alone turns the mean direction away from the gradient, and can converge to a wrong point however small the rates
    become. The running maximum itself only *held in numbers*.

    >>> largest = RunningMaximum(decay=0.5)
    >>> state = largest.init(8.0)
    >>> for curvature in (2.0, 9.0, 3.0):
    ...     state = largest.update(state, curvature)
    >>> state.value
    4.5

    Attributes:
        decay: How much of the maximum survives a step, from 0 to 1; 0.999 forgets half of it in 693 steps.
    """

    decay: float = 0.999

    def __post_init__(self) -> None:
        checks.number("decay", self.decay, low=0.0, high=1.0)

    def init(self, curvature: Any) -> RunningMaximumState:
        """Begin with a curvature that is known before the first batch, such as `expected_smoothness` of the first codes."""
        return RunningMaximumState(bare(curvature))

    def update(self, state: RunningMaximumState, curvature: Any) -> RunningMaximumState:
        """The state after a batch whose codes' Gram has this `largest_eigenvalue`; one that is not finite is forgotten."""
        if isinstance(state.value, (int, float)) and isinstance(curvature, (int, float)):
            return RunningMaximumState(max(self.decay * state.value, curvature if curvature < inf else 0.0))
        xp, old, new = alike(state.value, curvature)
        kept = self.decay * old
        return RunningMaximumState(xp.where(xp.isfinite(new) & (new > kept), new, kept))


def limited(scale: Any, edge: Any, cap: Any) -> Any:
    r"""Cap and clip together: the rate $\min(c \cdot \mathrm{edge}, \mathrm{cap})$.

    *Proved* (`docs/nmf/bounds.md`, "Theorem A", "Theorem B"): for exact gradients any scale $c < 1$ is stable, whatever the
    cap; under noise of bounded variance $c \le 1$ *and* a finite cap let the expected objective grow at most linearly. *In
    numbers* c up to 0.5 is better under noise.
    Without the cap that is void: as the other factor shrinks, its edge goes to infinity, and noise of a fixed size is
    multiplied without limit. Without the edge it is void, too, as soon as the curvature grows.

    A schedule s of absolute rates is limited by `limited(c, edge, s)`.

    >>> [float(limited(scale, edge=2.0, cap=1.5)) for scale in (0.1, 0.5, 100.0)]
    [0.2, 1.0, 1.5]

    Args:
        scale: c, 0 or more, a number or of shape (...).
        edge: Any stability edge, infinite where nothing bends, a number or of shape (...).
        cap: The largest rate ever allowed, such as the first edge or `a_priori_edge`, or infinity.

    Returns:
        Shape (...). Where the edge is infinite, the cap; and 0 if that is infinite, too: the gradient is zero there, and
        infinity times zero would not be. NaN if anything is NaN.
    """
    xp, scale, edge, cap = alike(scale, edge, cap)
    flat = edge == inf
    rate = xp.where(flat & (scale > 0.0), inf, scale * xp.where(flat, 0.0, edge))
    rate = xp.minimum(rate, cap)
    return xp.where(rate == inf, 0.0, rate)
