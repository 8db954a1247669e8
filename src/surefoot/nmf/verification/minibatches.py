"""Batches of rows: divergence of long runs, and where a clip that looks at its own batch comes to rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surefoot.nmf import RunningMaximum, balance, block_edge, expected_smoothness, largest_eigenvalue, limited
from surefoot.nmf.verification.descent import along_gradient, block, per_matrix, sweeps, transposed
from surefoot.nmf.verification.watching import Found, fate, loss

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from numpy.typing import NDArray

    from surefoot.nmf.verification.fleets import Array, Problems

STEPS, _BETWEEN = 150, 5
REST = 0.01
"""A rule whose expected steps raise the loss by this fraction comes to rest in the wrong place."""
_FITTING, _RESTING = 10, 100


def batches(fleet: Problems) -> list[NDArray[np.int64]]:
    """The rows of each step's batch, without replacement, epoch by epoch; the same for all problems of the fleet."""
    rows, size, random = fleet.matrix.shape[-2], fleet.batch_size, fleet.shared_random()
    epochs = -(-STEPS // (rows // size))
    shuffled = [random.permutation(rows)[: rows // size * size].reshape(-1, size) for _ in range(epochs)]
    return list(np.concatenate(shuffled))[:STEPS]


def running_maximum(fleet: Problems, scale: float = 0.5, *, is_late: bool = False) -> Found:
    """Codes first, then parts below a multiple of the edge of the batches' highest curvature so far, and of that at the start.

    Args:
        fleet: The problems.
        scale: The multiple.
        is_late: Whether the maximum is that of the batches before, rather than with the one whose step it limits.
    """
    tracker, times = RunningMaximum(), fleet.matrix.shape[-2] / fleet.batch_size
    matrix, (codes, parts), cap = _start(fleet, scale)
    state = tracker.init(expected_smoothness(codes, fleet.batch_size))

    def steps() -> Iterator[tuple[Array, Array]]:
        nonlocal codes, parts, state
        for rows in batches(fleet):
            codes = _fitted(codes, parts, matrix, rows, scale)
            batch, before = codes[:, rows], state.value
            state = tracker.update(state, times * largest_eigenvalue(transposed(batch) @ batch))
            edge = 2.0 / (before if is_late else state.value)
            gradient = times * transposed(batch) @ (batch @ parts - matrix[:, rows])
            parts = np.maximum(parts - per_matrix(limited(scale, edge, cap)) * gradient, 0.0)
            yield codes, parts

    return _fate(fleet, steps())


def in_mean_square(fleet: Problems, scale: float = 0.5) -> Found:
    """Parts first, below a multiple of the edge of the expected smoothness, and of that at the start, and then codes."""
    times = fleet.matrix.shape[-2] / fleet.batch_size
    matrix, (codes, parts), cap = _start(fleet, scale)

    def steps() -> Iterator[tuple[Array, Array]]:
        nonlocal codes, parts
        for rows in batches(fleet):
            batch, edge = codes[:, rows], 2.0 / expected_smoothness(codes, fleet.batch_size)
            gradient = times * transposed(batch) @ (batch @ parts - matrix[:, rows])
            parts = np.maximum(parts - per_matrix(limited(scale, edge, cap)) * gradient, 0.0)
            codes = _fitted(codes, parts, matrix, rows, scale)
            yield codes, parts

    return _fate(fleet, steps())


def _start(fleet: Problems, scale: float) -> tuple[Array, tuple[Array, Array], Array]:
    """The matrix, balanced factors, and the cap for the parts' rate."""
    codes, parts = balance(fleet.codes, fleet.parts)
    return fleet.matrix, (codes, parts), scale * 2.0 / expected_smoothness(codes, fleet.batch_size)


def _fitted(codes: Array, parts: Array, matrix: Array, rows: NDArray[np.int64], scale: float) -> Array:
    """The codes after a step of these rows at a multiple of their edge."""
    gram = parts @ transposed(parts)
    gradient = codes[:, rows] @ gram - matrix[:, rows] @ transposed(parts)
    moved = codes.copy()
    moved[:, rows] = np.maximum(codes[:, rows] - per_matrix(scale * block_edge(gram)) * gradient, 0.0)
    return moved


def _fate(fleet: Problems, steps: Iterable[tuple[Array, Array]]) -> Found:
    """What became of runs from a balanced start, whose loss is taken at every fifth step and at the end."""
    codes, parts = balance(fleet.codes, fleet.parts)
    first, highest = loss(fleet.matrix, codes, parts), np.ones(len(fleet.seeds))
    for number, (codes, parts) in enumerate(steps, start=1):
        if number % _BETWEEN == 0:
            highest = np.maximum(highest, loss(fleet.matrix, codes, parts) / first)  # NaN is passed on.
    return fate(fleet, codes, parts, highest)


def rest_of_own_clip(fleet: Problems) -> Found:
    """Where the expected step of a clip by the batch's own edge, after fitted codes and the best parts for them, comes to rest.

    Nothing is random here: the mean step over all batches of an epoch, each at 1 / L of its own batch, is followed from the
    best parts. An unbiased one would leave the loss where it is.
    """
    fitted, steps = along_gradient(block()), np.full((_FITTING, len(fleet.seeds)), 0.5)
    *_, (codes, parts) = sweeps(fleet.matrix, fleet.codes, fleet.parts, steps, fitted)
    gram, products, half = transposed(codes) @ codes, transposed(fleet.matrix) @ codes, np.full(len(fleet.seeds), 0.5)
    best = transposed(parts)
    for _ in range(_RESTING):
        best = fitted(best, gram, products, half)
    size, whole = fleet.batch_size, fleet.matrix.shape[-2] // fleet.batch_size * fleet.batch_size
    by_batch = codes[:, :whole].reshape(len(codes), -1, size, codes.shape[-1])
    edges = block_edge(transposed(by_batch) @ by_batch)
    weights = np.repeat(np.where(np.isinf(edges), 0.0, edges) / edges.shape[-1], size, axis=-1)[..., None] / 2.0
    weighted = weights * codes[:, :whole]
    gram, products = transposed(weighted) @ codes[:, :whole], transposed(fleet.matrix[:, :whole]) @ weighted
    resting = best
    for _ in range(_RESTING):
        resting = np.maximum(resting - (resting @ gram - products), 0.0)
    before, after = (loss(fleet.matrix[:, :whole], codes[:, :whole], transposed(each)) for each in (best, resting))
    gap = after / np.maximum(before, np.finfo(np.float64).tiny) - 1.0
    ones = np.ones(len(fleet.seeds), np.int64)
    return Found(ones, (gap > REST).astype(np.int64), {"worst": gap})
