"""Exact gradients, several a pass: what a block of rows adds to W^T W and V^T W is kept, and replaced as its codes move."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

from array_api_compat import array_namespace, device

from surefoot import checks
from surefoot.nmf.cycle import chebyshev, descend

_WIDE = 8  # Entries of the matrix for each part, from which on long cycles pay.


class Pass(NamedTuple):
    r"""What one pass over the matrix came to.

    Attributes:
        objective: $\frac12\|V - WH\|^2$ and the penalties after it, in float64. It is made of Gram matrices, so rounding leaves
            an error of about $\epsilon\|V\|^2$: for a matrix in float32, do not judge fits closer than 0.1% by it.
        codes_gram, parts_gram: $HH^\top$ and $W^\top W$ as the last cycles of W and of H met them, ridges included: what
            `surefoot.nmf.block_edge` makes stability edges of.
    """

    objective: Any
    codes_gram: Any
    parts_gram: Any


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

    @property
    def cycles(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """The steps of the codes and of the parts where nobody names any: as many as the products before them pay for.

        A step costs r operations for an entry of a factor, and the product before it one for each entry of the matrix in its
        row or column. Fewer steps aim at a smaller spread of curvatures.
        """
        entries = sum(block.nnz if _is_sparse(block) else block.shape[0] * block.shape[1] for _, block in self._rows)
        (rows, rank), columns = self.codes.shape, len(self._columns)
        of_a_row, of_a_column = entries / rows, entries / (columns * len(self._rows))
        codes, parts = (
            chebyshev(8, 100.0) if count >= _WIDE * rank else chebyshev(4, 30.0) for count in (of_a_row, of_a_column)
        )
        return codes, parts

    def sweep(self, steps: tuple[float, ...] | None = None) -> Pass:
        """Go once over all rows.

        Args:
            steps: What each cycle is made of, as multiples of $1/L$: a learning rate of s times the stability edge is (2 s,).
                If None, those of `cycles`, in units in which all parts have one length.
        """
        xp = array_namespace(self.codes)
        unit = xp.eye(self.codes.shape[-1], dtype=self.codes.dtype, device=device(self.codes))
        of_codes, of_parts = self.cycles if steps is None else (steps, steps)
        balanced = steps is None
        for number, (rows, block) in enumerate(self._rows):
            codes_gram = _gram(self._columns) + self.ridge[0] * unit
            products = block @ self._columns - self.linear[0]
            self.codes[rows] = descend(self.codes[rows], codes_gram, products, steps=of_codes, balanced=balanced)
            self._grams[number], self._products[number] = _gram(self.codes[rows]), block.T @ self.codes[rows]
            parts_gram = sum(self._grams) + self.ridge[1] * unit
            products = sum(self._products) - self.linear[1]
            self._columns = descend(self._columns, parts_gram, products, steps=of_parts, balanced=balanced)
        self.parts = xp.matrix_transpose(self._columns)
        return Pass(self.objective(), codes_gram, parts_gram)

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


def _is_sparse(block: Any) -> bool:
    return hasattr(block, "tocsr")


def _gram(factor: Any) -> Any:
    return factor.T @ factor


def _square(xp: Any, block: Any) -> Any:
    """The squared norm, summed up in float64 without a second matrix."""
    entries = block.data[None, :] if _is_sparse(block) else block
    return xp.sum(xp.vecdot(entries, entries), dtype=xp.float64)


def _penalty(xp: Any, factor: Any, linear: float, ridge: float) -> Any:
    if not linear and not ridge:
        return 0.0
    return linear * xp.sum(factor, dtype=xp.float64) + 0.5 * ridge * xp.sum(factor * factor, dtype=xp.float64)
