r"""Starts at which an edge is as low as it has to be: one step just above it raises the loss.

The fit is exact, inside the nonnegative numbers, and the start is off along the direction of the largest curvature $L$ alone.
There a step of $\eta$ multiplies the residual by $1 - \eta L$, so one at $1.02 \times 2 / L$ raises the loss by 8%. That
direction is nonnegative, by Perron and Frobenius, so the step ends inside, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surefoot.nmf import a_priori_edge, balance
from surefoot.nmf.verification.descent import along_gradient, block, masked_move, segment_move, sweeps, transposed
from surefoot.nmf.verification.watching import Found, loss, watch

if TYPE_CHECKING:
    from surefoot.nmf.verification.fleets import Array, Problems

ABOVE = 1.02
_PURPOSE = 2
_SMALL = 1e-4


def inside(fleet: Problems, rank: int | None = None) -> tuple[Array, Array]:
    """Random factors without small entries, of the fleet's imbalance."""
    m, n, rank = fleet.matrix.shape[-2], fleet.matrix.shape[-1], rank or fleet.codes.shape[-1]
    drawn = [(each.uniform(0.5, 1.0, (m, rank)), each.uniform(0.5, 1.0, (rank, n))) for each in fleet.random(_PURPOSE)]
    codes, parts = (np.stack(each) for each in zip(*drawn, strict=True))
    sizes = [np.sqrt(np.sum(each**2, axis=(-2, -1), keepdims=True)) for each in (fleet.codes, fleet.parts)]
    return codes * sizes[0], parts * sizes[1]


def top(gram: Array) -> Array:
    """The nonnegative eigenvector of the largest eigenvalue, scaled to a largest entry of 1; shape (..., r)."""
    vector = np.abs(np.linalg.eigh(gram)[1][..., -1])
    found: Array = vector / vector.max(-1, keepdims=True)
    return found


def block_step(fleet: Problems, multiple: float = ABOVE, method: str = "eigen") -> Found:
    """One step of the codes, with the random parts of the fleet."""
    codes, _ = inside(fleet)
    off = top(fleet.parts @ transposed(fleet.parts))[:, None, :] * (0.2 * codes.min((-2, -1)))[:, None, None]
    matrix, steps = codes @ fleet.parts, np.full((1, len(fleet.seeds)), multiple)
    moves = sweeps(matrix, codes + off, fleet.parts, steps, along_gradient(block(method)))
    return watch(matrix, [next(moves), next(moves)])


def a_priori_step(fleet: Problems, multiple: float = ABOVE) -> Found:
    """One step of the codes at rank 1, where the constant is tight: from one and a half times the solution, balanced."""
    codes, parts = inside(fleet, rank=1)
    matrix = codes @ parts
    codes, parts = balance(1.5 * codes, parts)
    norm = np.sqrt(np.sum(matrix**2, axis=(-2, -1)))
    edge = a_priori_edge(norm, loss(matrix, codes, parts), 1)
    steps = np.full((1, len(fleet.seeds)), multiple)
    moves = sweeps(matrix, codes, parts, steps, along_gradient(lambda *_: edge))
    return watch(matrix, [next(moves), next(moves)])


def row_step(fleet: Problems, multiple: float = ABOVE) -> Found:
    """One step of the codes with weighted entries, every row off along its own direction."""
    codes, _ = inside(fleet)
    squared, multiples = fleet.weights**2, np.full(len(fleet.seeds), multiple)
    off = top((squared[..., None, :] * fleet.parts[:, None]) @ transposed(fleet.parts)[:, None])
    start, matrix = codes + off * (0.2 * codes.min((-2, -1)))[:, None, None], codes @ fleet.parts
    moved = masked_move(matrix, start, fleet.parts, fleet.weights, multiples, by_row=True)
    return watch(matrix, [(start, fleet.parts), (moved, fleet.parts)], fleet.weights)


def segment_step(fleet: Problems, multiple: float = ABOVE) -> Found:
    """One joint step so close to the solution that the curvature is the same all the way."""
    codes, parts = inside(fleet)
    matrix = codes @ parts
    left, up = top(codes @ transposed(codes)), top(transposed(codes) @ codes)
    across, right = top(parts @ transposed(parts)), top(transposed(parts) @ parts)
    unit = [each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (left, across, up, right)]
    size, other = (np.linalg.norm(each, 2, axis=(-2, -1))[:, None, None] for each in (codes, parts))
    down, sideways = other * unit[0][:, :, None] * unit[1][:, None], size * unit[2][:, :, None] * unit[3][:, None]
    room = [each.min((-2, -1)) / change.max((-2, -1)) for each, change in ((codes, down), (parts, sideways))]
    small = _SMALL * np.minimum(*room)[:, None, None]
    start = codes + small * down, parts + small * sideways
    return watch(matrix, [start, segment_move(matrix, *start, np.full(len(fleet.seeds), multiple))])
