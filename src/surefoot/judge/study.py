"""The study itself: what is tuned, what is tried, and what came of it in every arena."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from math import inf, log
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from surefoot.judge.arenas import SEARCHED, TRIED, rate
from surefoot.judge.blocks import Block
from surefoot.judge.entrants import Candidate, Contestant

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from surefoot.judge.arenas import Arena
    from surefoot.judge.rows import Key, Row

EXTENSIONS = 3
MORE = 4
"""Places that a grid is extended by while its best is at an edge, and how often it is."""
_SMALLEST = 1e-30


class Tuned(NamedTuple):
    """What tuning came to.

    Attributes:
        rate: The best base rate.
        score: Mean logarithm of what counts, there; infinite if at every rate some run failed.
        runs: How many runs it took.
    """

    rate: float
    score: float
    runs: int


@dataclass
class Outcome:
    """What came of an arena; rows are in the order of the seeds.

    Attributes:
        arena: The arena.
        general: Rivals' rates, tuned on what the policy is learned on.
        own: The same, tuned on this very problem, where that is searched.
        units: By limits, the rate that starts are multiples of: the best rival's.
        rivals: Rows of rivals at multiples of their rates, `own` if there are any.
        equal: Rows of rivals at their general rates; the same as those at 1 if there are no own.
        ours: Rows by candidate, limits and start.
        tuning: The same from the seeds of tuning, at start 1.
        cells: Rows of a search by schedule and rate.
    """

    arena: Arena
    general: Mapping[Contestant, Tuned]
    own: Mapping[Contestant, Tuned]
    units: Mapping[str, float]
    rivals: dict[Contestant, dict[float, list[Row]]] = field(default_factory=dict)
    equal: dict[Contestant, list[Row]] = field(default_factory=dict)
    ours: dict[str, dict[str, dict[float, list[Row]]]] = field(default_factory=dict)
    tuning: dict[str, dict[str, list[Row]]] = field(default_factory=dict)
    cells: dict[tuple[str, float], list[Row]] = field(default_factory=dict)

    @property
    def tuned(self) -> Mapping[Contestant, Tuned]:
        """The rates that rivals' multiples count from."""
        return self.own or self.general

    def best(self, *limits: str) -> Contestant:
        """The rival that came out best of tuning, among those with these limits; among all if none are named."""
        known = [rival for rival in self.tuned if not limits or rival.limits in limits]
        return min(known, key=lambda rival: self.tuned[rival].score)


class Study:
    """Arenas, and the rows that are there.

    Args:
        arenas: All of them.
        there: Rows by key; grows as they are made.
        train: Makes the rows of blocks, and puts them there.
    """

    def __init__(self, arenas: Sequence[Arena], there: Mapping[Key, Row], train: Callable[[Sequence[Block]], None]) -> None:
        self.arenas = {arena.name: arena for arena in arenas}
        self._there, self._train = there, train
        self._tunings: dict[tuple[str, ...], dict[Contestant, Tuned]] = {}

    def outcome(self, arena: Arena, candidates: Sequence[Candidate]) -> Outcome:
        """Everything about an arena; what is missing is trained first."""
        general = self.tune(arena.tuned_on or (arena.name,))
        own = self.tune((arena.name,)) if arena.searches == "tuning" else {}
        found = Outcome(arena, general, own, _units(arena, own or general))
        wanted: dict[tuple[Any, ...], Block] = {
            **{("rivals", rival): self._rival(found, rival) for rival in arena.rivals},
            **{("equal", rival): _block(arena, rival, [general[rival].rate], arena.judging) for rival in arena.rivals if own},
            **{("cells", name): self._cells(found, name) for name in _searched(arena)},
            **{
                (kind, who.label, limits): self._ours(found, who, limits, kind)
                for who in candidates
                for limits in arena.limits
                for kind in ("ours", "tuning")
            },
        }
        self.obtain([block for block in wanted.values() if block.seeds])
        for (kind, *names), block in wanted.items():
            self._file(found, kind, names, block)
        return found

    def obtain(self, blocks: Sequence[Block]) -> None:
        """Train the blocks of which a row is missing."""
        missing = [block for block in blocks if any(not self._has(key, block) for key in block.keys)]
        if missing:
            self._train(missing)

    def _has(self, key: Key, block: Block) -> bool:
        """Whether there is such a row, and with all that is asked for: a rival may be judged as well."""
        return key in self._there and (bool(self._there[key].rates) or not block.watched)

    def rows(self, block: Block) -> list[list[Row]]:
        """The rows of a block, one list for each rate."""
        every = [self._there[key] for key in block.keys]
        return [every[first : first + len(block.seeds)] for first in range(0, len(every), len(block.seeds) or 1)]

    def tune(self, names: tuple[str, ...]) -> dict[Contestant, Tuned]:
        """The rivals' best rates over these arenas, which have one grid.

        Rates at which a run failed are out, and the grid is extended as long as the best is at its edge.
        """
        if names not in self._tunings:
            arenas = [self.arenas[name] for name in names]
            first, last = arenas[0].grid
            tried: dict[Contestant, dict[int, float]] = {rival: {} for rival in arenas[0].rivals}
            new = {rival: list(range(first, last + 1)) for rival in tried}
            for _ in range(EXTENSIONS + 1):
                for rival, scores in self._scores(arenas, new).items():
                    tried[rival] |= scores
                new = {rival: places for rival, scores in tried.items() if (places := _beyond(scores))}
                if not new:
                    break
            seeds = sum(len(arena.tuning) for arena in arenas)
            self._tunings[names] = {rival: _tuned(arenas[0], scores, seeds) for rival, scores in tried.items()}
        return self._tunings[names]

    def _scores(self, arenas: Sequence[Arena], places: Mapping[Contestant, list[int]]) -> dict[Contestant, dict[int, float]]:
        """Of each rival at these places of the grid."""
        blocks = {
            (arena.name, rival): _block(arena, rival, [arena.place(number) for number in numbers], arena.tuning)
            for rival, numbers in places.items()
            for arena in arenas
        }
        self.obtain(list(blocks.values()))
        scores = {}
        for rival, numbers in places.items():
            every = [[score(rows) for rows in self.rows(blocks[arena.name, rival])] for arena in arenas]
            scores[rival] = dict(zip(numbers, np.mean(every, axis=0).tolist(), strict=True))
        return scores

    def _rival(self, found: Outcome, rival: Contestant) -> Block:
        arena = found.arena
        starts = arena.starts if arena.wrong is None or rival in arena.wrong else (1.0,)
        rates = [rate(start * found.tuned[rival].rate) for start in starts]
        return _block(arena, rival, rates, arena.judging)._replace(watched=arena.watches)

    def _cells(self, found: Outcome, name: str) -> Block:
        """A search of one schedule."""
        arena, rival = found.arena, Contestant(name)
        if arena.searches == "judging":
            middle = found.general[Contestant("constant")].rate
            return _block(arena, rival, [rate(multiple * middle) for multiple in TRIED], arena.judging)
        first, last = arena.grid
        return _block(arena, rival, [arena.place(number) for number in range(first, last + 1)], arena.tuning)

    def _ours(self, found: Outcome, who: Candidate, limits: str, kind: str) -> Block:
        arena, unit = found.arena, found.units[limits]
        starts, seeds = (arena.starts, arena.judging) if kind == "ours" else ((1.0,), arena.tuning)
        rates = tuple(rate(start * unit) for start in starts)
        return Block(arena, limits, who.entry, who.label, rates, seeds, watched=kind == "ours" and bool(arena.rivals))

    def _file(self, found: Outcome, kind: str, names: Sequence[str | Contestant], block: Block) -> None:
        """Put the rows of a block where they belong."""
        rows, arena = self.rows(block), found.arena
        if kind == "rivals":
            (rival,) = names
            assert isinstance(rival, Contestant)
            starts = arena.starts if len(rows) == len(arena.starts) else (1.0,)
            found.rivals[rival] = dict(zip(starts, rows, strict=True))
            if not found.own:
                found.equal[rival] = found.rivals[rival].get(1.0, [])
        elif kind == "equal":
            (rival,) = names
            assert isinstance(rival, Contestant)
            found.equal[rival] = rows[0]
        elif kind == "cells":
            found.cells |= {(str(names[0]), base): each for base, each in zip(block.rates, rows, strict=True)}
        else:
            label, limits = map(str, names)
            if kind == "ours":
                found.ours.setdefault(label, {})[limits] = dict(zip(arena.starts, rows, strict=True))
            else:
                found.tuning.setdefault(label, {})[limits] = list(chain(*rows))


def score(rows: Sequence[Row]) -> float:
    """The mean logarithm of what counts; infinite if a run failed."""
    if any(row.has_failed for row in rows):
        return inf
    return float(np.mean([log(max(row.final, _SMALLEST)) for row in rows]))


def _block(arena: Arena, rival: Contestant, rates: Sequence[float], seeds: tuple[int, ...]) -> Block:
    return Block(arena, rival.limits, rival.entry, rival.entry, tuple(rates), seeds)


def _searched(arena: Arena) -> list[str]:
    """Schedules of its search."""
    return [name for name in SEARCHED if arena.searches and Contestant(name) in arena.rivals]


def _units(arena: Arena, tuned: Mapping[Contestant, Tuned]) -> dict[str, float]:
    """By limits, the rate of the best rival that has them, or else of the best there is."""
    best = {}
    for limits in arena.limits:
        known = {rival: found for rival, found in tuned.items() if rival.limits == limits} or tuned
        best[limits] = min(known.values(), key=lambda found: found.score).rate
    return best


def _beyond(scores: Mapping[int, float]) -> list[int]:
    """Further places to try; none if the best is not at an edge."""
    first, last = min(scores), max(scores)
    best = min(sorted(scores), key=lambda place: scores[place])
    if best == first:  # Also where all failed.
        return list(range(first - MORE, first))
    return list(range(last + 1, last + 1 + MORE)) if best == last else []


def _tuned(arena: Arena, scores: Mapping[int, float], seeds: int) -> Tuned:
    best = min(sorted(scores), key=lambda place: scores[place])
    return Tuned(arena.place(best), scores[best], len(scores) * seeds)
