r"""Constant rates above the edge at the start: joint descent that first climbs, and then finds a flatter place.

The edge is $2 / \lambda_{\max}$ of the loss's own second derivative at the start, found by Lanczos' method.

Reference: Lewkowycz et al., 2020, arXiv:2003.02218.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from surefoot.nmf import balance
from surefoot.nmf.verification.descent import gradients, per_matrix, transposed
from surefoot.nmf.verification.watching import Found, has_collapsed, loss, norm

if TYPE_CHECKING:
    from surefoot.nmf.verification.fleets import Array, Problems

STEPS = 150
CLIMBED = 1.001
_KRYLOV = 20
_PURPOSE = 7
DIRECT, CATAPULT, FAILED = 0, 1, 2


def sharpness(matrix: Array, codes: Array, parts: Array, random: list[np.random.Generator]) -> Array:
    """The largest eigenvalue of the loss's second derivative in codes and parts together; shape (problems,)."""
    residual = codes @ parts - matrix
    start = [np.stack([each.random(factor.shape[1:]) for each in random]) for factor in (codes, parts)]
    length = np.sqrt(norm(start[0]) ** 2 + norm(start[1]) ** 2)[:, None, None]
    now, last = (start[0] / length, start[1] / length), (np.zeros_like(codes), np.zeros_like(parts))
    diagonal, beside = [], [np.zeros(len(matrix))]
    for _ in range(_KRYLOV):
        change = now[0] @ parts + codes @ now[1]
        image = (
            change @ transposed(parts) + residual @ transposed(now[1]),
            transposed(codes) @ change + transposed(now[0]) @ residual,
        )
        diagonal.append(sum(np.sum(one * two, axis=(-2, -1)) for one, two in zip(image, now, strict=True)))
        left = [
            new - diagonal[-1][:, None, None] * here - beside[-1][:, None, None] * before
            for new, here, before in zip(image, now, last, strict=True)
        ]
        beside.append(np.sqrt(norm(left[0]) ** 2 + norm(left[1]) ** 2))
        scale = np.where(beside[-1] > 0.0, beside[-1], 1.0)[:, None, None]
        now, last = (left[0] / scale, left[1] / scale), now
    small = np.zeros((len(matrix), _KRYLOV, _KRYLOV))
    for place, value in enumerate(diagonal):
        small[:, place, place] = value
    for place, value in enumerate(beside[1:-1]):
        small[:, place, place + 1] = small[:, place + 1, place] = value
    return np.linalg.eigvalsh(small)[:, -1]


def run(fleet: Problems, *, is_projected: bool) -> Found:
    """What becomes of each problem at its own multiple of the edge, kept: `fate` is 0 direct, 1 catapult, 2 failed."""
    matrix, (codes, parts) = fleet.matrix, balance(fleet.codes, fleet.parts)
    rate = per_matrix(fleet.joint_rate * 2.0 / sharpness(matrix, codes, parts, fleet.random(_PURPOSE)))
    first, highest = loss(matrix, codes, parts), np.zeros(len(fleet.seeds))
    for _ in range(STEPS):
        down, right, residual = gradients(matrix, codes, parts)
        highest = np.maximum(highest, 0.5 * residual**2 / first)  # NaN is passed on.
        codes, parts = codes - rate * down, parts - rate * right
        if is_projected:
            codes, parts = np.maximum(codes, 0.0), np.maximum(parts, 0.0)
    end = loss(matrix, codes, parts) / first
    has_failed = ~(np.maximum(highest, end) < np.inf) | ~(end < 1.0) | has_collapsed(fleet, codes, parts)
    fate = np.where(has_failed, FAILED, np.where(highest > CLIMBED, CATAPULT, DIRECT))
    ones = np.ones(len(fleet.seeds), np.int64)
    measured = {"fate": fate, "rate": fleet.joint_rate, "mean": fleet.mean, "worst": highest}
    return Found(ones, has_failed.astype(np.int64), measured)
