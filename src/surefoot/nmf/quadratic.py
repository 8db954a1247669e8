r"""One factor at a time: with the other one fixed, every row of a factor minimises a quadratic of its own.

The codes of a row $x$ minimise $\tfrac12\|x - wH\|^2$, and what all parts have in one column of the matrix does the same with
the codes in the place of $H$. Both are $\tfrac12 z K z^\top - z c^\top$ over $z \ge 0$, with one Gram matrix $K$ for all rows,
or, where entries are missing, one for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.nmf.cycle import descend
from surefoot.nmf.eigenvalues import largest_eigenvalue

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SHARED = 2  # Dimensions of a Gram matrix that all rows share.
_SWEEPS = 4
"""Products with each Gram matrix that go into a bound on its largest eigenvalue, where there are many."""


class Quadratic(NamedTuple):
    r"""For every row $z$ of a factor, $\tfrac12 z K z^\top - z c^\top$, up to a constant.

    >>> problem = Quadratic(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([[2.0, 3.0]]))
    >>> problem.gradient(np.array([[1.0, 1.0]]))
    array([[ 0., -2.]])

    Attributes:
        gram: $K$, (rank, rank) for all rows, or (rows, rank, rank); symmetric, nonnegative and positive semidefinite.
        products: $c$ of every row, (rows, rank).
    """

    gram: NDArray[Any]
    products: NDArray[Any]

    def penalised(self, linear: float, square: float) -> Quadratic:
        r"""With `linear` $\|z\|_1$ + `square` $\tfrac12\|z\|^2$ added, both 0 or more."""
        if not (linear or square):
            return self
        dtype = self.products.dtype
        ridge = np.eye(self.gram.shape[-1], dtype=dtype) * dtype.type(square)
        return Quadratic(self.gram + ridge, self.products - dtype.type(linear))

    def rows(self, which: Any) -> Quadratic:
        """The same for some of the rows."""
        return Quadratic(self.gram if self.gram.ndim == _SHARED else self.gram[which], self.products[which])

    def curved(self, factor: NDArray[Any]) -> NDArray[Any]:
        """Each row times its Gram matrix."""
        if self.gram.ndim == _SHARED:
            curved: NDArray[Any] = factor @ self.gram
            return curved
        return np.asarray(np.matmul(factor[:, None, :], self.gram)[:, 0, :])

    def gradient(self, factor: NDArray[Any]) -> NDArray[Any]:
        """The slope of every row."""
        gradient = self.curved(factor)
        gradient -= self.products
        return gradient

    def value(self, factor: NDArray[Any]) -> float:
        """The sum over all rows, added up in double precision."""
        inside = 0.5 * self.curved(factor) - self.products
        return float(np.einsum("ij,ij->", factor, inside, dtype=np.float64))

    def plus(self, other: Quadratic) -> Quadratic:
        """The sum of two objectives of the same factor."""
        return Quadratic(self.gram + other.gram, self.products + other.products)

    def curvature(self) -> NDArray[Any]:
        """The largest eigenvalue of the Gram matrix; where there is one for every row, cheap bounds from above."""
        gram = self.gram.astype(np.float64, copy=False)
        method = "eigen" if gram.ndim == _SHARED else "collatz"
        return np.asarray(largest_eigenvalue(gram, method=method, sweeps=_SWEEPS))

    def cycled(self, factor: NDArray[Any], curvature: NDArray[Any] | None = None) -> NDArray[Any]:
        """The factor after one cycle of steps, `surefoot.nmf.descend`, which raises no row's objective.

        Args:
            factor: Where to begin.
            curvature: The largest eigenvalues of the Gram matrices; without them, the cycle is a balanced one.
        """
        factor, balanced = np.ascontiguousarray(factor), curvature is None
        if self.gram.ndim == _SHARED:
            cycled: NDArray[Any] = descend(factor, self.gram, self.products, largest=curvature, balanced=balanced)
            return cycled
        curvature = self.curvature() if curvature is None else curvature
        return np.asarray(descend(factor[:, None], self.gram, self.products[:, None], largest=curvature)[:, 0])

    def moved(self, factor: NDArray[Any], rate: Any, noise: NDArray[Any] | float = 0.0) -> NDArray[Any]:
        """One projected gradient step; `rate` is one number, or one for each row."""
        rate = np.asarray(rate, dtype=factor.dtype)
        gradient = self.gradient(factor)
        gradient += noise
        gradient *= -(rate[:, None] if rate.ndim else rate)
        gradient += factor
        moved: NDArray[Any] = np.maximum(gradient, 0.0, out=gradient)
        return moved


def solve(problem: Quadratic, *, tolerance: float, cycles: int = 100) -> NDArray[Any]:
    """The minimum over nonnegative factors, from zero, in double precision.

    Every row goes its own way and stops on its own, so what comes out for it does not depend on the rows around it.

    >>> solve(Quadratic(np.array([[2.0, 1.0], [1.0, 2.0]]), np.array([[3.0, 3.0], [2.0, -1.0]])), tolerance=1e-9).round(6)
    array([[1., 1.],
           [1., 0.]])

    Args:
        problem: What to minimise.
        tolerance: A row is done when a cycle of steps changes it by no more than this fraction of its largest entry.
        cycles: The most cycles of eight steps that any row takes.
    """
    problem = Quadratic(problem.gram.astype(np.float64), problem.products.astype(np.float64))
    # In these units every part has length 1, which is worth hundreds of steps where parts are of very different sizes.
    unit = np.sqrt(np.diagonal(problem.gram, axis1=-2, axis2=-1))
    unit = np.where(unit > 0.0, unit, 1.0)
    problem = Quadratic(problem.gram / unit[..., :, None] / unit[..., None, :], problem.products / unit)
    found, left = np.zeros_like(problem.products), np.arange(len(problem.products))
    curvature = problem.curvature()
    for _ in range(cycles):
        if not len(left):
            break
        before = found[left]
        after = problem.rows(left).cycled(before, curvature[left] if curvature.ndim else curvature)
        found[left] = after
        left = left[np.abs(after - before).max(axis=1) > tolerance * after.max(axis=1)]
    return found / unit
