"""Where a cubic rises through zero, for a whole fleet at once and without leaving the device."""

from __future__ import annotations

from math import inf, nan
from typing import Any

_HALVINGS = 64
_FLATTEST = 2.0**-100


def rising_crossings(xp: Any, constant: Any, slope: Any, square: Any, cube: Any) -> tuple[Any, ...]:
    """The positive points at which a + bx + cx^2 + dx^3 rises through zero, with a < 0 and d >= 0: one or two of them.

    Such a cubic rises to its first extremum, falls to its second and rises again. So it crosses zero upwards at most once
    before the first and at most once after the second, and each crossing is alone between known points: bisection finds it,
    where formulas with roots lose digits and eigenvalues of a companion matrix would have to wait for the device.

    Returns:
        The first crossing and the last, which are the same if there is one only, each rounded towards zero. 0 for a >= 0,
        and NaN for a coefficient that is not finite.
    """
    usable = xp.isfinite(constant + slope + square + cube)
    falls = usable & (constant < 0.0)
    constant, slope, square, cube = (
        xp.where(falls, given, default) for given, default in ((constant, -1.0), (slope, 1.0), (square, 0.0), (cube, 0.0))
    )
    unit = _unit(xp, -constant, xp.abs(slope), xp.abs(square), cube)
    b, c = slope / -constant * unit, square / -constant * unit * unit
    # In this unit all coefficients are at most 1. A cube below 2^-100 is taken for that, which moves roots towards zero.
    d = xp.clip(cube / -constant * unit * unit * unit, _FLATTEST, None)
    early, late = (crossing * unit for crossing in _crossings(xp, b, c, d))
    return tuple(xp.where(usable, xp.where(falls, crossing, 0.0), nan) for crossing in (early, late))


def _unit(xp: Any, constant: Any, slope: Any, square: Any, cube: Any) -> Any:
    """The largest unit of x in which no coefficient is larger than the constant."""
    roots = [
        xp.where(size > 0.0, (constant / xp.where(size > 0.0, size, 1.0)) ** (1.0 / power), inf)
        for power, size in ((1, slope), (2, square), (3, cube))
    ]
    unit = xp.minimum(roots[0], xp.minimum(roots[1], roots[2]))
    return xp.where(xp.isfinite(unit), unit, 1.0)


def _crossings(xp: Any, b: Any, c: Any, d: Any) -> tuple[Any, Any]:
    """Of -1 + bx + cx^2 + dx^3 with all of them at most 1, so that it is negative up to 1/2."""
    turns = c * c - 3.0 * d * b
    root = xp.sqrt(xp.where(turns > 0.0, turns, 0.0))
    # The extrema are (-c -+ root) / 3d: one from the form that does not subtract like from like, one from their product.
    bulk = xp.where(c > 0.0, -c - root, root - c)
    extrema = bulk / (3.0 * d), xp.where(bulk == 0.0, 0.0, b / xp.where(bulk == 0.0, 1.0, bulk))
    first, second = xp.minimum(*extrema), xp.maximum(*extrema)
    half = xp.full_like(first, 0.5)
    top = 2.0 * xp.maximum(xp.abs(c) / d, xp.maximum(xp.sqrt(xp.abs(b) / d), d ** (-1.0 / 3.0)))  # Fujiwara's bound of roots.
    start = xp.where((turns > 0.0) & (second > half), second, half)
    below = _value(start, b, c, d) < 0.0
    late = _bisected(xp, xp.where(below, start, half), xp.where(below, top, start), b, c, d)
    twice = (turns > 0.0) & (first > half) & (_value(first, b, c, d) >= 0.0)
    early = _bisected(xp, half, xp.where(twice, first, half), b, c, d)
    return xp.where(twice, early, late), late


def _bisected(xp: Any, low: Any, high: Any, *coefficients: Any) -> Any:
    """The crossing between two positive points, by halving its logarithm; of the last two, the one still below zero."""
    for _ in range(_HALVINGS):
        middle = xp.sqrt(low) * xp.sqrt(high)
        below = _value(middle, *coefficients) < 0.0
        low, high = xp.where(below, middle, low), xp.where(below, high, middle)
    return low


def _value(x: Any, b: Any, c: Any, d: Any) -> Any:
    return ((d * x + c) * x + b) * x - 1.0
