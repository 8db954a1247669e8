r"""Whether the last losses show a trend, judged against their own scatter.

A straight line is fitted to the last $n$ losses by least squares. Its slope is more than $z$ standard errors away from 0
exactly if the squared correlation $R^2$ of loss and time exceeds $z^2 / (n - 2 + z^2)$. So no square root is taken and no unit
matters, and a single spike, whose $R^2$ is at most about $3/n$, is no evidence of anything.
"""

from __future__ import annotations

from itertools import accumulate
from operator import mul
from typing import Any

STOPPED = 0.5
"""The fraction of the evidence for a trend below which a loss that was falling counts as having stopped."""

GROWTH = 4.0
"""How much larger the scatter may be than when the loss was last seen falling, for a lack of evidence to mean a stop."""


def squared_correlation(width: int, errors: float) -> float:
    """The R² of `width` losses whose slope is `errors` standard errors away from 0."""
    return errors * errors / (width - 2 + errors * errors)


def judge(xp: Any, window: Any, width: int, errors: float, scatter: Any) -> tuple[Any, Any, Any, Any]:
    """Whether the losses fall, have stopped falling, and rise, and how much they scatter.

    >>> from surefoot.arithmetic import Floats
    >>> judge(Floats, (5.0, 4.0, 3.5, 2.5, 1.0), 5, 4.0, 0.0)
    (True, False, False, 9.3)

    Args:
        xp: The arithmetic of the losses.
        window: The losses, oldest first; shape (width, ...).
        width: How many they are, 3 or more.
        errors: The evidence asked for, in standard errors of the slope, above 0.
        scatter: How much they scattered when they were last seen falling, 0 if they never were.

    Returns:
        Whether they fall by more than that; whether they fall by less than half of it or not at all, although they scatter
        little enough to show it; whether they rise by more than that; and the sum of squares about their mean.
    """
    away = xp.subtract(window, xp.sum(window, 0) / width)
    # The sum of `away` is 0 but for rounding; where all losses are nearly the same, rounding is all there is.
    slope = 0.5 * (width + 1) * xp.sum(away, 0) - xp.sum(xp.cumsum(away, 0), 0)
    spread = xp.sum(xp.multiply(away, away), 0)
    perfect = width * (width * width - 1) / 12.0 * spread
    squared, falls, rises = slope * slope, slope < 0.0, slope > 0.0
    is_strong = squared > squared_correlation(width, errors) * perfect
    is_weak = squared > squared_correlation(width, STOPPED * errors) * perfect
    has_stopped = xp.where(falls & is_weak, False, True) & (spread < GROWTH * scatter)
    return falls & is_strong, has_stopped, rises & is_strong, spread


class Trend:
    """`judge` for losses that come one by one, in the same time for every width: its twin on plain floats.

    Losses are summed up in blocks of `width`, counted from the last loss of the block before. A window that reaches back into
    that block adds the sums of its tail. Nothing is ever taken out of a sum, so a huge loss leaves nothing behind.

    Attributes:
        add: Takes in a loss; it is summed up when it is needed.
    """

    def __init__(self, losses: tuple[float, ...], count: int, errors: float) -> None:
        self._width = width = len(losses)
        perfect = width * (width * width - 1) / 12.0
        self._strong = squared_correlation(width, errors) * perfect
        self._weak = squared_correlation(width, STOPPED * errors) * perfect
        place = count % width
        before, now = losses[: width - place], losses[width - place :]
        self._block, self._place = [*now, *before], 0
        self._anchor = self._sum = self._ramp = self._square = 0.0
        self._roll()
        self._count, self._waiting = count - place, list(now)
        self.add = self._waiting.append

    def read(self) -> tuple[tuple[float, ...], int]:
        """The last losses, oldest first, and how many there ever were."""
        self._catch_up()
        return (*self._block[self._place :], *self._block[: self._place]), self._count

    def judge(self, scatter: float) -> tuple[bool, bool, bool, float]:
        """What `judge` says of the window; before it is full, that nothing is known."""
        self._catch_up()
        place, width = self._place, self._width
        if self._count < width:
            return False, False, False, 0.0
        tail, head = self._tails[width - place], self._sum
        total = tail + head
        # Sums of place times loss: places in a tail count from its start, those in a head go on from there.
        moment = (self._ramps[width - place] - tail) + (width * head - self._ramp)
        slope = moment - 0.5 * (width - 1) * total
        spread = self._squares[width - place] + self._square - total * total / width
        squared, is_sharp = slope * slope, spread < GROWTH * scatter
        if slope < 0.0:
            return squared > self._strong * spread, is_sharp and not squared > self._weak * spread, False, spread
        return False, is_sharp, slope > 0.0 and squared > self._strong * spread, spread

    def __getstate__(self) -> dict[str, Any]:
        self._catch_up()
        return {name: value for name, value in vars(self).items() if name != "add"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.add = self._waiting.append

    def _catch_up(self) -> None:
        """Sum up what is waiting; a ramp is the sum of all sums so far, so each loss weighs as much as it has been there."""
        waiting = self._waiting
        while waiting:
            chunk = waiting[: self._width - self._place]
            del waiting[: len(chunk)]
            anchor, total, ramp, square = self._anchor, self._sum, self._ramp, self._square
            for loss in chunk:
                away = loss - anchor
                total += away
                ramp += total
                square += away * away
            self._sum, self._ramp, self._square = total, ramp, square
            self._block[self._place : self._place + len(chunk)] = chunk
            self._place += len(chunk)
            self._count += len(chunk)
            if self._place == self._width:
                self._roll()

    def _roll(self) -> None:
        """Make the block the one before, and begin another; tails are kept by their length."""
        self._anchor = anchor = self._block[-1]
        away = [loss - anchor for loss in reversed(self._block)]
        self._tails = list(accumulate(away, initial=0.0))
        self._ramps = list(accumulate(self._tails))
        self._squares = list(accumulate(map(mul, away, away), initial=0.0))
        self._place, self._sum, self._ramp, self._square = 0, 0.0, 0.0, 0.0
