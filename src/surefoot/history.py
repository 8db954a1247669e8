"""What a scheduler did, in a memory that does not grow."""

from __future__ import annotations

from bisect import bisect
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.changes import Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from surefoot.changes import Because

    Noted = tuple[int, float, float, Because, float, Sequence[Any]]

MOST = 2048
"""Points that are kept of what is long ago; when there are more, neighbours are merged in pairs."""
BLOCK = 8 * MOST
"""Steps that are kept one by one before they are summed up; many at once, because that takes less time for each."""
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
    ...     history.keep(loss)
    >>> history.turn(0.5)
    >>> history.points().loss.tolist(), history.points().scale.tolist()
    ([3.0, 2.0, 4.0], [1.0, 1.0, 0.5])

    Attributes:
        keep: Takes note of a step's loss, in the time that a list takes. Whoever calls it calls `thin` now and then.

    Args:
        begin: Steps that were made before.
        scale: The scale that the first of these begins at.
    """

    def __init__(self, begin: int = 0, scale: float = 1.0) -> None:
        self._noted: deque[Noted] = deque(maxlen=REMEMBERED)
        self._begin = begin
        self._width = 1  # Steps in a point.
        self._points = np.empty((0, 4))  # Lowest, mean and highest loss, and the scale after the last.
        self._losses: list[float] = []  # An array would take three times as long to append to.
        # Not in pairs: tuples would keep Python's collector busy.
        self._turns, self._scales = [0], [scale]
        self.keep = self._losses.append

    def __len__(self) -> int:
        return len(self._points) * self._width + len(self._losses)

    def __deepcopy__(self, memory: dict[int, Any]) -> History:
        other = History(self._begin)
        other._noted, other._width, other._points = self._noted.copy(), self._width, self._points.copy()
        other._losses[:], other._turns[:], other._scales[:] = self._losses, self._turns, self._scales
        return other

    @property
    def changes(self) -> list[Change]:
        """The last changes, oldest first."""
        return list(map(told, self._noted))

    def note(self, noted: Noted) -> None:
        """Take note of a change: what a `Change` says, but for the reason, which is put into words when somebody asks."""
        self._noted.append(noted)

    def turn(self, scale: float) -> None:
        """Take note of the scale after the last loss, where it is another than before."""
        self._turns.append(len(self._losses))
        self._scales.append(scale)

    def points(self) -> Points:
        """All there is, in the order of the steps."""
        whole, steps = len(self._losses) // self._width * self._width, self._steps()
        parts = [self._points, _summed(steps[:, :whole], self._width), _summed(steps[:, whole:], steps.shape[1] - whole)]
        low, loss, high, scale = np.concatenate(parts).T
        step = self._begin + np.minimum(np.arange(1, len(loss) + 1) * self._width, len(self))
        return Points(step, low, loss, high, scale)

    def thin(self) -> None:
        """Sum up what is new, if it is much."""
        whole = len(self._losses) // BLOCK * BLOCK
        if not whole:
            return
        self._points = np.concatenate([self._points, _summed(self._steps()[:, :whole], self._width)])
        later = bisect(self._turns, whole)
        self._turns[:] = [0, *(turn - whole for turn in self._turns[later:])]
        del self._losses[:whole], self._scales[: later - 1]
        while len(self._points) > MOST and self._width < BLOCK:
            self._points = _paired(self._points)
            self._width *= 2

    def _steps(self) -> NDArray[np.float64]:
        """The new losses, and the scale after each; shape (2, steps)."""
        lengths = np.diff([*self._turns, len(self._losses) + 1])
        lengths[0] -= 1  # A scale that is turned to after n losses is that of the n-th already.
        return np.stack([np.array(self._losses, np.float64), np.repeat(self._scales, lengths)])


def told(noted: Noted) -> Change:
    """A change that was noted, with its reason in words."""
    step, before, scale, (put, needed), loss, rates = noted
    return Change(step, before, scale, put(*needed), loss, tuple(map(float, rates)))


def _summed(steps: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Losses and scales as points of so many steps each; the number of steps is a multiple of it."""
    losses, scales = steps
    if not len(losses):
        return np.empty((0, 4))
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
