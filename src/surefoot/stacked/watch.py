"""Two numbers about every gradient, which say how a rate is doing."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from surefoot.stacked.optimizers import Step


def watched(step: Step, move: Tensor, go: Callable[[Step], None]) -> Tensor:
    """Make a step, and measure it.

    Args:
        step: The step.
        move: How the parameters moved in the last one, zeros before the first, shape (numbers,); then how they moved in this.
        go: What makes it.

    Returns:
        Per run, the cosine of the angle between downhill and the last move, 0 where there is none; and the norm of this move
        over that of the parameters. Shape (2, runs).
    """
    slope = _dot(step, step.gradient, step.gradient) * _dot(step, move, move)
    alignment = -_dot(step, step.gradient, move) / torch.where(slope > 0.0, slope, 1.0).sqrt()
    size = _dot(step, step.weights, step.weights)
    move.copy_(step.weights)
    go(step)
    torch.sub(step.weights, move, out=move)
    return torch.stack([alignment, (_dot(step, move, move) / torch.where(size > 0.0, size, 1.0)).sqrt()])


def _dot(step: Step, one: Tensor, other: Tensor) -> Tensor:
    """The inner product of two vectors of each run."""
    pieces = torch.split(one * other, [prod(shape) for shape in step.shapes])
    return torch.stack([piece.view(len(step.rates), -1).sum(1) for piece in pieces]).sum(0)
