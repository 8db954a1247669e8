"""Ten steps of a factorisation, as anyone would write them: for `fleet.py`, which times them.

Both loops do the work of `surefoot.nmf.Factorisation` with batches of rows and `gradients=False`: draw a batch, measure its
loss, take both stability edges of now, limit the step by those of the first one, and move the parts, then the batch's codes.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from surefoot.batches import Batches
from surefoot.nmf import Factorisation, Matrices

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

STEPS, RATE = 10, 0.5
SHAPES = {"NMF 200 x 100, rank 10, batch 16": (200, 100, 10, 16), "NMF 60 x 40, rank 6, batch 8": (60, 40, 6, 8)}
RUNS = (1, 16, 64, 256, 512)
TARGETS = (20.0, 8.0)
"""Asked for, as multiples of the loops, somewhere in the table: of autograd, and of the formulas."""


def problems() -> list[Factorisation]:
    """What is measured, with each way of bounding eigenvalues."""
    return [
        Factorisation(
            name,
            draw=Matrices(rows=rows, columns=columns, rank=(rank, rank)),
            rank=rank,
            batch_size=size,
            eigenvalues=eigenvalues,
            gradients=False,
            array=partial(np.asarray, dtype=np.float32),
        )
        for name, (rows, columns, rank, size) in SHAPES.items()
        for eigenvalues in ("collatz", "eigen")
    ]


def largest(gram: Any, eigenvalues: str) -> Any:
    """The largest eigenvalue of a Gram matrix of nonnegative factors, or the bound from above of three products."""
    if eigenvalues == "eigen":
        return (torch.linalg if isinstance(gram, torch.Tensor) else np.linalg).eigvalsh(gram)[-1]
    vector = gram @ gram.sum(-1)
    return (gram @ vector / vector).max()


def curvature(codes: Any, size: int, eigenvalues: str) -> Any:
    """The expected smoothness of a batch of so many rows."""
    m, longest = len(codes), (codes * codes).sum(1).max()
    return m * ((size - 1) * largest(codes.T @ codes, eigenvalues) + (m - size) * longest) / (size * (m - 1))


def analytic(problem: Factorisation) -> Callable[[], None]:
    """NumPy, with the gradients' formulas."""
    matrix, codes, parts, order = begin(problem)
    m, b, eigenvalues = len(matrix), order.size, problem.eigenvalues
    first = 2.0 / curvature(codes, b, eigenvalues), 2.0 / largest(parts @ parts.T, eigenvalues)

    def steps() -> None:
        nonlocal parts
        for _ in range(STEPS):
            batch = order.draw()
            rows, old = matrix[batch], codes[batch]
            residual = old @ parts - rows
            float((residual * residual).mean())
            size = min(RATE * 2.0 / curvature(codes, b, eigenvalues), first[0])
            parts = np.maximum(parts - size * (m / b) * (old.T @ residual), 0.0)
            gram = parts @ parts.T
            size = min(RATE * 2.0 / largest(gram, eigenvalues), first[1])
            codes[batch] = np.maximum(old - size * (old @ gram - rows @ parts.T), 0.0)

    return steps


def autograd(problem: Factorisation) -> Callable[[], None]:
    """PyTorch, which differentiates the batch's squared error."""
    *arrays, order = begin(problem)
    matrix, codes, parts = map(torch.from_numpy, arrays)
    m, b, eigenvalues = len(matrix), order.size, problem.eigenvalues
    first = 2.0 / curvature(codes, b, eigenvalues), 2.0 / largest(parts @ parts.T, eigenvalues)
    parts.requires_grad_()

    def steps() -> None:
        for _ in range(STEPS):
            batch = torch.from_numpy(order.draw())
            rows, old = matrix[batch], codes[batch].requires_grad_()
            error = 0.5 * m / b * (old.detach() @ parts - rows).square().sum()
            error.item()
            (gradient,) = torch.autograd.grad(error, parts)
            with torch.no_grad():
                size = torch.minimum(RATE * 2.0 / curvature(codes, b, eigenvalues), first[0])
                parts.sub_(size * gradient).clamp_(min=0.0)
            (gradient,) = torch.autograd.grad(0.5 * (old @ parts.detach() - rows).square().sum(), old)
            with torch.no_grad():
                size = torch.minimum(RATE * 2.0 / largest(parts @ parts.T, eigenvalues), first[1])
                codes[batch] = (old - size * gradient).clamp_(min=0.0)

    return steps


def together(problem: Factorisation, runs: int) -> Callable[[], None]:
    """Ten steps of all runs of a fleet."""
    fleet, rates = problem.fleet(), np.full(runs, RATE)
    factors = fleet.init(range(runs))

    def steps() -> None:
        for _ in range(STEPS):
            fleet.step(factors, rates)

    return steps


def begin(problem: Factorisation) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], Batches]:
    """The matrix, codes, parts and order of the run of seed 0, in float32."""
    run = problem.init(0)
    return run.rows, run.codes, run.parts, Batches(len(run.rows), problem.batch_size or len(run.rows), 0)
