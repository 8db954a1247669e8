"""What a scheduler did, in a memory that does not grow."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from surefoot.changes import Change

MOST = 2048
"""Points that are kept; when there are more, neighbours are merged in pairs."""
REMEMBERED = 1000
"""Changes that are kept, the last ones."""


class Points(NamedTuple):
    """Losses and scales over the steps, each entry that of one or more steps in a row.

    Attributes:
        step: The last step of each.
        low, loss, high: The lowest, mean and highest finite loss; NaN where none is finite.
        scale: The scale after it.
    """

    step: NDArray[np.int64]
    low: NDArray[np.float64]
    loss: NDArray[np.float64]
    high: NDArray[np.float64]
    scale: NDArray[np.float64]


class History:
    """Losses and scales of all steps at a resolution that halves as the run grows, and the last changes.

    >>> history = History()
    >>> for loss in [3.0, 2.0, 4.0]:
    ...     history.add(loss, 1.0)
    >>> history.points().loss.tolist()
    [3.0, 2.0, 4.0]

    Attributes:
        changes: The last changes, oldest first.

    Args:
        begin: Steps that were made before.
    """

    def __init__(self, begin: int = 0) -> None:
        self.changes: deque[Change] = deque(maxlen=REMEMBERED)
        self._begin = begin
        self._width = 1  # Steps in a point.
        self._points = np.empty((0, 4))  # low, mean, high, scale
        self._new: list[tuple[float, float]] = []

    def __len__(self) -> int:
        return len(self._points) * self._width + len(self._new)

    def add(self, loss: Any, scale: Any) -> None:
        """Take note of a step's loss and of the scale after it."""
        self._new.append((loss, scale))
        if len(self._new) >= MOST:
            self._merge()

    def points(self) -> Points:
        """All there is, in the order of the steps."""
        whole = len(self._new) // self._width * self._width
        parts = [self._points, _summed(self._new[:whole], self._width), _summed(self._new[whole:], len(self._new) - whole)]
        low, loss, high, scale = np.concatenate(parts).T
        step = self._begin + np.minimum(np.arange(1, len(loss) + 1) * self._width, len(self))
        return Points(step, low, loss, high, scale)

    def _merge(self) -> None:
        self._points = np.concatenate([self._points, _summed(self._new, self._width)])
        self._new.clear()
        while len(self._points) > MOST and self._width < MOST:
            self._points = _paired(self._points)
            self._width *= 2


def _summed(steps: list[tuple[float, float]], width: int) -> NDArray[np.float64]:
    """Points of so many steps each; the number of steps is a multiple of it."""
    if not steps:
        return np.empty((0, 4))
    losses, scales = np.array(steps, np.float64).T
    losses = np.where(np.isfinite(losses), losses, np.nan).reshape(-1, width)
    return np.stack([*_spread(losses, losses, losses), scales.reshape(-1, width)[:, -1]], axis=1)


def _paired(points: NDArray[np.float64]) -> NDArray[np.float64]:
    low, mean, high, scale = (column.reshape(-1, 2) for column in points[: len(points) // 2 * 2].T)
    return np.stack([*_spread(low, mean, high), scale[:, -1]], axis=1)


def _spread(low: Any, mean: Any, high: Any) -> tuple[Any, Any, Any]:
    """Lowest, mean and highest along the rows, not counting NaN; NaN where there is nothing else."""
    known = ~np.isnan(mean)
    count = known.sum(axis=1)
    none = np.where(count > 0, 0.0, np.nan)
    total = np.where(known, mean, 0.0).sum(axis=1) / np.maximum(count, 1)
    return np.fmin.reduce(low, axis=1), total + none, np.fmax.reduce(high, axis=1)
