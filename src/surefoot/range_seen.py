"""What a range test shows: where the loss falls, where it is lowest and where it explodes, judged by evidence."""

from __future__ import annotations

from math import asinh, isfinite

from surefoot.evidence import Trend

ERRORS = 3.0
"""Standard errors of the slope of a window that are asked for."""


class RangeSeen:
    """Where the loss falls, is lowest and explodes, told as losses come in.

    >>> seen = RangeSeen(window=8)
    >>> for step in range(30):
    ...     _ = seen.add(loss=3.0 - 0.1 * max(step - 10, 0) + 0.01 * (-1) ** step, before=3.0)
    >>> seen.add(loss=float("inf"), before=3.0)
    True
    >>> seen.falls, seen.lowest, seen.explodes
    (9, 25, 30)

    Attributes:
        falls: The middle of the first window that falls; None so far.
        explodes: Where the loss rises above its start, or is not finite; None so far.

    Args:
        window: How many losses are looked at together, 8 or more.
    """

    def __init__(self, window: int) -> None:
        self.falls: int | None = None
        self.explodes: int | None = None
        self._window, self._middle = window, (window - 1) // 2
        self._before: list[float] = []
        self._differences: list[float] = []
        self._means: list[float] = []  # Of whole windows.
        self._trend = Trend((0.0,) * window, 0, ERRORS)

    def add(self, loss: float, before: float) -> bool:
        """Take in a batch's loss, and what it was before the test; whether the test is over, as the loss has exploded.

        Raises:
            ValueError: The loss before the test is not finite.
        """
        if not isfinite(before):
            raise ValueError(f"the loss before the first step must be finite, got {before} (look at the data first)")
        place = len(self._differences)
        if isfinite(loss):
            self._before.append(before)
            self._differences.append(loss - before)
            # An explosion is no straight line, and its logarithm is one; near 0 nothing is changed.
            self._trend.add(asinh((loss - before) / (abs(self._before[0]) or 1.0)))
        is_over = not isfinite(loss) or self._judge(place)
        if is_over:
            self.explodes = place
        return is_over

    @property
    def lowest(self) -> int | None:
        """The middle of the lowest window from where the loss is seen falling; None if it is not."""
        if self.falls is None:
            return None
        begin = self.falls - self._middle
        return begin + self._means[begin:].index(min(self._means[begin:])) + self._middle

    @property
    def is_still_falling(self) -> bool:
        """Whether the lowest window is the last one."""
        return self.lowest is not None and self.lowest + self._window - self._middle == len(self._differences)

    def smoothed(self) -> tuple[float, ...]:
        """The mean loss before the test plus the mean difference around each place."""
        count = len(self._differences)
        level = sum(self._before) / count if count else 0.0
        after = self._window - self._middle
        spans = (self._differences[max(0, place - self._middle) : place + after] for place in range(count))
        return tuple(level + sum(span) / len(span) for span in spans)

    def _judge(self, place: int) -> bool:
        """Look at the window that ends here, if it is whole: whether it rises above the start after a fall."""
        if place + 1 < self._window:
            return False
        self._means.append(sum(self._differences[-self._window :]) / self._window)
        is_falling, _, is_rising, _ = self._trend.judge(0.0)
        if self.falls is None and is_falling:
            self.falls = place - self._window + 1 + self._middle
        return self.falls is not None and is_rising and self._means[-1] > 0.0
