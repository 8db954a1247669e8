"""`Greedy` on plain floats, fast: the twin of `Greedy.update`, held equal to it by a law in the tests.

Means of the window may differ in their last bit, because their sums are formed in another order.
"""

from __future__ import annotations

from itertools import accumulate
from math import inf
from typing import TYPE_CHECKING, Any

from surefoot.evidence import Trend
from surefoot.greedy import GreedyState

if TYPE_CHECKING:
    from surefoot.changes import Because
    from surefoot.greedy import Greedy


class GreedyRunner:
    """Counts better and worse losses in place, and makes a `GreedyState` only when it is asked for one.

    The mean of the last n losses takes the same time for every n, and nothing is ever subtracted: losses are summed up in
    blocks of n, and a window that reaches back into the block before adds the sum of that block's tail.
    """

    def __init__(self, policy: Greedy, state: GreedyState) -> None:
        self._policy = policy
        self._patience, self._width = policy.patience, policy.window
        self._sign = 1.0 if policy.mode == "min" else -1.0
        # `improvement.bar`, ready for floats: bar = best * (above or below) - offset.
        is_relative = policy.threshold_mode == "relative"
        self._above, self._below = (1.0 - policy.threshold, 1.0 + policy.threshold) if is_relative else (1.0, 1.0)
        self._offset = 0.0 if is_relative else policy.threshold
        self.scale, self._best, self._good, self._bad = state.scale, state.best, state.good, state.bad
        self._stuck, self._count = state.stuck, state.count
        self._raising, self._cutting, self._climbing = state.raising, state.cutting, state.climbing
        self._in_stage = bool(state.raising or state.cutting or state.climbing)
        self._scatter = state.scatter
        self._trend: Trend | None = None
        self._moved: tuple[int, int, bool, float, float] | None = None
        self._open_window(state.window)

    @property
    def state(self) -> GreedyState:
        """The state that the fold would be in."""
        stage = self._raising, self._cutting, self._stuck, self._climbing
        counts = self.scale, self._best, self._good, self._bad
        if self._trend is not None:
            losses, count = self._trend.read()
            return GreedyState(*counts, *stage, count, self._scatter, losses)
        window = () if self._width == 1 else (*self._block[self._place :], *self._block[: self._place])
        return GreedyState(*counts, *stage, self._count, self._scatter, window)

    def advance(self, loss: Any, **_signals: Any) -> Any:
        """Take in one loss, a float, and return the next scale."""
        self._moved = None
        if loss - loss != 0.0:  # It is not finite; asking `isfinite` would take longer.
            return self.scale
        value = self._sign * loss
        if self._trend is not None:
            self._trend.add(value)
            self._good += 1
            if self._good > self._patience or self._in_stage:
                self._judge(self._trend)
            return self.scale
        if self._width > 1:
            value = self._mean(value)
        best = self._best
        is_better = value < best * (self._above if best > 0.0 else self._below) - self._offset
        if is_better:
            self._best = value
        if self._in_stage:
            self._count_in_stage(is_better)
        elif is_better:
            self._bad = 0
            self._good += 1
            if self._good > self._patience:
                self._good = 0
                self._act(True, False)
        else:
            self._good = 0
            self._bad += 1
            if self._bad > self._patience:
                self._bad = 0
                self._act(False, True)
        return self.scale

    def why(self) -> str:
        """Why the last loss moved the scale, in words; empty if it did not."""
        return self._policy.explain(*self._moved) if self._moved and self._moved[-2] != self._moved[-1] else ""

    def because(self) -> Because | None:
        """What says so, and with what."""
        return (self._policy.explain, self._moved) if self._moved and self._moved[-2] != self._moved[-1] else None

    def _count_in_stage(self, is_better: bool) -> None:
        if self._climbing or self._policy.stage == "continue":
            self._good = self._bad = 0
            self._act(False, False)
            return
        mute_raise, mute_cut = self._mutes()
        self._good = self._good + 1 if is_better and not mute_raise else 0
        self._bad = 0 if is_better or mute_cut else self._bad + 1
        raises, cuts = self._good > self._patience, self._bad > self._patience
        if raises or cuts:
            self._good = self._bad = 0
        self._act(raises, cuts)

    def _judge(self, trend: Trend) -> None:
        raises = cuts = False
        if self._good > self._patience:
            self._good = 0
            raises, has_stopped, rises, spread = trend.judge(self._scatter)
            cuts = has_stopped or rises
            if self._in_stage:
                mute_raise, mute_cut = self._mutes()
                raises, cuts = raises and not mute_raise, cuts and not mute_cut
            if raises:
                self._scatter = spread
        if raises or cuts or self._in_stage:
            self._act(raises, cuts)

    def _mutes(self) -> tuple[bool, bool]:
        """Whether a stage bars raises, and whether it bars cuts."""
        raising, cutting = self._raising > 0, self._cutting > 0
        both = self._climbing or (self._policy.stage == "continue" and (raising or cutting))
        return both or raising, both or cutting

    def _act(self, start_raise: bool, start_cut: bool) -> None:
        """Move the scale, as was just decided or as a stage goes on to, and count the stages down."""
        policy, raising, cutting, scale = self._policy, self._raising, self._cutting, self.scale
        goes_on, climbing = policy.stage == "continue", self._climbing
        if climbing:
            self.scale = min(scale / policy.factor, 1.0)
            self._climbing = self.scale < 1.0
        elif start_raise or (goes_on and raising):
            self.scale = min(scale / policy.factor, policy.max_scale)
            self._stuck = 0
        elif start_cut or (goes_on and cutting):
            self.scale = max(scale * policy.factor, policy.min_scale)
            self._stuck += start_cut and scale <= policy.min_scale
        self._moved = raising, cutting, climbing, scale, self.scale
        self._raising = policy.raise_stage if start_raise else raising - (raising > 0)
        self._cutting = policy.cut_stage if start_cut else cutting - (cutting > 0)
        if policy.reset_after is not None and self._stuck >= policy.reset_after:
            self._reset()
        self._in_stage = bool(self._raising or self._cutting or self._climbing)

    def _reset(self) -> None:
        self._best, self._scatter = inf, 0.0
        self._good = self._bad = self._raising = self._cutting = self._stuck = self._count = 0
        self._climbing = True
        self._open_window((0.0,) * self._width)

    def _open_window(self, losses: tuple[float, ...]) -> None:
        """Lay out the last losses, oldest first, as a block that is being filled and the tail of the one before."""
        if self._policy.evidence is not None:
            self._trend = Trend(losses, self._count, self._policy.evidence)
            return
        self._place = self._count % self._width
        before, now = losses[: self._width - self._place], losses[self._width - self._place :]
        self._block = [*now, *before]
        self._tails = [*([0.0] * self._place), *_tails(before)]
        self._sum = 0.0
        for loss in now:  # Not `sum`, which is more exact from Python 3.12 on: one by one they would come to something else.
            self._sum += loss

    def _mean(self, value: float) -> float:
        place, width = self._place, self._width
        self._block[place] = value
        self._sum += value
        self._count += 1
        self._place = place = place + 1
        mean: float = (self._tails[place] + self._sum) / (self._count if self._count < width else width)  # noqa: FURB136 - a call costs
        if place == width:
            self._place, self._tails, self._sum = 0, _tails(self._block), 0.0
        return mean


def _tails(block: Any) -> list[float]:
    """The sums of what is left of a block from each place on; one more than the block has, the last one 0."""
    return list(accumulate(reversed(block), initial=0.0))[::-1]
