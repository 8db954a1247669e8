"""Where a factorisation starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.nmf.rows import Rows

_SPARE = 10
_POWERS = 2
_NOTHING, _LITTLE = 1e-6, 0.1
"""What counts as zero, as a fraction of the largest entry, and what takes its place, as a fraction of a random start's size."""


def random_start(rows: Rows, rank: int, random: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Random nonnegative codes and parts, whose product is about as large as the matrix on average.

    Args:
        rows: The matrix.
        rank: Number of parts, 1 or more.
        random: Where chance comes from.
    """
    m, n = rows.matrix.shape
    size = np.sqrt(rows.mean() / rank) or 1.0
    parts, codes = np.abs(random.standard_normal((rank, n))), np.abs(random.standard_normal((m, rank)))
    dtype = rows.matrix.dtype
    return (size * codes).astype(dtype), (size * parts).astype(dtype)


def svd_start(rows: Rows, rank: int, random: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Codes and parts from the leading singular vectors, with a tenth of `random_start`'s numbers in place of zeros.

    Of every pair of singular vectors, the positive or the negative halves are taken, whichever weigh more. The singular vectors
    are approximate, from a random subspace that is multiplied by the matrix a few times. Where the original has the matrix's
    mean in place of zeros, which means something else in other units, there are `random_start`'s sizes here. Missing entries
    count as their column's mean.

    Args:
        rows: The matrix.
        rank: Number of parts, from 1 to the smaller side of the matrix.
        random: Where chance comes from.

    Reference: Boutsidis and Gallopoulos, 2008, NNDSVDa; for the subspace, Halko, Martinsson and Tropp, 2011, arXiv:0909.4061.
    """
    left, values, right = _leading(rows, rank, random)
    codes, parts = np.zeros((len(left), rank)), np.zeros((rank, right.shape[1]))
    for place in range(rank):
        u, v = left[:, place], right[place]
        halves = [(np.maximum(sign * u, 0.0), np.maximum(sign * v, 0.0)) for sign in (1.0, -1.0)]
        u, v = max(halves, key=lambda half: float(np.linalg.norm(half[0]) * np.linalg.norm(half[1])))
        lengths = float(np.linalg.norm(u) * np.linalg.norm(v))
        if lengths > 0.0:
            balance = np.sqrt(values[place] * lengths)
            codes[:, place] = balance * u / np.linalg.norm(u)
            parts[place] = balance * v / np.linalg.norm(v)
    little, dtype = _LITTLE * np.sqrt(rows.mean() / rank), rows.matrix.dtype
    codes[codes < _NOTHING * codes.max(initial=0.0)] = little
    parts[parts < _NOTHING * parts.max(initial=0.0)] = little
    return codes.astype(dtype), parts.astype(dtype)


def _leading(rows: Rows, rank: int, random: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    m, n = rows.matrix.shape
    means = _column_means(rows) if rows.may_miss else None
    width = min(rank + _SPARE, m, n)
    across = random.standard_normal((n, width))
    for _ in range(_POWERS):
        across = np.linalg.qr(_from_left(rows, np.linalg.qr(_from_right(rows, across, means))[0], means))[0]
    down = np.linalg.qr(_from_right(rows, across, means))[0]
    small, values, right = np.linalg.svd(_from_left(rows, down, means).T, full_matrices=False)
    return down @ small[:, :rank], values[:rank], right[:rank]


def _column_means(rows: Rows) -> NDArray[Any]:
    total = count = np.zeros(rows.matrix.shape[1])
    for _, block in rows.blocks(1):
        total, count = total + block.values.sum(axis=0), count + block.known.sum(axis=0)  # type: ignore[union-attr]
    return total / np.maximum(count, 1.0)


def _filled(values: Any, known: NDArray[Any] | None, means: NDArray[Any] | None) -> Any:
    return values if known is None or means is None else values + (1.0 - known) * means


def _from_right(rows: Rows, across: NDArray[Any], means: NDArray[Any] | None) -> NDArray[Any]:
    dtype = rows.matrix.dtype
    return np.concatenate([_filled(b.values, b.known, means) @ across.astype(dtype) for _, b in rows.blocks(1)])


def _from_left(rows: Rows, down: NDArray[Any], means: NDArray[Any] | None) -> NDArray[Any]:
    dtype = rows.matrix.dtype
    return np.asarray(np.sum([_filled(b.values, b.known, means).T @ down[s].astype(dtype) for s, b in rows.blocks(1)], axis=0))
