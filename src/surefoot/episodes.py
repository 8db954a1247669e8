"""Trainings whose learning rate somebody else decides on, many at once: the loop of `surefoot.loop` with an empty chair."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot import checks
from surefoot.arithmetic import choose, lift

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from surefoot.control import Control, ControlState
    from surefoot.fleet import Fleet

REWARDS = ("training", "held-out", "final")
"""What a reward can be the fall of, as `Task` describes."""

LIMIT = 3.0
"""The largest reward for one decision, but for final ones; a run that diverges gets its negative."""

_LARGEST_RATE = 1e30
_SMALLEST_LOSS = 2.0**-40


@dataclass(frozen=True)
class Task:
    """What an episode is about: what is trained, for how long, from which rates, and what counts.

    Attributes:
        fleet: What is trained; an episode's seed makes the run, matrix or network.
        control: What is seen and what an action does.
        steps: Length of an episode in optimizer steps, 1 or more.
        start: Between which multiples of the fleet's base rate an episode's own is drawn, evenly in its logarithm; all are
            above 0 and none below the one before. Of three or more, every neighbouring two are as likely: with
            `(0.001, 1.0, 10.0)` half of all episodes start too high.
        reward: What the natural logarithm of is to fall. `"training"`: the mean training loss of a window, from one to the
            next. `"held-out"`: the held-out loss, evaluated after every window. Both are cut at 3 on both sides. `"final"`: the
            held-out loss from the first step to the last, uncut, paid at the end.
        worst: The multiple of its first loss from which on a run counts as diverged, above 1.
    """

    fleet: Fleet[Any]
    control: Control
    steps: int
    start: tuple[float, ...] = (0.01, 10.0)
    reward: str = "training"
    worst: float = 100.0

    def __post_init__(self) -> None:
        checks.whole("steps", self.steps, low=1)
        object.__setattr__(self, "start", tuple(self.start))
        if len(self.start) < 2:  # noqa: PLR2004 - the two ends of a range
            raise ValueError(f"start must be two numbers or more, got {self.start} (for a single rate, give it twice)")
        for low, high in zip((0.0, *self.start), self.start, strict=False):
            checks.number("start", high, low=low, advice="no number must be below the one before")
        if not self.start[0] > 0.0:
            raise ValueError(f"start must be above 0, got {self.start} (a rate of 0 stays 0, whatever it is multiplied by)")
        checks.one_of("reward", self.reward, REWARDS)
        checks.number("worst", self.worst, low=1.0)

    def rate(self, seed: int) -> float:
        """The rate that the episode of this seed starts from."""
        # Another stream than those of the run.
        whole, part = divmod(np.random.default_rng((seed, 5)).random() * (len(self.start) - 1), 1.0)
        low, high = self.start[int(whole) : int(whole) + 2]
        return self.fleet.base * low * float((high / low) ** part)


class Outcome(NamedTuple):
    """What a decision led to: one entry per episode, and nothing of meaning for those that were asleep.

    Attributes:
        reward: The fall of the loss's logarithm, and -3 where the run has diverged.
        is_over: Whether the budget is used up.
        has_diverged: Whether the loss was not finite, or too large.
        loss: Mean training loss of the window.
    """

    reward: NDArray[np.float64]
    is_over: NDArray[np.bool]
    has_diverged: NDArray[np.bool]
    loss: NDArray[np.float64]


class Episodes:
    """A number of episodes of one task, side by side in one fleet; each begins and ends on its own.

    Attributes:
        task: The task.
        count: How many there are, 1 or more.
        state: The state of `task.control`, in vectors of that length.
        rate: The rate of scale 1 of each episode.
    """

    state: ControlState

    def __init__(self, task: Task, count: int) -> None:
        checks.whole("count", count, low=1)
        self.task, self.count = task, count
        self.rate = np.zeros(count)
        self._runs: Any = None
        self._first = np.zeros(count)  # Each episode's first loss, 0 before it.
        self._level = np.zeros(count)  # Logarithm of what is to fall.
        self._fresh: ControlState = lift(task.control.init(), np.zeros(count))

    def begin(self, places: Sequence[int], seeds: Sequence[int]) -> None:
        """Begin new episodes at these places, from these seeds; the first time, at all of them."""
        task, where = self.task, np.zeros(self.count, bool)
        where[list(places)] = True
        if self._runs is None:
            self._runs, self.state = task.fleet.init(seeds), self._fresh
        else:
            self._runs = task.fleet.restart(self._runs, places, seeds)
            self.state = choose(where, lambda: self._fresh, self.state)
        self.rate[list(places)] = [task.rate(seed) for seed in seeds]
        self._first[where] = 0.0
        self._level[where] = 0.0 if task.reward == "training" else self.held_out()[where]

    def view(self) -> NDArray[np.float64]:
        """What each episode has to decide by; shape (episodes, features)."""
        return np.moveaxis(np.asarray(self.task.control.view(self.state)), 0, -1)

    def advance(self, actions: NDArray[np.float64], awake: NDArray[np.bool]) -> Outcome:
        """Act, and train until the next decision is due.

        Args:
            actions: One per episode, between -1 and 1.
            awake: Which episodes go on; the others stay as they are.
        """
        task = self.task
        state = self.state = choose(awake, lambda: task.control.act(self.state, actions), self.state)
        total, count, has_diverged = np.zeros(self.count), np.zeros(self.count), np.zeros(self.count, bool)
        while np.any(steps := awake & (state.wait > 0) & (state.step < task.steps) & ~has_diverged):
            signals = self._step(steps)
            loss = signals["loss"]
            after = task.control.update(state, **signals)
            state = self.state = after if steps.all() else choose(steps, partial(_itself, after), state)
            self._first = np.where(steps & (self._first == 0.0), loss, self._first)
            has_diverged |= steps & ~(abs(loss) < inf) | steps & (loss > task.worst * self._first)
            total, count = np.where(steps, total + loss, total), count + steps
        loss = total / np.where(count > 0.0, count, 1.0)
        is_over = awake & (state.step >= task.steps)
        return self._judge(loss, awake, is_over, has_diverged)

    def held_out(self) -> NDArray[np.float64]:
        """The natural logarithm of each run's held-out loss, NaN where its loss was not finite; nothing changes by it."""
        return _logarithm(_on_host(self.task.fleet.held_out(self._runs)))

    def _step(self, awake: NDArray[np.bool]) -> Mapping[str, NDArray[np.float64]]:
        """One optimizer step of those episodes."""
        rates = np.minimum(self.rate * self.state.scale, _LARGEST_RATE)
        self._runs, signals = self.task.fleet.step(self._runs, rates, None if awake.all() else awake)
        if missing := [name for name in self.task.control.features.signals if name not in signals]:
            raise ValueError(
                f"what is in view has to be measured, and {self.task.fleet.name} measures no {' and no '.join(missing)} "
                "(choose tier='loss' and bound=False, or for a network gradients=True)"
            )
        return {name: _on_host(value) for name, value in signals.items()}

    def _judge(
        self, loss: NDArray[np.float64], awake: NDArray[np.bool], is_over: NDArray[np.bool], has_diverged: NDArray[np.bool]
    ) -> Outcome:
        """The rewards."""
        due = awake & ~has_diverged
        if self.task.reward == "training":
            level = _logarithm(loss / np.where(self._first > 0.0, self._first, 1.0))
        else:
            due &= is_over | (self.task.reward == "held-out")
            level = self.held_out() if due.any() else self._level
        fall = np.where(due, self._level - level, 0.0)
        has_diverged = has_diverged | ~(abs(fall) < inf)
        self._level = np.where(due, level, self._level)
        limit = inf if self.task.reward == "final" else LIMIT
        reward = np.where(has_diverged, -LIMIT, np.clip(fall, -limit, limit))
        return Outcome(reward, is_over & ~has_diverged, has_diverged, loss)


def _itself(state: ControlState) -> ControlState:
    return state


def _logarithm(loss: NDArray[np.float64]) -> NDArray[np.float64]:
    logarithm: NDArray[np.float64] = np.log(np.maximum(loss, _SMALLEST_LOSS))
    return logarithm


def _on_host(values: Any) -> NDArray[np.float64]:
    """A vector of any framework, from any device."""
    host: NDArray[np.float64] = np.asarray(values.cpu() if hasattr(values, "cpu") else values, dtype=np.float64)
    return host
