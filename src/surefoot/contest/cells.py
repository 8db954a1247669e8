"""What is run in a cell, a task under an optimizer: a plan that looks at the rows there are, and says which are missing."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log
from typing import TYPE_CHECKING, NamedTuple

from surefoot import checks
from surefoot.contest.rivals import FOUND
from surefoot.contest.rows import RunKey

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surefoot.contest.rivals import Rival
    from surefoot.contest.rows import ContestRow

_SMALLEST = 1e-30


class Wanted(NamedTuple):
    """A run that is wanted.

    Attributes:
        key: Which one.
        is_long: Whether it goes on to twice the budget.
        is_watched: Whether its losses and rates on the way are kept.
    """

    key: RunKey
    is_long: bool = False
    is_watched: bool = False


@dataclass(frozen=True)
class Grid:
    """Base rates half a decade apart.

    >>> Grid(default=0.001, first=0, last=6).rate(6)
    1.0

    Attributes:
        default: The rate at place 0: the one that whoever tunes nothing takes.
        first, last: The places that are tried, the best of which is extended beyond where it is at an edge.

    Raises:
        ValueError: The default is not above 0, or the grid is empty.
    """

    default: float
    first: int
    last: int

    def __post_init__(self) -> None:
        checks.number("default", self.default, low=1e-12)
        if self.last < self.first:
            raise ValueError(f"a grid of rates must hold at least one, got the places {self.first} to {self.last}")

    def rate(self, place: int) -> float:
        """The rate at a place, with so few digits that it is the same when it is read back."""
        return float(f"{self.default * 10.0 ** (place / 2):.6g}")


@dataclass(frozen=True)
class Plan:
    """How much is run.

    Attributes:
        tuning: Seeds that rates are tuned from.
        test: Seeds that are compared, none of those.
        wrong: Places that mis-set rates are away from the tuned one.
        extension: Places by which a grid is extended while its best is at an edge, and at most on one side in all.
        steps: The largest budget, for a quick look; None for that of every task.
    """

    tuning: tuple[int, ...] = (70_000, 70_001, 70_002)
    test: tuple[int, ...] = tuple(range(80_000, 80_010))
    wrong: tuple[int, ...] = (-2, 2)
    extension: tuple[int, int] = (2, 8)
    steps: int | None = None

    def wanted(self, rival: Rival, grid: Grid, rows: Mapping[RunKey, ContestRow]) -> list[Wanted]:
        """The runs of a rival that are not there yet, as far as that is known: tuning comes first, and says what comes next."""
        if rival.finds:
            return self._missing(rival, {FOUND: True}, rows)
        places = self.tried(rival, grid, rows)
        scores = self.scores(rival, grid, rows)
        if missing := [place for place in places if place not in scores]:
            keys = [RunKey(rival.name, grid.rate(place), seed) for place in missing for seed in self.tuning]
            return [Wanted(key) for key in keys if key not in rows]
        tuned = best(scores)
        rates = {grid.rate(tuned + away): False for away in self.wrong} | {grid.rate(0): False, grid.rate(tuned): True}
        return self._missing(rival, rates, rows, watched=(grid.rate(0), grid.rate(tuned)))

    def tried(self, rival: Rival, grid: Grid, rows: Mapping[RunKey, ContestRow]) -> range:
        """The places that a rival is to be tuned over: the grid, and more while its best is at an edge."""
        more, most = self.extension
        places = range(grid.first, grid.last + 1)
        scores = self.scores(rival, grid, rows)
        while all(place in scores for place in places):
            top = best({place: scores[place] for place in places})
            if top == places[0] and grid.first - top < most:
                places = range(places[0] - more, places[-1] + 1)
            elif top == places[-1] and top - grid.last < most:
                places = range(places[0], places[-1] + 1 + more)
            else:
                break
        return places

    def scores(self, rival: Rival, grid: Grid, rows: Mapping[RunKey, ContestRow]) -> dict[int, float]:
        """The mean logarithm of the loss at every place that is tuned over; infinite where a run diverged."""
        more = self.extension[1]
        found = {}
        for place in range(grid.first - more, grid.last + more + 1):
            keys = [RunKey(rival.name, grid.rate(place), seed) for seed in self.tuning]
            if all(key in rows for key in keys):
                found[place] = sum(_score(rows[key].final) for key in keys) / len(keys)
        return found

    def tuned(self, rival: Rival, grid: Grid, rows: Mapping[RunKey, ContestRow]) -> int:
        """The place of a rival's best rate, once all of its tuning is there."""
        return best(self.scores(rival, grid, rows))

    def _missing(
        self,
        rival: Rival,
        rates: Mapping[float, bool],
        rows: Mapping[RunKey, ContestRow],
        watched: tuple[float, ...] = (FOUND,),
    ) -> list[Wanted]:
        runs = [
            Wanted(RunKey(rival.name, rate, seed), is_long, is_watched=rate in watched)
            for rate, is_long in rates.items()
            for seed in self.test
        ]
        return [run for run in runs if not _is_there(run, rows)]


FULL = Plan()
"""The comparison's own."""
QUICK = Plan(tuning=(70_000, 70_001), test=(80_000, 80_001, 80_002), extension=(2, 2), steps=120)
"""A look that claims nothing."""


def best(scores: Mapping[int, float]) -> int:
    """The place with the least score, the lower rate of equals."""
    return min(sorted(scores), key=lambda place: scores[place])


def _is_there(run: Wanted, rows: Mapping[RunKey, ContestRow]) -> bool:
    row = rows.get(run.key)
    return row is not None and (row.is_long or not run.is_long) and (bool(row.curve) or not run.is_watched)


def _score(loss: float) -> float:
    return log(max(loss, _SMALLEST)) if loss < inf else inf
