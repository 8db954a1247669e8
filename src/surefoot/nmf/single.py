"""The fast twin of `surefoot.nmf.eigenvalues` for one small matrix in main memory.

Every step of a block asks for one bound, and with the matrix V just read, caches are cold: each call of a library then costs
several microseconds, whatever it computes. So here is the same with as few calls as possible. A law holds both twins equal.
"""

from __future__ import annotations

from math import inf, isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_EPSILON = float(np.finfo(np.float64).eps)
_FLOAT32 = np.finfo(np.float32)
_SWEEPS = 4
_RANGES = {4: (1e-6, 1e9, 1e-30), 8: (1e-40, 1e40, 1e-200)}
"""For bytes of a number: of which row sums it holds the powers that so many sweeps make, and what is nothing beside them."""


def single(gram: Any, method: str, sweeps: int) -> float | None:
    """At least the largest eigenvalue; None where the general way must be gone.

    That is for a fleet, for a matrix on another device or of other numbers than float32 and float64, and for extreme ones.
    """
    if len(gram.shape) != 2:  # noqa: PLR2004 - a matrix has two.
        return None
    matrix = gram.detach().numpy() if getattr(gram, "is_cpu", False) and gram.itemsize >= 4 else gram  # noqa: PLR2004 - float32.
    if not isinstance(matrix, np.ndarray) or matrix.dtype not in (np.float32, np.float64):
        return None
    return _eigen(matrix) if method == "eigen" else _collatz(matrix, sweeps)


def returned(gram: Any, value: float, *, up: bool = False) -> Any:
    """The value as a number of the Gram's framework and precision, rounded down, or up."""
    if gram.dtype.itemsize == 4:  # noqa: PLR2004 - bytes of float32.
        value *= 1.0 + float(_FLOAT32.eps) if up else 1.0 - float(_FLOAT32.eps)
        if isfinite(value) and value > _FLOAT32.max:
            value = inf if up else float(_FLOAT32.max)
    return gram.dtype.type(value) if isinstance(gram, np.ndarray) else gram.new_tensor(value)


def _eigen(matrix: NDArray[Any]) -> float | None:
    if not isfinite(float(np.add.reduce(matrix, axis=None))):
        return None
    largest = float(np.linalg.eigvalsh(matrix.astype(np.float64, copy=False))[-1])
    return max(0.0, largest) * (1.0 + 4 * len(matrix) * _EPSILON)


def _collatz(matrix: NDArray[Any], sweeps: int) -> float | None:
    # In float32 if that is wide enough: each change of precision costs as much as a product.
    matrix = np.absolute(matrix)
    vector = np.add.reduce(matrix, axis=-1)
    largest = float(np.maximum.reduce(vector))
    least, most, nothing = _RANGES[matrix.itemsize]
    if not least < largest < most or sweeps > _SWEEPS:
        return _collatz(matrix.astype(np.float64), sweeps) if matrix.itemsize == 4 and isfinite(largest) else None  # noqa: PLR2004
    if sweeps > 1:
        for _ in range(sweeps - 2):
            vector = matrix @ vector
        vector += matrix.dtype.type(nothing)  # Positive, also where a component is zero.
        largest = float(np.maximum.reduce(matrix @ vector / vector))
    return largest * (1.0 + (len(matrix) + 8) * (_EPSILON if matrix.itemsize == 8 else float(_FLOAT32.eps)))  # noqa: PLR2004
