"""Edges for steps that move W and H at once, where the objective is of the fourth degree."""

from __future__ import annotations

from math import inf
from typing import Any, NamedTuple

from surefoot import checks
from surefoot.nmf.arrays import gram_of, inner, namespace, narrow, over, sound, where_sound, wide
from surefoot.nmf.cubic import rising_crossings
from surefoot.nmf.eigenvalues import largest_eigenvalue

_HALVINGS = 60


def segment_edge(
    codes: Any, parts: Any, codes_gradient: Any, parts_gradient: Any, residual_norm: Any, *, safety: float = 1.0
) -> Any:
    r"""The edge of a simultaneous step of both blocks, projected or not: what holds on the whole way to the new point.

    It is the largest $\eta$ with
    $$\eta\, L(w + \eta a, h + \eta b, \|R\|_F) \le 2c, \qquad
    L(w, h, \varrho) = \lambda_{\max}\begin{pmatrix} h^2 & hw + \varrho \\ hw + \varrho & w^2 \end{pmatrix},$$
    where w and h are the spectral norms of W and H, a and b those of the entrywise absolute gradients, and c is `safety`.

    *Proved* (`docs/nmf/bounds.md`, "Joint steps"): no step up to it increases the objective, with or without projection. With
    the factors' own norms instead of those that they may grow to, $2/L(w, h, \|R\|)$, nothing is proved although it *held in
    numbers*.

    Args:
        codes: W, shape (..., m, r), nonnegative if the step is projected.
        parts: H, shape (..., r, n), likewise.
        codes_gradient: $RH^\top$, shape (..., m, r).
        parts_gradient: $W^\top R$, shape (..., r, n).
        residual_norm: $\|R\|_F = \|WH - V\|_F = \sqrt{2f}$ or more, a number or of shape (...).
        safety: c, above 0 and at most 1.

    Returns:
        Shape (...). NaN for input that is not finite.
    """
    checks.number("safety", safety, low=0.0, high=1.0)
    xp, *factors, residual = wide(codes, parts, codes_gradient, parts_gradient, residual_norm)
    finite, *factors = sound(xp, *factors)
    finite = finite & xp.isfinite(residual)
    residual = xp.where(finite, residual, 0.0)
    w, a = (_spectral(xp, factor) for factor in (factors[0], xp.abs(factors[2])))
    h, b = (_spectral(xp, xp.matrix_transpose(factor)) for factor in (factors[1], xp.abs(factors[3])))
    local = over(xp, 2.0 * safety, _curvature(xp, w, h, residual))
    flat = local == inf  # Nothing bends, and nothing moves.
    top = xp.where(flat, 0.0, local)
    low = 0.0 * top
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + top)
        holds = middle * _curvature(xp, w + middle * a, h + middle * b, residual) <= 2.0 * safety
        low, top = xp.where(holds, middle, low), xp.where(holds, top, middle)
    return narrow(xp, where_sound(xp, finite, xp.where(flat, inf, low)), codes, parts, codes_gradient, parts_gradient)


class Quartic(NamedTuple):
    r"""The exact change of the objective along a direction, $f(W - \eta D_W, H - \eta D_H) - f(W, H)$, a polynomial in $\eta$.

    Attributes:
        linear, quadratic, cubic, quartic: Its coefficients, shape (...), in float64 whatever the factors are in. (So is every
            step made from them; take it to the factors' precision before multiplying.)
    """

    linear: Any
    quadratic: Any
    cubic: Any
    quartic: Any

    def change(self, step: Any) -> Any:
        """The change of the objective that a step makes: below 0 it falls."""
        return step * (self.linear + step * (self.quadratic + step * (self.cubic + step * self.quartic)))

    def largest_stable_step(self, limit: float = inf) -> Any:
        """The first step at which the objective is back where it was; all smaller ones lower it.

        Args:
            limit: The largest step allowed: 1 along a feasible direction.

        Returns:
            Shape (...), in float64. 0 if the direction is not one of descent.
        """
        return self._first(limit, (self.linear, self.quadratic, self.cubic, self.quartic))[0]

    def best_step(self, limit: float = inf) -> Any:
        """The step from 0 to `limit` with the lowest objective of all; of two that are equally good, the smaller.

        Returns:
            Shape (...), in float64. 0 if the direction is not one of descent.
        """
        early, late = self._first(limit, (self.linear, 2.0 * self.quadratic, 3.0 * self.cubic, 4.0 * self.quartic))
        # Two minima may be equally deep, such as those of (W, H) and (-W, -H): then rounding must not choose.
        better = self.change(late) < (1.0 + 1e-9) * self.change(early)
        return namespace(early).where(better, late, early)

    def _first(self, limit: float, coefficients: tuple[Any, ...]) -> tuple[Any, ...]:
        if limit != inf:
            checks.number("limit", limit, low=0.0)
        xp, *wider = wide(*coefficients)
        return tuple(xp.clip(step, None, limit) for step in rising_crossings(xp, *wider))


def quartic(
    codes: Any,
    parts: Any,
    codes_direction: Any,
    parts_direction: Any,
    *,
    codes_gradient: Any,
    parts_gradient: Any,
    products: Any,
) -> Quartic:
    r"""The objective along the direction $(D_W, D_H)$, from r x r matrices and one product with V.

    With $A = D_W H + W D_H$ and $B = D_W D_H$, a step $\eta$ changes the objective by
    $$-\eta\langle R, A\rangle + \eta^2\left(\frac12\|A\|^2 + \langle R, B\rangle\right) - \eta^3\langle A, B\rangle
    + \frac{\eta^4}{2}\|B\|^2.$$
    *Proved*, an identity (`docs/nmf/bounds.md`, "The quartic"): without projection, or along a feasible direction, such as
    those of `feasible_direction` for both blocks, with a limit of 1. *Invalid under projection*: a projected gradient step at
    the gradients' own quartic edge is seen to increase the objective. The product costs as much as one block's gradient:
    a diagnosis, not for every step.

    Args:
        codes: W, shape (..., m, r).
        parts: H, shape (..., r, n).
        codes_direction: $D_W$, such as the gradient of W, shape (..., m, r).
        parts_direction: $D_H$, shape (..., r, n).
        codes_gradient: $RH^\top$, shape (..., m, r).
        parts_gradient: $W^\top R$, shape (..., r, n).
        products: $VD_H^\top$, shape (..., m, r): the one product with the matrix, dense or sparse, that the caller makes.

    Returns:
        Four coefficients of shape (...). NaN for input that is not finite. With float32 input, the quadratic one is as exact as
        the products: where the fit is close, take them to float64.
    """
    xp, *arrays = wide(codes, parts, codes_direction, parts_direction, codes_gradient, parts_gradient, products)
    finite, w, h, dw, dh, gw, gh, vdh = sound(xp, *arrays)
    across = xp.matrix_transpose
    ww, wd, dd = gram_of(xp, w), xp.matmul(across(w), dw), gram_of(xp, dw)
    hh, hd, ee = (xp.matmul(left, across(right)) for left, right in ((h, h), (h, dh), (dh, dh)))
    square = inner(xp, dd, hh) + inner(xp, ww, ee) + 2.0 * inner(xp, across(wd), hd)
    bend = inner(xp, wd, hd) - inner(xp, vdh, dw)
    coefficients = (
        -inner(xp, gw, dw) - inner(xp, gh, dh),
        0.5 * square + bend,
        -inner(xp, dd, hd) - inner(xp, wd, ee),
        0.5 * inner(xp, dd, ee),
    )
    return Quartic(*(where_sound(xp, finite, coefficient) for coefficient in coefficients))


def _spectral(xp: Any, tall: Any) -> Any:
    """The largest singular value of a tall matrix, rounded up."""
    margin = 1.0 + sum(tall.shape[-2:]) * float(xp.finfo(xp.float64).eps)
    return xp.sqrt(largest_eigenvalue(gram_of(xp, tall)) * margin)


def _curvature(xp: Any, w: Any, h: Any, residual: Any) -> Any:
    """The larger eigenvalue of [[h^2, hw + residual], [hw + residual, w^2]]."""
    mean, half = 0.5 * (h * h + w * w), 0.5 * (h * h - w * w)
    return mean + xp.sqrt(half * half + (h * w + residual) ** 2)
