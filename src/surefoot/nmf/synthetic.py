"""Matrices whose rank is known, because they are made up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surefoot import checks

if TYPE_CHECKING:
    from numpy.typing import NDArray


def known_rank(*, rows: int = 5000, columns: int = 2000, rank: int = 20, noise: float = 0.1, seed: int) -> NDArray[np.float32]:
    r"""A dense nonnegative matrix of known rank, and noise.

    $$V = \max(WH + \mathrm{noise} \cdot s E,\ 0)$$

    The entries of W and H follow the gamma distribution of shape 1/2, which has many small values and few large ones; s is the
    standard deviation of the entries of WH, and E is standard normal.

    Args:
        rows: Of the matrix, 1 or more.
        columns: Of the matrix, 1 or more.
        rank: Of WH, 1 or more.
        noise: Standard deviation of the noise in units of s, 0 or more.
        seed: Of NumPy's `default_rng`.

    Returns:
        float32, rows by columns.

    >>> matrix = known_rank(rows=60, columns=40, rank=3, noise=0.0, seed=0)
    >>> int(np.linalg.matrix_rank(matrix, tol=1e-3))
    3
    """
    for name, value in (("rows", rows), ("columns", columns), ("rank", rank)):
        checks.whole(name, value, low=1)
    checks.number("noise", noise, low=0.0)
    random = np.random.default_rng(seed)
    signal = random.gamma(0.5, 1.0, (rows, rank)) @ random.gamma(0.5, 1.0, (rank, columns))
    signal += noise * signal.std() * random.standard_normal(signal.shape)
    return np.maximum(signal, 0.0, out=signal).astype(np.float32)
