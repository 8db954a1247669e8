"""Step cycles: projected gradient steps on one block, some of them beyond its edge, that together never raise the objective."""

from __future__ import annotations

from functools import cache
from math import cos, pi
from typing import Any, NamedTuple

import numpy as np
from array_api_compat import array_namespace, is_numpy_array

from surefoot import checks
from surefoot.nmf.eigenvalues import largest_eigenvalue

_MATRIX = 2  # Dimensions.
_EDGE = 2.0  # No step up to this, in units of 1/L, can raise the objective: Proposition 1.
_SHORT, _SHORT_STEPS = 1.9, 3  # What is made instead of a cycle that would have raised it.
_CACHE = 2**17
"""Bytes of the rows that a whole cycle is made on before it is the next rows' turn."""


@cache
def chebyshev(length: int = 8, spread: float = 100.0) -> tuple[float, ...]:
    r"""The steps of a cycle, as multiples of $1/L$, that shrink errors of every curvature from $L/$ `spread` to $L$ the most.

    They are the inverse roots of the Chebyshev polynomial of that degree,
    $$\eta_j L = \left(\frac{1 + 1/\kappa}{2} + \frac{1 - 1/\kappa}{2} \cos\frac{(2j - 1) \pi}{2p}\right)^{-1},$$
    long and short steps alternating in Lebedev and Finogenov's order, so that what a long step blows up, the next ones shrink
    at once. Without projection $|\prod_j (1 - \eta_j \lambda)| \le 1$ for every curvature up to $L$, and the cycle as a whole
    cannot raise the objective although single steps exceed the edge $2/L$ by far (`docs/nmf/bounds.md`). *Projection voids
    that proof*; `descend` looks at the change and has it again.

    >>> [round(step, 2) for step in chebyshev(length=4, spread=10.0)]
    [1.04, 7.45, 1.38, 2.65]

    Args:
        length: How many steps, a power of two.
        spread: $\kappa$, the ratio of the largest curvature to the smallest that is aimed at, 1 or more.

    Raises:
        ValueError: The length is no power of two, or the spread is below 1.

    Reference: Lebedev and Finogenov, 1971, "On the order of choice of the iteration parameters in the Chebyshev cyclic
    iteration method".
    """
    checks.whole("length", length, low=1)
    checks.number("spread", spread, low=1.0)
    order = [1]
    while len(order) < length:
        order = [place for one in order for place in (one, 2 * len(order) + 1 - one)]
    if len(order) != length:
        raise ValueError(f"length must be a power of two, got {length}")
    middle, half = 0.5 * (1.0 + 1.0 / spread), 0.5 * (1.0 - 1.0 / spread)
    return tuple(1.0 / (middle + half * cos(pi * (2 * place - 1) / (2 * length))) for place in order)


def descend(
    factor: Any,
    gram: Any,
    products: Any,
    *,
    steps: tuple[float, ...] | None = None,
    largest: Any = None,
    balanced: bool = False,
) -> Any:
    r"""A block after one cycle of projected gradient steps on $\frac12\langle Z, ZK\rangle - \langle Z, C\rangle$, $Z \ge 0$.

    For W it is $K = HH^\top$ and $C = VH^\top$; for H, transposed, $K = W^\top W$ and $C = V^\top W$. A ridge $\alpha$ is
    added to the diagonal of $K$, a linear penalty is subtracted from $C$.

    *Proved* (`docs/nmf/bounds.md`): no row's objective rises. Rows are independent of each other, and how much a row's
    objective changes over the cycle is known exactly, $\langle G_0, \Delta\rangle + \frac12\langle\Delta, \Delta K\rangle$.
    A row that would rise, or is no number, makes three steps of $1.9/L$ instead, each of which is below the edge.

    Balanced, all of this happens to $Z' = ZD$ and $K' = D^{-1}KD^{-1}$ with $D^2$ the diagonal of $K$: in units in which every
    part has length 1. The sign of an entry does not change with its unit, so projection and proof stay as they are, and
    $L' \le r$ whatever the lengths of the parts were.

    >>> import numpy as np
    >>> gram, products = np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[3.0, 0.0]])
    >>> descend(np.ones((1, 2)), gram, products).round(3)
    array([[1.914, 0.   ]])

    Args:
        factor: Z, nonnegative, of shape (..., m, r).
        gram: K, of shape (..., r, r).
        products: C, of shape (..., m, r).
        steps: Multiples of $1/L$, 0 or more; `chebyshev()` if None. Those up to 2 need no second look.
        largest: L, one number per run, if it is known already; a larger one is safe, too. Balanced, that of $K'$.
        balanced: Whether parts are brought to one length.

    Returns:
        A new array like the factor. Where nothing is curved, nothing has a slope, and Z stays as it is.
    """
    steps = chebyshev() if steps is None else steps
    lengths = None
    if balanced:
        gram, lengths = balanced_gram(gram)
    largest = largest_eigenvalue(gram) if largest is None else largest
    if is_numpy_array(factor) and factor.ndim == _MATRIX:
        return _in_cache(_Block(factor, gram, products), steps, float(largest), lengths)
    if lengths is None:
        return _at_once(factor, gram, products, steps, largest)
    lengths = lengths[..., None, :]
    return _at_once(factor * lengths, gram, products / lengths, steps, largest) / lengths


def balanced_gram(gram: Any) -> tuple[Any, Any]:
    """The Gram in units in which every part has length 1, and those lengths, shape (..., r); 1 for a part of zeros."""
    xp = array_namespace(gram)
    squares = xp.linalg.diagonal(gram)
    lengths = xp.sqrt(xp.where(squares > 0.0, squares, 1.0))
    return gram / lengths[..., :, None] / lengths[..., None, :], lengths


def _at_once(factor: Any, gram: Any, products: Any, steps: tuple[float, ...], largest: Any) -> Any:
    """All rows of all runs together."""
    xp = array_namespace(factor, gram, products)
    inverse = xp.where(largest > 0.0, 1.0 / xp.where(largest > 0.0, largest, 1.0), 0.0)
    unit = xp.astype(inverse, factor.dtype)[..., None, None]
    slope = factor @ gram - products
    moved = xp.clip(factor - steps[0] * unit * slope, min=0.0)
    for step in steps[1:]:
        moved = xp.clip(moved - step * unit * (moved @ gram - products), min=0.0)
    if max(steps) <= _EDGE:
        return moved
    way = moved - factor
    rises = ~(xp.sum(way * (slope + 0.5 * (way @ gram)), axis=-1, keepdims=True) <= 0.0)  # Written so that NaN counts.
    short = factor
    for _ in range(_SHORT_STEPS):
        short = xp.clip(short - _SHORT * unit * (short @ gram - products), min=0.0)
    return xp.where(rises, short, moved)


class _Block(NamedTuple):
    """What a cycle is made on."""

    factor: Any
    gram: Any
    products: Any

    def rows(self, which: Any) -> _Block:
        """The same for some of its rows."""
        return self._replace(factor=self.factor[which], products=self.products[which])

    def balanced(self, lengths: Any) -> _Block:
        """The same in the units of a balanced Gram."""
        return self._replace(factor=self.factor * lengths, products=self.products / lengths)


def _in_cache(block: _Block, steps: tuple[float, ...], largest: float, lengths: Any) -> Any:
    """The same for one run in NumPy, a few rows at a time, which stay in the processor's cache for the whole cycle."""
    (count, width), real = block.factor.shape, block.factor.dtype.type
    unit = 1.0 / largest if largest > 0.0 else 0.0
    rates, short = [real(-step * unit) for step in steps], [real(-_SHORT * unit)] * _SHORT_STEPS
    rows = max(1, min(count, _CACHE // (width * block.factor.itemsize)))
    room, result = np.empty((2, rows, width), real), np.empty_like(block.factor)
    for start in range(0, count, rows):
        part = slice(start, start + rows)
        few, moved = block.rows(part), result[part]
        if lengths is not None:
            few = few.balanced(lengths)
        _cycle(few, rates, moved, room[:, : len(moved)])
        if max(steps) > _EDGE and unit:
            _take_back(few, short, moved, room[:, : len(moved)])
        if lengths is not None:
            moved /= lengths
    return result


def _cycle(block: _Block, rates: list[Any], moved: Any, room: Any) -> None:
    """The steps of a cycle, to `moved`; the slope at the beginning is left in the first half of the room."""
    first, slope = room
    np.matmul(block.factor, block.gram, out=first)
    first -= block.products
    np.multiply(first, rates[0], out=moved)
    moved += block.factor
    np.maximum(moved, 0, out=moved)
    for rate in rates[1:]:
        _step(moved, block.gram, block.products, rate, slope)


def _take_back(block: _Block, rates: list[Any], moved: Any, room: Any) -> None:
    """Short steps from the beginning for every row that a cycle raised."""
    first, change = room
    way = moved - block.factor
    np.matmul(way, block.gram, out=change)
    change *= change.dtype.type(0.5)
    change += first
    rises = ~(np.vecdot(way, change) <= 0.0)  # Written so that NaN counts.
    if rises.any():
        again, gram, products = block.rows(rises)
        for rate in rates:
            _step(again, gram, products, rate, np.empty_like(again))
        moved[rises] = again


def _step(factor: Any, gram: Any, products: Any, rate: Any, slope: Any) -> None:
    """A projected gradient step in place; `slope` is room for a gradient, `rate` is negative."""
    np.matmul(factor, gram, out=slope)
    slope -= products
    slope *= rate
    factor += slope
    np.maximum(factor, 0, out=factor)
