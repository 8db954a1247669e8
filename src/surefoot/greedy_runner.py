"""`Greedy` on plain floats, fast: the twin of `Greedy.update`, held equal to it by a law in the tests."""

from __future__ import annotations

from collections import deque
from math import inf, isfinite
from typing import Any

from surefoot import improvement
from surefoot.arithmetic import Floats
from surefoot.greedy import Greedy, GreedyState


class GreedyRunner:
    """Counts better and worse losses in place, and makes a `GreedyState` only when it is asked for one.

    Counting, which is nearly every step, and plain raises and cuts are done here. Where a stage may begin or is under way, or
    the scale climbs back after a reset, the fold itself is called.
    """

    __slots__ = (
        "_bad",
        "_bar",
        "_best",
        "_count",
        "_good",
        "_limit",
        "_policy",
        "_sign",
        "_stage",
        "_stuck",
        "_window",
        "scale",
    )

    def __init__(self, policy: Greedy, state: GreedyState) -> None:
        self._policy = policy
        self._sign = 1.0 if policy.mode == "min" else -1.0
        has_extras = policy.raise_stage or policy.cut_stage or policy.reset_after
        self._limit = policy.patience if has_extras else inf
        self.state = state

    @property
    def state(self) -> GreedyState:
        """The state that the fold would be in."""
        window = tuple(self._window)
        raising, cutting, climbing = self._stage or (0, 0, False)
        return GreedyState(
            self.scale, self._best, self._good, self._bad, raising, cutting, self._stuck, climbing, self._count, window
        )

    @state.setter
    def state(self, state: GreedyState) -> None:
        self.scale, self._best, self._good, self._bad = state.scale, state.best, state.good, state.bad
        self._stuck, self._count = state.stuck, state.count
        self._window: deque[float] = deque(state.window, maxlen=len(state.window))
        stage = (state.raising, state.cutting, state.climbing)
        self._stage = stage if any(stage) else None
        self._raise_bar()

    def advance(self, loss: Any, **_signals: Any) -> Any:
        """Take in one loss, a float, and return the next scale."""
        if not isfinite(loss):
            return self.scale
        if self._stage or self._good >= self._limit or self._bad >= self._limit:
            self.state = self._policy.update(self.state, loss)
            return self.scale
        value = self._sign * loss
        if window := self._window:
            window.append(value)
            if self._count < len(window):
                self._count += 1
            value = sum(window) / self._count
        if value < self._bar:
            return self._count_better(value)
        self._good = 0
        self._bad += 1
        if self._bad > self._policy.patience:
            self._cut()
        return self.scale

    def _count_better(self, value: float) -> Any:
        self._best = value
        self._raise_bar()
        self._bad = 0
        self._good += 1
        if self._good > self._policy.patience:
            self._good = self._stuck = 0
            self.scale = min(self.scale / self._policy.factor, self._policy.max_scale)
        return self.scale

    def _cut(self) -> None:
        self._bad = 0
        if self.scale <= self._policy.min_scale:
            self._stuck += 1
        self.scale = max(self.scale * self._policy.factor, self._policy.min_scale)

    def _raise_bar(self) -> None:
        self._bar = improvement.bar(Floats, self._best, self._policy.threshold, self._policy.threshold_mode)
