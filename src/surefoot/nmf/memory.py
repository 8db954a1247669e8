"""How much memory a run of a factorisation takes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from surefoot.nmf.problem import Factorisation


class RunBytes(NamedTuple):
    """Bytes of memory that one run of a fleet takes.

    Attributes:
        kept: Factors, their matrix if it is their own, the batches of an epoch, and what is brought up to date step by step.
        working: Besides, at most: while the run begins, makes a step, or is held against the held-out rows.
    """

    kept: int
    working: int


def per_run(problem: Factorisation) -> RunBytes:
    """The bytes that one run takes.

    >>> from surefoot.nmf import Factorisation, Matrices
    >>> own = Factorisation("own", draw=Matrices(rows=200, columns=100), rank=10, batch_size=16)
    >>> per_run(own)
    RunBytes(kept=213536, working=352000)
    """
    load = partial(problem.draw, 0) if problem.draw else problem.load
    assert load is not None
    rows, held_out = load()
    size = (problem.array or np.asarray)(rows[:1, :1]).dtype.itemsize
    (m, n), k, r = rows.shape, len(held_out), problem.rank
    b = min(problem.batch_size or m, m)
    own = (m + k) * n if problem.draw else 0
    kept = size * (own + m * r + 2 * r * n)
    if b < m:
        kept += 8 * (r * r + m + m + m // b * b)
    # The products of a batch with its rows, the factors' gradients with noise, and codes in double precision.
    step = size * (2 * b * n + 3 * r * n + 3 * b * r) + 8 * (m * r + (r * (n + b) if problem.noise > 0.0 else 0))
    begin = 2 * rows.itemsize * own + (size * m * n if problem.noise > 0.0 else 0)
    return RunBytes(kept, max(step, begin, size * (k * n + 4 * k * r)))
