"""A matrix as the factorisation reads it: block by block of rows, dense or sparse, with entries that may be missing."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.nmf.quadratic import Quadratic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

_BLOCK = 1 << 20
"""Numbers in a block: few enough to stay in a processor's cache while the block is used twice."""
_EXACT_ENOUGH = {np.dtype(np.float32): 1e-3, np.dtype(np.float64): 1e-10}
"""Below this fraction of the squares, what is left after factorising cannot be had from products: too many digits cancel."""


class Block(NamedTuple):
    """Some rows of a matrix.

    Attributes:
        values: The rows, dense or sparse, with zeros where entries are missing.
        known: 1 where an entry is known and 0 where it is missing; None if all are known.
        squares: The sum of squares of the values.
    """

    values: Any
    known: NDArray[Any] | None
    squares: float

    def for_codes(self, parts: NDArray[Any]) -> Quadratic:
        """What the codes of these rows minimise."""
        return Quadratic(_gram(parts.T, self.known), np.asarray(self.values @ parts.T))

    def for_parts(self, codes: NDArray[Any]) -> Quadratic:
        """What the parts, transposed, minimise, as far as these rows go."""
        known = None if self.known is None else self.known.T
        return Quadratic(_gram(codes, known), np.asarray(self.values.T @ codes))

    def left(self, codes: NDArray[Any], parts: NDArray[Any]) -> float:
        """Half the sum of squares of what codes and parts leave over, from the differences themselves."""
        total = 0.0
        for start, stop in spans(len(codes), max(1, _BLOCK // parts.shape[1])):
            values = self.values[start:stop]
            values = values.toarray() if hasattr(values, "toarray") else values
            rest = codes[start:stop].astype(np.float64) @ parts.astype(np.float64) - values
            if self.known is not None:
                rest *= self.known[start:stop]
            total += 0.5 * float(np.vdot(rest, rest))
        return total


@dataclass(frozen=True)
class Rows:
    """A nonnegative matrix, dense (an array, or a map of a file) or sparse (anything with `@`, `.T` and slices of rows).

    Attributes:
        matrix: The matrix, (rows, columns).
        may_miss: Whether an entry that is NaN is missing; otherwise there is none.
    """

    matrix: Any
    may_miss: bool = False

    @property
    def is_sparse(self) -> bool:
        """Whether only entries that are not zero are stored."""
        return hasattr(self.matrix, "toarray")

    @cached_property
    def squares(self) -> float:
        """The sum of squares of the known entries."""
        return sum(block.squares for _, block in self.blocks(1))

    def whole(self) -> Iterator[tuple[slice, Block]]:
        """All rows in one block."""
        yield slice(0, self.matrix.shape[0]), self.block(0, self.matrix.shape[0])

    def block(self, start: int, stop: int) -> Block:
        """The rows from `start` to before `stop`; nothing is copied if nothing can be missing."""
        values = self.matrix[start:stop]
        if not self.may_miss:
            return Block(values, None, _squares(values.data if self.is_sparse else values))
        values = values.toarray() if self.is_sparse else np.array(values)
        missing = np.isnan(values)
        values[missing] = 0.0
        return Block(values, (~missing).astype(values.dtype), _squares(values))

    def blocks(self, rank: int) -> Iterator[tuple[slice, Block]]:
        """All rows, in blocks that suit a factorisation of this rank."""
        m, n = self.matrix.shape
        size = m if self.is_sparse and not self.may_miss else _BLOCK // max(n, rank**2 if self.may_miss else 1)
        for start, stop in spans(m, max(size, 1)):
            yield slice(start, stop), self.block(start, stop)

    def mean(self) -> float:
        """The mean of the known entries; 0 if none is known."""
        total = count = 0.0
        for _, block in self.blocks(1):
            total += float(block.values.sum(dtype=np.float64))
            count += np.prod(block.values.shape) if block.known is None else float(block.known.sum(dtype=np.float64))
        return total / count if count else 0.0

    def left(self, codes: NDArray[Any], parts: NDArray[Any]) -> float:
        """Half the sum of squares of what codes and parts leave over of the known entries, to many digits.

        Sparse matrices are multiplied out only where little is left.
        """
        total = squares = 0.0
        for rows, block in self.blocks(len(parts)):
            squares += block.squares
            if self.is_sparse and not self.may_miss:
                problem = block.for_codes(parts.astype(np.float64))
                total += 0.5 * block.squares + problem.value(codes[rows].astype(np.float64))
            else:
                total += block.left(codes[rows], parts)
        if self.is_sparse and not is_reliable(total, squares, np.dtype(np.float64)):
            total = self.block(0, self.matrix.shape[0]).left(codes, parts)
        return max(total, 0.0)


def is_reliable(left: float, squares: float, dtype: np.dtype[Any]) -> bool:
    """Whether half a sum of squares that came from products can be believed, or too many digits have cancelled."""
    return 2.0 * left > _EXACT_ENOUGH[dtype] * squares


def spans(length: int, size: int) -> Iterator[tuple[int, int]]:
    """Where blocks of at most `size` of `length` things start and stop.

    >>> list(spans(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    for start in range(0, length, size):
        yield start, min(start + size, length)


def _squares(values: NDArray[Any]) -> float:
    return float(np.einsum("i,i->", values.reshape(-1), values.reshape(-1), dtype=np.float64))


def _gram(factor: NDArray[Any], known: NDArray[Any] | None) -> NDArray[Any]:
    """The Gram matrix of a factor (items, rank), or one over the known items of every row of `known` (rows, items)."""
    if known is None:
        gram: NDArray[Any] = factor.T @ factor
        return gram
    rank = factor.shape[1]
    first, second = np.triu_indices(rank)
    half = known @ (factor[:, first] * factor[:, second])
    gram = np.empty((len(known), rank, rank), half.dtype)
    gram[:, first, second] = half
    gram[:, second, first] = half
    return gram
