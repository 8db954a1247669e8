"""How many short items a worker is given at once."""

from __future__ import annotations

MOST = 1000
"""Items in a batch at most."""
_NEWEST = 0.1


class Pace:
    """How many items take a certain time, going by those that were done lately.

    Args:
        at_once: Seconds that a worker shall have work for, above 0.
    """

    def __init__(self, at_once: float) -> None:
        self._mean = self._at_once = at_once

    @property
    def batch(self) -> int:
        """Items that are handed out together."""
        return max(1, min(MOST, int(self._at_once / max(self._mean, self._at_once / MOST))))

    def take(self, seconds: float) -> None:
        """Take in how long an item took."""
        self._mean += _NEWEST * (seconds - self._mean)
