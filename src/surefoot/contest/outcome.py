"""What the rows say: losses by regime, verdicts on tasks, and headlines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from surefoot.contest.headlines import headline
from surefoot.contest.rivals import FOUND
from surefoot.contest.rows import CellName, RunKey
from surefoot.contest.verdicts import best_baseline, task_verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from surefoot.contest.headlines import Headline
    from surefoot.contest.rows import ContestRow
    from surefoot.contest.study import Entry, Study
    from surefoot.contest.tasks import ContestTask
    from surefoot.contest.verdicts import TaskVerdict

BEST = "the best baseline of each cell"
"""The opponent that was best from the seeds of tuning, chosen cell by cell among all that are not candidates."""

Losses = dict[CellName, NDArray[np.float64]]
"""Final losses, one per seed, by cell."""


class Pair(NamedTuple):
    """Losses of two rivals on a task, each of the shape (cells, seeds)."""

    ours: NDArray[np.float64]
    theirs: NDArray[np.float64]


class Regime(NamedTuple):
    """Circumstances under which schedules are compared.

    Attributes:
        name: For sentences.
        ours, theirs: The rate of the candidate and of its opponent: `"tuned"`, `"default"`, `"low"` or `"high"`.
        at: When it counts: `"final"`, `"half"` or `"double"`.
    """

    name: str
    ours: str
    theirs: str
    at: str = "final"


REGIMES = {
    "A": Regime("A, tuned against tuned", "tuned", "tuned"),
    "B": Regime("B, both at the optimizer's default rate", "default", "default"),
    "C-low": Regime("C, both at a tenth of the tuned rate", "low", "low"),
    "C-high": Regime("C, both at ten times the tuned rate", "high", "high"),
    "D-half": Regime("D, both stopped at half of the planned budget", "tuned", "tuned", "half"),
    "D-double": Regime("D, both trained for twice the planned budget", "tuned", "tuned", "double"),
    "E": Regime("E, untuned against tuned", "default", "tuned"),
}
"""All of them; C and D have two each."""
_AWAY = {"tuned": 0, "low": -2, "high": 2}


@dataclass(frozen=True)
class Outcome:
    """What came of a study, as far as it has got.

    Attributes:
        study: What is compared.
        there: The rows by cell.
    """

    study: Study
    there: Mapping[CellName, Mapping[RunKey, ContestRow]]

    @cached_property
    def entries(self) -> dict[CellName, dict[str, Entry]]:
        """Rivals by name in every cell that has rows."""
        return {
            cell: {entry.rival.name: entry for entry in self.study.entries(cell, task)}
            for cell, task in self.study.cells()
            if cell in self.there
        }

    @cached_property
    def tuned(self) -> dict[CellName, dict[str, int | None]]:
        """The place of the best rate of every rival that is done with tuning; None of one that finds its rate."""
        plan, found = self.study.plan, dict[CellName, dict[str, int | None]]()
        for cell, entries in self.entries.items():
            rows = self.there[cell]
            places = found[cell] = {}
            for name, entry in entries.items():
                if entry.rival.finds:
                    places[name] = None
                elif scores := plan.scores(entry.rival, entry.grid, rows):
                    places[name] = min(sorted(scores), key=lambda place: scores[place])
        return found

    def rate(self, cell: CellName, rival: str, how: str) -> float:
        """The base rate of a rival that is `"tuned"`, `"default"`, `"low"` or `"high"`."""
        entry, tuned = self.entries[cell][rival], self.tuned[cell][rival]
        if tuned is None:
            return FOUND
        return entry.grid.rate(0 if how == "default" else tuned + _AWAY[how])

    def rows(self, cell: CellName, rival: str, how: str) -> list[ContestRow]:
        """The rows of the seeds that are compared; empty if one is missing."""
        if rival not in self.tuned.get(cell, {}):
            return []
        rate = self.rate(cell, rival, how)
        keys = [RunKey(rival, rate, seed) for seed in self.study.plan.test]
        rows = [self.there[cell][key] for key in keys if key in self.there[cell]]
        return rows if len(rows) == len(keys) else []

    def losses(self, rival: str, how: str, at: str = "final") -> Losses:
        """Final losses of the cells in which a rival is done; not finite for a run that diverged."""
        if rival == BEST:
            return {
                cell: self.losses(name, how, at)[cell] for cell, name in self.best.items() if cell in self.losses(name, how, at)
            }
        if (rival, how, at) not in self._losses:
            self._losses[rival, how, at] = {
                cell: np.array([getattr(row, at) for row in rows])
                for cell in self.entries
                if (rows := self.rows(cell, rival, how))
                and not (at != "final" and any(np.isnan(getattr(row, at)) for row in rows))
            }
        return self._losses[rival, how, at]

    @cached_property
    def _losses(self) -> dict[tuple[str, str, str], Losses]:
        return {}

    @cached_property
    def best(self) -> dict[CellName, str]:
        """The best baseline of each cell, by its seeds of tuning."""
        found = {}
        for cell, entries in self.entries.items():
            names = [
                name
                for name, entry in entries.items()
                if entry.rival.kind != "candidate" and self.tuned[cell].get(name) is not None
            ]
            every = [
                [self.there[cell][RunKey(name, self.rate(cell, name, "tuned"), seed)].final for seed in self.study.plan.tuning]
                for name in names
            ]
            if every:
                found[cell] = names[int(best_baseline(every))]
        return found

    def pairs(self, candidate: str, opponent: str, regime: str) -> dict[str, Pair]:
        """The losses of both on every task of which both are done in all cells that both take part in."""
        about = REGIMES[regime]
        ours, theirs = self.losses(candidate, about.ours, about.at), self.losses(opponent, about.theirs, about.at)
        found = {}
        for task in self.study.tasks:
            cells = self._cells(task, candidate, opponent)
            if cells and all(cell in ours and cell in theirs for cell in cells):
                found[task.name] = Pair(*(np.stack([losses[cell] for cell in cells]) for losses in (ours, theirs)))
        return found

    def verdicts(self, candidate: str, opponent: str, regime: str) -> dict[str, TaskVerdict]:
        """The verdict on each of these tasks."""
        if (candidate, opponent, regime) not in self._verdicts:
            pairs = self.pairs(candidate, opponent, regime)
            self._verdicts[candidate, opponent, regime] = {name: task_verdict(*pair) for name, pair in pairs.items()}
        return self._verdicts[candidate, opponent, regime]

    @cached_property
    def _verdicts(self) -> dict[tuple[str, str, str], dict[str, TaskVerdict]]:
        return {}

    def headlines(self, candidate: str, opponents: Sequence[str], regimes: Iterable[str] = REGIMES) -> list[Headline]:
        """One for every regime and opponent of which a task is done."""
        return [
            headline(verdicts.values(), candidate=candidate, regime=REGIMES[regime].name, opponent=_called(opponent, regime))
            for regime in regimes
            for opponent in opponents
            if (verdicts := self.verdicts(candidate, opponent, regime))
        ]

    def _cells(self, task: ContestTask, *rivals: str) -> list[CellName]:
        """The cells of a task in which all of these take part."""
        cells = [cell for cell in self.entries if cell.task == task.name]
        named = [rival for rival in rivals if rival != BEST]
        return [cell for cell in cells if all(rival in self.entries[cell] for rival in named)]


def _called(opponent: str, regime: str) -> str:
    return f"tuned {opponent}" if REGIMES[regime].theirs == "tuned" and opponent != BEST else opponent
