"""Exact gradients, several a pass: what a block of rows adds to W^T W and V^T W is kept, and replaced as its codes move."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from array_api_compat import array_namespace, device

from surefoot import checks
from surefoot.nmf.cycle import chebyshev, descend
from surefoot.nmf.eigenvalues import largest_eigenvalue

_WIDE = 8  # Rows of the other factor for each part, from which on long cycles pay.


class Pass(NamedTuple):
    r"""What one pass over the matrix came to.

    Attributes:
        objective: $\frac12\|V - WH\|^2$ and the penalties after it, in float64. It is made of Gram matrices, so rounding leaves
            an error of about $\epsilon\|V\|^2$: for a matrix in float32, do not judge fits closer than 0.1% by it.
        codes_curvature, parts_curvature: The largest eigenvalues that the last cycles of W and H met, ridges included; 2
            divided by them are the stability edges.
    """

    objective: Any
    codes_curvature: Any
    parts_curvature: Any


@dataclass
class Incremental:
    r"""A factorisation of a matrix that is at hand, by exact gradients, more than one step of H for each pass over the rows.

    Minimises, over $W, H \ge 0$,
    $$\frac12\|V - WH\|^2 + \lambda_W\|W\|_1 + \frac{\alpha_W}{2}\|W\|^2 + \lambda_H\|H\|_1 + \frac{\alpha_H}{2}\|H\|^2.$$
    The rows are cut into blocks. For each block in turn its codes go through one cycle of steps, what the
    block adds to $W^\top W$ and $V^\top W$ is replaced, and H goes through a cycle on the sums, which are the gradient of *all*
    rows. A pass costs the same two products with the matrix, $4mnr$ operations, as a single step on all rows at once, and
    there is no noise: the objective never rises (`surefoot.nmf.descend`; in floating point, beyond rounding).

    >>> import numpy as np
    >>> random = np.random.default_rng(0)
    >>> matrix = random.random((60, 3)) @ random.random((3, 40))
    >>> factors = Incremental(matrix, random.random((60, 3)), random.random((3, 40)))
    >>> objectives = [factors.sweep().objective for _ in range(300)]
    >>> bool(objectives[-1] < 1e-5 * objectives[0])
    True

    Attributes:
        matrix: V, nonnegative, (m, n): an array, or a SciPy matrix in CSR format.
        codes: W, nonnegative, (m, r); its rows change in place.
        parts: H, nonnegative, (r, n).
        blocks: Into how many blocks of rows the matrix is cut, 1 or more. Two did best, or close to it, on the dense and the
            sparse data that were tried.
        linear: $\lambda_W$ and $\lambda_H$, 0 or more.
        ridge: $\alpha_W$ and $\alpha_H$, 0 or more.
    """

    matrix: Any
    codes: Any
    parts: Any
    blocks: int = 2
    linear: tuple[float, float] = (0.0, 0.0)
    ridge: tuple[float, float] = (0.0, 0.0)
    _columns: Any = field(init=False, repr=False)
    _rows: list[tuple[slice, Any]] = field(init=False, repr=False)
    _grams: list[Any] = field(init=False, repr=False)
    _products: list[Any] = field(init=False, repr=False)
    _square: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        checks.whole("blocks", self.blocks, low=1)
        count = len(self.codes)
        cuts = [count * number // self.blocks for number in range(self.blocks + 1)]
        self._rows = [(slice(*cut), self.matrix[slice(*cut)]) for cut in pairwise(cuts) if cut[0] < cut[1]]
        xp = array_namespace(self.codes, self.parts)
        self._columns = xp.asarray(xp.matrix_transpose(self.parts), copy=True)
        self._grams = [_gram(self.codes[rows]) for rows, _ in self._rows]
        self._products = [block.T @ self.codes[rows] for rows, block in self._rows]
        self._square = sum(_square(xp, block) for _, block in self._rows)
        self.parts = xp.matrix_transpose(self._columns)

    def sweep(self, steps: tuple[float, ...] | None = None) -> Pass:
        """Go once over all rows.

        Args:
            steps: What each cycle is made of, as multiples of $1/L$: a learning rate of s times the stability edge is (2 s,).
                If None, eight Chebyshev steps, or four where the products with the matrix are cheaper than those.
        """
        xp = array_namespace(self.codes)
        unit = xp.eye(self.codes.shape[-1], dtype=self.codes.dtype, device=device(self.codes))
        for number, (rows, block) in enumerate(self._rows):
            gram = _gram(self._columns) + self.ridge[0] * unit
            codes_curvature = largest_eigenvalue(gram)
            self.codes[rows] = descend(
                self.codes[rows],
                gram,
                block @ self._columns - self.linear[0],
                steps=steps or as_paid_for(self.codes, self._columns),
                largest=codes_curvature,
            )
            self._grams[number], self._products[number] = _gram(self.codes[rows]), block.T @ self.codes[rows]
            gram = sum(self._grams) + self.ridge[1] * unit
            parts_curvature = largest_eigenvalue(gram)
            self._columns = descend(
                self._columns,
                gram,
                sum(self._products) - self.linear[1],
                steps=steps or as_paid_for(self._columns, self.codes[rows]),
                largest=parts_curvature,
            )
        self.parts = xp.matrix_transpose(self._columns)
        return Pass(self.objective(), codes_curvature, parts_curvature)

    def objective(self) -> Any:
        """What is minimised, at the present factors."""
        xp = array_namespace(self.codes)
        inside = 0.5 * self._columns @ sum(self._grams) - sum(self._products)
        fit = 0.5 * self._square + xp.sum(self._columns * inside, dtype=xp.float64)
        return (
            fit
            + _penalty(xp, self.codes, self.linear[0], self.ridge[0])
            + _penalty(xp, self._columns, self.linear[1], self.ridge[1])
        )


def as_paid_for(factor: Any, other: Any) -> tuple[float, ...]:
    """A cycle in proportion: an entry of the factor costs r operations a step, and before it one for each row of `other`.

    Fewer steps aim at a smaller spread of curvatures.
    """
    return chebyshev(8, 100.0) if len(other) >= _WIDE * factor.shape[-1] else chebyshev(4, 30.0)


def _gram(factor: Any) -> Any:
    return factor.T @ factor


def _square(xp: Any, block: Any) -> Any:
    """The squared norm, summed up in float64 without a second matrix."""
    entries = block.data[None, :] if hasattr(block, "tocsr") else block
    return xp.sum(xp.vecdot(entries, entries), dtype=xp.float64)


def _penalty(xp: Any, factor: Any, linear: float, ridge: float) -> Any:
    if not linear and not ridge:
        return 0.0
    return linear * xp.sum(factor, dtype=xp.float64) + 0.5 * ridge * xp.sum(factor * factor, dtype=xp.float64)
