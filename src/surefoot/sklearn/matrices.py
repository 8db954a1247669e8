"""Matrices at the door: what must hold of them, and powers of two that bring them near 1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_USUAL, _LARGEST_SHIFT = 16, 1000
"""Powers of two: data whose largest entry is within the first are taken as they are."""


def largest(matrix: Any, *, may_miss: bool) -> float:
    """The largest known entry of a matrix, dense or sparse.

    Without a temporary array of its size: the matrix may be the map of a file larger than memory.

    Raises:
        ValueError: An entry is negative or infinite, or NaN though none may be missing, or all are.
    """
    stored = matrix.data if hasattr(matrix, "toarray") else np.asarray(matrix)
    if not stored.size:
        return 0.0
    low, high = (float(of.reduce(stored, axis=None)) for of in (np.fmin, np.fmax))
    if np.isnan(stored.min()):
        if not may_miss:
            raise ValueError(
                f"X must be finite, got NaN in {np.isnan(stored).sum()} of {stored.size} entries (to leave them out, set "
                "missing='mask')"
            )
        if np.isnan(low) and stored.size == np.prod(matrix.shape):
            raise ValueError("X must have at least one known entry, got nothing but NaN")
    if np.inf in (high, -low):
        raise ValueError(f"X must be finite, got inf in {np.isinf(stored).sum()} of {stored.size} entries")
    if low < 0.0:
        raise ValueError(f"Negative values in data passed to StochasticNMF: every entry of X must be 0 or more, got {low:g}")
    return 0.0 if np.isnan(high) else high


def given(name: str, factor: Any, shape: tuple[Any, Any], shift: int, dtype: Any) -> NDArray[Any]:
    """A factor to start from, in the units of the shifted matrix."""
    sides = "(rows, rank)" if name == "W" else "(rank, columns)"
    if factor is None:
        raise ValueError(f"init='custom' needs {name}, of shape {sides}, to start from, got None")
    factor = np.array(factor, dtype=dtype)
    if factor.shape != shape:
        raise ValueError(f"{name} must have the shape {sides}, which is {shape} here, got {factor.shape}")
    if not (np.isfinite(factor).all() and (factor >= 0.0).all()):
        raise ValueError(f"{name} must be finite and nonnegative, got entries from {factor.min():g} to {factor.max():g}")
    if not factor.any():
        raise ValueError(f"{name} must have entries above 0, got nothing but zeros, which no gradient could ever change")
    shifted: NDArray[Any] = np.ldexp(factor, shift // 2)
    return shifted


def shift_to_one(high: float, *, usual: int = _USUAL) -> int:
    """The even power of two that brings data whose largest entry is `high` near 1; 0 for data of usual size."""
    exponent = int(np.frexp(high)[1])
    return 0 if abs(exponent) <= usual else int(np.clip(-exponent // 2 * 2, -_LARGEST_SHIFT, _LARGEST_SHIFT))


def shifted(matrix: Any, shift: int) -> Any:
    """The matrix times a power of two; a copy if that changes anything."""
    if not shift:
        return matrix
    if not hasattr(matrix, "toarray"):
        return np.ldexp(matrix, shift)
    shifted = matrix.copy()
    shifted.data = np.ldexp(matrix.data, shift)
    return shifted
