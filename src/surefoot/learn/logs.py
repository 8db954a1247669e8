"""Runs that somebody kept, as what a policy in their place would have seen, what was done instead, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log2
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.arithmetic import choose, lift
from surefoot.episodes import LIMIT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from surefoot.control import Control
    from surefoot.runs import Run

WORST = 100.0
"""The multiple of its first loss from which on a run counts as diverged."""

_SMALLEST = 2.0**-40
_LAST = 0.04  # Of the budget: what the final training loss is averaged over.


class Own(NamedTuple):
    """Decisions of runs, one entry for each; those of a run are neighbours, in the order of time.

    Attributes:
        view: What there was to see; shape (decisions, features).
        action: How the rate moved against the schedule from the window before to this one, between -1 and 1.
        reward: The fall of the loss's logarithm from the window before to this one, between -3 and 3.
        run: The position of its run.
    """

    view: NDArray[np.float32]
    action: NDArray[np.float32]
    reward: NDArray[np.float32]
    run: NDArray[np.intp]


class Crossed(NamedTuple):
    """Decisions that would have brought runs to the rates of others, one entry for each.

    Attributes:
        view: What there was to see; shape (decisions, features).
        action: What brings the rate to that of another run of the same seed in the same window, between -1 and 1.
        merit: By how much that run ended better than the mean of its seed, in natural logarithms of the final loss.
    """

    view: NDArray[np.float32]
    action: NDArray[np.float32]
    merit: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Replay:
    """Runs of one budget, folded again by the very features that a live policy sees by.

    Attributes:
        runs: The runs.
        control: What is seen, when, and what an action does.
        loss: The loss of every step and run, NaN after its end; shape (steps, runs).
        height: Logarithm to the base 2 of the rate over the schedule, in the same shape.
        ended: Steps that each run made before it diverged, or in all; shape (runs,).
        view: What there was to see at each decision; shape (decisions, features).
        start, stop: Where each decision's window begins and ends; shape (decisions,).
        run: Position of each decision's run.
        base: The base rate of each run; shape (runs,).
        rescued: By how many doublings an alarm has cut the scale since the decision before.
    """

    runs: Sequence[Run]
    control: Control
    loss: NDArray[np.float64]
    height: NDArray[np.float64]
    ended: NDArray[np.intp]
    view: NDArray[np.float32]
    start: NDArray[np.intp]
    stop: NDArray[np.intp]
    run: NDArray[np.intp]
    base: NDArray[np.float64]
    rescued: NDArray[np.float64]

    @property
    def has_diverged(self) -> NDArray[np.bool]:
        """Which runs did."""
        return self.ended < [run.trial.steps for run in self.runs]

    def own(self) -> Own:
        """What was done in these runs, and what came of it."""
        is_first = _is_first(self.run)
        unit = self.loss[0, self.run]
        level = np.log(np.maximum(_means(self.loss, self.start, self.stop, self.run) / unit, _SMALLEST))
        fall = np.clip(np.where(is_first, 0.0, np.roll(level, 1)) - level, -LIMIT, LIMIT)
        is_crash = np.append(is_first[1:], True) & self.has_diverged[self.run]
        reward = np.where(is_crash, -LIMIT, fall)
        action = self._action(self._heights(self.run) - self._before())
        return Own(self.view, action, reward.astype(np.float32), self.run)

    def crossed(self, partners: int, random: np.random.Generator) -> Crossed:
        """What would have brought each run to the rates of others of its seed, drawn at random for every decision."""
        groups = self._groups()
        members = np.argsort(groups, kind="stable")
        count = np.bincount(groups)
        first = np.concatenate([[0], np.cumsum(count)[:-1]])
        before, merit, parts = self._before(), self.merits(), []
        for _ in range(partners):
            group = groups[self.run]
            other = members[first[group] + (random.random(len(group)) * count[group]).astype(int)]
            fits = (self.ended[other] >= self.stop) & (count[group] > 1)
            nearer = np.log2(self.base[other] / self.base[self.run])
            action = self._action(self._heights(other, fits) + nearer - before)
            parts.append(Crossed(self.view[fits], action[fits], merit[other[fits]].astype(np.float32)))
        return Crossed(*(np.concatenate(part) for part in zip(*parts, strict=True)))

    def alone(self) -> NDArray[np.bool]:
        """Which runs have nobody to be compared with."""
        groups = self._groups()
        is_alone: NDArray[np.bool] = np.bincount(groups)[groups] == 1
        return is_alone

    def _before(self) -> NDArray[np.float64]:
        """The height that each decision starts from."""
        return np.where(_is_first(self.run), 0.0, np.roll(self._heights(self.run), 1)) - self.rescued

    def _heights(self, which: NDArray[np.intp], fits: Any = True) -> NDArray[np.float64]:
        """The mean height of these runs in each decision's window."""
        stop = np.where(fits, self.stop, self.start + 1)
        return _means(self.height, np.where(fits, self.start, 0), np.where(fits, stop, 1), which)

    def _action(self, turn: NDArray[np.float64]) -> NDArray[np.float32]:
        """What multiplies the scale by that power of 2, or as near as an action can."""
        largest = np.where(turn > 0.0, log2(self.control.rise), log2(self.control.cut))
        return np.clip(turn / largest, -1.0, 1.0).astype(np.float32)

    def _groups(self) -> NDArray[np.intp]:
        """The number of each run's group: those of the same problem and seed, which differ in their rates alone."""
        trials = [(run.trial.problem, run.trial.revision, run.trial.optimizer, run.trial.seed) for run in self.runs]
        numbers = {trial: number for number, trial in enumerate(dict.fromkeys(trials))}
        return np.array([numbers[trial] for trial in trials])

    def merits(self) -> NDArray[np.float64]:
        """How much better each run ended than the mean of its seed, in natural logarithms of the final loss.

        It is the held-out loss if all runs have one. Diverged runs count as e times the worst of the seed.
        """
        groups = self._groups()
        is_held_out = all(len(run.held_out) for run in self.runs)
        final = np.array([_final(run, is_held_out=is_held_out) for run in self.runs])
        final[self.has_diverged | ~np.isfinite(final)] = np.nan
        for group in range(groups.max() + 1):
            mine = groups == group
            known = final[mine & np.isfinite(final)]
            final[mine & np.isnan(final)] = known.max() + 1.0 if len(known) else 0.0
            final[mine] -= final[mine].mean()
        return -final


def replays(runs: Sequence[Run], control: Callable[[int], Control], *, is_own_base: bool = False) -> list[Replay]:
    """The runs, folded again, all of one budget together.

    Args:
        runs: Finished or diverged; those without a step, or that begin at a rate of 0, are left out.
        control: What is seen and what an action does, for a budget in steps.
        is_own_base: Whether the base of a run is that of its trial. It is its first rate otherwise: where a policy in its place
            would have begun, whatever shape the schedule that did it had.

    Raises:
        ValueError: There are no such runs, or a view needs what the runs did not keep.
    """
    by_budget: dict[int, list[Run]] = {}
    for run in runs:
        if len(run.loss) and run.rate[0] > 0.0 and 0.0 < run.loss[0] < inf:
            by_budget.setdefault(run.trial.steps, []).append(run)
    if not by_budget:
        raise ValueError("there must be a run with a loss at a rate above 0 to learn from, got none (name another store)")
    return [_replay(some, control(steps), is_own_base=is_own_base) for steps, some in by_budget.items()]


def _replay(runs: Sequence[Run], control: Control, *, is_own_base: bool) -> Replay:
    needed = control.features.signals
    if missing := [name for name in needed if any(name not in run.signals for run in runs)]:
        raise ValueError(
            f"what is in view must have been kept, and some of the runs have no {' and no '.join(missing)} "
            "(learn from losses alone: tier='loss')"
        )
    length = max(len(run.loss) for run in runs)
    loss, rate = (_table([getattr(run, name) for run in runs], length) for name in ("loss", "rate"))
    measured = {name: _table([run.signals[name] for run in runs], length) for name in needed}
    base = np.array([run.trial.base for run in runs]) if is_own_base else rate[0]
    ended, scale = _ends(loss), np.maximum(rate / base, _SMALLEST)
    state, nothing = lift(control.init(), loss[0]), np.zeros(len(runs))
    due, height, alarms, views = np.zeros(loss.shape, bool), np.zeros(loss.shape), np.zeros(loss.shape), []
    for step in range(length):
        now = due[step] = np.asarray(control.due(state)) & (step < ended)
        if now.any():
            views.append(np.asarray(control.view(state))[:, now].T)
            state = choose(now, lambda: control.act(state, nothing), state)  # noqa: B023 - called at once
        alarms[step] = state.alarms
        height[step] = np.log2(scale[step]) - np.log2(np.maximum(state.schedule.scale, _SMALLEST))
        with np.errstate(all="ignore"):  # Runs that have ended.
            told = {name: table[step] for name, table in measured.items()}
            state = control.update(state, loss[step], scale=scale[step], **told)
    start, run = np.nonzero(due)
    order = np.lexsort((start, run))
    start, run, view = start[order], run[order], np.concatenate(views)[order].astype(np.float32)
    is_last = np.append(run[1:] != run[:-1], True)
    stop = np.where(is_last, ended[run], np.roll(start, -1))
    raised = np.where(_is_first(run), 0.0, alarms[start, run] - np.roll(alarms[start, run], 1))
    return Replay(runs, control, loss, height, ended, view, start, stop, run, base, raised * log2(control.rescue))


def _is_first(run: NDArray[np.intp]) -> NDArray[np.bool]:
    """Which decisions are the first of their run."""
    return np.append(True, run[1:] != run[:-1])


def _final(run: Run, *, is_held_out: bool) -> float:
    """Logarithm of a run's loss at its end: on held-out data, or of the last training batches."""
    last = run.held_out[-1:] if is_held_out else run.loss[-max(1, round(_LAST * run.trial.steps)) :]
    with np.errstate(all="ignore"):
        return float(np.log(np.maximum(np.mean(last, dtype=np.float64), _SMALLEST)))


def _means(table: NDArray[np.float64], start: Any, stop: Any, column: NDArray[np.intp]) -> NDArray[np.float64]:
    """The mean over these rows of these columns."""
    total = np.vstack([np.zeros(table.shape[1]), np.cumsum(np.nan_to_num(table, posinf=0.0), axis=0)])
    mean: NDArray[np.float64] = (total[stop, column] - total[start, column]) / (stop - start)
    return mean


def _ends(loss: NDArray[np.float64]) -> NDArray[np.intp]:
    """Of each run how many steps it made before it diverged or was over, one at least."""
    with np.errstate(invalid="ignore"):
        is_bad = ~(np.abs(loss) < inf) | (loss > WORST * loss[0])
    ends: NDArray[np.intp] = np.maximum(np.where(is_bad.any(axis=0), is_bad.argmax(axis=0), len(loss)), 1)
    return ends


def _table(series: Sequence[NDArray[np.float32]], length: int) -> NDArray[np.float64]:
    """Series as the columns of a table, NaN where they have ended."""
    table = np.full((length, len(series)), np.nan)
    for place, values in enumerate(series):
        table[: len(values), place] = values
    return table
