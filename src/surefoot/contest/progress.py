"""How soon a run is good: steps to a target, and the area under its held-out losses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from surefoot.runs import evaluation_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from surefoot.contest.outcome import Losses, Outcome
    from surefoot.contest.rows import CellName

TARGET = 1.02
"""The target, as a multiple of the median final loss of the reference."""
REFERENCE = "cosine"
"""The rival that sets targets, at its tuned rate."""


def steps_to(target: float, losses: Any, steps: Sequence[int]) -> np.ndarray:
    """After how many steps a held-out loss is first at the target or below; infinite for a run that misses it.

    >>> steps_to(0.5, [[0.9, 0.5, 0.6], [0.9, 0.8, 0.7]], steps=[10, 20, 30])
    array([20., inf])

    Args:
        target: The loss to be reached.
        losses: Of the shape (..., evaluations); may be infinite or NaN, which reach nothing.
        steps: When they were taken.
    """
    reached = np.asarray(losses, np.float64) <= target
    return np.where(reached.any(axis=-1), np.asarray(steps, np.float64)[reached.argmax(axis=-1)], np.inf)


def area(losses: Any, steps: Sequence[int]) -> np.ndarray:
    """The area under held-out losses, by trapezoids, over the length of the steps: a mean loss on the way.

    >>> area([[1.0, 0.5, 0.5], [1.0, float("inf"), 1.0]], steps=[10, 20, 40])
    array([0.58333333,        inf])

    Args:
        losses: Of the shape (..., evaluations); of a run that diverged, infinite or NaN from there on, and so is its area.
        steps: When they were taken, rising.
    """
    values = np.asarray(losses, np.float64)
    values = np.where(np.isnan(values), np.inf, values)
    widths = np.diff(np.asarray(steps, np.float64))
    if not len(widths):
        return values[..., 0]
    return np.asarray((values[..., 1:] + values[..., :-1]) @ widths / (2.0 * widths.sum()))


def targets(found: Outcome) -> dict[CellName, float]:
    """The loss to be reached in every cell in which the reference is done: 1.02 times its median at the end, when tuned."""
    return {cell: TARGET * float(np.median(losses)) for cell, losses in found.losses(REFERENCE, "tuned").items()}


def steps_to_target(found: Outcome, rival: str, how: str = "tuned") -> Losses:
    """Steps of every seed to the target of its cell, to the next twentieth of the budget."""
    known = targets(found)
    return _of_curves(found, rival, how, lambda cell, *curve: steps_to(known[cell], *curve) if cell in known else None)


def areas(found: Outcome, rival: str, how: str = "tuned") -> Losses:
    """The area under the losses of every seed."""
    return _of_curves(found, rival, how, lambda _, *curve: area(*curve))


def _of_curves(
    found: Outcome, rival: str, how: str, measure: Callable[[CellName, np.ndarray, Sequence[int]], np.ndarray | None]
) -> Losses:
    """What is measured of a rival's losses on the way, by cell; of those cells in which they were kept."""
    made = {}
    for cell in found.entries:
        curves = [row.curve for row in found.rows(cell, rival, how)]
        if not curves or not all(curves):
            continue
        steps = evaluation_steps(int(found.entries[cell][rival].problem.steps), len(curves[0]))
        measured = measure(cell, np.array(curves), steps)
        if measured is not None:
            made[cell] = measured
    return made
